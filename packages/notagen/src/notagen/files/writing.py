"""Files of a piece: ABC, MusicXML, MIDI, engraved pages and sound, each written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from notagen.notation.bars import voice_segments
from notagen.notation.layout import deinterleave
from notagen.notation.rests import final_text
from pentatonic.checkpoint import atomic_file
from pentatonic.errors import FormatError, UsageError

FORMATS = ("abc", "musicxml", "midi", "svg", "pdf", "wav")
"""What :func:`write_piece` writes."""

_SAMPLE_RATE = 44100


def write_piece(text: str, stem: Path, formats: Sequence[str]) -> dict[str, list[Path]]:
    """Write a piece in several formats.

    Args:
        text: One tune in ABC, in any layout, also as a model writes it.
        stem: The files without their suffix; their folder must exist. The pages of ``svg`` are called
            ``<stem>-1.svg``, ``<stem>-2.svg`` and so on.
        formats: Of :data:`FORMATS`. ``abc`` is in standard layout, with the silent voices put back, as other programs
            read it; bars that do not fit into it leave the tune interleaved.

    Returns:
        Format -> its files, in the order of ``formats``.

    Raises:
        UsageError: There is no such format.
        FormatError: The text is no piece; ``abc`` is written all the same.
        InputError: The piece is too long to be played, or cannot be engraved.
        MissingExtra: ``svg`` and ``pdf`` need ``notagen[engrave]``.
        CheckpointError: A file cannot be written.
        AudioError: The sound file cannot be written.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise UsageError(f"formats: {unknown[0]!r} is not one of {', '.join(FORMATS)}")
    piece = _Piece(text, stem)
    writers: dict[str, Callable[[], list[Path]]] = {
        "abc": piece.abc,
        "musicxml": piece.musicxml,
        "midi": piece.midi,
        "svg": piece.svg,
        "pdf": piece.pdf,
        "wav": piece.wav,
    }
    return {name: writers[name]() for name in formats}


def readable(text: str) -> str:
    """Turn text as a model writes it into a tune in standard layout, as other programs read it.

    Args:
        text: ABC; what is not interleaved comes back as it is.

    Returns:
        The tune; interleaved still where its bars do not fit standard layout.
    """
    if not any(voice_segments(line) for line in text.splitlines()):
        return text
    tune = final_text(text)
    try:
        return deinterleave(tune)
    except FormatError:
        return tune


class _Piece:
    """Writes one format each; what several of them need is made once."""

    def __init__(self, text: str, stem: Path) -> None:
        self.text, self.stem = text, stem

    @cached_property
    def score(self) -> bytes:
        from notagen.musicxml import abc_to_musicxml

        return abc_to_musicxml(self.text)

    @cached_property
    def pages(self) -> list[str]:
        from notagen.engraving import engrave

        return engrave(self.score)

    def abc(self) -> list[Path]:
        return self._written(".abc", readable(self.text).encode(errors="replace"))

    def musicxml(self) -> list[Path]:
        return self._written(".musicxml", self.score)

    def midi(self) -> list[Path]:
        from notagen.sound.midi import write_midi

        path = self._path(".mid")
        write_midi(self.text, path)
        return [path]

    def svg(self) -> list[Path]:
        return [
            path
            for number, page in enumerate(self.pages, 1)
            for path in self._written(f"-{number}.svg", page.encode())
        ]

    def pdf(self) -> list[Path]:
        from notagen.engraving import write_pdf

        path = self._path(".pdf")
        write_pdf(self.pages, path)
        return [path]

    def wav(self) -> list[Path]:
        from notagen.sound.synth import render_audio
        from pentatonic import audio

        path = self._path(".wav")
        audio.save(path, render_audio(self.text, sample_rate=_SAMPLE_RATE), _SAMPLE_RATE)
        return [path]

    def _path(self, suffix: str) -> Path:
        return self.stem.with_name(f"{self.stem.name}{suffix}")

    def _written(self, suffix: str, data: bytes) -> list[Path]:
        path = self._path(suffix)
        with atomic_file(path) as file:
            file.write(data)
        return [path]
