"""``cm3p embed``."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from cm3p.commands.options import (
    BATCH_SIZE,
    DEFAULT_MODEL,
    MAX_WINDOWS,
    BatchSize,
    MaxWindows,
    ModelOption,
    Precision,
    Revision,
    WithAudio,
    load_model,
)
from pentatonic.cli import Device, JsonFlag, check_inputs, emit_json, make_output_place
from pentatonic.errors import UsageError
from pentatonic.progress import printable


def embed_command(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="Maps (.osu), archives (.osz), folders such as the game's Songs folder, Mapperator data sets.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Parquet file to write.")],
    model: ModelOption = DEFAULT_MODEL,
    revision: Revision = None,
    audio: WithAudio = True,
    gamemodes: Annotated[
        list[int] | None,
        typer.Option(
            min=0, max=3, help="Rulesets, such as 0 3: 0 osu, 1 taiko, 2 catch, 3 mania.", show_default="all"
        ),
    ] = None,
    min_year: Annotated[int | None, typer.Option(help="Leave out maps submitted before it.")] = None,
    max_year: Annotated[int | None, typer.Option(help="Leave out maps submitted after it.")] = None,
    min_difficulty: Annotated[float | None, typer.Option(help="Lowest star rating.")] = None,
    max_difficulty: Annotated[float | None, typer.Option(help="Highest star rating.")] = None,
    start: Annotated[int, typer.Option(min=0, help="First set of a data set, or file, counted from 0.")] = 0,
    end: Annotated[int | None, typer.Option(min=0, help="First set or file to leave out.")] = None,
    metadata: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Parquet table that fills what maps do not say, such as star ratings, by Id."
        ),
    ] = None,
    database: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The client's osu!.db, for star ratings.",
            show_default="that beside the Songs folder",
        ),
    ] = None,
    merge_with: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Embeddings to add to; new rows win, old values fill gaps."),
    ] = None,
    assume_same_model: Annotated[
        bool,
        typer.Option("--assume-same-model", help="Merge with a file that does not say which model made it."),
    ] = False,
    batch_size: BatchSize = BATCH_SIZE,
    max_windows: MaxWindows = MAX_WINDOWS,
    device: Device = "auto",
    dtype: Precision = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin again in place of continuing a stopped run.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Embed maps into one Parquet file, a row for each; continue a stopped run.

    Exit status 3: some maps could not be used; the table names each one.
    """
    check_inputs([*paths, *(each for each in (metadata, database, merge_with) if each is not None)])
    make_output_place(out, inputs=[*paths, metadata, database])
    if end is not None and end <= start:
        raise UsageError(f"--end is {end}; allowed: more than --start, {start}")
    from cm3p.embedding.filters import MapFilter
    from cm3p.embedding.run import EmbedOptions, embed_maps
    from cm3p.inference.maps import WindowOptions

    modes = None if not gamemodes else frozenset(gamemodes)
    result = embed_maps(
        load_model(model, device, dtype, revision),
        paths,
        out,
        EmbedOptions(
            with_audio=audio,
            windows=WindowOptions(max_windows),
            filter=MapFilter(modes, min_year, max_year, min_difficulty, max_difficulty),
            start=start,
            end=end,
            batch_size=batch_size,
            merge_with=merge_with,
            metadata=metadata,
            database=database,
            assume_same_model=assume_same_model,
            overwrite=overwrite,
        ),
    )
    result.report.print_summary()
    _say_left_out(result.left_out)
    if result.note:
        print(printable(result.note), file=sys.stderr)
    wrote = (
        f"{out}: {result.rows} maps" if result.rows else f"{out}: not written, as there is no map to write"
    )
    print(wrote, file=sys.stderr)
    if as_json:
        emit_json({"rows": result.rows, "left_out": result.left_out, **result.report.document()})
    result.report.raise_for_failures()


def _say_left_out(left_out: Counter[str]) -> None:
    if left_out:
        reasons = ", ".join(f"{count} by {reason}" for reason, count in left_out.items())
        print(f"left out: {reasons}", file=sys.stderr)
