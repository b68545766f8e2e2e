"""``rc-audioldm info``."""

from __future__ import annotations

from typing import Annotated

import typer

from pentatonic.cli import JsonFlag, show_fields, show_models


def info_command(
    model: Annotated[
        str | None, typer.Argument(help="Directory, or hub id; none: list the models that are known by name.")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Commit, tag or branch of a model on the hub.", show_default="main")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what a model is made of, what it makes, and the licence of its weights."""
    from rc_audioldm.describe import describe_model, list_models

    if model is not None:
        show_fields(describe_model(model, revision), as_json)
        return
    show_models(list_models(), as_json)
