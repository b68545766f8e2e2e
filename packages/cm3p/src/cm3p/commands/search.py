"""``cm3p search``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cm3p.commands.options import DEFAULT_MODEL, MAX_WINDOWS, MaxWindows, ModelOption, Revision, load_model
from pentatonic.cli import Device, JsonFlag, check_inputs, emit_json, show
from pentatonic.errors import UsageError

if TYPE_CHECKING:
    from cm3p.search.find import Found

_MODES = {"osu": 0, "taiko": 1, "catch": 2, "fruits": 2, "mania": 3}


def search_command(
    index: Annotated[Path, typer.Argument(metavar="PARQUET", help="Embeddings, from cm3p embed.")],
    like: Annotated[
        list[str] | None,
        typer.Option(metavar="MAP...", help="Maps to be like: ids or paths that the index has, or files."),
    ] = None,
    unlike: Annotated[
        list[str] | None, typer.Option(metavar="MAP...", help="Maps to be unlike, named in the same way.")
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=VALUE...", help="Metadata to be like, such as mode=osu year=2015 mapper=NAME."
        ),
    ] = None,
    audio: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A song to be like; for an index that was made with audio."),
    ] = None,
    stars: Annotated[
        str | None, typer.Option(metavar="LOW:HIGH", help="Star ratings, such as 5.5:6.")
    ] = None,
    mode: Annotated[
        Literal["osu", "taiko", "catch", "fruits", "mania"] | None, typer.Option(help="Ruleset.")
    ] = None,
    year: Annotated[
        str | None, typer.Option(metavar="FIRST:LAST", help="Years of submission, such as 2015:2020.")
    ] = None,
    ignore_set: Annotated[
        bool, typer.Option("--ignore-set", help="Leave out other maps of the sets of the --like maps.")
    ] = False,
    count: Annotated[int, typer.Option(min=1, help="Maps at most.")] = 20,
    method: Annotated[
        Literal["exact", "faiss"],
        typer.Option(
            "--index", help="exact: ties by the lower row; faiss: a flat FAISS index (extra faiss-cpu)."
        ),
    ] = "exact",
    model: ModelOption = DEFAULT_MODEL,
    revision: Revision = None,
    max_windows: MaxWindows = MAX_WINDOWS,
    device: Device = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Find maps like some maps, unlike others, or like a description; exact, within limits of stars, year, mode.

    The model is needed for queries that the index does not have, and must be the one that made the index.
    """
    check_inputs([index, *([] if audio is None else [audio])])
    from cm3p.search.index import Index, Limits, parse_range

    limits = Limits(
        parse_range(stars, "--stars"), parse_range(year, "--year"), None if mode is None else _MODES[mode]
    )
    if not (like or metadata or audio):
        raise UsageError(
            "there is nothing to look for; allowed: --like, --metadata, --audio, or several of them"
        )
    from cm3p.inference.maps import WindowOptions
    from cm3p.search.find import find
    from cm3p.search.queries import AUDIO_NOTE, Queries

    opened = Index(index)
    allowed = opened.allowed(limits)
    queries = Queries(opened, lambda: load_model(model, device, "fp32", revision), WindowOptions(max_windows))
    wanted = [query for name in like or () for query in queries.maps(name)]
    unwanted = [query for name in unlike or () for query in queries.maps(name)]
    if metadata:
        wanted.append(queries.metadata(metadata))
    if audio is not None:
        wanted.append(queries.audio(audio))
        print(AUDIO_NOTE, file=sys.stderr)
    found = find(opened, wanted, unwanted, allowed=allowed, count=count, ignore_set=ignore_set, method=method)
    if as_json:
        names = {"like": [query.name for query in wanted], "unlike": [query.name for query in unwanted]}
        emit_json({"index": index, **names, "allowed": int(allowed.sum()), "found": found})
        return
    if not found:
        print("no map of the index is within the limits", file=sys.stderr)
    show(found, False, lambda: _lines(found))


def _lines(found: list[Found]) -> list[str]:
    lines = []
    for each in found:
        about = each.map
        stars = "" if about["DifficultyRating"] is None else f"{about['DifficultyRating']:.2f}*"
        title = f"{about['Artist'] or '?'} - {about['Title'] or '?'} [{about['Version'] or '?'}]"
        if not (about["Artist"] or about["Title"]):
            title = about["BeatmapFile"] or "?"
        by = f" by {about['Creator']}" if about["Creator"] else ""
        lines.append(
            f"{each.rank:>3}  {each.score:+.4f}  {stars:>6}  {about['Mode'] or '?':<6}  {title}{by}  #{about['Id']}"
        )
    return lines
