"""``cm3p push``: a model directory to a repository of the hub, by the hub's own client."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cm3p.publishing.convert import convert
from cm3p.weights import find_directory
from pentatonic.checkpoint.manifest import list_files
from pentatonic.errors import HubError, UsageError

_MODEL_FILES = ("config.json", "model.safetensors", "README.md")


class HubClient(Protocol):
    """The part of ``huggingface_hub.HfApi`` that is used."""

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> Any:
        """Make a repository."""

    def upload_folder(
        self,
        *,
        repo_id: str,
        folder_path: str,
        allow_patterns: Sequence[str],
        commit_message: str,
        revision: str,
    ) -> Any:
        """Upload files of a folder in one commit."""


@dataclass(frozen=True)
class PushOptions:
    """How a model is uploaded.

    Args:
        repo_id: ``owner/name``.
        processor_repo_id: Where the processor goes; None: into the same repository.
        model_class: Class that the model must have, as :data:`cm3p.publishing.convert.MODEL_CLASSES` names it.
        private: A repository that is made is private.
        push_processor: Upload the processor.
        dtype: Number type of the uploaded weights: ``fp32``, ``fp16`` or ``bf16``.
        commit_message: Message of the commit.
        revision: Branch.
        as_is: Upload the files of the directory as they are, without conversion.
    """

    repo_id: str
    processor_repo_id: str | None = None
    model_class: str | None = None
    private: bool = False
    push_processor: bool = True
    dtype: str = "bf16"
    commit_message: str = "Upload model"
    revision: str = "main"
    as_is: bool = False


@dataclass(frozen=True)
class Upload:
    """Files that go to one repository.

    Args:
        repo_id: ``owner/name``.
        files: Name -> bytes.
    """

    repo_id: str
    files: dict[str, int]


def push(source: str | Path, options: PushOptions, client: HubClient | None = None) -> list[Upload]:
    """Prepare the files of a model, and upload them.

    Args:
        source: A directory with a model.
        options: How.
        client: Uploads; None: nothing is uploaded.

    Returns:
        What is uploaded, or would be.

    Raises:
        UsageError: An option does not fit, or the directory has no processor that could go elsewhere.
        HubError: There is no such model, or the hub refuses or cannot be reached.
        ConfigError, CheckpointError, WeightsError: The model cannot be used.
    """
    directory = find_directory(source)
    with tempfile.TemporaryDirectory() as folder:
        if options.as_is:
            prepared = directory
        else:
            prepared = convert(
                directory,
                Path(folder, options.repo_id.rpartition("/")[2] or "model"),
                dtype=options.dtype,
                model_class=options.model_class,
                with_processor=options.push_processor,
            )
        uploads = _uploads(prepared, options)
        if client is not None:
            for upload in uploads:
                _upload(client, upload, prepared, options)
        return uploads


def _uploads(prepared: Path, options: PushOptions) -> list[Upload]:
    sizes = {name: (prepared / name).stat().st_size for name in list_files(prepared)}
    model = {name: size for name, size in sizes.items() if name in _MODEL_FILES}
    processor = {name: size for name, size in sizes.items() if name == "processor_config.json" or "/" in name}
    if not options.push_processor:
        return [Upload(options.repo_id, model)]
    if options.processor_repo_id in (None, options.repo_id):
        return [Upload(options.repo_id, model | processor)]
    if not processor:
        raise UsageError(f"{prepared}: has no processor for {options.processor_repo_id}")
    return [Upload(options.repo_id, model), Upload(str(options.processor_repo_id), processor)]


def _upload(client: HubClient, upload: Upload, prepared: Path, options: PushOptions) -> None:
    try:
        client.create_repo(upload.repo_id, private=options.private, exist_ok=True)
        client.upload_folder(
            repo_id=upload.repo_id,
            folder_path=str(prepared),
            allow_patterns=sorted(upload.files),
            commit_message=options.commit_message,
            revision=options.revision,
        )
    except Exception as error:  # the client raises errors of any layer below it
        reason = " ".join(str(error).split())[:300]
        raise HubError(f"cannot push to {upload.repo_id} ({type(error).__name__}: {reason})") from error
