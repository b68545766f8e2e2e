"""The verbs of preference training. Nothing slow until one runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pentatonic.cli import add_building_command, check_inputs, experiments, make_output_place


def add_dpo_commands(app: typer.Typer) -> None:
    """Add the verbs to a command line."""
    app.command()(rate)
    add_building_command(
        app,
        "dpo",
        "notagen.dpo.iterations:main",
        feature="Training",
        help=(
            "Write pieces, judge them, choose, and train the model on its choices, several times (CLaMP-DPO); the same "
            "command continues a stopped run.\n\n"
            "The judge is tested first. The run stops where diversity, length or validity leaves its floor.\n\n"
            "Takes Hydra overrides: notagen dpo data.references=scores "
            "data.other_style=other-scores iterations=3\n\n" + experiments("notagen", "conf.dpo")
        ),
    )


def rate(
    pieces: Annotated[
        list[Path],
        typer.Argument(metavar="FILES_OR_DIRS...", help="ABC, such as the folder original of an iteration."),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="File of the ratings (.jsonl); a later run goes on with it.")
    ],
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="Pairs to rate.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the pairs.")] = 0,
    host: Annotated[
        str, typer.Option(help="Address to listen at; others than this machine need a login.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 7862,
    user: Annotated[str | None, typer.Option(help="Name to log in with.")] = None,
    password: Annotated[
        str | None, typer.Option(envvar="NOTAGEN_PASSWORD", help="Password to log in with.")
    ] = None,
) -> None:
    """Open a page that plays two pieces and asks which is better, by mouse or with the keys 1, 2 and 0.

    notagen dpo ratings=FILE learns from the answers.
    """
    check_inputs(pieces)
    make_output_place(out)
    from pentatonic.folder_run import find_files
    from pentatonic.server import bindable_port, check_login

    check_login(host, user, password, variable="NOTAGEN_PASSWORD")
    bindable_port(host, port)  # fail fast
    from notagen.app.rating_page import RatingRun, serve_ratings

    run = RatingRun(find_files(pieces, [".abc"]), out, count=number, seed=seed)
    serve_ratings(run, host=host, port=port, user=user, password=password)
