"""``cm3p push``: a model directory to a repository of the hub, by the hub's own client."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from huggingface_hub import get_token

from cm3p.processor import CONFIG_FILE, PARTS
from cm3p.publishing.convert import convert
from cm3p.weights import find_directory
from pentatonic.checkpoint.manifest import list_files
from pentatonic.errors import HubError, UsageError

_MODEL_FILES = ("config.json", "model.safetensors", "README.md")


class HubClient(Protocol):
    """The part of ``huggingface_hub.HfApi`` that is used."""

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> Any:
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
        private: A repository that is made is private; None: as its owner has set.
        push_processor: Upload the processor.
        dtype: Number type of the uploaded weights: ``fp32``, ``fp16`` or ``bf16``.
        commit_message: Message of the commit.
        revision: Branch.
        as_is: Upload the files of the model as they are, without conversion.
    """

    repo_id: str
    processor_repo_id: str | None = None
    model_class: str | None = None
    private: bool | None = False
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
    # Of a run folder, neither checkpoints nor maps.
    parts = (CONFIG_FILE, *PARTS)
    processor = {name: size for name, size in sizes.items() if name.partition("/")[0] in parts}
    if not options.push_processor:
        return [Upload(options.repo_id, model)]
    if options.processor_repo_id in (None, options.repo_id):
        return [Upload(options.repo_id, model | processor)]
    if not processor:
        raise UsageError(f"{prepared}: has no processor for {options.processor_repo_id}")
    return [Upload(options.repo_id, model), Upload(str(options.processor_repo_id), processor)]


def create_repository(client: HubClient, name: str, private: bool | None) -> str:
    """Make a repository, unless there is one.

    Args:
        client: Makes it.
        name: ``owner/name``, or ``name`` for one of the user who is logged in.
        private: As in :class:`PushOptions`.

    Returns:
        ``owner/name``.

    Raises:
        HubError: The hub refuses or cannot be reached.
    """
    with _hub_errors(name):
        made = client.create_repo(name, private=private, exist_ok=True)
    return str(getattr(made, "repo_id", name))


def _upload(client: HubClient, upload: Upload, prepared: Path, options: PushOptions) -> None:
    repo_id = create_repository(client, upload.repo_id, options.private)
    with _hub_errors(repo_id):
        client.upload_folder(
            repo_id=repo_id,
            folder_path=str(prepared),
            allow_patterns=sorted(upload.files),
            commit_message=options.commit_message,
            revision=options.revision,
        )


@contextmanager
def _hub_errors(repo_id: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the client raises errors of any layer below it
        reason = " ".join(str(error).split())[:300]
        hint = "" if get_token() else "; there is no token: hf auth login, or the variable HF_TOKEN"
        raise HubError(f"cannot push to {repo_id} ({type(error).__name__}: {reason}){hint}") from error
