"""The formats that a piece can be written in: one table, which commands, help pages and :func:`write_piece` read.

To add a format:

1. In a module of its own, beside :mod:`notagen.sound.midi`, write a function that makes the content of a file, of a
   :class:`~notagen.sound.performance.Performance` (notes in seconds), of MusicXML, or of the text.
2. Here, write a function that imports it and calls it with the part of :class:`ExportPiece` that it needs, as ``_midi``
   does, and add an entry to :data:`FORMATS`. The name is one word in lower-case letters and digits, which help pages do
   not break; no other format has its suffix.

Commands, help pages, messages, and the tests of every format follow. The browser demo offers a choice of its own.
Loading this module is quick: what makes a format is imported when it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pentatonic.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from notagen.sound.performance import Performance

_WAV_SAMPLE_RATE = 44100


class ExportPiece:
    """A piece to write; what several formats are made of is computed once.

    Args:
        text: One tune in ABC, in any layout, also as a model writes it.
        soundfont: For sound, from :func:`pentatonic.audio.soundfont.find_soundfont`; None: the built-in synthesiser.
    """

    def __init__(self, text: str, soundfont: Path | None = None) -> None:
        self.text, self.soundfont = text, soundfont

    @cached_property
    def musicxml(self) -> bytes:
        """The piece as MusicXML."""
        from notagen.musicxml import abc_to_musicxml

        return abc_to_musicxml(self.text)

    @cached_property
    def performance(self) -> Performance:
        """The piece as played: notes with their times, repeats played out."""
        from notagen.sound.performance import perform

        return perform(self.text)

    @cached_property
    def pages(self) -> list[str]:
        """The engraved pages, as SVG documents."""
        from notagen.engraving import engrave

        return engrave(self.musicxml)


@dataclass(frozen=True)
class Requirement:
    """A dependency of a format that an installation may lack.

    Args:
        module: Module whose absence shows that it is missing.
        feature: What needs it, as the start of a sentence.
        extra: Extra that installs it.
    """

    module: str
    feature: str
    extra: str


@dataclass(frozen=True)
class Format:
    """One way to write a piece.

    Args:
        about: A few words for help pages.
        suffix: Suffix of the file, such as ``.mid``.
        make: Returns the content of the file, or a list with the contents of several files, which are numbered.
        requirement: A dependency that may not be installed.
    """

    about: str
    suffix: str
    make: Callable[[ExportPiece], bytes | list[bytes]]
    requirement: Requirement | None = None

    def files(self, piece: ExportPiece) -> dict[str, bytes]:
        """Make the files of a piece: end of the name, such as ``.mid`` or ``-1.svg`` -> content."""
        made = self.make(piece)
        if isinstance(made, bytes):
            return {self.suffix: made}
        return {f"-{number}{self.suffix}": content for number, content in enumerate(made, 1)}


def _abc(piece: ExportPiece) -> bytes:
    from notagen.files.readable import readable

    return readable(piece.text).encode(errors="replace")


def _midi(piece: ExportPiece) -> bytes:
    from notagen.sound.midi import midi_bytes

    return midi_bytes(piece.performance)


def _pdf(piece: ExportPiece) -> bytes:
    from notagen.engraving import pdf_bytes

    return pdf_bytes(piece.pages)


def _wav(piece: ExportPiece) -> bytes:
    from notagen.sound.sound_file import sound_bytes

    return sound_bytes(piece.performance, ".wav", sample_rate=_WAV_SAMPLE_RATE, soundfont=piece.soundfont)


_ENGRAVING = Requirement("verovio", "Engraving", "notagen[engrave]")

FORMATS = {
    "abc": Format("ABC in standard layout", ".abc", _abc),
    "musicxml": Format("MusicXML 4.0", ".musicxml", lambda piece: piece.musicxml),
    "midi": Format("MIDI, repeats played out", ".mid", _midi),
    "svg": Format(
        "engraved pages, a file each",
        ".svg",
        lambda piece: [page.encode() for page in piece.pages],
        _ENGRAVING,
    ),
    "pdf": Format("engraved pages", ".pdf", _pdf, _ENGRAVING),
    "wav": Format("sound of a simple synthesiser, or of a SoundFont", ".wav", _wav),
}
"""Name -> format."""


def formats_help() -> str:
    """Return the formats as a paragraph for a help page, one on each line."""
    lines = [f"  {name:<{max(map(len, FORMATS))}}  {format.about}" for name, format in FORMATS.items()]
    return "\n".join(["\b", "Formats:", *lines])  # \b: click keeps the line breaks


def check_formats(names: Iterable[str], argument: str) -> None:
    """Fail fast where a format does not exist, or where what it needs is not installed.

    Args:
        names: Of :data:`FORMATS`.
        argument: What to call them in a message, such as ``--formats``.

    Raises:
        UsageError: There is no such format.
        MissingExtra: A format needs what is not installed.
    """
    for name in names:
        if name not in FORMATS:
            raise UsageError(f"{argument} has {name!r}; allowed: {', '.join(FORMATS)}")
        needed = FORMATS[name].requirement
        if needed is not None and find_spec(needed.module) is None:
            raise MissingExtra(needed.feature, needed.extra)
