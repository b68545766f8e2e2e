"""Options of every command that reads recordings, and of a run over a folder of them. No torch is imported here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pentatonic.errors import UsageError

if TYPE_CHECKING:
    from pentatonic.audio_folder.reading import ReadOptions

Inputs = Annotated[list[Path], typer.Argument(metavar="FILES_OR_DIRS...", help="Audio files and folders.")]
OutFolder = Annotated[Path, typer.Option("--out", help="Folder to write.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Compute everything again, also over results of other settings.")
]
Lenient = Annotated[
    bool,
    typer.Option("--lenient", help="Use the part before the damage of a damaged file; the report says so."),
]
ComputeType = Annotated[
    Literal["fp32", "bf16", "auto"],
    typer.Option("--dtype", help="Number type of the computation; auto: bf16 where the hardware has it."),
]
Start = Annotated[float, typer.Option(help="Start at this second of each file.")]
Duration = Annotated[
    float | None, typer.Option(help="Read at most this many seconds of each file.", show_default="all")
]
NonFinite = Annotated[
    Literal["raise", "zero"],
    typer.Option("--nonfinite", help="NaN and infinite samples: refuse the file, or set them to 0."),
]
MaxDuration = Annotated[
    float, typer.Option(help="Refuse files longer than this many seconds, also for a part of them.")
]
MaxChannels = Annotated[int, typer.Option(help="Refuse files with more channels.")]
MAX_DURATION_S, MAX_CHANNELS = 6 * 3600.0, 64  # as in AudioLimits, which imports torch


def reading_options(
    start: float,
    duration: float | None,
    nonfinite: Literal["raise", "zero"],
    max_duration: float,
    max_channels: int,
) -> ReadOptions:
    """Put the options together.

    Raises:
        UsageError: A value is not allowed; the message names the option.
    """
    from pentatonic.audio_folder.reading import ReadOptions

    try:
        return ReadOptions(start, duration, nonfinite, max_duration, max_channels)
    except UsageError as error:
        raise UsageError(f"--{error}") from error
