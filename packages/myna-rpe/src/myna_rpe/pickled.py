"""Read checkpoints of the original: state dicts, and whole modules that were pickled.

PyTorch's loader for weights reads them (``weights_only=True``). For the classes of the original, and for those of
``torch.nn`` that it builds on, it gets stand-ins that hold attributes and do nothing; a file that names anything else
is refused. No code of the file or of the original runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from torch import Tensor

from pentatonic.errors import CheckpointError
from pentatonic.processes.interrupts import delayed_interrupts
from pentatonic.untrusted.files import regular_file_size

_ORIGINAL = {
    "models.Myna": ("Myna", "Transformer", "Attention", "FeedForward", "Rotary2D", "StaticEmbeddings"),
    "models.PositionalEmbeddings": ("Alibi2DBias", "AttentionClamping"),
    "src.models.Myna": ("Myna", "Transformer", "Attention", "FeedForward", "Rotary2D", "StaticEmbeddings"),
    "src.models.PositionalEmbeddings": ("Alibi2DBias", "AttentionClamping"),
    "einops.layers.torch": ("Rearrange",),
    "torch.nn.modules.normalization": ("LayerNorm",),
    "torch.nn.modules.linear": ("Linear", "Identity"),
    "torch.nn.modules.activation": ("GELU", "Softmax"),
    "torch.nn.modules.container": ("Sequential", "ModuleList"),
}


_DEEPEST = 32


class StandIn:
    """An object of a class that is not loaded: its attributes, and nothing else."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


def _stand_ins() -> list[tuple[type, str]]:
    return [
        (type(name, (StandIn,), {"__module__": module}), f"{module}.{name}")
        for module, names in _ORIGINAL.items()
        for name in names
    ]


@dataclass(frozen=True)
class PickledModel:
    """What a checkpoint of the original holds.

    Attributes:
        tensors: By the original's names.
        attributes: Plain values of the modules by their paths, such as ``transformer.alibi_2d.only_x``; empty for a
            state dict.
    """

    tensors: Mapping[str, Tensor]
    attributes: Mapping[str, Any] = field(default_factory=dict)


def read_pickled(path: str | Path, *, max_bytes: int = 4 * 2**30) -> PickledModel:
    """Read a checkpoint of the original.

    Args:
        path: A file that ``torch.save`` wrote: a state dict, a module, or a training state with ``model_state_dict`` or
            ``model``.
        max_bytes: Largest file that is read.

    Raises:
        CheckpointError: The file is missing, too large or damaged, or holds anything but tensors, plain values and
            objects of the original's classes.
    """
    path = Path(path)
    if (size := regular_file_size(path, error=CheckpointError)) > max_bytes:
        raise CheckpointError(f"{path}: {size} bytes; at most {max_bytes} are read")
    try:
        with torch.serialization.safe_globals([set, slice, *_stand_ins()]), delayed_interrupts():
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # parsers raise errors of any kind for malformed bytes
        raise CheckpointError(f"{path}: {_first_line(error)}") from error
    if isinstance(content, dict):
        content = content.get("model_state_dict", content.get("model", content))
    if isinstance(content, StandIn):
        tensors: dict[str, Tensor] = {}
        attributes: dict[str, Any] = {}
        _collect(content, "", tensors, attributes, depth=0)
        return PickledModel(tensors, attributes)
    if isinstance(content, dict) and content and all(isinstance(value, Tensor) for value in content.values()):
        return PickledModel(dict(content))
    raise CheckpointError(f"{path}: neither a state dict nor a module of the original")


def _collect(
    module: StandIn, prefix: str, tensors: dict[str, Tensor], attributes: dict[str, Any], *, depth: int
) -> None:
    """Gather the tensors that a state dict would hold, and plain attributes."""
    if depth > _DEEPEST:
        raise CheckpointError(
            f"modules lie {_DEEPEST} deep in each other; no checkpoint of the original does so"
        )
    state = vars(module)
    transient = state.get("_non_persistent_buffers_set", set())
    for kind in ("_parameters", "_buffers"):
        for name, value in state.get(kind, {}).items():
            if isinstance(value, Tensor) and name not in transient:
                tensors[f"{prefix}{name}"] = value.detach()
    for name, value in state.items():
        if not name.startswith("_") and isinstance(value, int | float | str | bool | NoneType):
            attributes[f"{prefix}{name}"] = value
    for name, child in state.get("_modules", {}).items():
        if isinstance(child, StandIn):
            _collect(child, f"{prefix}{name}.", tensors, attributes, depth=depth + 1)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
