"""Results of probes: metrics with intervals over recordings, spread over seeds, and differences on the same draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from omar_rq.probing.tasks.task import Measure
from pentatonic.statistics import Estimate, resampled_groups, set_groups


@dataclass(frozen=True)
class Tested:
    """A system on the test split.

    Attributes:
        name: Of the system.
        measures: Of each seed.
    """

    name: str
    measures: Sequence[Measure]

    def means(self, chosen: np.ndarray) -> np.ndarray:
        """(M,) mean over the seeds of the metrics of chosen recordings."""
        return np.mean([measure(chosen) for measure in self.measures], axis=0)


def results_document(
    about: dict[str, Any],
    metrics: Sequence[str],
    tested: Sequence[Tested],
    groups: Sequence[str],
    *,
    resamples: int,
) -> dict[str, Any]:
    """Return the content of ``results.json``.

    ``systems``: name -> metric -> ``value`` (mean over the seeds), ``low`` and ``high`` (95 % interval of it, drawing
    groups of test recordings), and ``seeds``, the value of each. ``differences``: the probe minus every other system,
    on the same draws.

    Args:
        about: What else belongs there.
        metrics: M names.
        tested: The systems, the probe first.
        groups: Of the test recordings.
        resamples: Draws.
    """
    count = len(metrics)

    def everything(chosen: np.ndarray) -> list[float]:
        means = [each.means(chosen) for each in tested]
        return np.concatenate([*means, *(means[0] - other for other in means[1:])]).tolist()

    estimates = resampled_groups(everything, set_groups(list(groups)), resamples=resamples)
    rows = [estimates[start : start + count] for start in range(0, len(estimates), count)]
    everyone = np.arange(len(groups))
    systems, differences = {}, {}
    for each, row in zip(tested, rows, strict=False):
        seeds = np.array([measure(everyone) for measure in each.measures])
        systems[each.name] = {
            name: {**_interval(found), "seeds": seeds[:, place].tolist()}
            for place, (name, found) in enumerate(zip(metrics, row, strict=True))
        }
    for each, row in zip(tested[1:], rows[len(tested) :], strict=True):
        differences[each.name] = {name: _interval(found) for name, found in zip(metrics, row, strict=True)}
    return {**about, "metrics": list(metrics), "systems": systems, "differences": differences}


def _interval(found: Estimate) -> dict[str, Any]:
    return {"value": found.value, "low": found.low, "high": found.high}


def results_page(document: dict[str, Any]) -> str:
    """Return the content of ``results.md``: the same for readers."""
    data, metrics = document["data"], document["metrics"]
    counts = ", ".join(f"{count} {split}" for split, count in data["recordings"].items())
    lines = [
        f"# Probe: {document['task']}",
        "",
        f"- Data: {data['name']} ({data['source']}); licence: {data['licence']}",
        f"- Split: {data['split']}; recordings: {counts}; {document['failed']} could not be read",
        f"- Encoder: {document['model']}, SHA-256 {document['encoder_sha256'][:12]}…",
        f"- Command: `{document['command']}`",
        f"- Chosen on the validation split: learning rate {document['chosen']['learning_rate']:g}, step "
        f"{document['chosen']['step']}",
        "",
        f"Means over {document['seeds']} seeds with 95 % intervals over the test recordings, drawn by group; in "
        "parentheses the least and the greatest seed.",
        "",
        _row(["", *metrics]),
        _row(["---"] * (1 + len(metrics))),
    ]
    for name, values in document["systems"].items():
        lines.append(_row([name, *(_cell(values[metric], seeds=True) for metric in metrics)]))
    lines += [
        "",
        "Differences of the probe to the others, on the same draws:",
        "",
        _row(["", *metrics]),
        _row(["---"] * (1 + len(metrics))),
    ]
    for name, values in document["differences"].items():
        lines.append(_row([f"to {name}", *(_cell(values[metric], sign="+") for metric in metrics)]))
    weights = ", ".join(f"{layer}: {weight:.3f}" for layer, weight in document["layers"].items())
    lines += ["", f"Weights of the layers: {weights}", ""]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(found: dict[str, Any], *, seeds: bool = False, sign: str = "") -> str:
    text = f"{found['value']:{sign}.3f} [{found['low']:{sign}.3f}, {found['high']:{sign}.3f}]"
    if seeds and len(found["seeds"]) > 1:
        text += f" ({min(found['seeds']):.3f} to {max(found['seeds']):.3f})"
    return text
