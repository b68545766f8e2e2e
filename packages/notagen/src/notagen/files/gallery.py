"""A page of generated pieces: engraved, playable, with their check and their text.

The page is a section of a :class:`pentatonic.report.Report`, so that it can be added to a page of another
program. Sound is kept as Ogg Vorbis: eight dense pieces of a minute take seven megabytes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from notagen.engraving import engrave
from notagen.files.check import check
from notagen.files.readable import readable
from notagen.musicxml import abc_to_musicxml
from notagen.sound.synth import render_audio
from pentatonic import audio
from pentatonic.cli import progress, run_manifest
from pentatonic.errors import FormatError, InputError
from pentatonic.report import Report

SECTION = "notagen"

_TITLE = "NotaGen: sheet music from a small model"
_SAMPLE_RATE = 32000
_MAX_SOUND_S = 60.0
_MOST_PAGES = 2
_MOST_ISSUES = 12


@dataclass(frozen=True)
class GalleryPiece:
    """One piece to show.

    Args:
        text: ABC, as generated.
        seed: Seed of the generation.
        prompt: Prompt of the generation, such as ``%Baroque`` and two more lines; may be empty.
        status: How generation ended, such as ``finished``.
    """

    text: str
    seed: int
    prompt: str = ""
    status: str = ""

    @property
    def title(self) -> str:
        """The prompt in one line, without comment signs; the seed for an empty prompt."""
        lines = [line.strip("% \t") for line in self.prompt.splitlines() if not line.startswith("%%")]
        return " / ".join(line for line in lines if line) or f"Seed {self.seed}"


def write_gallery(
    pieces: Sequence[GalleryPiece],
    path: str | Path,
    *,
    introduction: str = "",
    command: str | None = None,
    versions: Mapping[str, str] | None = None,
    soundfont: Path | None = None,
) -> None:
    """Write pieces as a section of a page; the sections of other programs in the file stay as they are.

    Of a piece, two pages and a minute of sound are kept. A piece that cannot be engraved or played is
    shown with the reason.

    Args:
        pieces: What to show.
        path: The HTML file; created if it does not exist.
        introduction: Text above the pieces, such as the model that wrote them; an empty line starts a paragraph.
        command: The command line behind the page; that of this process by default.
        versions: Name -> version of the software; those of this process by default.
        soundfont: As for :func:`notagen.sound.synth.render_audio`.

    Raises:
        MissingExtra: ``notagen[engrave]`` or ``notagen[report]`` is not installed.
        FormatError: The file exists and is not a report.
        CheckpointError: The file cannot be written.
    """
    manifest = run_manifest() if command is None or versions is None else {}
    report = Report(
        _TITLE,
        command=manifest["command"] if command is None else command,
        versions=manifest["versions"] if versions is None else versions,
        section=SECTION,
    )
    if introduction:
        report.text(introduction)
    report.table([_summary(number, piece) for number, piece in enumerate(pieces, 1)], "Pieces")
    for number, piece in enumerate(progress(pieces, "engraving"), 1):
        _show(report, number, piece, soundfont)
    report.add_to(path)


def _summary(number: int, piece: GalleryPiece) -> dict[str, object]:
    row: dict[str, object] = {
        "piece": number,
        "prompt": piece.title,
        "seed": piece.seed,
        "ended": piece.status,
    }
    try:
        found = check(piece.text)
    except FormatError as error:
        return row | {"valid": f"no: {error}"}
    return row | {
        "bars": found.bars,
        "valid": found.valid,
        "unparsable bars": found.unparsable_bars,
        "misaligned bars": found.misaligned_bars,
    }


def _show(report: Report, number: int, piece: GalleryPiece, soundfont: Path | None) -> None:
    name = f"{number}. {piece.title}"
    report.heading(name)
    try:
        pages = engrave(abc_to_musicxml(piece.text))
        report.svg(pages[:_MOST_PAGES], f"Score of piece {number}")
        if len(pages) > _MOST_PAGES:
            report.text(f"{len(pages) - _MOST_PAGES} more pages are not shown.")
    except InputError as error:
        report.text(f"Cannot be engraved: {error}")
    add_sound(report, piece.text, name, most_s=_MAX_SOUND_S, soundfont=soundfont)
    _add_issues(report, piece)
    report.listing(readable(piece.text), "ABC notation")


def add_sound(report: Report, text: str, label: str, *, most_s: float, soundfont: Path | None = None) -> None:
    """Add the sound of a piece to a report, or the reason why it cannot be played.

    Args:
        report: The report.
        text: The piece, ABC.
        label: What the player is called.
        most_s: Seconds that are kept.
        soundfont: As for :func:`notagen.sound.synth.render_audio`.
    """
    try:
        samples = render_audio(text, sample_rate=_SAMPLE_RATE, max_duration_s=most_s, soundfont=soundfont)
    except InputError as error:
        report.text(f"Cannot be played: {error}")
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "piece.ogg")
        audio.save(path, samples, _SAMPLE_RATE, subtype="VORBIS")
        report.audio(path, label)


def _add_issues(report: Report, piece: GalleryPiece) -> None:
    try:
        issues = check(piece.text).issues
    except FormatError:
        return  # the summary gives the reason
    rows = [
        {"bar": issue.bar, "voice": issue.voice, "kind": issue.kind, "what": issue.message}
        for issue in issues[:_MOST_ISSUES]
    ]
    if not rows:
        report.text("The check finds nothing wrong with it.")
        return
    more = f" (the first {len(rows)} of {len(issues)})" if len(issues) > len(rows) else ""
    report.table(rows, f"What the check finds{more}")
