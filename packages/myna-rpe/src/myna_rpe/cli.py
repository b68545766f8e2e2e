"""The command line ``myna-rpe``. No torch until a command runs, so that ``--help`` answers at once."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from myna_rpe.library.commands import app as library_app
from myna_rpe.playlists.commands import app as playlist_app
from myna_rpe.server.commands import serve_command
from myna_rpe.spotify.commands import app as spotify_app
from pentatonic.audio_folder.options import (
    MAX_CHANNELS,
    MAX_DURATION_S,
    ComputeType,
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
    emit_json,
    experiments,
    make_app,
    make_output_place,
    pick_device,
    run,
    show,
    show_fields,
    show_models,
)
from pentatonic.errors import UsageError

if TYPE_CHECKING:
    from myna_rpe.config import PatchConfig
    from myna_rpe.model import MynaEncoder

app = make_app("myna-rpe", "Myna-RPE: embeddings of whole tracks, a music library, and playlists.")

DEFAULT_MODEL = "myna-rpe-tiny"

ModelOption = Annotated[
    str,
    typer.Option(
        "--model", help="Bundled name, directory, run folder, hub id, or checkpoint of the original."
    ),
]
PositionMode = Annotated[
    str | None,
    typer.Option(
        "--position-mode",
        help="How a checkpoint of the original was trained, which its weights do not say; see detect-mode.",
    ),
]
Checkpoint = Annotated[
    Path, typer.Argument(help="Checkpoint of the original: .pt, .pth, .ckpt, .safetensors.")
]


@app.command()
def embed(
    inputs: Inputs,
    out: OutFolder,
    model: ModelOption = DEFAULT_MODEL,
    position_mode: PositionMode = None,
    mode: Annotated[
        Literal["auto", "track", "chunks"],
        typer.Option(
            help="One pass over the whole track, or one for each chunk; auto: track where the model can."
        ),
    ] = "auto",
    aggregate: Annotated[
        Literal["auto", "full_chunks", "weighted", "upstream_mean", "upstream_demo"],
        typer.Option(help="How chunks become one vector; auto: as the model's family does it."),
    ] = "auto",
    output: Annotated[
        Literal["auto", "head", "features"],
        typer.Option(help="The space in which training compares, or the encoder's pooled output."),
    ] = "auto",
    store_chunks: Annotated[
        bool, typer.Option("--store-chunks", help="Also store the vector of each chunk.")
    ] = False,
    device: Device = "auto",
    dtype: ComputeType = "fp32",
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

    Exit status 3: some files could not be read, or are silent; report.json and the table name each one.
    """
    check_inputs(inputs)
    check_output_folder(out)
    reading = reading_options(start, duration, nonfinite, max_duration, max_channels)
    from myna_rpe.embed import embed_folder
    from myna_rpe.whole_tracks import TrackOptions

    options = TrackOptions(
        None if mode == "auto" else mode,
        None if aggregate == "auto" else aggregate,
        None if output == "auto" else output,
    )
    report = embed_folder(
        _load(model, device, dtype, position_mode),
        inputs,
        out,
        options=options,
        store_chunks=store_chunks,
        strict=not lenient,
        reading=reading,
        overwrite=overwrite,
        model_name=model,
    )
    report.print_summary()
    if as_json:
        emit_json(report.document())
    report.raise_for_failures()


@app.command()
def info(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Bundled name, directory, run folder, hub id or checkpoint; none: list the models."
        ),
    ] = None,
    position_mode: PositionMode = None,
    as_json: JsonFlag = False,
) -> None:
    """Show a model's input, output, size and licence."""
    from myna_rpe.describe import describe_model, list_models

    if model is not None:
        show_fields(describe_model(model, mode=position_mode), as_json)
        return
    show_models(list_models(), as_json)


@app.command()
def export(source: ModelSource, out: OutFolder, dtype: WeightType = "fp32", push: PushTarget = None) -> None:
    """Write the model of a training run as a model directory with a model card."""
    make_output_place(out, kind="folder", inputs=[source])
    import torch

    from myna_rpe.export import export as write_export
    from pentatonic.hub import push as push_directory

    print(write_export(source, out, dtype={"fp32": torch.float32, "fp16": torch.float16}[dtype]))
    if push is not None:
        print(push_directory(out, push))


@app.command()
def convert(
    checkpoint: Checkpoint,
    out: OutFolder,
    position_mode: PositionMode = None,
    patch: Annotated[
        str | None, typer.Option(help="Patches as bands x frames, such as 128x2, where shapes cannot tell.")
    ] = None,
    train_frames: Annotated[
        int | None, typer.Option(min=1, help="Frames of the crops of training.", show_default="published")
    ] = None,
    features_only: Annotated[
        bool, typer.Option("--features-only", help="Leave out the head, which Myna throws away.")
    ] = False,
    swap_patches: Annotated[
        bool,
        typer.Option(
            "--swap-patches",
            help="Exchange the two patch embeddings, which the original mixes up in some files.",
        ),
    ] = False,
) -> None:
    """Convert a checkpoint of the original into a model directory, without running code of the file."""
    check_inputs([checkpoint])
    make_output_place(out, kind="folder", inputs=[checkpoint])
    from myna_rpe.export import convert as write_converted

    print(
        write_converted(
            checkpoint,
            out,
            mode=position_mode,
            patch=None if patch is None else _patch(patch),
            train_frames=train_frames,
            features_only=features_only,
            swap_patches=swap_patches,
        )
    )


@app.command("detect-mode")
def detect_mode_command(
    checkpoint: Checkpoint,
    inputs: Inputs,
    modes: Annotated[
        str | None, typer.Option(help="Modes to try, such as zero,head_row.", show_default="all that fit")
    ] = None,
    tracks: Annotated[int, typer.Option(min=2, help="Most tracks to read.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the crops.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Find out in which position mode a checkpoint of the original was trained, by its task on real music.

    The lowest loss is the likeliest mode; without a clear winner the music tells nothing. Exit status 3: some files
    could not be read.
    """
    check_inputs([checkpoint, *inputs])
    from myna_rpe.detect_mode import as_table, detect_mode, read_spectrograms

    mels, report = read_spectrograms(checkpoint, inputs, tracks)
    scores = as_table(
        detect_mode(checkpoint, mels, modes=None if modes is None else modes.split(","), seed=seed)
    )
    report.print_summary()
    show(
        scores,
        as_json,
        lambda: [f"{each['mode']:<22}{each['loss']:8.3f}" for each in scores],
    )
    report.raise_for_failures()


add_building_command(
    app,
    "train",
    "myna_rpe.training.train:main",
    feature="Training",
    help=(
        "Pre-train a model; the same command continues a stopped run.\n\n"
        "Takes Hydra overrides: myna-rpe train experiment=rpe-2d data.root=data/music optim.lr=1e-4\n\n"
        + experiments("myna_rpe")
    ),
)
add_building_command(
    app,
    "prepare",
    "myna_rpe.training.prepare:main",
    feature="Preparing data",
    help=(
        "Turn folders of audio into spectrograms for training.\n\n"
        "Takes Hydra overrides: myna-rpe prepare input=music output=data/music"
    ),
)
app.add_typer(library_app, name="library")
app.add_typer(playlist_app, name="playlist")
app.add_typer(spotify_app, name="spotify")
app.command("serve")(serve_command)

add_building_command(
    app,
    "probe",
    "myna_rpe.probe:main",
    feature="Probing",
    help=(
        "Measure what shallow probes read from the embeddings of a public data set.\n\n"
        "Takes Hydra overrides: myna-rpe probe data.name=gtzan data.root=GTZAN encoder=myna-rpe-tiny"
    ),
)


def _load(name: str, device: str, dtype: str, position_mode: str | None) -> MynaEncoder:
    import torch

    from myna_rpe.weights import from_pretrained
    from pentatonic.precision import resolve_precision

    place = pick_device(device)
    number_type = {"fp32": torch.float32, "bf16": torch.bfloat16}[resolve_precision(dtype, place)]
    return from_pretrained(name, device=place, dtype=number_type, mode=position_mode)


def _patch(text: str) -> PatchConfig:
    from myna_rpe.config import PatchConfig

    found = re.fullmatch(r"\s*(\d{1,4})\s*x\s*(\d{1,4})\s*", text)
    if not found:
        raise UsageError(f"--patch is {text!r}; allowed: bands x frames, such as 128x2")
    return PatchConfig(int(found[1]), int(found[2]))


def main() -> None:
    """Entry point of the console script."""
    run(app, sys.argv[1:])
