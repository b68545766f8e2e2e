"""Engraved pages: MusicXML to SVG by verovio, and from there to PDF.

Verovio is native code, so it runs in a child process: a crash or an endless loop fails one piece. Give it only
MusicXML written by :mod:`notagen.musicxml`.
"""

from __future__ import annotations

import importlib.util
import io
import re
from collections.abc import Sequence
from typing import Any

from pentatonic.child_process import ChildFailure, Message, run_in_child
from pentatonic.errors import InputError, MissingExtra, UsageError

#: Memory of verovio, in bytes; a piece of a hundred pages needs a tenth of it.
MEMORY_LIMIT = 4 << 30

_CHILD = "notagen.engraving.verovio_process:engrave_document"
_VIEW_BOX = re.compile('viewBox="([^"]*)"')
_EXTRA = "notagen[engrave]"
_A4_MM = (210, 297)
_PT_PER_MM, _PX_PER_MM = 72 / 25.4, 96 / 25.4


def engrave(musicxml: bytes, *, timeout_s: float = 30.0) -> list[str]:
    """Engrave a score.

    Args:
        musicxml: A MusicXML document, UTF-8.
        timeout_s: Seconds after which the process is stopped.

    Returns:
        SVG documents, one per page, as wide as A4 and cut below the last system. ``viewBox`` gives the size in
        tenths of a millimetre. They hold no script, refer to nothing outside, and name only the font
        ``Times, serif``; ids do not clash between pages.

    Raises:
        MissingExtra: verovio is not installed.
        InputError: Verovio does not read the score, crashed, or took longer than ``timeout_s``.
        UsageError: ``timeout_s`` is not positive.
    """
    if not timeout_s > 0:
        raise UsageError(f"timeout_s: {timeout_s} is not a positive number of seconds")
    if importlib.util.find_spec("verovio") is None:
        raise MissingExtra("Engraving", _EXTRA)
    request = Message(data=musicxml)
    try:
        pages = run_in_child(_CHILD, request, seconds=timeout_s, memory_bytes=MEMORY_LIMIT)
    except ChildFailure as failure:
        raise InputError(f"engraving: verovio {failure}") from failure
    return pages.value


def pdf_bytes(pages: Sequence[str]) -> bytes:
    """Return engraved pages as the content of a PDF file of A4 pages.

    Args:
        pages: SVG documents from :func:`engrave`, at least one.

    Raises:
        MissingExtra: cairosvg, or the cairo library of the system, is not installed.
        UsageError: There are no pages.
    """
    if not pages:
        raise UsageError("pages: a PDF needs at least one page")
    try:
        import cairocffi
        from cairosvg.parser import Tree
        from cairosvg.surface import PDFSurface
    except (ImportError, OSError) as error:  # OSError: the system has no cairo library
        raise MissingExtra("A PDF", _EXTRA) from error

    file = io.BytesIO()
    paper = cairocffi.PDFSurface(file, *(side * _PT_PER_MM for side in _A4_MM))

    class Page(PDFSurface):
        """One page of the common paper, instead of a document of its own."""

        @staticmethod
        def surface_class(*_: Any) -> cairocffi.PDFSurface:
            return paper

    for page in pages:
        width, height = _fitted(page)
        Page(Tree(bytestring=page.encode()), None, 96, output_width=width, output_height=height)
        paper.show_page()
    paper.finish()
    return file.getvalue()


def _fitted(page: str) -> tuple[float, float]:
    """Return the size of a page on the paper, in CSS pixels; it fills the width, or the height of a tall system."""
    _, _, width, height = map(float, _VIEW_BOX.findall(page)[0].split())
    scale = min(_A4_MM[0] / width, _A4_MM[1] / height) * _PX_PER_MM
    return scale * width, scale * height
