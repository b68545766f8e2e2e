"""``cm3p validate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cm3p.commands.options import MAX_WINDOWS, Maps, MaxWindows, Revision
from pentatonic.cli import JsonFlag, check_inputs, emit_json, make_output_place, show
from pentatonic.errors import UsageError

_BAR = 40


def validate_command(
    paths: Maps,
    model: Annotated[
        str | None,
        typer.Option("--model", help="Parse and cut as this model does.", show_default="settings of v7"),
    ] = None,
    revision: Revision = None,
    max_windows: MaxWindows = MAX_WINDOWS,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw histograms as .png or .svg (extra report).")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check a data set or folder as training would read it: counts, warnings, windows, token lengths, null fields.

    A Mapperator data set is a folder with metadata.parquet. Exit status 3: some maps cannot be used; the table names
    each one.
    """
    check_inputs(paths)
    if figure is not None:
        if figure.suffix.lower() not in (".png", ".svg"):
            raise UsageError(f"--figure is {figure}; allowed: a name that ends in .png or .svg")
        make_output_place(figure, "--figure", inputs=paths)
    from cm3p.inspection.defaults import get_processor
    from cm3p.inspection.validate import draw_lengths, validate

    statistics, report = validate(paths, get_processor(model, revision), max_windows)
    if figure is not None:
        draw_lengths(statistics, figure)
    report.print_summary()
    about = statistics.document()
    if as_json:
        emit_json(about | report.document())
    else:
        show(about, False, lambda: _lines(about))
    report.raise_for_failures()


def _lines(about: dict[str, Any]) -> list[str]:
    tokens = about["tokens"]
    mean = "" if tokens["mean"] is None else f", {tokens['mean']:.0f} a window, {tokens['longest']} at most"
    lines = [
        f"maps            {about['maps']} of {about['sets']} sets",
        f"modes           {_counts(about['modes'])}",
        f"submitted       {_counts(about['years'])}",
        f"windows         {about['windows']}",
        f"tokens          {tokens['total']}{mean}; {tokens['cut_windows']} windows are cut",
        f"no audio file   {about['missing_audio']} maps",
        f"no objects      {about['without_objects']} maps",
        f"no window       {about['without_windows']} maps (too short)",
        f"null, so UNK    {_counts(about['unknown_fields'])}",
        "tokens of a window, without audio:",
    ]
    most = max((each["windows"] for each in tokens["histogram"]), default=1)
    for each in tokens["histogram"]:
        bar = "#" * max(1, round(each["windows"] / most * _BAR))
        lines.append(f"  {each['from']:>5} to {each['to'] - 1:<5} {each['windows']:>7}  {bar}")
    lines.append(f"warnings of the reader: {sum(about['warnings'].values())}")
    lines += [f"  {count:>7}  {kind}" for kind, count in about["warnings"].items()]
    return lines


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
