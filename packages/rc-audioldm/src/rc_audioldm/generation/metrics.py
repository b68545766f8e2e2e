"""Metrics of the clips of a run: one row for each, and a summary."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pentatonic.checkpoint import atomic_file
from pentatonic.folder_run import write_json
from rc_audioldm.evaluation.diversity import diversity
from rc_audioldm.evaluation.signal import signal_metrics
from rc_audioldm.generation.result import Result

_NO_NUMBERS = ("id", "index", "variant", "file", "prompt")


def row_of(result: Result, file: str) -> dict[str, Any]:
    """Measure a clip; the loudness where pyloudnorm is installed (extra ``eval``).

    Args:
        result: The clip.
        file: Its path in the run.
    """
    loudness = importlib.util.find_spec("pyloudnorm") is not None
    measured = signal_metrics(result.audio.numpy(), result.sample_rate, loudness=loudness)
    return {
        "id": result.id,
        "index": result.request.index,
        "variant": result.variant,
        "file": file,
        "prompt": result.request.prompt,
        "clap_text": result.clap_text,
        "clap_style": result.clap_style,
        **dataclasses.asdict(measured),
    }


def write_metrics(
    folder: Path, rows: Sequence[Mapping[str, Any]], vectors: Sequence[np.ndarray], about: Mapping[str, Any]
) -> dict[str, Any]:
    """Write ``per_item.csv``, ``per_item.json`` and ``summary.json``.

    Args:
        folder: To write.
        rows: From :func:`row_of`, in order.
        vectors: CLAP vectors of all clips, or none.
        about: Further values of the summary.

    Returns:
        The summary.

    Raises:
        CheckpointError: A file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    table.writerows([{name: "" if value is None else value for name, value in row.items()} for row in rows])
    with atomic_file(folder / "per_item.csv", "w") as file:
        file.write(text.getvalue())
    write_json(folder / "per_item.json", list(rows))
    means = {}
    for name in names:
        values = (
            [float(row[name]) for row in rows if row.get(name) is not None] if name not in _NO_NUMBERS else []
        )
        values = [value for value in values if math.isfinite(value)]
        if values:
            means[name] = {"mean": float(np.mean(values)), "std": float(np.std(values)), "clips": len(values)}
    summary: dict[str, Any] = {"n_items": len(rows), **about, "metrics": means}
    if len(vectors) > 1 and len(vectors) == len(rows):
        summary["diversity"] = dataclasses.asdict(diversity(np.stack(vectors)))
    write_json(folder / "summary.json", summary)
    return summary
