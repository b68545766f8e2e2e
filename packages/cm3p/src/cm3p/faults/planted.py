"""Precision and recall of fault finders on maps with planted faults.

An object counts as faulty if a fault was planted in it. Intervals come from resampling whole mapsets with replacement,
as maps of a set are not independent of each other.

Shapes: N objects of all maps together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cm3p.faults.objects import standardised
from cm3p.faults.run import MapFaults
from cm3p.faults.snap import TOLERANCE_MS
from cm3p.faults.surprisal import ASPECTS
from cm3p.faults.tokens import Aspect
from pentatonic.errors import FormatError, InputError
from pentatonic.probes.metrics import average_precision
from pentatonic.statistics import DEFAULT_RESAMPLES, Estimate, resampled_groups

_ALL = "all kinds"
_OF_ONE_ASPECT = (Aspect.TIME, Aspect.POSITION, Aspect.HIT_SOUND)
_RULES = "snap rule of 2 ms"
_RULE = f"{_RULES}, divisors of the editor"


@dataclass(frozen=True)
class PlantedFault:
    """A planted fault.

    Args:
        path: The map.
        object: Index of its hit object.
        kind: Such as ``unsnapped``.
    """

    path: Path
    object: int
    kind: str


@dataclass(frozen=True)
class DetectorResult:
    """How well a fault finder finds one kind of faults.

    Args:
        detector: Its name.
        kind: Of faults; objects with other faults are left out.
        faults: Objects that have one.
        objects: Objects in all.
        average_precision: Of the ranking of all objects.
        chance: Average precision of a random ranking: the share of faulty objects.
        flagged: Objects that count as found: those off the grid for the rules; for a ranking as many as have faults.
        precision: Share of the flagged objects that are faulty.
        recall: Share of the faulty objects that are flagged.
        flagged_by_rule: Objects that the rule with the divisors of the editor flags.
        precision_as_rule: Precision with so many flagged objects, the first of the ranking.
        recall_as_rule: Recall likewise.
    """

    detector: str
    kind: str
    faults: int
    objects: int
    average_precision: Estimate
    chance: float
    flagged: int
    precision: Estimate
    recall: Estimate
    flagged_by_rule: int
    precision_as_rule: Estimate
    recall_as_rule: Estimate


def read_planted(file: Path) -> list[PlantedFault]:
    """Read a list of planted faults: a JSON object with ``file``, ``object`` and ``kind`` on each line.

    Args:
        file: Names of maps in it count from its folder.

    Raises:
        FormatError: A line is something else.
        InputError: The file cannot be read, or is empty.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read: {error}") from error
    faults = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fault: Any = json.loads(line)
            name, index, kind = fault["file"], fault["object"], fault["kind"]
        except (ValueError, TypeError, KeyError, RecursionError):
            name = index = kind = None
        if not (isinstance(name, str) and isinstance(index, int) and index >= 0 and isinstance(kind, str)):
            raise FormatError(
                "is not a planted fault; needed are file, object (an index) and kind", path=file, line=number
            )
        faults.append(PlantedFault((file.parent / name).resolve(), index, kind))
    if not faults:
        raise InputError(f"{file}: holds no planted faults")
    return faults


def judge(
    maps: Sequence[MapFaults],
    faults: Sequence[PlantedFault],
    *,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> list[DetectorResult]:
    """Compare the model, the snap rule and both together on the same objects.

    The snap rule flags objects that are more than 2 ms off the grid. The model only ranks; so that precision and recall
    compare, they are given for as many objects as have faults, and for as many as the rule flags.

    Args:
        maps: What was found in maps with planted faults.
        faults: What was planted.
        resamples: Of mapsets, for the intervals.
        seed: Of the resamples.

    Raises:
        InputError: None of the maps has a planted fault, or a fault is in an object that its map does not have.
    """
    kinds = _kinds(maps, faults)
    groups = np.concatenate(
        [np.full(len(each.excess), number) for number, each in zip(_set_numbers(maps), maps, strict=True)]
    )
    detectors = _detectors(maps)
    results = []
    for kind in (_ALL, *sorted({each for of_map in kinds for each in of_map if each})):
        flat = [each for of_map in kinds for each in of_map]
        kept = np.array([each in ("", kind) or kind == _ALL for each in flat])
        labels = np.array([each != "" for each in flat])[kept].astype(np.float64)
        by_rule = int((detectors[_RULE][kept] > 0).sum())
        for name, scores in detectors.items():
            ranked = _Ranked(name, kind, scores[kept], labels, groups[kept])
            results.append(_result(ranked, by_rule, resamples=resamples, seed=seed))
    return results


def _kinds(maps: Sequence[MapFaults], faults: Sequence[PlantedFault]) -> list[list[str]]:
    """For each map and object the kind of its fault, empty for none."""
    kinds = [[""] * len(each.excess) for each in maps]
    numbers = {each.path.resolve(): number for number, each in enumerate(maps)}
    count = 0
    for fault in faults:
        number = numbers.get(fault.path)
        if number is None:
            continue
        if fault.object >= len(kinds[number]):
            raise InputError(
                f"{fault.path}: a fault is planted in object {fault.object}, and there are {len(kinds[number])} objects"
            )
        kinds[number][fault.object] = fault.kind
        count += 1
    if not count:
        raise InputError("none of the maps has a planted fault; allowed: maps that the list of faults names")
    return kinds


def _set_numbers(maps: Sequence[MapFaults]) -> list[int]:
    folders = {
        folder: number for number, folder in enumerate(dict.fromkeys(each.path.parent for each in maps))
    }
    return [folders[each.path.parent] for each in maps]


def _detectors(maps: Sequence[MapFaults]) -> Mapping[str, np.ndarray]:
    """Name -> (N,) scores; those of a rule are above 0 where it flags an object."""

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(each, name) for each in maps])

    excess = joined("excess")
    deviations = np.concatenate([standardised(each.excess) for each in maps])
    model = _finite(deviations.max(1))
    rule = _beyond(joined("off_grid_ms"))
    # What the rule flags comes first, in the order of the model; then all others in the order of the model.
    together = np.where(rule > 0, model - model.min() + 1, model - model.max() - 1)
    return {
        "model": model,
        "model, excess": _finite(excess.max(1)),
        "model, surprisal": _finite(joined("bits").max(1)),
        **{f"model, {name} alone": _finite(excess[:, ASPECTS.index(name)]) for name in _OF_ONE_ASPECT},
        _RULE: rule,
        f"{_RULES}, divisors 1 to 16": _beyond(joined("off_dense_grid_ms")),
        "snap rule first, then model": together,
    }


def _beyond(distance_ms: np.ndarray) -> np.ndarray:
    """The rule as a ranking: distances that it tolerates are all the same."""
    return np.where(distance_ms > TOLERANCE_MS, distance_ms, 0)


def _finite(scores: np.ndarray) -> np.ndarray:
    """Scores in which objects that the model does not see come last."""
    seen = np.isfinite(scores)
    return np.where(seen, scores, scores[seen].min() - 1) if seen.any() else np.zeros(len(scores))


@dataclass(frozen=True)
class _Ranked:
    """What a fault finder says about (N,) objects."""

    name: str
    kind: str
    scores: np.ndarray
    labels: np.ndarray
    groups: np.ndarray


def _result(ranked: _Ranked, by_rule: int, *, resamples: int, seed: int) -> DetectorResult:
    scores, labels = ranked.scores, ranked.labels
    faults = int(labels.sum())
    flagged = int((scores > 0).sum()) if ranked.name.startswith(_RULES) else faults
    places = np.empty(len(scores), np.int64)
    places[np.argsort(-scores, kind="stable")] = np.arange(len(scores))

    def metrics(rows: np.ndarray) -> list[float]:
        true = labels[rows]
        values = [float(average_precision(scores[rows, None], true[:, None])[0])]
        for count in (flagged, by_rule):
            found = places[rows] < count
            hits = float(true[found].sum())
            values += [
                hits / found.sum() if found.any() else np.nan,
                hits / true.sum() if true.any() else np.nan,
            ]
        return values

    found = resampled_groups(metrics, ranked.groups, resamples=resamples, seed=seed)
    area, precision, recall, precision_as_rule, recall_as_rule = found
    return DetectorResult(
        detector=ranked.name,
        kind=ranked.kind,
        faults=faults,
        objects=len(labels),
        average_precision=area,
        chance=faults / len(labels),
        flagged=flagged,
        precision=precision,
        recall=recall,
        flagged_by_rule=by_rule,
        precision_as_rule=precision_as_rule,
        recall_as_rule=recall_as_rule,
    )
