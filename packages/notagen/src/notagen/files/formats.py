"""The formats that a piece can be written in: one table, which commands, help pages and :func:`write_piece` read.

To add a format, write a function that makes its content of an :class:`ExportPiece`, in a module of its own, and add a
line to :data:`FORMATS`. Loading this module is quick: what makes a format is imported when it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec

from pentatonic.errors import MissingExtra, UsageError

_WAV_SAMPLE_RATE = 44100


class ExportPiece:
    """A piece to write; what several formats need is made once.

    Args:
        text: One tune in ABC, in any layout, also as a model writes it.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def musicxml(self) -> bytes:
        """The piece as MusicXML."""
        from notagen.musicxml import abc_to_musicxml

        return abc_to_musicxml(self.text)

    @cached_property
    def pages(self) -> list[str]:
        """The engraved pages, as SVG documents."""
        from notagen.engraving import engrave

        return engrave(self.musicxml)


@dataclass(frozen=True)
class Requirement:
    """What has to be installed for a format.

    Args:
        module: That is looked for.
        feature: What needs it, as the start of a sentence.
        extra: That installs it.
    """

    module: str
    feature: str
    extra: str


@dataclass(frozen=True)
class Format:
    """One way to write a piece.

    Args:
        suffix: Of the file, such as ``.mid``.
        make: Piece -> content of the file; or of several files, whose names then have numbers.
        requirement: What may not be installed.
    """

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
    from notagen.sound.performance import perform

    return midi_bytes(perform(piece.text))


def _pdf(piece: ExportPiece) -> bytes:
    from notagen.engraving import pdf_bytes

    return pdf_bytes(piece.pages)


def _wav(piece: ExportPiece) -> bytes:
    from notagen.sound.sound_file import sound_bytes

    return sound_bytes(piece.text, ".wav", sample_rate=_WAV_SAMPLE_RATE)


_ENGRAVING = Requirement("verovio", "Engraving", "notagen[engrave]")

FORMATS = {
    "abc": Format(".abc", _abc),
    "musicxml": Format(".musicxml", lambda piece: piece.musicxml),
    "midi": Format(".mid", _midi),
    "svg": Format(".svg", lambda piece: [page.encode() for page in piece.pages], _ENGRAVING),
    "pdf": Format(".pdf", _pdf, _ENGRAVING),
    "wav": Format(".wav", _wav),
}
"""Name -> format."""


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
