"""``cm3p info``, ``convert`` and ``push``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cm3p.commands.options import Revision
from pentatonic.audio_folder.options import OutFolder
from pentatonic.cli import JsonFlag, emit_json, make_output_place, show_fields, show_models
from pentatonic.errors import UsageError

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
_DTYPES = {
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "fp32": "fp32",
    "fp16": "fp16",
    "bf16": "bf16",
}

ModelClass = Annotated[
    Literal[
        "cm3p",
        "metadata",
        "metadata_with_projection",
        "beatmap",
        "beatmap_with_projection",
        "classification",
        "masked_lm",
    ]
    | None,
    typer.Option(help="Class that the model must have.", show_default="that of its configuration"),
]


def info_command(
    model: Annotated[
        str | None, typer.Argument(help="Directory, or hub id; none: list the models that are known by name.")
    ] = None,
    revision: Revision = None,
    as_json: JsonFlag = False,
) -> None:
    """Show a model's layers, sizes, vocabularies, windows and licence."""
    from cm3p.publishing.describe import describe_model, list_models

    if model is not None:
        show_fields(describe_model(model, revision), as_json)
        return
    show_models(list_models(), as_json)


def convert_command(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="Directory of the original, a file in it, or a hub id.")
    ],
    out: OutFolder,
    dtype: Annotated[
        Literal["fp32", "fp16", "bf16"], typer.Option(help="Number type of the weights.")
    ] = "fp32",
    model_class: ModelClass = None,
    revision: Revision = None,
) -> None:
    """Convert a model of the original into safetensors with our configuration, without running code of it."""
    make_output_place(out, kind="folder", inputs=[source])
    from cm3p.publishing.convert import convert

    print(convert(source, out, dtype=dtype, model_class=model_class, revision=revision))


def push_command(
    save_path: Annotated[
        str | None, typer.Argument(metavar="DIR", help="Directory of the model.", show_default=False)
    ] = None,
    save_path_option: Annotated[
        str | None, typer.Option("--save-path", help="The same, as the original has it.", hidden=True)
    ] = None,
    repo_id: Annotated[str, typer.Option(help="Repository, owner/name.")] = "",
    processor_repo_id: Annotated[
        str | None,
        typer.Option(help="Repository of the processor.", show_default="the same"),
    ] = None,
    model_class: ModelClass = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    push_processor: Annotated[
        bool, typer.Option("--push-processor/--no-push-processor", help="Upload the processor, too.")
    ] = True,
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16", "fp32", "fp16", "bf16"],
        typer.Option(help="Number type of the uploaded weights."),
    ] = "bfloat16",
    commit_message: Annotated[str, typer.Option(help="Message of the commit.")] = "Upload model",
    revision: Annotated[str, typer.Option(help="Branch.")] = "main",
    push_only: Annotated[
        bool, typer.Option("--push-only", help="Upload the files as they are, without conversion.")
    ] = False,
    upload: Annotated[
        bool, typer.Option("--upload", help="Upload; without it the files are only listed.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Upload a model to the hub by the hub's own client and login; without --upload only list what would go there."""
    source = save_path or save_path_option
    if not source or not Path(source).is_dir():
        raise UsageError(f"the model is {source!r}; allowed: a directory")
    for option, name in (("--repo-id", repo_id), ("--processor-repo-id", processor_repo_id)):
        if name is not None and not _REPO_ID.fullmatch(name):
            raise UsageError(f"{option} is {name!r}; allowed: owner/name")
    from cm3p.publishing.upload import PushOptions, push

    client: Any = None
    if upload:
        from huggingface_hub import HfApi

        client = HfApi()
    options = PushOptions(
        repo_id,
        processor_repo_id,
        model_class,
        private=private,
        push_processor=push_processor,
        dtype=_DTYPES[dtype],
        commit_message=commit_message,
        revision=revision,
        as_is=push_only,
    )
    uploads = push(source, options, client)
    if as_json:
        emit_json({"uploaded": upload, "uploads": uploads})
        return
    for each in uploads:
        print(f"{'uploaded to' if upload else 'would go to'} {each.repo_id} ({revision}):")
        for name, size in each.files.items():
            print(f"  {size:>12,}  {name}")
    if not upload:
        print("nothing was uploaded; --upload does it", file=sys.stderr)
