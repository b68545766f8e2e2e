"""The page of ``notagen search --melody``: the melody, to listen to, and where it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from notagen.clamp2.melody.query import melody_tune
from notagen.clamp2.melody.search import MelodyHit
from notagen.files.gallery import add_sound
from pentatonic.cli import run_manifest
from pentatonic.report import Report

SECTION = "notagen-melody"

_MAX_SOUND_S = 60.0


def write_page(path: Path, melody: str, by: Sequence[str], total: str, hits: Sequence[MelodyHit]) -> None:
    """Write a section of a page; the sections of other programs in the file stay as they are.

    Args:
        path: The HTML file; created if it does not exist.
        melody: Notes in ABC, as they were given.
        by: What of it was looked for.
        total: How many places there are, in words.
        hits: The first of them.

    Raises:
        MissingExtra: ``notagen[report]`` is not installed.
        FormatError: The file exists and is not a report.
    """
    manifest = run_manifest()
    report = Report(
        "Where a melody is",
        command=manifest["command"],
        versions=manifest["versions"],
        section=SECTION,
    )
    report.text(f"The notes {melody}, by {' and '.join(by)}, in any key unless --same-key is given: {total}.")
    add_sound(report, melody_tune(melody), "The melody", most_s=_MAX_SOUND_S)
    report.table([_row(hit) for hit in hits], "Places")
    report.add_to(path)


def _row(hit: MelodyHit) -> dict[str, object]:
    return {
        "file": hit.tune.file,
        "tune": hit.tune.number,
        "title": hit.tune.title,
        "voice": hit.voice,
        "bar": hit.bar,
        "notes": " ".join(hit.notes),
        "semitones higher": hit.semitones,
    }
