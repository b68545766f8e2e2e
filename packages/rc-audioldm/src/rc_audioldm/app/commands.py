"""``rc-audioldm app``: the page in the browser."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pentatonic.cli import Device, check_inputs, pick_device
from rc_audioldm.generation.commands import DEFAULT_MODEL

if TYPE_CHECKING:
    from rc_audioldm.clap.encoder import ClapEncoder


def app_command(
    model: Annotated[
        str, typer.Option("--model", help="Directory, or hub id such as cvssp/audioldm2.")
    ] = DEFAULT_MODEL,
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch of the model.")] = None,
    bank: Annotated[Path | None, typer.Option(help="Bank whose nearest clips are the style.")] = None,
    clap: Annotated[
        str | None,
        typer.Option(
            help="CLAP model that made the bank, or that hears references: a directory or a hub id.",
            show_default="the one that the bank names, that of a small model, or the published one",
        ),
    ] = None,
    clap_revision: Annotated[str | None, typer.Option(help="Commit, tag or branch of it.")] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="It is random: do not test its text tower.")
    ] = False,
    adapter: Annotated[Path | None, typer.Option(help="Of the mode adapter: its file or run folder.")] = None,
    neighbours: Annotated[int, typer.Option(min=1, max=16, help="Clips in a style, at first.")] = 4,
    terms: Annotated[
        Literal["any", "known", "commercial", "free"],
        typer.Option(help="Only clips whose licence is known, allows commercial use, or asks for nothing."),
    ] = "any",
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=60,
            help="Length of a clip, at first.",
            show_default="as in training: 10 for the published models",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, max=200, help="Steps of denoising, at first.")] = 25,
    host: Annotated[
        str, typer.Option(help="Address to listen at; others than this machine need a login.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 7862,
    user: Annotated[str | None, typer.Option(help="Name to log in with.")] = None,
    password: Annotated[
        str | None, typer.Option(envvar="RC_AUDIOLDM_PASSWORD", help="Password to log in with.")
    ] = None,
    device: Device = "auto",
    dtype: Annotated[Literal["fp32", "fp16", "bf16"], typer.Option(help="Number type of the UNet.")] = "fp32",
) -> None:
    """Open a page in the browser to make clips, hear them, and see what shaped them."""
    from pentatonic.server import bindable_port, check_login

    check_inputs([path for path in (bank, adapter) if path is not None])
    check_login(host, user, password, variable="RC_AUDIOLDM_PASSWORD")
    bindable_port(host, port)  # fail fast
    from rc_audioldm.app.page import Start, serve
    from rc_audioldm.app.studio import Studio
    from rc_audioldm.bank.style_bank import StyleBank
    from rc_audioldm.convert import DTYPES
    from rc_audioldm.generation.finish import ModelNote
    from rc_audioldm.generation.loading import load_adapter
    from rc_audioldm.generation.settings import Retrieval
    from rc_audioldm.weights import from_pretrained, licence_of_weights

    place = pick_device(device)
    licence = licence_of_weights(model, revision)
    encoder = _hearing(clap, clap_revision, bank, place, model, random_weights)
    note = ModelNote(model if not Path(model).is_dir() else Path(model).name, revision or "", licence)
    loaded = from_pretrained(model, revision, place, DTYPES[dtype])
    studio = Studio(
        loaded,
        note,
        clap=encoder,
        bank=None if bank is None else StyleBank.open(bank),
        retrieval=Retrieval(neighbours, terms=terms),
        adapter=None if adapter is None else load_adapter(adapter, encoder),
    )
    for line in studio.check():
        print(line, file=sys.stderr)
    start = Start(loaded.clip_seconds if seconds is None else seconds, steps)
    serve(studio, start, host=host, port=port, user=user, password=password)


def _hearing(
    name: str | None, revision: str | None, bank: Path | None, device: str, model: str, random_weights: bool
) -> ClapEncoder | None:
    """Load the CLAP model; None where nobody asked for one and the published one cannot be had."""
    from pentatonic.errors import HubError
    from rc_audioldm.generation.loading import load_clap

    try:
        return load_clap(name, revision, bank, device, model=model, random_weights=random_weights)
    except HubError as error:
        if name is not None or bank is not None:
            raise
        print(f"Clips cannot be references, as there is no CLAP model: {error}", file=sys.stderr)
        return None
