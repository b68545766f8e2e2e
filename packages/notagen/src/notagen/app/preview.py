"""What the browser demo shows of a piece: engraved pages, sound, files to download, and the check bar by bar."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from notagen.files.check import check
from notagen.files.formats import FORMATS, ExportPiece
from notagen.notation.validation import Report
from notagen.sound.sound_file import sound_bytes
from pentatonic.errors import PentatonicError

MAX_SOUND_S = 180
_SAMPLE_RATE = 44100
_MOST_ISSUES = 100
# Suffix -> name and media type of a download.
_DOWNLOADS = {
    ".abc": ("ABC", "text/vnd.abc"),
    ".musicxml": ("MusicXML", "application/vnd.recordare.musicxml+xml"),
    ".mid": ("MIDI", "audio/midi"),
    ".svg": ("SVG", "image/svg+xml"),
}
T = TypeVar("T")


@dataclass(frozen=True)
class Preview:
    """A piece, ready to be shown and played.

    Args:
        report: The check; None where the text cannot be cut in voices and bars.
        pages: SVG documents.
        files: Suffix of the name, such as ``.mid`` -> content.
        sound: An MP3 file, the first ``MAX_SOUND_S`` seconds.
        problems: Why something could not be made; each reason once.
    """

    report: Report | None
    pages: Sequence[str]
    files: Mapping[str, bytes]
    sound: bytes | None
    problems: Sequence[str]

    def pages_html(self) -> str:
        """Return the pages as images, which cannot run a script whatever is written in a score."""
        pages = [
            f'<img alt="Page {number}" src="{_data_url("image/svg+xml", page.encode())}">'
            for number, page in enumerate(self.pages, 1)
        ]
        content = "".join(pages) or f"<p>{html.escape('; '.join(self.problems))}</p>"
        return f'<div class="pages">{content}</div>'

    def media_html(self, name: str) -> str:
        """Return a player, and links that download the files as ``name`` with their suffixes."""
        player = ""
        if self.sound is not None:
            player = f'<audio controls src="{_data_url("audio/mpeg", self.sound)}"></audio>'
        links = []
        for suffix, content in self.files.items():
            page, dot, kind = suffix.rpartition(".")
            label, media_type = _DOWNLOADS[dot + kind]
            links.append(
                f'<a download="{html.escape(name + suffix)}" href="{_data_url(media_type, content)}">'
                f"{label}{page.replace('-', ' ')}</a>"
            )
        return f"{player}<p>Download {' '.join(links)}</p>"

    def check_html(self) -> str:
        """Return what is wrong with the piece, as a table."""
        problems = "".join(f"<p>{html.escape(problem)}</p>" for problem in self.problems)
        if self.report is None:
            return problems
        errors = sum(not issue.warning for issue in self.report.issues)
        rows = "".join(
            f"<tr><td>{issue.bar or ''}</td><td>{html.escape(issue.voice or '')}</td>"
            f"<td>{'warning' if issue.warning else 'error'}</td><td>{html.escape(issue.message)}</td></tr>"
            for issue in self.report.issues[:_MOST_ISSUES]
        )
        head = "<tr><th>Bar</th><th>Voice</th><th></th><th></th></tr>" if rows else ""
        state = f"{errors} error{'s' * (errors > 1)}" if errors else "well-formed"
        return f"{problems}<p>{self.report.bars} bars, {state}</p><table>{head}{rows}</table>"


def preview(text: str, soundfont: Path | None = None) -> Preview:
    """Engrave, play and check a piece; what is wrong with its text is listed, not raised.

    Args:
        text: ABC in any layout.
        soundfont: As for :func:`notagen.sound.synth.render_audio`.
    """
    problems: list[str] = []

    def attempt(make: Callable[[], T]) -> T | None:
        try:
            return make()
        except PentatonicError as error:
            problems.append(str(error))
            return None

    piece = ExportPiece(text)
    files = {".abc": text.encode()}
    for name in ("musicxml", "midi", "svg"):
        files |= attempt(lambda name=name: FORMATS[name].files(piece)) or {}
    sound = attempt(
        lambda: sound_bytes(
            text,
            ".mp3",
            sample_rate=_SAMPLE_RATE,
            subtype="MPEG_LAYER_III",
            max_duration_s=MAX_SOUND_S,
            soundfont=soundfont,
        )
    )
    pages = piece.pages if any(end.endswith(".svg") for end in files) else ()
    return Preview(attempt(lambda: check(text)), pages, files, sound, tuple(dict.fromkeys(problems)))


def _data_url(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
