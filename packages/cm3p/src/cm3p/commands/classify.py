"""``cm3p classify``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

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
from pentatonic.cli import Device, JsonFlag, check_inputs, emit_json, show
from pentatonic.errors import InputError

if TYPE_CHECKING:
    from cm3p.classification.run import Labeller, MapLabels


def classify_command(
    paths: Maps,
    model: ModelOption = DEFAULT_MODEL,
    revision: Revision = None,
    zero_shot: Annotated[
        str | None,
        typer.Option(
            "--zero-shot",
            metavar="FIELD=V1,V2,...",
            help="Compare maps with values of a metadata field, such as mode=osu,taiko, by a model without classes.",
        ),
    ] = None,
    audio: WithAudio = True,
    min_window: Annotated[
        float | None,
        typer.Option(
            min=0, help="Leave out windows shorter than so many seconds.", show_default="as trained"
        ),
    ] = None,
    batch_size: BatchSize = BATCH_SIZE,
    max_windows: MaxWindows = MAX_WINDOWS,
    device: Device = "auto",
    dtype: Precision = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Label maps: mean probability over their windows, and in how many windows each label wins.

    With --json also the probabilities of each window. Exit status 3: some maps could not be used.
    """
    check_inputs(paths)
    from cm3p.classification.run import label_maps, trained_labeller, zero_shot_labeller
    from cm3p.inference.maps import WindowOptions

    loaded = load_model(model, device, dtype, revision)
    labeller = (
        trained_labeller(loaded, batch_size)
        if zero_shot is None
        else zero_shot_labeller(loaded, zero_shot, batch_size)
    )
    results, report = label_maps(
        loaded,
        labeller,
        paths,
        with_audio=audio,
        windows=WindowOptions(max_windows, min_window),
        batch_size=batch_size,
    )
    if not report.entries:
        raise InputError(f"there are no maps in {', '.join(map(str, paths))}")
    report.print_summary()
    if as_json:
        emit_json({"labels": labeller.names, "maps": results, **report.document()})
    else:
        show(results, False, lambda: [line for each in results for line in _lines(labeller, each)])
    report.raise_for_failures()


def _lines(labeller: Labeller, labels: MapLabels) -> list[str]:
    order = sorted(range(len(labels.mean)), key=lambda label: -labels.mean[label])
    count = len(labels.windows)
    lines = [f"{labels.where}  ({count} window{'' if count == 1 else 's'})"]
    for label in order:
        votes = f"  highest in {labels.votes[label]}" if labeller.exclusive else ""
        lines.append(f"    {labels.mean[label]:8.4f}  {labeller.names[label]}{votes}")
    return lines
