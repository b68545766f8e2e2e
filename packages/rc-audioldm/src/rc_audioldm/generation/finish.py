"""What is added to clips and runs after they are made: ledgers, measures of the knob, a search for copies, the report.

The one place where generation calls these parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from rc_audioldm.generation.generate import Result
from rc_audioldm.ledger.files import write_ledger
from rc_audioldm.ledger.ledger import Ledger


@dataclass(frozen=True)
class ModelNote:
    """What a ledger says of the model.

    Args:
        name: Of the model.
        revision: Of the model; may be empty.
        licence: Of its weights.
    """

    name: str
    revision: str
    licence: str


def finish_clip(wav: Path, result: Result, model: ModelNote) -> None:
    """Write the ledger of a clip into its WAV and beside it."""
    strength = result.request.strength if result.style is not None else 0.0
    write_ledger(
        wav,
        Ledger(
            prompt=result.request.prompt,
            prompt_used=result.prompt_used,
            mode=result.mode,
            strength=strength,
            seed=result.seed,
            model=model.name,
            revision=model.revision,
            model_licence=model.licence,
            influences=result.influences,
        ),
    )


def knob_record(result: Result, files: Mapping[float, str]) -> Any:
    """Return what ``knob.json`` says of a clip; None where no knob was asked for."""
    return {f"{strength:g}": file for strength, file in files.items()} if files else None


def copy_record(result: Result, audio: Tensor) -> Any:
    """Return what ``copies.json`` says of a clip; None where nothing was compared."""
    return None


def finish_run(folder: Path) -> None:
    """Add the report to a run folder."""
