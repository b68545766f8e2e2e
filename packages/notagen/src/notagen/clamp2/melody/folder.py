"""Reads the scores of a folder into an index of melodies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from notagen.clamp2.melody.index import MelodyIndex, MelodyIndexBuilder, Tune
from notagen.clamp2.melody.lines import Line, lines_of
from notagen.clamp2.melody.midi_lines import MIDI_SUFFIXES, midi_lines
from notagen.files.reading import SCORE_SUFFIXES, read_tunes
from notagen.score.reader import read_score
from pentatonic.errors import FormatError, InputError
from pentatonic.untrusted.files import regular_file_size

MAX_MIDI_BYTES = 16 << 20
"""Largest MIDI file that is read."""
SUFFIXES = (*SCORE_SUFFIXES, *MIDI_SUFFIXES)


def score_files(folder: Path) -> list[Path]:
    """Return the scores in a folder and the folders in it, in order of their names.

    Raises:
        InputError: It is not a folder, or has no scores.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: not a folder; melodies are searched in a folder of scores")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise InputError(f"{folder}: no scores in it; their names end with {', '.join(SUFFIXES)}")
    return files


def index_folder(folder: Path, *, progress: Callable[[Path], None] | None = None) -> MelodyIndex:
    """Read all scores of a folder.

    Args:
        folder: Folder of ABC files and tune books, MusicXML and MIDI files.
        progress: Called after each file.

    Returns:
        The index. Its tunes have the names of their files as seen from ``folder``; files and tunes that could not be
        read are in :attr:`MelodyIndex.failures`.

    Raises:
        InputError: It is not a folder, or has no scores.
    """
    builder = MelodyIndexBuilder()
    for file in score_files(folder):
        name = file.relative_to(folder).as_posix()
        try:
            for number, read in _tunes(file):
                _add(builder, name, number, read)
        except InputError as error:
            builder.failures.append((name, _reason(error)))
        if progress is not None:
            progress(file)
    return builder.build()


_Read = Callable[[], tuple[str, list[Line]]]


def _tunes(file: Path) -> Iterator[tuple[str, _Read]]:
    """Yield number and reader of each tune of a file; the reader returns title and lines."""
    if file.suffix.lower() in MIDI_SUFFIXES:
        if (size := regular_file_size(file, error=InputError)) > MAX_MIDI_BYTES:
            raise InputError(f"the file has {size} bytes; at most {MAX_MIDI_BYTES} are read")
        try:
            data = file.read_bytes()
        except OSError as error:
            raise InputError(f"cannot be read ({error.strerror})") from error
        yield "", lambda: ("", midi_lines(data))
        return
    tunes = read_tunes(file)
    numbers = [number for number, _ in tunes]
    if "" in numbers or len(set(numbers)) < len(numbers):
        numbers = [str(place) for place in range(1, len(tunes) + 1)]
    for number, (_, text) in zip(numbers if len(tunes) > 1 else [""], tunes, strict=True):
        yield number, lambda text=text: _read_abc(text)


def _read_abc(text: str) -> tuple[str, list[Line]]:
    score = read_score(text)
    return score.title, lines_of(score)


def _add(builder: MelodyIndexBuilder, name: str, number: str, read: _Read) -> None:
    try:
        title, lines = read()
        builder.add(Tune(name, number, title), lines)
    except InputError as error:
        builder.failures.append((f"{name}, tune {number}" if number else name, _reason(error)))


def _reason(error: InputError) -> str:
    """Return what is wrong without the name of the file."""
    if not isinstance(error, FormatError):
        return str(error)
    return f"line {error.line}: {error.reason}" if error.line is not None else error.reason
