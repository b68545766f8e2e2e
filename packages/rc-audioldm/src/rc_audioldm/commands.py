"""``rc-audioldm info`` and ``convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from pentatonic.cli import JsonFlag, make_output_place, show_fields, show_models


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


def convert_command(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="Directory in the layout of diffusers, or a hub id.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Directory to write.")],
    dtype: Annotated[
        Literal["fp32", "fp16", "bf16"], typer.Option(help="Number type of the stored weights.")
    ] = "fp32",
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch on the hub.")] = None,
) -> None:
    """Convert a model to safetensors, without running code of it; pickled weights are read as tensors alone."""
    make_output_place(out, kind="folder")
    from rc_audioldm.convert import convert

    print(convert(source, out, dtype=dtype, revision=revision))
