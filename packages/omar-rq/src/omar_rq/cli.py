"""The command line ``omar-rq``. No torch until a command runs, so that ``--help`` answers at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from omar_rq.catalogue.commands import embed_command, index_command, similar_command
from omar_rq.command_options import (
    DEFAULT_MODEL,
    EncodecOption,
    ModelOption,
    finish,
    layer_numbers,
    load_model,
)
from omar_rq.layers.commands import layers_command
from omar_rq.probing.commands import PROBE_HELP, predict_command, probe_command
from omar_rq.reading.commands import add_reading_commands
from pentatonic.audio_folder.options import (
    MAX_CHANNELS,
    MAX_DURATION_S,
    Duration,
    Inputs,
    Lenient,
    MaxChannels,
    MaxDuration,
    NonFinite,
    OutFolder,
    Overwrite,
    Start,
    reading_options,
)
from pentatonic.cli import (
    Device,
    JsonFlag,
    ModelSource,
    PushTarget,
    WeightType,
    add_building_command,
    check_inputs,
    check_output_folder,
    experiments,
    make_app,
    make_output_place,
    run,
    show_fields,
    show_models,
)
from pentatonic.errors import UsageError

app = make_app("omar-rq", "OMAR-RQ: music audio embeddings by masked token prediction.")


app.command("embed")(embed_command)
app.command("index")(index_command)
app.command("similar")(similar_command)


@app.command()
def tokenize(
    inputs: Inputs,
    out: OutFolder,
    model: ModelOption = DEFAULT_MODEL,
    encodec: EncodecOption = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    lenient: Lenient = False,
    start: Start = 0.0,
    duration: Duration = None,
    nonfinite: NonFinite = "raise",
    max_duration: MaxDuration = MAX_DURATION_S,
    max_channels: MaxChannels = MAX_CHANNELS,
    as_json: JsonFlag = False,
) -> None:
    """Turn audio files into the discrete tokens of pre-training, one .npz each."""
    check_inputs(inputs)
    check_output_folder(out)
    reading = reading_options(start, duration, nonfinite, max_duration, max_channels)
    from omar_rq.embed import tokenize_folder

    loaded = load_model(model, device, "fp32", encodec=encodec, quantization_targets=True)
    report = tokenize_folder(
        loaded,
        inputs,
        out,
        strict=not lenient,
        reading=reading,
        overwrite=overwrite,
        model_name=model,
    )
    finish(report, as_json)


@app.command()
def info(
    model: Annotated[
        str | None,
        typer.Argument(help="Bundled name, directory, run folder or hub id; none: list the models."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show a model's input, output, size and licence, without loading its weights."""
    from omar_rq.describe import describe_model, list_models

    if model is not None:
        show_fields(describe_model(model), as_json)
        return
    show_models(list_models(), as_json)


@app.command()
def export(
    source: ModelSource,
    out: OutFolder,
    format: Annotated[
        Literal["safetensors", "upstream", "onnx", "torch"],
        typer.Option(
            help="Our format; the original's config.gin and model.ckpt; or the encoder, front end included, as a graph."
        ),
    ] = "safetensors",
    dtype: WeightType = "fp32",
    layers: Annotated[
        str | None, typer.Option(help="Layers that a graph gives, as for embed.", show_default="-1")
    ] = None,
    push: PushTarget = None,
) -> None:
    """Write the model of a training run as a model directory with a model card."""
    graph = format in ("onnx", "torch")
    if graph and dtype != "fp32":
        raise UsageError(f"--dtype is {dtype}; graphs are exported in fp32")
    if layers is not None and not graph:
        raise UsageError(f"--layers chooses the output of a graph; --format is {format}")
    make_output_place(out, kind="folder", inputs=[source])
    if graph:
        print(_export_graph(source, out, format, layers or "-1"))
        if push is not None:
            _push(out, push)
        return
    import torch

    from omar_rq.export import export as write_export

    number_type = {"fp32": torch.float32, "fp16": torch.float16}[dtype]
    print(write_export(source, out, format=format, dtype=number_type))
    if push is not None:
        _push(out, push)


@app.command()
def convert(
    directory: Annotated[Path, typer.Argument(help="A model directory in either format.")], out: OutFolder
) -> None:
    """Convert a model directory: the original's format into ours, ours into the original's."""
    check_inputs([directory])
    make_output_place(out, kind="folder", inputs=[directory])
    from omar_rq.export import write_model
    from omar_rq.weights import load_directory

    ours = (directory / "config.json").is_file()
    write_model(load_directory(directory), out, format="upstream" if ours else "safetensors")
    print(out)


@app.command()
def demo(
    inputs: Inputs,
    out: OutFolder,
    model: ModelOption = DEFAULT_MODEL,
    start: Start = 0.0,
    duration: Duration = None,
    nonfinite: NonFinite = "raise",
    max_duration: MaxDuration = MAX_DURATION_S,
    max_channels: MaxChannels = MAX_CHANNELS,
) -> None:
    """Write a page with players and plots of the embeddings of some recordings.

    Exit status 3: some files could not be read; the page shows the others.
    """
    check_inputs(inputs)
    check_output_folder(out)
    reading = reading_options(start, duration, nonfinite, max_duration, max_channels)
    from omar_rq.demo import write_demo

    page, report = write_demo(model, inputs, out, reading)
    print(page)
    report.print_summary()
    report.raise_for_failures()


app.command("predict")(predict_command)
app.command("probe", help=PROBE_HELP)(probe_command)
add_reading_commands(app)
app.command("layers")(layers_command)
add_building_command(
    app,
    "train",
    "omar_rq.training.train:main",
    feature="Training",
    help=(
        "Pre-train a model; the same command continues a stopped run.\n\n"
        "Takes Hydra overrides: omar-rq train experiment=base data.root=data/music optim.lr=1e-4\n\n"
        + experiments("omar_rq")
    ),
)
add_building_command(
    app,
    "prepare",
    "omar_rq.training.prepare:main",
    feature="Preparing data",
    help=(
        "Turn folders of audio into training data.\n\n"
        "Takes Hydra overrides: omar-rq prepare input=music output=data/music sample_rate=16000"
    ),
)
add_building_command(
    app,
    "stats",
    "omar_rq.training.stats:main",
    feature="Measuring statistics",
    help=(
        "Measure the mean and deviation of a model's front ends over a data folder.\n\n"
        "Takes Hydra overrides: omar-rq stats model=base root=data/music output=stats.json"
    ),
)


def _export_graph(source: str, out: Path, format: str, layers: str) -> Path:
    wanted = layer_numbers(layers)
    from omar_rq.export.graph_files import export_graph
    from omar_rq.signals import LayerIndexError

    try:
        return export_graph(source, out, format=format, layers="all" if wanted is None else wanted)
    except LayerIndexError as error:
        raise UsageError(f"--layers: {error}") from error


def _push(folder: Path, repository: str) -> None:
    from pentatonic.hub import push

    print(push(folder, repository))


def main() -> None:
    """Entry point of the console script."""
    run(app, sys.argv[1:])
