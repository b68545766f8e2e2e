"""What a training checkpoint holds, and how it is written and read.

::

    model.safetensors        parameters and buffers of the module; where weights are averaged, the average
    trained.safetensors      then, the parameters themselves, with which training goes on
    optimizer.safetensors    tensors of the optimizer's state
    optimizer.json           its structure and numbers
    rng-<rank>.safetensors   tensors of the global generators' state, one file per process
    rng-<rank>.json          its structure and numbers
    state.json               step, loader position, world size, metrics so far
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from pentatonic.checkpoint import flatten_state, load_tensors, newest_verified, save_tensors, unflatten_state
from pentatonic.errors import CheckpointError, CorruptCheckpoint, WeightsError
from pentatonic.untrusted.files import read_json

logger = logging.getLogger(__name__)

FORMAT = 1
_MAX_JSON_BYTES = 64 * 2**20
PREFIX = "step-"
_TRAINED = "trained.safetensors"


def find_checkpoint(root: Path) -> Path | None:
    """Finds the newest intact checkpoint, and renames newer ones that are damaged to ``damaged-step-...``.

    Renamed, a damaged one is neither the newest nor one of those to keep.

    Args:
        root: Directory of the checkpoints; it may be missing.

    Returns:
        The checkpoint, or None where there is none yet.

    Raises:
        CorruptCheckpoint: If there are checkpoints, but none is intact.
    """
    newest, rejected = newest_verified(root, prefix=PREFIX)
    if newest is None and rejected:
        raise CorruptCheckpoint(
            f"no checkpoint in {root} is intact ({rejected[0]}); remove them to begin again"
        )
    for error in rejected:
        logger.warning("a damaged checkpoint is skipped: %s", error)
    if newest is not None:
        for path in root.glob(f"{PREFIX}[0-9]*"):
            if path.name > newest.name:
                damaged = path.with_name(f"damaged-{path.name}")
                shutil.rmtree(damaged, ignore_errors=True)
                path.rename(damaged)
    return newest


def checkpoint_name(step: int) -> str:
    """Directory name of the checkpoint made after ``step`` optimizer steps."""
    return f"{PREFIX}{step:08d}"


def write_checkpoint(
    directory: Path,
    *,
    module: nn.Module,
    trained: Mapping[str, Tensor] | None,
    optimizer: Optimizer,
    generators: Sequence[dict[str, Any]],
    state: dict[str, Any],
) -> None:
    """Writes all files of a checkpoint into a directory that is not yet published.

    Args:
        directory: Where to.
        module: Module without any wrapper.
        trained: The trained parameters, where the module now holds their average.
        optimizer: Its optimizer.
        generators: State of the global generators of each process, by rank.
        state: JSON values for ``state.json``.

    Raises:
        CheckpointError: If a file cannot be written.
    """
    save_tensors(directory / "model.safetensors", module.state_dict())
    if trained is not None:
        save_tensors(directory / _TRAINED, trained)
    _write_nested(directory / "optimizer", optimizer.state_dict())
    for rank, generator_state in enumerate(generators):
        _write_nested(directory / f"rng-{rank}", generator_state)
    _write_json(directory / "state.json", {"format": FORMAT} | state)


def read_state(directory: Path) -> dict[str, Any]:
    """Reads ``state.json`` of a verified checkpoint.

    Raises:
        CheckpointError: If it is of a format that this version does not know.
    """
    state = _read_json(directory / "state.json")
    if state.get("format") != FORMAT:
        raise CheckpointError(
            f"{directory / 'state.json'} has format {state.get('format')!r}; this version reads format {FORMAT}"
        )
    return state


def restore_module(directory: Path, module: nn.Module) -> None:
    """Copies a checkpoint's tensors into a module, in place, so that its optimizer keeps its parameters.

    Raises:
        WeightsError: If the tensors do not fit the module.
    """
    path = directory / "model.safetensors"
    try:
        module.load_state_dict(load_tensors(path), strict=True)
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit the module: {error}") from error


def read_trained(directory: Path) -> dict[str, Tensor] | None:
    """Reads the parameters that a checkpoint holds beside their average; ``None`` where it holds no average."""
    path = directory / _TRAINED
    return load_tensors(path) if path.is_file() else None


def restore_optimizer(directory: Path, optimizer: Optimizer) -> None:
    """Gives an optimizer its saved state, on the device of its parameters.

    Raises:
        CheckpointError: If the parameter groups differ from those of the checkpoint.
    """
    try:
        optimizer.load_state_dict(_read_nested(directory / "optimizer"))
    except ValueError as error:
        raise CheckpointError(
            f"{directory / 'optimizer.json'} does not fit the optimizer: {error}"
        ) from error


def read_generators(directory: Path, rank: int) -> dict[str, Any]:
    """Reads the state of one process's global generators."""
    return _read_nested(directory / f"rng-{rank}")


def _write_nested(stem: Path, nested: dict[str, Any]) -> None:
    tensors, skeleton = flatten_state(nested)
    save_tensors(stem.with_suffix(".safetensors"), tensors)
    _write_json(stem.with_suffix(".json"), skeleton)


def _read_nested(stem: Path) -> dict[str, Any]:
    # Copies, because loaded tensors are views of the file, which is removed while the optimizer still uses its state.
    tensors = {
        name: tensor.clone() for name, tensor in load_tensors(stem.with_suffix(".safetensors")).items()
    }
    return unflatten_state(tensors, _read_json(stem.with_suffix(".json")))


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def _read_json(path: Path) -> Any:
    return read_json(path, max_bytes=_MAX_JSON_BYTES, error=CheckpointError)
