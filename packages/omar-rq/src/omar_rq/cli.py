"""The command line ``omar-rq``. No torch until a command runs, so that ``--help`` answers at once."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from omar_rq.files.batches import DEFAULT_BATCH
from omar_rq.layers.commands import layers_command
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
    BatchReport,
    Device,
    JsonFlag,
    ModelSource,
    PushTarget,
    WeightType,
    add_building_command,
    check_inputs,
    check_output_folder,
    emit_json,
    experiments,
    make_app,
    make_output_place,
    pick_device,
    run,
    show_fields,
    show_models,
)
from pentatonic.errors import UsageError

if TYPE_CHECKING:
    from omar_rq.model import OmarRQ

app = make_app("omar-rq", "OMAR-RQ: music audio embeddings by masked token prediction.")

DEFAULT_MODEL = "omar-rq-tiny"
_MOST_LAYERS = 1000  # of a range; no model has as many

ModelOption = Annotated[str, typer.Option("--model", help="Bundled name, directory, run folder or hub id.")]
EncodecOption = Annotated[
    str | None,
    typer.Option(
        "--encodec",
        metavar="DIR_OR_ID",
        help="EnCodec model in place of the one that the model names: a directory, or owner/name@revision.",
    ),
]


@app.command()
def embed(
    inputs: Inputs,
    out: OutFolder,
    model: ModelOption = DEFAULT_MODEL,
    encodec: EncodecOption = None,
    layers: Annotated[
        str,
        typer.Option(help="Block indices and ranges such as 3,5 or 1-3, negative ones from the end, or all."),
    ] = "-1",
    format: Annotated[
        Literal["npz", "parquet"], typer.Option(help="parquet also joins all .npz files into one table.")
    ] = "npz",
    pool: Annotated[
        Literal["none", "mean"], typer.Option(help="mean: one vector per layer and file.")
    ] = "none",
    context: Annotated[str, typer.Option(help="Seconds that attention looks back, or none: all.")] = "300",
    device: Device = "auto",
    dtype: Annotated[
        Literal["fp32", "bf16", "int8", "auto"],
        typer.Option(
            help="Number type of the computation; int8: on processors with AVX-512 VNNI; "
            "auto: bf16 where the hardware has it."
        ),
    ] = "fp32",
    store: Annotated[
        Literal["float32", "float16"], typer.Option(help="Number type of the results.")
    ] = "float32",
    batch: Annotated[
        int, typer.Option(min=1, help="Most short files that go through the model together.")
    ] = DEFAULT_BATCH,
    overwrite: Overwrite = False,
    lenient: Lenient = False,
    start: Start = 0.0,
    duration: Duration = None,
    nonfinite: NonFinite = "raise",
    max_duration: MaxDuration = MAX_DURATION_S,
    max_channels: MaxChannels = MAX_CHANNELS,
    as_json: JsonFlag = False,
) -> None:
    """Embed audio files of any length, one .npz each; continue a stopped run.

    Exit status 3: some files could not be read; report.json and the table name each one.
    """
    check_inputs(inputs)
    check_output_folder(out)
    context_s = _context_s(context)
    wanted = None if layers == "all" else _layer_numbers(layers)
    reading = reading_options(start, duration, nonfinite, max_duration, max_channels)
    from omar_rq.embed import embed_folder
    from omar_rq.signals import LayerIndexError

    loaded = _load(model, device, dtype, encodec=encodec)
    try:
        report = embed_folder(
            loaded,
            inputs,
            out,
            layers=range(len(loaded.trunk.blocks)) if wanted is None else wanted,
            context_s=context_s,
            pool=pool,
            store=store,
            format=format,
            strict=not lenient,
            reading=reading,
            overwrite=overwrite,
            model_name=model,
            batch=batch,
        )
    except LayerIndexError as error:
        raise UsageError(f"--layers: {error}") from error
    _finish(report, as_json)


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

    loaded = _load(model, device, "fp32", encodec=encodec, quantization_targets=True)
    report = tokenize_folder(
        loaded,
        inputs,
        out,
        strict=not lenient,
        reading=reading,
        overwrite=overwrite,
        model_name=model,
    )
    _finish(report, as_json)


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


def _load(
    name: str, device: str, dtype: str, *, encodec: str | None = None, quantization_targets: bool = False
) -> OmarRQ:
    import torch

    from omar_rq.weights import from_pretrained
    from pentatonic.precision import resolve_precision

    place = pick_device("cpu" if dtype == "int8" and device == "auto" else device)
    if dtype == "int8":
        from omar_rq.quantize import quantize

        return quantize(from_pretrained(name, device=place, encodec=encodec))
    number_type = {"fp32": torch.float32, "bf16": torch.bfloat16}[resolve_precision(dtype, place)]
    return from_pretrained(
        name, device=place, dtype=number_type, encodec=encodec, quantization_targets=quantization_targets
    )


def _export_graph(source: str, out: Path, format: str, layers: str) -> Path:
    wanted = "all" if layers == "all" else _layer_numbers(layers)
    from omar_rq.export.graph_files import export_graph
    from omar_rq.signals import LayerIndexError

    try:
        return export_graph(source, out, format=format, layers=wanted)
    except LayerIndexError as error:
        raise UsageError(f"--layers: {error}") from error


def _push(folder: Path, repository: str) -> None:
    from pentatonic.hub import push

    print(push(folder, repository))


def _layer_numbers(text: str) -> list[int]:
    numbers: list[int] = []
    for word in text.split(","):
        found = re.fullmatch(r"\s*(-?\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", word)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, -1)
        if not first <= last < first + _MOST_LAYERS:
            raise UsageError(
                f"--layers is {text!r}; allowed: whole numbers and ranges such as 3,5 or 1-3 or -1, or all"
            )
        numbers += range(first, last + 1)
    return numbers


def _context_s(text: str) -> float | None:
    if text == "none":
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < float("inf"):
        raise UsageError(f"--context is {text!r}; allowed: positive seconds, or none")
    return seconds


def _finish(report: BatchReport, as_json: bool) -> None:
    report.print_summary()
    if as_json:
        emit_json(report.document())
    report.raise_for_failures()


def main() -> None:
    """Entry point of the console script."""
    run(app, sys.argv[1:])
