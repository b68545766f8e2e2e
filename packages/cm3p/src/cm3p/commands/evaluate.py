"""``cm3p evaluate``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from pentatonic.cli import Device, JsonFlag, check_inputs, json_text, make_output_place, show
from pentatonic.errors import UsageError

if TYPE_CHECKING:
    from cm3p.quality.evaluate import Quality
    from pentatonic.cli import BatchReport

_MOST_CANDIDATES = 64  # as in cm3p.quality, which imports torch


def evaluate_command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="Mapperator data sets, maps (.osu), archives (.osz), folders; best ones without training maps.",
            show_default=False,
        ),
    ] = None,
    model: ModelOption = DEFAULT_MODEL,
    revision: Revision = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only maps whose column Split says so, such as test.")
    ] = None,
    start: Annotated[int, typer.Option(min=0, help="First set of a data set, or file, counted from 0.")] = 0,
    end: Annotated[int | None, typer.Option(min=0, help="First set or file to leave out.")] = None,
    audio: WithAudio = True,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="Also measure the network as it is before training.")
    ] = False,
    baseline_train: Annotated[
        str | None,
        typer.Option(
            metavar="FIRST:END",
            help="Training maps of the same data sets, as sets or the name of a split: classifiers of bags of tokens "
            "learn from them.",
        ),
    ] = None,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe", help="Embed the training maps, and train the classifiers on embeddings, too."
        ),
    ] = False,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH", help="Other maps, or embeddings with --embeddings: print the Fréchet distance."
        ),
    ] = None,
    embeddings: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Stored embeddings (cm3p embed) in place of maps and model; without labels."
        ),
    ] = None,
    metadata: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Parquet table that fills what maps do not say, such as star ratings, by Id."
        ),
    ] = None,
    most_candidates: Annotated[
        int, typer.Option(min=2, help="Zero-shot values of a field at most, the most frequent ones.")
    ] = _MOST_CANDIDATES,
    resamples: Annotated[int, typer.Option(min=1, help="Resamples of mapsets for the intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write everything that was measured as .json."),
    ] = None,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the tables as .html (extra report).")
    ] = None,
    batch_size: BatchSize = BATCH_SIZE,
    max_windows: MaxWindows = MAX_WINDOWS,
    device: Device = "auto",
    dtype: Precision = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Measure how good embeddings of maps are: retrieval, tags, zero-shot labels, difficulty, Fréchet distance.

    Every value has a 95 % interval over mapsets, what chance gives, and bags of event tokens beside it. Exit status 3:
    some maps could not be used; the table names each one.
    """
    paths, against = paths or [], against or []
    check_inputs([*paths, *against, *(each for each in (embeddings, metadata) if each is not None)])
    for file, option, suffix in ((out, "--out", ".json"), (page, "--page", ".html")):
        if file is not None:
            if file.suffix.lower() != suffix:
                raise UsageError(f"{option} is {file}; allowed: a name that ends in {suffix}")
            make_output_place(file, option, inputs=[*paths, *against, embeddings, metadata])
    if (embeddings is None) == (not paths):
        raise UsageError("give either maps or --embeddings FILE")
    if end is not None and end <= start:
        raise UsageError(f"--end is {end}; allowed: more than --start, {start}")
    if probe and baseline_train is None:
        raise UsageError("--probe needs --baseline-train, the maps to learn from")
    from cm3p.quality.corpus import ReadOptions, Selection, parse_selection
    from cm3p.quality.evaluate import EvaluateOptions, evaluate, evaluate_embeddings

    if embeddings is not None:
        if untrained or baseline_train is not None or split is not None or metadata is not None:
            raise UsageError(
                "--untrained, --baseline-train, --split and --metadata need maps and a model, not --embeddings"
            )
        if len(against) > 1:
            raise UsageError("--against with --embeddings: allowed is one file of embeddings")
        options = EvaluateOptions(resamples=resamples, seed=seed)
        _finish(
            evaluate_embeddings(embeddings, against[0] if against else None, options),
            None,
            out,
            page,
            as_json,
        )
        return
    from cm3p.inference.maps import WindowOptions

    options = EvaluateOptions(
        read=ReadOptions(audio, WindowOptions(max_windows), batch_size),
        untrained=untrained,
        against=Selection(against, metadata=metadata) if against else None,
        train=None if baseline_train is None else parse_selection(baseline_train, paths, metadata),
        probe=probe,
        most_candidates=most_candidates,
        resamples=resamples,
        seed=seed,
    )
    selection = Selection(paths, start, end, split, metadata)
    quality, report = evaluate(load_model(model, device, dtype, revision), selection, options)
    report.print_summary()
    _finish(quality, report, out, page, as_json)
    report.raise_for_failures()


def _finish(
    quality: Quality, report: BatchReport | None, out: Path | None, page: Path | None, as_json: bool
) -> None:
    from cm3p.quality.report import document, lines, write_page
    from pentatonic.checkpoint import atomic_file

    result = document(quality, report)
    if out is not None:
        with atomic_file(out) as file:
            file.write(f"{json_text(result)}\n".encode())
        print(out, file=sys.stderr)
    if page is not None:
        write_page(quality, page)
        print(page, file=sys.stderr)
    show(result, as_json, lambda: lines(quality))
