"""Write the files of a piece in any of its formats, each whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from notagen.files.formats import FORMATS, ExportPiece, check_formats
from pentatonic.checkpoint import atomic_file


def write_piece(
    text: str, stem: Path, formats: Sequence[str], *, soundfont: Path | None = None
) -> dict[str, list[Path]]:
    """Write a piece in several formats.

    Args:
        text: One tune in ABC, in any layout, also as a model writes it.
        stem: The files without their suffix; their folder must exist. The pages of ``svg`` are called
            ``<stem>-1.svg``, ``<stem>-2.svg`` and so on.
        formats: Of :data:`notagen.files.formats.FORMATS`. ``abc`` is in standard layout, with the silent voices put
            back, as other programs read it; bars that do not fit into it leave the tune interleaved.
        soundfont: As for :class:`notagen.files.formats.ExportPiece`.

    Returns:
        Format -> its files, in the order of ``formats``.

    Raises:
        UsageError: There is no such format.
        FormatError: The text is not a piece; ``abc`` is written all the same.
        InputError: The piece is too long to be played, or cannot be engraved, or FluidSynth fails.
        MissingExtra: ``svg`` and ``pdf`` need ``notagen[engrave]``.
        CheckpointError: A file cannot be written.
        AudioError: The sound cannot be encoded.
    """
    check_formats(formats, "formats")
    piece = ExportPiece(text, soundfont)
    return {name: write_files(FORMATS[name].files(piece), stem) for name in formats}


def write_files(files: Mapping[str, bytes], stem: Path) -> list[Path]:
    """Write the files of one format, each whole or not at all.

    Args:
        files: End of the name, such as ``.mid`` or ``-1.svg`` -> content.
        stem: Path without that end.

    Raises:
        CheckpointError: A file cannot be written.
    """
    paths = []
    for end, content in files.items():
        paths.append(stem.with_name(f"{stem.name}{end}"))
        with atomic_file(paths[-1]) as file:
            file.write(content)
    return paths
