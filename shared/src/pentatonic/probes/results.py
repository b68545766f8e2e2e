"""What a probe evaluation found, as plain values, table rows and JSON."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from pentatonic.probes.grid import ProbeSettings
from pentatonic.statistics import Estimate


@dataclass(frozen=True)
class ProbeRun:
    """One setting of the grid.

    Args:
        settings: How the probe was built and trained.
        epoch: Its best epoch on the validation split, from 1; None if it diverged.
        validation: Metrics of that epoch on the validation split; empty if it diverged.
    """

    settings: ProbeSettings
    epoch: int | None
    validation: dict[str, float]


@dataclass(frozen=True)
class ProbeResult:
    """A probe selected by validation and tested once.

    Args:
        task: Kind of target.
        primary: The metric that selected.
        runs: All settings in the order of the grid.
        chosen: Position in ``runs`` of the selected one.
        test: Metric -> value and interval on the test split.
        baselines: Name -> metric -> value on the test split, of predictors that see no embedding.
        tracks: Split -> number of tracks.
        chunks: Split -> number of chunks.
        groups: Number of groups of test tracks that the intervals resample.
        confidence: Of the intervals.
        epochs: Epochs at most.
        patience: Epochs without improvement that end a run; None for never.
        seed: Of everything random.
    """

    task: str
    primary: str
    runs: tuple[ProbeRun, ...]
    chosen: int
    test: dict[str, Estimate]
    baselines: dict[str, dict[str, float]]
    tracks: dict[str, int]
    chunks: dict[str, int]
    groups: int
    confidence: float
    epochs: int
    patience: int | None
    seed: int

    def rows(self) -> list[dict[str, str]]:
        """The test metrics as rows of a table: the probe with intervals, then the baselines."""
        probe = {"predictor": f"{self.runs[self.chosen].settings.model} probe"}
        table = [probe | {name: str(estimate) for name, estimate in self.test.items()}]
        for name, values in self.baselines.items():
            table.append({"predictor": name} | {metric: f"{value:.3f}" for metric, value in values.items()})
        return table

    def to_json(self) -> dict[str, Any]:
        """All values as JSON types; numbers that are not finite become None."""
        return _json(dataclasses.asdict(self))


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
