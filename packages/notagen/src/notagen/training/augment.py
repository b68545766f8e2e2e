"""Convert a source file to training text: its tunes are cleaned and written in all 15 keys."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from notagen.files.reading import read_tunes
from notagen.notation.bars import BarTable
from notagen.notation.keys import MAJOR_KEYS, global_key
from notagen.notation.layout import interleaved
from notagen.notation.rests import omit_rests
from notagen.notation.transpose import Movable
from notagen.notation.tunebook import prepare_tune
from pentatonic.checkpoint.atomic import temporary_sibling
from pentatonic.child_process import Message
from pentatonic.errors import InputError, PentatonicError
from pentatonic.processes.time_limit import TimeLimitExceeded, time_limit

AUGMENTED, INTERLEAVED = "augmented", "interleaved"

_NOTES = re.compile(
    r"\"[^\"\n]*\"|![^!\n]*!|\[[A-Za-z]:[^\[\]\n]*\]"
    r"|((?:\^\^?|__?|=)?[A-Ga-g][,']*[\d/]*|[zxZX][\d/]*)"
)


@dataclass(frozen=True)
class ConvertedTune:
    """Outcome of one tune of a source file.

    Args:
        number: Its ``X:`` number in a tune book, else empty.
        name: Name of its files.
        key: Value of its ``K:`` field; empty if it was skipped.
        checksum: Digest of its notes.
        error: Class and message of an error.
        skipped: Why it was skipped on purpose.
    """

    number: str = ""
    name: str = ""
    key: str = ""
    checksum: str = ""
    error: tuple[str, str] | None = None
    skipped: str = ""


def convert_file(file: Path, name: str, *, out: Path, min_bars: int, timeout_s: float) -> list[ConvertedTune]:
    """Write all tunes of one file in all keys.

    Args:
        file: ABC or MusicXML.
        name: Name of the files to write; to tunes of a tune book their number in it is added.
        out: Folder with the key folders.
        min_bars: Shorter pieces are skipped.
        timeout_s: Time limit in seconds; it works only in the main thread of a process, on systems with timers.

    Returns:
        The outcome of each tune, in order, including all errors.
    """
    try:
        with time_limit(timeout_s):
            texts = read_tunes(file)
            width = len(str(len(texts)))
            return [
                _convert_tune(
                    number, text, name if len(texts) == 1 else f"{name}__{place:0{width}}", out, min_bars
                )
                for place, (number, text) in enumerate(texts, 1)
            ]
    except TimeLimitExceeded as error:
        return [ConvertedTune(error=(InputError.__name__, str(error)))]
    except (PentatonicError, OSError) as error:
        return [ConvertedTune(error=(type(error).__name__, str(error).removeprefix(f"{file}:").strip()))]


def convert_in_child(request: Message) -> Message:
    """Call :func:`convert_file` in a child process.

    Args:
        request: The arguments as ``value``, an object.

    Returns:
        The tunes as ``value``, a list of objects.
    """
    arguments = request.value
    tunes = convert_file(
        Path(arguments["file"]),
        arguments["name"],
        out=Path(arguments["out"]),
        min_bars=arguments["min_bars"],
        timeout_s=arguments["timeout_s"],
    )
    return Message([asdict(tune) for tune in tunes])


def _convert_tune(number: str, text: str, name: str, out: Path, min_bars: int) -> ConvertedTune:
    try:
        tune = prepare_tune(text)
        if tune.bar_count < min_bars:
            return ConvertedTune(number, skipped=f"{tune.bar_count} bars are fewer than min_bars={min_bars}")
        movable = Movable(tune)
        keys = {key: omit_rests(movable.to(key)) for key in MAJOR_KEYS}
    except PentatonicError as error:
        return ConvertedTune(number, error=(type(error).__name__, str(error)))
    whole = interleaved(tune)
    _write(out / INTERLEAVED / f"{name}.abc", whole)
    for key, augmented in keys.items():
        _write(out / AUGMENTED / key / f"{name}_{key}.abc", augmented)
    return ConvertedTune(number, name, global_key(whole), _checksum(tune))


def _checksum(tune: BarTable) -> str:
    """A digest of key, unit length and notes; decorations, barlines, texts and the rest of the header are ignored."""
    header = [line for line in tune.header if line.startswith(("K:", "L:"))]
    voices = [
        " ".join(match[1] for bar in voice.bars for match in _NOTES.finditer(bar) if match[1])
        for voice in tune.voices.values()
    ]
    return hashlib.sha256("\n".join([*header, *voices]).encode()).hexdigest()


def _write(path: Path, text: str) -> None:
    """Write a file so that a killed process leaves no partial one; no fsync, because there are 16 files per tune."""
    temporary = temporary_sibling(path)
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def remove_tune(out: Path, name: str) -> None:
    """Remove those files of a tune that exist."""
    if not name:
        return
    for path in (
        out / INTERLEAVED / f"{name}.abc",
        *(out / AUGMENTED / k / f"{name}_{k}.abc" for k in MAJOR_KEYS),
    ):
        path.unlink(missing_ok=True)
