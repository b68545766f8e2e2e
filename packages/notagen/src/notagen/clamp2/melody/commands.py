"""``notagen index-melodies``, and the search for a melody of ``notagen search``. Nothing slow until one runs."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from notagen.files.commands import check_page_option, counted
from pentatonic.cli import BatchReport, check_inputs, make_output_place, progress, show
from pentatonic.errors import InputError

if TYPE_CHECKING:
    from notagen.clamp2.melody.index import MelodyIndex
    from notagen.clamp2.melody.query import By
    from notagen.clamp2.melody.search import MelodyHit


def index_melodies(
    scores: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Scores (ABC, MusicXML, MIDI), also in folders inside.")
    ],
    out: Annotated[
        Path, typer.Option("--out", help="File to write, the --index of notagen search --melody.")
    ],
) -> None:
    """Index the melodies of a folder for search; takes no model.

    Exit status 3: some files or tunes could not be read; each one is named.
    """
    check_inputs([scores])
    make_output_place(out)
    index = _index(scores)
    index.save(out)
    report = _report(index)
    report.print_summary()
    print(out)
    report.raise_for_failures()


def search_melody(
    melody: str,
    index: Path,
    *,
    by: Collection[str],
    starts: bool,
    same_key: bool,
    count: int,
    page: Path | None,
    as_json: bool,
) -> None:
    """Find a melody and print the places.

    Args:
        melody: Notes in ABC.
        index: A folder of scores, which is read first, or a file of ``notagen index-melodies``.
        by: What of the melody must be found; nothing: its intervals.
        starts: Whether a voice must start with it.
        same_key: Whether it must be in the key in which it is written.
        count: Most places that are printed.
        page: A page to write too.
        as_json: Print JSON.

    Raises:
        PentatonicError: The melody or the index cannot be used.
        PartialFailure: Some scores of the folder could not be read.
    """
    check_page_option(page)
    from notagen.clamp2.melody.index import MelodyIndex
    from notagen.clamp2.melody.query import parse_melody
    from notagen.clamp2.melody.search import search

    query = parse_melody(
        melody, by=cast("Collection[By]", by) or ("interval",), starts=starts, same_key=same_key
    )
    opened = _index(index) if index.is_dir() else MelodyIndex.load(index)
    found = search(opened, query, limit=count)
    report = _report(opened) if index.is_dir() else BatchReport()
    if report.count("failed"):
        report.print_summary()
    lines = [_line(hit) for hit in found.hits]
    tunes = counted(len(opened.tunes), "tune")
    total = f"{counted(found.count, 'place')} in {found.tune_count} of {tunes}"
    lines.append(total)
    if page is not None:
        from notagen.clamp2.melody.page import write_page

        write_page(page, melody, sorted(query.by), total, found.hits)
    show({"melody": melody, "tunes": len(opened.tunes), **_document(found)}, as_json, lambda: lines)
    report.raise_for_failures()


def _index(folder: Path) -> MelodyIndex:
    from notagen.clamp2.melody.folder import index_folder, score_files

    with progress(len(score_files(folder)), "reading melodies") as bar:
        index = index_folder(folder, progress=lambda path: bar.advance(1, note=path.name))
    if not index.tunes:
        _report(index).print_summary()
        raise InputError(f"{folder}: no score in it could be read")
    return index


def _report(index: MelodyIndex) -> BatchReport:
    """What was read and what could not be, as a report."""
    report = BatchReport()
    for file in dict.fromkeys(tune.file for tune in index.tunes):
        report.done(file)
    for file, reason in index.failures:
        report.failed(file, reason)
    return report


def _document(found: Any) -> dict[str, Any]:
    return {"places": found.count, "tunes_with_it": found.tune_count, "hits": found.hits}


def _line(hit: MelodyHit) -> str:
    tune = f"{hit.tune.file}{f', tune {hit.tune.number}' if hit.tune.number else ''}"
    title = f" ({hit.tune.title})" if hit.tune.title else ""
    moved = f", {hit.semitones:+d} semitones" if hit.semitones else ""
    return f"{tune}{title}: voice {hit.voice}, bar {hit.bar}: {' '.join(hit.notes)}{moved}"
