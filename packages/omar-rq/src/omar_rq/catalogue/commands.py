"""The commands ``omar-rq embed``, ``index`` and ``similar``. Nothing slow is imported before one runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from omar_rq.command_options import (
    DEFAULT_MODEL,
    ContextOption,
    EncodecOption,
    LayersOption,
    ModelOption,
    context_seconds,
    finish,
    layer_numbers,
    load_model,
)
from omar_rq.files.batches import DEFAULT_BATCH
from pentatonic.audio_folder.options import (
    MAX_CHANNELS,
    MAX_DURATION_S,
    Duration,
    Lenient,
    MaxChannels,
    MaxDuration,
    NonFinite,
    Overwrite,
    Start,
    reading_options,
)
from pentatonic.cli import Device, JsonFlag, check_inputs, check_output_folder, show, show_fields
from pentatonic.errors import UsageError

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="FILES_OR_DIRS...", help="Audio files and folders, or those of an object store: s3://, gs://."
    ),
]
OutPlace = Annotated[
    str, typer.Option("--out", metavar="DIR", help="Folder to write; with parquet also s3://, gs://.")
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        help="Threads of the model; a decoder takes one more.",
        show_default="one per core",
    ),
]
Nice = Annotated[
    int | None,
    typer.Option("--nice", min=0, max=19, help="Leave the processor to others: 19 gives way to everything."),
]


def embed_command(
    inputs: Inputs,
    out: OutPlace,
    model: ModelOption = DEFAULT_MODEL,
    encodec: EncodecOption = None,
    layers: LayersOption = "-1",
    format: Annotated[
        Literal["npz", "parquet"] | None,
        typer.Option(
            help="One .npz per file, or one data set of Parquet files in DIR/embeddings.parquet.",
            show_default="npz; parquet with --engine ray",
        ),
    ] = None,
    pool: Annotated[
        Literal["none", "mean"], typer.Option(help="mean: one vector per layer and file.")
    ] = "none",
    context: ContextOption = "300",
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
    block: Annotated[
        float,
        typer.Option(help="With parquet: minutes of music in a file of the data set; a kill loses one."),
    ] = 15.0,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="local: this process; ray: workers of a Ray cluster.")
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="With ray: models at work at a time.", show_default="one per GPU, or per core"
        ),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            "--ray-address",
            help="With ray: a running cluster, such as auto or ray://HOST:10001.",
            envvar="RAY_ADDRESS",
            show_default="a cluster on this machine for this run",
        ),
    ] = None,
    ray_folder: Annotated[
        Path | None,
        typer.Option(
            "--ray-folder",
            help="With ray on this machine: its logs and temporary files.",
            show_default="deleted",
        ),
    ] = None,
    threads: Threads = None,
    nice: Nice = None,
    overwrite: Overwrite = False,
    lenient: Lenient = False,
    start: Start = 0.0,
    duration: Duration = None,
    nonfinite: NonFinite = "raise",
    max_duration: MaxDuration = MAX_DURATION_S,
    max_channels: MaxChannels = MAX_CHANNELS,
    as_json: JsonFlag = False,
) -> None:
    """Embed audio files of any length, one .npz each or as one Parquet data set; continue a stopped run.

    Before a long run the speed in minutes of music per CPU minute and the expected time are printed.

    Exit status 3: some files could not be read; report.json and the table name each one.
    """
    format = format or ("parquet" if engine == "ray" else "npz")
    if engine == "ray" and format == "npz":
        raise UsageError("--format is npz; allowed with --engine ray: parquet")
    if engine == "ray" and dtype == "int8":
        raise UsageError("--dtype is int8; allowed with --engine ray: fp32, bf16, auto")
    if engine == "local" and (workers is not None or ray_folder is not None):
        raise UsageError("--workers and --ray-folder need --engine ray")
    if format == "npz":
        _refuse_stores([*inputs, out])
    check_local_inputs(inputs)
    if "://" not in out:
        check_output_folder(Path(out))
    context_s = context_seconds(context)
    wanted = layer_numbers(layers)
    reading = reading_options(start, duration, nonfinite, max_duration, max_channels)
    ray = _ray_options(engine, ray_address, workers, threads, ray_folder)
    be_modest(threads if engine == "local" else None, nice)
    from omar_rq.catalogue.run import embed_catalogue
    from omar_rq.catalogue.speed import announce_speed
    from omar_rq.embed import embed_folder
    from omar_rq.signals import LayerIndexError, layer_indices

    loaded = load_model(model, device, dtype, encodec=encodec)
    n_layers = len(loaded.trunk.blocks)
    try:
        indices = sorted(set(layer_indices(range(n_layers) if wanted is None else wanted, n_layers)))
        announce_speed(loaded, inputs, indices, reading, workers=_n_workers(ray))
        options: dict[str, Any] = {
            "layers": indices,
            "context_s": context_s,
            "pool": pool,
            "store": store,
            "strict": not lenient,
            "reading": reading,
            "overwrite": overwrite,
            "model_name": model,
            "batch": batch,
        }
        if format == "npz":
            report = embed_folder(loaded, inputs, out, **options)
        else:
            report = embed_catalogue(loaded, inputs, out, block_minutes=block, ray=ray, **options)
    except LayerIndexError as error:
        raise UsageError(f"--layers: {error}") from error
    finish(report, as_json)


def check_local_inputs(inputs: Sequence[str]) -> None:
    """Refuse local paths that do not exist; places in object stores are looked at later.

    Raises:
        UsageError: One does not exist.
    """
    check_inputs([Path(each) for each in inputs if "://" not in each])


def _refuse_stores(places: Sequence[str]) -> None:
    stores = [place for place in places if "://" in place]
    if stores:
        raise UsageError(f"{stores[0]}: object stores need --format parquet")


def be_modest(threads: int | None, nice: int | None) -> None:
    """Limit what this process and its children take of the processor.

    Args:
        threads: Of torch in this process; None: as many as there are cores.
        nice: Added to the niceness; None: nothing.
    """
    if nice:
        os.nice(nice)  # the processes that this one starts inherit it
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _ray_options(
    engine: str, address: str | None, workers: int | None, threads: int | None, folder: Path | None
) -> Any:
    if engine != "ray":
        return None
    from omar_rq.catalogue.ray_engine import RayOptions

    if workers is None and threads is not None and address is None:
        workers, threads = threads, 1  # one thread each does more than several threads of one model
    return RayOptions(address=address, workers=workers, threads=threads or 1, folder=folder)


def _n_workers(ray: Any) -> int:
    if ray is None:
        return 1
    import torch

    return ray.workers or torch.cuda.device_count() or os.cpu_count() or 1


def index_command(
    data_set: Annotated[
        str, typer.Argument(metavar="DATA_SET", help="What embed --format parquet wrote: a folder, or s3://.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="INDEX", help="Folder to write.")],
    layer: Annotated[
        int | None, typer.Option(help="Block index of the model.", show_default="the last of the data set")
    ] = None,
    segment: Annotated[float, typer.Option(help="Seconds of a segment.")] = 10.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Also where nothing has changed.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make an index of a data set of embeddings, for omar-rq similar; again where the data set has changed."""
    check_local_inputs([data_set])
    check_output_folder(out)
    from omar_rq.catalogue.index import build_index

    info, made = build_index(data_set, out, layer=layer, segment_s=segment, overwrite=overwrite)
    about = {
        "index": str(out),
        "made": "now" if made else "before; the data set has not changed",
        "model": info.model_name,
        "model_hash": info.settings["model"],
        "layer": info.layer,
        "recordings": info.recordings,
        "segments": info.segments,
        "segment_s": info.segment_s,
        "flagged": info.flagged,
        "standardised": bool(info.mean),
    }
    show_fields(about, as_json)


def similar_command(
    query: Annotated[
        str,
        typer.Argument(
            metavar="FILE_OR_ROW", help="An audio file, or a recording of the index: number or path."
        ),
    ],
    index: Annotated[Path, typer.Option("--index", metavar="INDEX", help="What omar-rq index wrote.")],
    count: Annotated[int, typer.Option(min=1, help="Hits of each kind at most.")] = 10,
    model: Annotated[
        str | None, typer.Option("--model", help="Model for a file.", show_default="that of the index")
    ] = None,
    encodec: EncodecOption = None,
    engine: Annotated[
        Literal["exact", "faiss"], typer.Option(help="faiss: approximate, for very many vectors.")
    ] = "exact",
    device: Device = "auto",
    start: Start = 0.0,
    duration: Duration = None,
    threads: Threads = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the recordings, and the segments with their times, that sound most like a file or a recording."""
    reading = reading_options(start, duration, "raise", MAX_DURATION_S, MAX_CHANNELS)
    be_modest(threads, None)
    from omar_rq.catalogue.index import read_info
    from omar_rq.catalogue.search import similar

    info = read_info(index)
    loaded = None
    if os.path.isfile(query):  # noqa: PTH113 - a name may be too long for a path
        loaded = load_model(
            model or info.model_name or DEFAULT_MODEL, device, info.settings["dtype"], encodec=encodec
        )
    found = similar(query, index, model=loaded, count=count, engine=engine, reading=reading)
    if found.changed:
        print("the data set has changed since the index was made; run omar-rq index again", file=sys.stderr)

    def lines() -> list[str]:
        of = f"{found.query} [{found.query_flags}]" if found.query_flags else found.query
        shown = [f"recordings like {of}"]
        shown += [f"{hit.score:6.3f}  {hit.path}{_flags(hit.flags)}" for hit in found.recordings]
        if found.segments:
            shown.append("segments: there, and in the query")
        shown += [
            f"{hit.score:6.3f}  {hit.path} {_clock(hit.start_s)}-{_clock(hit.end_s)}  "
            f"{_clock(hit.query_start_s)}-{_clock(hit.query_end_s)}{_flags(hit.flags)}"
            for hit in found.segments
        ]
        return shown

    show(found.to_json(), as_json, lines)


def _flags(text: str) -> str:
    return f"  [{text}]" if text else ""


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{seconds % 60:04.1f}"
