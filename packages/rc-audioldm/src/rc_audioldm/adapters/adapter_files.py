"""Files of adapters: safetensors whose header says what the network computes, for which CLAP, after how many steps.

A file is all of an adapter. Folders that training writes, and run folders, stand for the adapter in them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor, nn

from pentatonic.checkpoint import load_tensors, save_tensors
from pentatonic.errors import CheckpointError, FormatError
from pentatonic.untrusted.files import parse_json
from rc_audioldm.clap.header import ClapHeader

ADAPTER_FILE = "adapter.safetensors"
BEST = "best"
PICKLES = (".pt", ".pth", ".ckpt", ".bin")

_FORMAT, _VERSION = "rc-audioldm adapter", 1
_MOST_METRICS = 64


@dataclass(frozen=True)
class AdapterInfo:
    """What is known of an adapter.

    Args:
        trained_steps: Optimizer steps; 0: its weights are random. None: the file does not say it, as those of the
            original.
        clap: How the vectors that it was trained on were made; None if nobody says it.
        metrics: Its validation.
        layout: Layout of the original that the file has; empty for ours.
    """

    trained_steps: int | None = None
    clap: ClapHeader | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    layout: str = ""


def write_adapter(path: Path, kind: str, module: nn.Module, config: Any, info: AdapterInfo) -> None:
    """Write an adapter, or an error and no file.

    Args:
        path: The file.
        kind: What it is.
        module: Its weights.
        config: Dataclass of what it computes.
        info: What is known of it.

    Raises:
        CheckpointError: It cannot be written.
    """
    values = {
        "version": _VERSION,
        "kind": kind,
        "config": asdict(config),
        "trained_steps": info.trained_steps,
        "clap": None if info.clap is None else info.clap.to_json(),
        "metrics": dict(info.metrics),
    }
    save_tensors(path, module.state_dict(), {"format": _FORMAT, "adapter": json.dumps(values)})


def read_adapter(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any] | None, AdapterInfo]:
    """Read a safetensors file.

    Args:
        path: The file.
        kind: What it must be.

    Returns:
        Tensors, values of the configuration (None in a file that this package did not write), and what is known of it.

    Raises:
        CheckpointError: It is missing or damaged, of another version, or another kind of adapter.
        FormatError: Its header is malformed.
    """
    tensors = load_tensors(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    if metadata.get("format") != _FORMAT:
        return tensors, None, AdapterInfo()
    values = parse_json(metadata.get("adapter", ""), where=str(path), error=FormatError)
    if not isinstance(values, dict) or values.get("version") != _VERSION:
        raise CheckpointError(f"{path}: is no adapter of version {_VERSION}, which this release reads")
    if values.get("kind") != kind:
        raise CheckpointError(f"{path}: is an adapter of the kind {values.get('kind')!r}; needed: {kind!r}")
    clap, steps, metrics = values.get("clap"), values.get("trained_steps"), values.get("metrics")
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 0):
        raise FormatError("trained_steps of its header is not a whole number from 0", path=path)
    if not isinstance(metrics, dict) or len(metrics) > _MOST_METRICS:
        raise FormatError("metrics of its header are no table", path=path)
    numbers = {str(name): float(value) for name, value in metrics.items() if isinstance(value, int | float)}
    header = None if clap is None else ClapHeader.from_json(clap, str(path))
    return tensors, values.get("config"), AdapterInfo(steps, header, numbers)


def adapter_path(path: str | Path) -> Path:
    """Return the file of an adapter.

    Args:
        path: The file, a folder with an adapter in it, or a run folder, which stands for its best checkpoint.

    Raises:
        CheckpointError: There is no such file, or no adapter in the folder.
    """
    path = Path(path)
    if not path.is_dir():
        if not path.exists():
            raise CheckpointError(f"{path}: there is no such file or folder")
        return path
    for found in (path / ADAPTER_FILE, path / BEST / ADAPTER_FILE):
        if found.is_file():
            return found
    raise CheckpointError(f"{path}: has no {ADAPTER_FILE} and no {BEST}/{ADAPTER_FILE}")


def require_clap(info: AdapterInfo, expected: ClapHeader | None, path: Path) -> None:
    """Refuse an adapter that was trained on vectors of another kind; one that does not say is taken.

    Raises:
        IncompatibleVectors: The vectors differ; the message names every difference.
    """
    if expected is not None and info.clap is not None:
        info.clap.require(expected, str(path))
