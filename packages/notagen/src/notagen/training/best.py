"""The best checkpoint of a training run: which one has the lowest validation loss so far."""

from __future__ import annotations

import json
import math
from pathlib import Path

from pentatonic.training import TrainerConfig

BEST_FILE = "best.json"
"""In the folder of the best checkpoint: its step and its validation loss."""


def best_so_far(checkpoint: Path, best: Path, trainer: TrainerConfig) -> dict[str, float] | None:
    """Return step and validation loss of a checkpoint, for :data:`BEST_FILE`, if no earlier one had a lower loss.

    Args:
        checkpoint: Folder of the checkpoint, with ``state.json``.
        best: Folder of the best one before, which may be missing.
        trainer: Says when the loss is measured.

    Returns:
        ``step`` and ``val_loss``; None where the loss was not measured at this step, or another one was lower.
    """
    state = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    step = state["step"]
    measured = trainer.val_every and (step % trainer.val_every == 0 or step == trainer.max_steps)
    loss = state["metrics"].get("val_loss") if measured else None
    record = best / BEST_FILE
    lowest = json.loads(record.read_text(encoding="utf-8"))["val_loss"] if record.is_file() else math.inf
    return {"step": step, "val_loss": loss} if loss is not None and loss < lowest else None
