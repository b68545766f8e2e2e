"""``.lab`` and ``.beats``: text files of tables, as mir_eval and Sonic Visualiser read them.

``.lab``: start, end, label; ``.beats``: time, place in the bar. Seconds with six decimals, separated by tabs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omar_rq.annotations.events import Beats, Span
from pentatonic.checkpoint import atomic_file
from pentatonic.errors import ConfigError, FormatError, PentatonicError
from pentatonic.untrusted.files import read_text

_MOST_BYTES = 16 << 20


def write_lab(spans: Sequence[Span], target: Path) -> None:
    """Write chords, keys or sections, whole or not at all; blanks in labels become underscores.

    Raises:
        CheckpointError: The file cannot be written.
    """
    with atomic_file(target, "w") as file:
        for span in spans:
            file.write(f"{span.start:.6f}\t{span.end:.6f}\t{'_'.join(span.label.split())}\n")


def write_beats(beats: Beats, target: Path) -> None:
    """Write beats, whole or not at all.

    Raises:
        CheckpointError: The file cannot be written.
    """
    with atomic_file(target, "w") as file:
        for beat in beats.beats:
            file.write(f"{beat.time:.6f}\t{beat.position}\n")


def read_beat_times(path: Path, *, error: type[PentatonicError] = ConfigError) -> list[float]:
    """Read the times of a ``.beats`` file: the first column, in seconds; further columns and lines with # are left out.

    Args:
        path: The file.
        error: Class of the error to raise where it cannot be read.

    Raises:
        FormatError: A line does not begin with a time, or times do not ascend.
        PentatonicError: Of class ``error``.
    """
    times: list[float] = []
    for number, line in enumerate(read_text(path, max_bytes=_MOST_BYTES, error=error).splitlines(), 1):
        words = line.replace(",", " ").split()
        if not words or words[0].startswith("#"):
            continue
        try:
            time = float(words[0])
        except ValueError:
            time = float("nan")
        if not (times[-1] if times else float("-inf")) < time < float("inf"):
            raise FormatError(
                "allowed: lines that begin with a time in seconds, ascending", path=path, line=number
            )
        times.append(time)
    return times
