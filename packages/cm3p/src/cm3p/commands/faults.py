"""``cm3p faults``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cm3p.commands.options import (
    BATCH_SIZE,
    DEFAULT_MODEL,
    MAX_WINDOWS,
    BatchSize,
    Maps,
    MaxWindows,
    ModelOption,
    Precision,
    Revision,
    WithAudio,
    load_model,
)
from pentatonic.cli import Device, JsonFlag, check_inputs, emit_json, make_output_place, show
from pentatonic.errors import InputError, UsageError

_SUFFIXES = (".json", ".csv", ".md", ".html")
_PASSES = 8  # as in cm3p.faults, which imports torch


def faults_command(
    paths: Maps,
    model: ModelOption = DEFAULT_MODEL,
    revision: Revision = None,
    audio: WithAudio = True,
    count: Annotated[int, typer.Option(min=0, help="Objects of each map at most.")] = 10,
    passes: Annotated[
        int, typer.Option(min=1, help="Mask every so many-th object at a time; as many passes over each map.")
    ] = _PASSES,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help=f"Also write a file: {', '.join(_SUFFIXES)}."),
    ] = None,
    planted: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Faults that were planted (planted.jsonl): print precision and recall beside a plain snap rule.",
        ),
    ] = None,
    resamples: Annotated[int, typer.Option(min=1, help="Resamples of mapsets for the intervals.")] = 500,
    batch_size: BatchSize = BATCH_SIZE,
    max_windows: MaxWindows = MAX_WINDOWS,
    device: Device = "auto",
    dtype: Precision = "auto",
    as_json: JsonFlag = False,
) -> None:
    """List the objects of maps that a model finds improbable, with timestamps that the game's editor opens.

    Needs a model that was trained with masked tokens. The score says how unusual the most surprising aspect of an
    object is among all objects of the map, in standard deviations. Exit status 3: some maps could not be used.
    """
    check_inputs([*paths, *([] if planted is None else [planted])])
    if out is not None:
        if out.suffix.lower() not in _SUFFIXES:
            raise UsageError(f"--out is {out}; allowed: a name that ends in {', '.join(_SUFFIXES)}")
        make_output_place(out, inputs=[*paths, planted])
    from cm3p.faults.output import document, planted_lines, text_lines, write
    from cm3p.faults.planted import judge, read_planted
    from cm3p.faults.run import FaultOptions, find_faults
    from cm3p.inference.maps import WindowOptions

    known = None if planted is None else read_planted(planted)
    options = FaultOptions(audio, WindowOptions(max_windows), passes, batch_size, count)
    maps, report = find_faults(load_model(model, device, dtype, revision), paths, options)
    if not report.entries:
        raise InputError(f"there are no maps in {', '.join(map(str, paths))}")
    report.print_summary()
    results = [] if known is None or not maps else judge(maps, known, resamples=resamples)
    if out is not None:
        write(out, maps, results)
        print(out, file=sys.stderr)
    if as_json:
        emit_json({**document(maps, results), **report.document()})
    else:
        show(
            maps,
            False,
            lambda: [
                *text_lines(maps),
                *([""] if results else []),
                *(planted_lines(results) if results else []),
            ],
        )
    report.raise_for_failures()
