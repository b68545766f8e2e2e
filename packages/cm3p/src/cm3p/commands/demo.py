"""``cm3p demo``."""

from __future__ import annotations

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
from pentatonic.cli import Device, check_inputs, make_output_place

_SHOWN = 6  # as in cm3p.demo, which imports torch


def demo_command(
    paths: Maps,
    page: Annotated[
        Path,
        typer.Option(
            "--page", metavar="FILE", help="The HTML page; a page of other programs gets a section more."
        ),
    ],
    model: ModelOption = DEFAULT_MODEL,
    revision: Revision = None,
    audio: WithAudio = True,
    shown: Annotated[int, typer.Option("--windows", min=1, help="Windows that are described.")] = _SHOWN,
    batch_size: BatchSize = BATCH_SIZE,
    max_windows: MaxWindows = MAX_WINDOWS,
    device: Device = "auto",
    dtype: Precision = "auto",
) -> None:
    """Write a page with windows of maps: pictures, what the model reads out of them, and what they resemble.

    Exit status 3: some maps could not be used; the page shows the others.
    """
    check_inputs(paths)
    make_output_place(page, "--page")
    from cm3p.demo import write_demo
    from cm3p.inference.maps import WindowOptions
    from pentatonic.report import check_page

    check_page(page)
    report = write_demo(
        load_model(model, device, dtype, revision),
        paths,
        page,
        with_audio=audio,
        shown=shown,
        windows=WindowOptions(max_windows),
        batch_size=batch_size,
    )
    print(page)
    report.print_summary()
    report.raise_for_failures()
