"""``omar-rq predict`` and ``omar-rq probe``. No torch until a command runs, so that ``--help`` answers at once."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from omar_rq.command_options import (
    DEFAULT_MODEL,
    EncodecOption,
    LayersOption,
    ModelOption,
    finish,
    layer_numbers,
    load_model,
)
from pentatonic.audio_folder.options import (
    MAX_CHANNELS,
    MAX_DURATION_S,
    ComputeType,
    Inputs,
    Lenient,
    MaxChannels,
    MaxDuration,
    NonFinite,
    OutFolder,
    Overwrite,
    reading_options,
)
from pentatonic.cli import (
    Device,
    JsonFlag,
    Overrides,
    check_inputs,
    check_output_folder,
    experiments,
    show,
    training_extra,
)
from pentatonic.errors import UsageError

PROBE_HELP = (
    "Fit a probe to the frozen embeddings of a model, and test it beside log-mel and untrained baselines.\n\n"
    "Takes Hydra overrides: omar-rq probe task=chord data.root=DATA model=omar-rq-tiny\n\n"
    "The run folder gets probe/, results.json and results.md; the same command continues a stopped run.\n\n"
    + experiments("omar_rq", "conf.probe")
)


def predict_command(
    inputs: Inputs,
    out: OutFolder,
    model: ModelOption = DEFAULT_MODEL,
    encodec: EncodecOption = None,
    layers: LayersOption = "-1",
    chunk: Annotated[float, typer.Option(min=0.1, help="Seconds of a chunk.")] = 30.0,
    overlap: Annotated[
        float, typer.Option(min=0.0, max=0.99, help="Share of a chunk that the next one repeats.")
    ] = 0.5,
    last_chunk: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="A rest that is longer than this share of a chunk becomes one, with zeros."
        ),
    ] = 0.1,
    pool: Annotated[
        Literal["none", "mean"], typer.Option(help="mean: one vector per layer and chunk.")
    ] = "none",
    device: Device = "auto",
    dtype: ComputeType = "fp32",
    store: Annotated[
        Literal["float32", "float16"], typer.Option(help="Number type of the results.")
    ] = "float32",
    overwrite: Overwrite = False,
    lenient: Lenient = False,
    nonfinite: NonFinite = "raise",
    max_duration: MaxDuration = MAX_DURATION_S,
    max_channels: MaxChannels = MAX_CHANNELS,
    as_json: JsonFlag = False,
) -> None:
    """Embed audio files in overlapping chunks, each alone, as the original's predict does; one .npz each.

    Exit status 3: some files could not be read; report.json and the table name each one. For embeddings of whole
    files without seams use embed.
    """
    check_inputs(inputs)
    check_output_folder(out)
    wanted = layer_numbers(layers)
    reading = reading_options(0.0, None, nonfinite, max_duration, max_channels)
    from omar_rq.probing.predict import ChunkOptions, predict_folder
    from omar_rq.signals import LayerIndexError

    loaded = load_model(model, device, dtype, encodec=encodec)
    try:
        report = predict_folder(
            loaded,
            inputs,
            out,
            layers=range(len(loaded.trunk.blocks)) if wanted is None else wanted,
            chunks=ChunkOptions(chunk, overlap, last_chunk),
            pool=pool,
            store=store,
            strict=not lenient,
            reading=reading,
            overwrite=overwrite,
            model_name=model,
        )
    except LayerIndexError as error:
        raise UsageError(f"--layers: {error}") from error
    finish(report, as_json)


def probe_command(
    overrides: Overrides = None,
    list_tasks: Annotated[
        bool, typer.Option("--list", help="Show the tasks: data sets, licences, splits, metrics.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --list: one JSON document.")] = False,
) -> None:
    """Fit a probe to frozen embeddings; its help page is :data:`PROBE_HELP`."""
    if list_tasks:
        from omar_rq.probing.task_list import task_lines, task_table

        show(task_table(), as_json, task_lines)
        return
    with training_extra("Fitting a probe", "omar-rq[train]"):
        from omar_rq.probing.run import main

        main(overrides or [])
