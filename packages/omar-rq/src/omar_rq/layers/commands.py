"""``omar-rq layers``. No torch until the command runs, so that ``--help`` answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pentatonic.cli import Device, JsonFlag, check_inputs, emit_json, make_output_place, pick_device


def layers_command(
    out: Annotated[Path, typer.Option("--out", help="HTML file to write.")],
    model: Annotated[
        str, typer.Option("--model", help="Bundled name, directory, run folder or hub id.")
    ] = "omar-rq-tiny",
    probes: Annotated[
        list[Path] | None,
        typer.Option("--probe", help="Run folder of omar-rq probe, or a folder of such; may be repeated."),
    ] = None,
    motifs: Annotated[int, typer.Option(min=2, max=200, help="Melodies to render.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="Of the melodies.")] = 0,
    device: Device = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Show what rules each layer (motif, timbre or key), and which layers saved probes use.

    Melodies are synthesised in several timbres and keys; the table has the share of the variance and the retrieval
    accuracy of each factor in each layer.
    """
    check_inputs(probes or [])
    make_output_place(out, inputs=probes or [])
    from omar_rq.layers.factors import Design
    from omar_rq.layers.report import describe_layers, table_text

    document = describe_layers(
        model, out, probes=probes or [], design=Design(motifs=motifs, seed=seed), device=pick_device(device)
    )
    if as_json:
        emit_json(document)
    else:
        print(table_text(document))
        print(out)
