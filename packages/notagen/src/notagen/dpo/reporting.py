"""Reports of ``notagen dpo``: a page for each iteration, and tables of all."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from notagen.files.gallery import add_sound
from notagen.files.readable import readable
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import run_manifest
from pentatonic.errors import MissingExtra
from pentatonic.report import Report

#: Pieces that a page plays: the first ones, which nobody picked.
SHOWN = 5

_MAX_SOUND_S = 45.0
_BINS = 20
# Column of the summary -> path in the measures of an iteration, and number of decimals.
_COLUMNS: dict[str, tuple[str, int]] = {
    "score": ("score", 3),
    "held-out score": ("held_out_score", 3),
    "other judge": ("judge_score", 3),
    "valid": ("valid", 3),
    "length": ("length", 0),
    "bars": ("bars", 1),
    "repeated bars": ("repeated_bars", 3),
    "mean cosine": ("pairwise_cosine", 3),
    "mean cosine (other judge)": ("pairwise_cosine_judge", 3),
    "duplicates": ("duplicates", 3),
    "known notes": ("known_notes", 3),
    "copies": ("copies", 3),
    "chosen log p": ("chosen_log_probability", 4),
    "rejected log p": ("rejected_log_probability", 4),
    "accuracy": ("accuracy", 3),
}
_NOTES = """\
Scores are mean cosines to the mean of references, with 95 % bootstrap intervals over pieces: `score` to those that are
optimised, `held-out score` to references that nothing was chosen by, `other judge` to the same by a judge that was not
optimised. `mean cosine` is that of two pieces of the iteration: the lower, the more diverse. `known notes` is the share
of runs of eight notes that occur in known music, in any key. Log-probabilities are per character, of the chosen and
rejected pieces that the policy of this row was trained on.
"""


def write_summary(rows: Sequence[Mapping[str, Any]], notes: Sequence[str], folder: Path) -> None:
    """Write ``summary.csv`` and ``summary.md``.

    Args:
        rows: Measures of the iterations, and of held-out references; ``iteration`` names each.
        notes: What else a reader should know.
        folder: Where to write.
    """
    flat = [_flat(row) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    with atomic_file(folder / "summary.csv", "w") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
    lines = [f"| K | {' | '.join(_COLUMNS)} |", "|---" * (len(_COLUMNS) + 1) + "|"]
    lines += [
        f"| {row['iteration']} | {' | '.join(_cell(row.get(key), digits) for key, digits in _COLUMNS.values())} |"
        for row in rows
    ]
    text = "\n".join(["# Iterations", "", *lines, "", _NOTES, *(f"- {note}" for note in notes), ""])
    with atomic_file(folder / "summary.md", "w") as file:
        file.write(text.rstrip("\n") + "\n")


def write_page(
    row: Mapping[str, Any],
    scores: Mapping[str, NDArray[np.float64]],
    samples: Sequence[Mapping[str, Any]],
    path: Path,
) -> str | None:
    """Write the page of an iteration: its measures, histograms of the scores, and five pieces to listen to.

    Args:
        row: Measures.
        scores: Name of a judge to the ``(n,)`` scores of all pieces.
        samples: The pieces, with ``name``, ``prompt`` and ``text``.
        path: The HTML file.

    Returns:
        Why there is no page, where the software for one is not installed.
    """
    try:
        from matplotlib.figure import Figure

        manifest = run_manifest()
        title = f"CLaMP-DPO, iteration {row['iteration']}"
        report = Report(title, command=manifest["command"], versions=manifest["versions"])
    except ImportError:  # MissingExtra is one too
        return str(MissingExtra("The page of an iteration", "notagen[report]"))
    report.table([_flat(row)], "Measures")
    figure = Figure(figsize=(4 * len(scores), 3))
    for place, (name, values) in enumerate(scores.items(), 1):
        axes = figure.add_subplot(1, len(scores), place)
        axes.hist(values, bins=_BINS)
        axes.set(title=name, xlabel="score", ylabel="pieces")
    figure.tight_layout()
    report.figure(figure, f"Histograms of the scores by {' and by '.join(scores)}")
    for sample in samples[:SHOWN]:
        name = " / ".join(line.strip("% ") for line in sample["prompt"].splitlines()) or "no prompt"
        report.heading(f"Piece {sample['name']}: {name}")
        add_sound(report, sample["text"], f"Piece {sample['name']}", most_s=_MAX_SOUND_S)
        report.listing(readable(sample["text"]), "ABC notation")
    report.write(path)
    return None


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with the parts of intervals, and the counts of rules, in columns of their own."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            flat |= {name if part == "value" else f"{name}_{part}": item for part, item in value.items()}
        else:
            flat[name] = value
    return flat


def _cell(value: Any, digits: int) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return f"{value['value']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"
    return f"{value:.{digits}f}"
