"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import typer

from pentatonic.cli import pick_device
from pentatonic.several_values import OptionsOfSeveralValues

if TYPE_CHECKING:
    from cm3p.inference.loading import LoadedModel

DEFAULT_MODEL = "cm3p-tiny"
MAX_WINDOWS, BATCH_SIZE = 1000, 16  # as in cm3p.inference, which imports torch

Maps = Annotated[
    list[Path],
    typer.Argument(
        metavar="PATH...", help="Maps (.osu), archives (.osz), folders such as the game's Songs folder."
    ),
]
ModelOption = Annotated[
    str, typer.Option("--model", help="Bundled name, directory, or hub id such as OliBomby/CM3P.")
]
Revision = Annotated[
    str | None, typer.Option(help="Commit, tag or branch of a model on the hub.", show_default="main")
]
WithAudio = Annotated[
    bool, typer.Option("--audio/--no-audio", help="Use the songs; maps without one fail then.")
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Windows at a time.")]
MaxWindows = Annotated[
    int, typer.Option("--max-windows", min=1, help="Refuse maps with more windows than this.")
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16"],
    typer.Option("--dtype", help="Number type of the computation; auto: bf16 on a GPU that has it."),
]


class SeveralValues(OptionsOfSeveralValues):
    """A command with the options of this package that take several values."""

    several: ClassVar[frozenset[str]] = frozenset({"--like", "--unlike", "--metadata", "--gamemodes"})
    whole_numbers: ClassVar[frozenset[str]] = frozenset({"--gamemodes"})


def load_model(name: str, device: str, precision: str, revision: str | None = None) -> LoadedModel:
    """Load a model as the options say; errors as :func:`cm3p.inference.loading.load`."""
    from cm3p.inference.loading import load

    return load(name, device=pick_device(device), precision=precision, revision=revision)
