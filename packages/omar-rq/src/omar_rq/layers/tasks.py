"""Which layers serve which task: the weights that saved probes learned.

A run of ``omar-rq probe`` leaves ``results.json`` with ``task`` and ``layers``, the weight of each layer (they add up
to 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pentatonic.errors import FormatError, InputError
from pentatonic.untrusted.files import read_json, shortened

RESULTS_FILE = "results.json"
_ROUNDING = 1e-3  # how far a sum of weights may be from 1


def read_probes(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Read the layer weights of probes.

    Args:
        paths: Run folders of ``omar-rq probe``, folders of such, or their ``results.json``.

    Returns:
        For each, sorted by task: ``task``, ``layers`` (index -> weight), ``layer`` (the one with the largest weight),
        ``mean_layer`` (weighted) and ``path``.

    Raises:
        InputError: There is no such file below a path.
        FormatError: A file is not the result of a probe.
    """
    found = []
    for path in paths:
        files = [path] if path.is_file() else sorted(path.rglob(RESULTS_FILE))
        if not files:
            raise InputError(f"{path}: there is no {RESULTS_FILE}; allowed: run folders of omar-rq probe")
        found += [_read(file) for file in files]
    return sorted(found, key=lambda probe: (probe["task"], probe["path"]))


def _read(path: Path) -> dict[str, Any]:
    content = read_json(path, error=FormatError)
    task = content.get("task") if isinstance(content, dict) else None
    layers = content.get("layers") if isinstance(content, dict) else None
    if not isinstance(task, str) or not isinstance(layers, dict) or not layers:
        raise FormatError(f"{shortened(content)} has no task with the weights of its layers", path=path)
    try:
        weights = {
            int(layer): float(weight) for layer, weight in sorted(layers.items(), key=lambda i: int(i[0]))
        }
    except (TypeError, ValueError):
        weights = {}
    if not (weights and min(weights.values()) >= 0 and abs(math.fsum(weights.values()) - 1) < _ROUNDING):
        raise FormatError(f"layers is {shortened(layers)}; allowed: weights that add up to 1", path=path)
    return {
        "task": task,
        "layers": weights,
        "layer": max(weights, key=lambda layer: weights[layer]),
        "mean_layer": math.fsum(layer * weight for layer, weight in weights.items()),
        "path": str(path),
    }
