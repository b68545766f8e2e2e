"""The command line ``notagen``. No torch until a command runs, so that ``--help`` answers at once."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from notagen.clamp2.commands import add_encoder_commands
from notagen.dpo.commands import add_dpo_commands
from notagen.files.commands import SoundFont, add_file_commands, check_page_option, counted, find_font
from notagen.files.formats import FORMATS, check_formats
from pentatonic.cli import (
    Device,
    JsonFlag,
    ModelSource,
    PushTarget,
    WeightType,
    add_building_command,
    experiments,
    make_app,
    make_output_folder,
    make_output_place,
    pick_device,
    run,
    show,
    show_models,
)
from pentatonic.errors import FormatError, UsageError
from pentatonic.progress import printable

if TYPE_CHECKING:
    from notagen.generation.decoding import Update
    from notagen.generation.sampling import Sampling
    from notagen.model import NotaGen

app = make_app("notagen", "NotaGen: sheet music in ABC notation, read, checked and generated.")

DEFAULT_MODEL = "notagen-tiny"
LARGEST_SEED = 2**32 - 1
_ENDINGS = {
    "patches": "stopped by --max-patches",
    "seconds": "stopped by --max-seconds",
    "characters": "stopped at the longest text",
    "context": "stopped: a bar does not fit into the context",
}

ModelOption = Annotated[
    str, typer.Option("--model", help="Bundled name, directory, run folder, weights file or hub id.")
]
OutFolder = Annotated[Path, typer.Option("--out", help="Folder to write.")]
DType = Annotated[
    Literal["fp32", "bf16", "int8"], typer.Option(help="Number type of the weights; int8 on the CPU only.")
]
Seed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the random choices.")]
TopK = Annotated[
    int | None,
    typer.Option(
        min=0, help="Keep only the k likeliest characters; 0: all; none: as the model says, usually 9."
    ),
]
TopP = Annotated[
    float | None,
    typer.Option(
        help="Keep the likeliest characters up to this probability; 1: all; none: as the model says, usually 0.9."
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(help="Above 1 more surprising, below 1 less; none: as the model says, usually 1.2."),
]

ModelTopK = Annotated[
    int | None,
    typer.Option(min=0, help="Default of the model for --top-k of generate; none: as in the source."),
]
ModelTopP = Annotated[
    float | None, typer.Option(help="Default of the model for --top-p of generate; none: as in the source.")
]
ModelTemperature = Annotated[
    float | None,
    typer.Option(help="Default of the model for --temperature of generate; none: as in the source."),
]


@app.command()
def generate(
    out: OutFolder,
    model: ModelOption = DEFAULT_MODEL,
    period: Annotated[
        str | None, typer.Option(help="With --composer and --instrumentation: what to write.")
    ] = None,
    composer: Annotated[
        str | None, typer.Option(help="Such as 'Bach, Johann Sebastian', or Bach where there is one.")
    ] = None,
    instrumentation: Annotated[str | None, typer.Option(help="Such as Choral.")] = None,
    prompt_file: Annotated[
        Path | None, typer.Option(help="Text to start from as it is, such as header lines.")
    ] = None,
    continue_file: Annotated[
        Path | None, typer.Option("--continue", help="Go on with this piece, ABC or MusicXML.")
    ] = None,
    bars: Annotated[
        int | None, typer.Option(min=1, help="Length to aim at; none: the model decides.")
    ] = None,
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="Pieces to write.")] = 1,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the first piece, up to 2^32 - 1; each further one adds 1.")
    ] = 0,
    top_k: TopK = None,
    top_p: TopP = None,
    temperature: Temperature = None,
    best_of: Annotated[
        int,
        typer.Option(
            min=1, help="Write so many candidates of each piece, and keep the likeliest per character."
        ),
    ] = 1,
    constrained: Annotated[
        bool, typer.Option("--constrained/--free", help="Only what keeps the piece well-formed, or anything.")
    ] = True,
    max_patches: Annotated[int | None, typer.Option(min=1, help="Give up after so many patches.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Give up after so many seconds.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pieces at a time.")] = 16,
    device: Device = "auto",
    dtype: DType = "fp32",
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the step of a character first, which takes a minute.")
    ] = False,
    formats: Annotated[
        str,
        typer.Option(help=f"Files of each piece: {', '.join(FORMATS)}; several with commas between them."),
    ] = "abc,musicxml,midi",
    page: Annotated[
        Path | None, typer.Option(help="Also write a page with all pieces, engraved and playable.")
    ] = None,
    upstream_layout: Annotated[
        bool,
        typer.Option("--upstream-layout", help="Also write the two files of the original, by its names."),
    ] = False,
    soundfont: SoundFont = None,
    as_json: JsonFlag = False,
) -> None:
    """Write pieces; continue a stopped run.

    Without a prompt those of the model take turns. Each piece is <seed>.abc and so on, with its text as generated
    and its validity report in <seed>.json. Exit status 3: a piece could not be written in some format.
    """
    wanted = _format_names(formats)
    font = find_font(soundfont, None if "wav" in wanted or page is not None else f"--formats {formats}")
    if seed + number - 1 > LARGEST_SEED:
        raise UsageError(f"the last seed would be {seed + number - 1}; a seed must be 0 to 2^32 - 1")
    if max_seconds is not None and not 0 < max_seconds < math.inf:
        raise UsageError(f"--max-seconds is {max_seconds}; allowed: a finite number above 0")
    starts = _prompts(model, (period, composer, instrumentation), prompt_file, continue_file, bars)
    make_output_folder(out)
    check_page_option(page)
    from notagen.generation.decoding import Limits, Request
    from notagen.generation.piece_folder import write_pieces

    announced = None if continue_file else bars
    requests = [Request(starts[i % len(starts)], seed=i, bars=announced) for i in range(seed, seed + number)]
    loaded = _load(model, device, dtype)
    sampling = _sampling(loaded, top_k, top_p, temperature)
    with _in_file(continue_file or prompt_file):
        pieces, report = write_pieces(
            loaded,
            requests,
            out,
            model_name=model,
            formats=wanted,
            sampling=sampling,
            limits=Limits(patches=max_patches, seconds=max_seconds),
            constrained=constrained,
            batch_size=batch_size,
            upstream_layout=upstream_layout,
            compiled=compiled,
            best_of=best_of,
            soundfont=font,
            watch=_show_text if number == best_of == 1 and sys.stderr.isatty() else None,
        )
    if page is not None:
        _write_page(pieces, page, model, font)
    report.print_summary()
    show({"pieces": pieces}, as_json, lambda: [_piece_line(out, piece) for piece in pieces])
    report.raise_for_failures()


@app.command()
def infill(
    piece: Annotated[Path, typer.Argument(metavar="FILE", help="ABC or MusicXML.")],
    out: Annotated[Path, typer.Option("--out", help="ABC file to write, in the layout of the piece.")],
    bars: Annotated[str | None, typer.Option(help="Bars to rewrite, such as 5-8; none: all.")] = None,
    voices: Annotated[
        str | None, typer.Option(help="Voices to rewrite, such as 2 or 1,3; none: all.")
    ] = None,
    model: ModelOption = DEFAULT_MODEL,
    seed: Seed = 0,
    top_k: TopK = None,
    top_p: TopP = None,
    temperature: Temperature = None,
    device: Device = "auto",
    dtype: DType = "fp32",
) -> None:
    """Rewrite some bars or voices of a piece; the rest stays as it is."""
    if bars is None and voices is None:
        raise UsageError("nothing to rewrite; give --bars, --voices, or both")
    wanted = None if bars is None else _bar_range(bars)
    make_output_place(out, inputs=[piece])
    from notagen.files.reading import read_piece
    from notagen.generation.infilling import infill as rewrite
    from pentatonic.checkpoint import atomic_file

    loaded = _load(model, device, dtype)
    text = rewrite(
        loaded,
        read_piece(piece),
        bars=wanted,
        voices=None if voices is None else [name.strip() for name in voices.split(",")],
        seed=seed,
        sampling=_sampling(loaded, top_k, top_p, temperature),
    )
    with atomic_file(out) as file:
        file.write(text.encode())
    print(out)


add_file_commands(app)
add_encoder_commands(app)


@app.command()
def info(
    model: Annotated[
        str | None,
        typer.Argument(help="Bundled name, directory, run folder, file or hub id; none: list the models."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Describe a model: sizes, layers, context, and the prompts that it was trained with."""
    from notagen.describe import describe_model, list_models

    if model is not None:
        about = describe_model(model)
        show(about, as_json, lambda: list(_about_lines(about)))
        return
    show_models(list_models(), as_json)


@app.command()
def export(
    source: ModelSource,
    out: OutFolder,
    index: Annotated[
        Path | None,
        typer.Option(
            help="Training index (.jsonl): its prompts and words become those of the model; none: as in the source."
        ),
    ] = None,
    format: Annotated[
        Literal["safetensors", "upstream"], typer.Option(help="Our format, or the original's model.pth.")
    ] = "safetensors",
    dtype: WeightType = "fp32",
    top_k: ModelTopK = None,
    top_p: ModelTopP = None,
    temperature: ModelTemperature = None,
    push: PushTarget = None,
) -> None:
    """Write the model of a training run as a model directory with a model card."""
    make_output_place(out, kind="folder", inputs=[source])
    import torch

    from notagen.export import export as write_export
    from pentatonic.hub import push as push_directory

    number_type = {"fp32": torch.float32, "fp16": torch.float16}[dtype]
    sampling = _given(top_k=top_k, top_p=top_p, temperature=temperature)
    print(write_export(source, out, index=index, sampling=sampling, format=format, dtype=number_type))
    if push is not None:
        print(push_directory(out, push))


@app.command()
def demo(
    model: ModelOption = DEFAULT_MODEL,
    host: Annotated[
        str, typer.Option(help="Address to listen at; others than this machine need a login.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 7861,
    user: Annotated[str | None, typer.Option(help="Name to log in with.")] = None,
    password: Annotated[
        str | None, typer.Option(envvar="NOTAGEN_PASSWORD", help="Password to log in with.")
    ] = None,
    soundfont: SoundFont = None,
    device: Device = "auto",
    dtype: DType = "fp32",
) -> None:
    """Open a page in the browser to write, show, play and change pieces."""
    from notagen.prompts import model_prompts
    from pentatonic.server import bindable_port, check_login

    check_login(host, user, password, variable="NOTAGEN_PASSWORD")
    bindable_port(host, port)  # fail fast
    font = find_font(soundfont)
    from notagen.app.page import serve

    known = model_prompts(model)
    loaded = _load(model, device, dtype)
    serve(loaded, known, host=host, port=port, user=user, password=password, soundfont=font)


add_building_command(
    app,
    "preprocess",
    "notagen.training.preprocess:main",
    feature="Preparing data",
    help=(
        "Turn folders of ABC and MusicXML into training data in 15 keys.\n\n"
        "Takes Hydra overrides: notagen preprocess data.source=scores data.out=data/scores"
    ),
)
add_building_command(
    app,
    "train",
    "notagen.training.train:main",
    feature="Training",
    help=(
        "Pre-train or fine-tune a model; the same command continues a stopped run.\n\n"
        "Takes Hydra overrides: notagen train experiment=finetune data.train=augmented_train.jsonl optim.lr=1e-5\n\n"
        + experiments("notagen")
    ),
)
add_building_command(
    app,
    "evaluate",
    "notagen.evaluation.evaluate:main",
    feature="Evaluating",
    help=(
        "Measure a model: loss, validity of its pieces, novelty against its training data.\n\n"
        "Takes Hydra overrides: notagen evaluate model=notagen-tiny data.index=augmented_eval.jsonl"
    ),
)
add_dpo_commands(app)


def _load(name: str, device: str, dtype: str) -> NotaGen:
    import torch

    from notagen.quantize import quantize
    from notagen.weights import from_pretrained

    place = "cpu" if (device, dtype) == ("auto", "int8") else pick_device(device)
    number_type = torch.bfloat16 if dtype == "bf16" else torch.float32
    model = from_pretrained(name, device=place, dtype=number_type)
    return quantize(model) if dtype == "int8" else model


def _given(**values: float | None) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _sampling(model: NotaGen, top_k: int | None, top_p: float | None, temperature: float | None) -> Sampling:
    """Return the sampling of the model, with the values that are given."""
    return replace(model.sampling, **_given(top_k=top_k, top_p=top_p, temperature=temperature))


def _prompts(
    model: str,
    names: Sequence[str | None],
    prompt_file: Path | None,
    continue_file: Path | None,
    bars: int | None,
) -> list[str]:
    """Return the texts that pieces start with, which they take in turn."""
    from notagen.prompts import find_prompt, model_prompts

    if prompt_file is not None and continue_file is not None:
        raise UsageError("--prompt-file and --continue exclude each other")
    prompt = ""
    if any(name is not None for name in names):
        prompt = find_prompt(*names, known=model_prompts(model)).text
    if continue_file is not None:
        from notagen.files.reading import read_piece
        from notagen.generation.continuation import continuation

        with _in_file(continue_file):
            return [prompt + continuation(read_piece(continue_file), bars=bars)]
    if prompt_file is not None:
        from notagen.files.reading import read_piece

        return [prompt + read_piece(prompt_file)]
    return [prompt] if prompt else [each.text for each in model_prompts(model)] or [""]


@contextmanager
def _in_file(path: Path | None) -> Iterator[None]:
    """Add the file's name to errors of a prompt, in place of line numbers, which no longer match the file."""
    try:
        yield
    except FormatError as error:
        if path is None or error.path is not None:
            raise
        raise FormatError(error.reason, path=path) from error


def _format_names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    check_formats(names, "--formats")
    return list(dict.fromkeys(names))


def _bar_range(text: str) -> range:
    first, _, last = text.partition("-")
    try:
        numbers = range(int(first), int(last or first) + 1)
    except ValueError:
        numbers = range(0)
    if not numbers or numbers[0] < 1:
        raise UsageError(f"--bars is {text!r}; allowed: one bar such as 5, or the first and last such as 5-8")
    return numbers


def _show_text(update: Update) -> None:
    """Print a piece while it is written."""
    print(printable(update.text), end="", file=sys.stderr, flush=True)


def _piece_line(out: Path, piece: dict[str, Any]) -> str:
    report = piece["report"]
    errors = sum(not issue["warning"] for issue in report["issues"])
    # A piece that a limit has ended is no piece of the model, however well it was completed.
    ending = "completed without the model" if piece["closing"] else "not complete"
    state = "valid" if piece["status"] == "finished" else ending
    if not report["valid"]:
        state = f"{ending}, " * (piece["status"] != "finished") + counted(errors, "error")
    names = " ".join(name for names in piece["files"].values() for name in names)
    ended = _ENDINGS.get(piece["status"], piece["status"])
    return f"{out / str(piece['seed'])}: {ended}, {counted(report['bars'], 'bar')}, {state}: {names}"


def _write_page(pieces: Sequence[dict[str, Any]], page: Path, model: str, soundfont: Path | None) -> None:
    from notagen.files.gallery import GalleryPiece, write_gallery

    shown = [GalleryPiece(piece["text"], piece["seed"], piece["prompt"], piece["status"]) for piece in pieces]
    write_gallery(shown, page, introduction=f"Written by the model {model}.", soundfont=soundfont)


def _about_lines(about: dict[str, Any]) -> Iterator[str]:
    for key, value in about.items():
        if key != "prompts":
            yield f"{key:<14}{value}"
    yield f"prompts       {len(about['prompts']) or 'none'}"
    yield from (f"  {', '.join(names)}" for names in about["prompts"])


def main() -> None:
    """Entry point of the console script."""
    run(app, sys.argv[1:])
