"""Nested states (optimizers, loaders, random generators) as named tensors and JSON, exactly and without pickle."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pentatonic.errors import CheckpointError

_ALLOWED = (
    "allowed: tensors, None, bool, int, float, str, list, tuple, and dicts with keys of type str or int"
)


def flatten_state(state: Any) -> tuple[dict[str, Tensor], Any]:
    """Split a nested state into its tensors and a skeleton for JSON.

    In the skeleton, numbers, text, None and lists are stored as they are; other values as an object with one key:
    ``{"tensor": name}``, ``{"tuple": [...]}``, ``{"dict": [[key, value], ...]}`` and ``{"float": "nan"}``. So keys keep
    their type and order, and the JSON is valid without extensions.

    Args:
        state: Tensors, None, bool, int, float and str, in lists, tuples and dicts with keys of type str or int.

    Returns:
        Tensors by name, detached but not copied; and the skeleton. :func:`unflatten_state` is the inverse.

    Raises:
        CheckpointError: There is a value of another type; the message says where.
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _flatten(state, "", tensors)


def unflatten_state(tensors: Mapping[str, Tensor], skeleton: Any) -> Any:
    """Restore a state that :func:`flatten_state` split; the inverse function.

    Args:
        tensors: Tensors by name.
        skeleton: The skeleton, possibly after writing and reading it as JSON.

    Returns:
        The state: equal values of equal types (other mappings have become dicts, and NaNs have lost their sign).

    Raises:
        CheckpointError: The skeleton is malformed, or does not name exactly the given tensors.
    """
    unused = dict(tensors)
    try:
        state = _unflatten(skeleton, unused)
    except RecursionError as error:
        raise CheckpointError("the state's skeleton is nested too deeply") from error
    if unused:
        raise CheckpointError(f"the state's skeleton does not name the tensor {min(unused)!r}")
    return state


def rng_state() -> dict[str, Any]:
    """State of the global random generators of Python, NumPy and torch.

    Returns:
        For :func:`flatten_state`: ``python``, ``numpy``, ``torch``, and ``cuda`` with one state for each device (none
        without CUDA).

    Raises:
        CheckpointError: NumPy's global generator is not its default, MT19937.
    """
    version, python_words, python_gauss = random.getstate()
    numpy_state: Any = np.random.get_state(legacy=False)
    if numpy_state["bit_generator"] != "MT19937":
        raise CheckpointError(
            f"the state of NumPy's global generator {numpy_state['bit_generator']} cannot be saved; allowed: MT19937"
        )
    return {
        "python": {"version": version, "words": torch.tensor(python_words), "gauss": python_gauss},
        "numpy": {
            "words": torch.from_numpy(numpy_state["state"]["key"].astype(np.int64)),
            "position": int(numpy_state["state"]["pos"]),
            "has_gauss": int(numpy_state["has_gauss"]),
            "gauss": float(numpy_state["gauss"]),
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Restore a state returned by :func:`rng_state`.

    Call this last: making an iterator of a data loader, for example, draws a number from torch's global generator.

    Args:
        state: As returned. States of CUDA devices that this machine lacks are ignored.

    Raises:
        CheckpointError: The state is malformed.
    """
    try:
        python, numpy_state = state["python"], state["numpy"]
        random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
        words = numpy_state["words"].cpu().numpy().astype(np.uint32)
        np.random.set_state(
            ("MT19937", words, numpy_state["position"], numpy_state["has_gauss"], numpy_state["gauss"])
        )
        torch.set_rng_state(state["torch"].cpu())
        for device, device_state in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
            torch.cuda.set_rng_state(device_state.cpu(), device)
    except (AttributeError, LookupError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"the state of the random generators is malformed: {error}") from error


def _flatten(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = _free_name(path, tensors)
        tensors[name] = value.detach()
        return {"tensor": name}
    if type(value) is float and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list or type(value) is tuple:
        items = [_flatten(item, f"{path}.{index}", tensors) for index, item in enumerate(value)]
        return items if type(value) is list else {"tuple": items}
    if isinstance(value, Mapping):
        for key in value:
            if type(key) not in (str, int):
                raise CheckpointError(f"state{path} has a key of type {type(key).__name__}; {_ALLOWED}")
        return {"dict": [[key, _flatten(item, f"{path}.{key}", tensors)] for key, item in value.items()]}
    raise CheckpointError(f"state{path} is of type {type(value).__name__}; {_ALLOWED}")


def _free_name(path: str, tensors: Mapping[str, Tensor]) -> str:
    """The path as a name that is not taken yet: keys with dots, or both 0 and "0", can give two paths the same text."""
    name = path.removeprefix(".") or "state"
    while name in tensors or name == "__metadata__":
        name += "_"
    return name


def _unflatten(node: Any, unused: dict[str, Tensor]) -> Any:
    match node:
        case None | bool() | int() | float() | str():
            return node
        case list():
            return [_unflatten(item, unused) for item in node]
        case {"tensor": str(name), **rest} if not rest and name in unused:
            return unused.pop(name)
        case {"tuple": list(items), **rest} if not rest:
            return tuple(_unflatten(item, unused) for item in items)
        case {"dict": list(items), **rest} if not rest and _are_unique_pairs(items):
            return {key: _unflatten(item, unused) for key, item in items}
        case {"float": "nan" | "inf" | "-inf" as text, **rest} if not rest:
            return float(text)
    raise CheckpointError(f"the state's skeleton is malformed, or a tensor is missing, at {str(node)[:80]!r}")


def _are_unique_pairs(items: list[Any]) -> bool:
    if not all(isinstance(item, list) and len(item) == 2 and type(item[0]) in (str, int) for item in items):
        return False
    return len({key for key, _ in items}) == len(items)
