"""``omar-rq export``: write the model of a training run, or any other model, as a directory that loads anywhere.

Two formats: ours (``config.json`` and ``model.safetensors``) and the original's (``config.gin`` and ``model.ckpt``
with the original's tensor names), which the original project's loader reads. Both get a model card.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from omar_rq.export.card import model_card
from omar_rq.gin import write_gin
from omar_rq.model import OmarRQ
from omar_rq.weights import from_pretrained, load_directory, save_pretrained, to_upstream
from pentatonic.checkpoint import atomic_directory
from pentatonic.errors import UsageError
from pentatonic.model_card import read_training

MODEL_FORMATS = ("safetensors", "upstream")


def export(
    source: str | Path, out: str | Path, *, format: str = "safetensors", dtype: torch.dtype = torch.float32
) -> Path:
    """Write a model directory with a model card, and load it again as a check.

    Args:
        source: Whatever :func:`omar_rq.from_pretrained` loads, such as a run folder (its newest checkpoint is taken)
            or one of its checkpoints.
        out: Directory to write; replaced as a whole.
        format: ``safetensors`` or ``upstream``.
        dtype: Floating type of the stored tensors.

    Returns:
        ``out``.

    Raises:
        UsageError: Unknown format.
        HubError, ConfigError, CheckpointError, WeightsError: There is no usable model at ``source``.
    """
    out = Path(out)
    model = from_pretrained(source)
    training = read_training(source)
    card = model_card(model, training, name=out.name, dtype=dtype)
    write_model(model, out, format=format, dtype=dtype, card=card, optim=training.config.get("optim", {}))
    return out


def write_model(
    model: OmarRQ,
    out: Path,
    *,
    format: str = "safetensors",
    dtype: torch.dtype = torch.float32,
    card: str | None = None,
    optim: Mapping[str, float] | None = None,
) -> None:
    """Write a model in either format, and load it again as a check; arguments as :func:`export`.

    ``card`` is the text of the model card; ``None``: no card is written. ``optim`` has ``lr`` and ``weight_decay`` of
    the run, which the original's format names; by default those of the original.
    """
    if format not in MODEL_FORMATS:
        raise UsageError(f"format is {format!r}; allowed: {', '.join(MODEL_FORMATS)}")
    model = model.to(dtype)
    if format == "safetensors":
        save_pretrained(model, out, card=card)
    else:
        with atomic_directory(out) as folder:
            named = {name: optim[name] for name in ("lr", "weight_decay") if optim and name in optim}
            (folder / "config.gin").write_text(write_gin(model.config, **named))
            torch.save(to_upstream(model), folder / "model.ckpt")
            if card is not None:
                (folder / "README.md").write_text(card, encoding="utf-8")
    load_directory(out)
