"""Precision and recall on planted faults: values worked out by hand, bad lists of faults."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cm3p.faults.planted import PlantedFault, judge, read_planted
from cm3p.faults.run import MapFaults
from cm3p.faults.surprisal import ASPECTS
from cm3p.faults.tokens import Aspect
from pentatonic.errors import FormatError, InputError


def found_in(path: Path, excess: list[float], off_grid: list[float]) -> MapFaults:
    """A map whose objects surprise in their times alone; hit sounds are not seen."""
    scores, grid = np.full((len(excess), len(ASPECTS)), -np.inf), np.array(off_grid)
    scores[:, ASPECTS.index(Aspect.TIME)] = excess
    return MapFaults(str(path), path, len(scores), scores, scores[::-1].copy(), grid, np.zeros(len(grid)), [])


@pytest.fixture
def judged(tmp_path: Path) -> dict:
    """Two maps of five objects. Faults: unsnapped are objects 1 of both, misplaced is object 4 of the first."""
    one, two = tmp_path / "one" / "a.osu", tmp_path / "two" / "b.osu"
    maps = [
        found_in(one, [1, 9, 2, 8, 7], [0, 5, 3, 1.5, 0]),
        found_in(two, [0, 0.5, 6, -np.inf, 0.1], [0, 4, 0, 0, 0]),
    ]
    faults = [
        PlantedFault(one.resolve(), 1, "unsnapped"),
        PlantedFault(one.resolve(), 4, "misplaced"),
        PlantedFault(two.resolve(), 1, "unsnapped"),
        PlantedFault((tmp_path / "elsewhere.osu").resolve(), 0, "unsnapped"),
    ]
    return {(each.kind, each.detector): each for each in judge(maps, faults, resamples=20)}


def test_the_rule(judged: dict) -> None:
    # It flags objects 1 and 2 of the first map, and 1 of the second.
    rule = judged["all kinds", "snap rule of 2 ms, divisors of the editor"]
    assert (rule.faults, rule.objects, rule.flagged, rule.chance) == (3, 10, 3, 0.3)
    assert rule.precision.value == rule.recall.value == pytest.approx(2 / 3)
    # The ranking is 5, 4 (both faulty), 3, then seven equal ones with one fault among them.
    assert rule.average_precision.value == pytest.approx((1 + 1 + 3 / 10) / 3)
    by_kind = judged["unsnapped", "snap rule of 2 ms, divisors of the editor"]
    assert (by_kind.faults, by_kind.objects) == (2, 9)
    assert (by_kind.precision.value, by_kind.recall.value) == (pytest.approx(2 / 3), 1)
    assert judged["misplaced", "snap rule of 2 ms, divisors of the editor"].recall.value == 0


def test_the_model(judged: dict) -> None:
    # By score: 9 (fault), 8, 7 (fault), 6, 2, 1, 0.5 (fault), and so on.
    model = judged["all kinds", "model, excess"]
    assert model.average_precision.value == pytest.approx((1 + 2 / 3 + 3 / 7) / 3)
    assert (model.flagged, model.precision.value) == (3, pytest.approx(2 / 3))
    assert (model.flagged_by_rule, model.recall_as_rule.value) == (3, pytest.approx(2 / 3))
    alone = judged["misplaced", "model, excess"]  # the other faults are left out: 8, then 7
    assert alone.average_precision.value == 1 / 2
    assert (alone.flagged, alone.precision.value, alone.flagged_by_rule) == (1, 0, 1)


def test_aspects_alone(judged: dict) -> None:
    of_time, of_sound = (judged["all kinds", f"model, {name} alone"] for name in ("time", "hit sound"))
    assert of_time.average_precision == judged["all kinds", "model, excess"].average_precision
    assert of_sound.average_precision.value == pytest.approx(of_sound.chance)  # nothing is seen of it


def test_scores_are_deviations_within_a_map(judged: dict) -> None:
    # First map: mean 5.4, deviation 3.26, so 9 (fault) 1.10, 8 0.80, 7 (fault) 0.49, 2 -1.04, 1 -1.35. Second map, of
    # the four objects that are seen: mean 1.65, deviation 2.52, so 6 1.73, 0.5 (fault) -0.46, 0.1 -0.61, 0 -0.65.
    model = judged["all kinds", "model"]
    assert model.average_precision.value == pytest.approx((1 / 2 + 2 / 4 + 3 / 5) / 3)


def test_both_together(judged: dict) -> None:
    # What the rule flags by deviation: 1.10 (fault), -0.46 (fault), -1.04; then 1.73, 0.80, 0.49 (fault).
    both = judged["all kinds", "snap rule first, then model"]
    assert both.average_precision.value == pytest.approx((1 + 1 + 3 / 6) / 3)


def test_a_rule_that_flags_nothing(judged: dict) -> None:
    dense = judged["all kinds", "snap rule of 2 ms, divisors 1 to 16"]
    assert (dense.flagged, dense.recall.value) == (0, 0) and np.isnan(dense.precision.value)
    assert dense.average_precision.value == pytest.approx(dense.chance)


def test_intervals_resample_sets(judged: dict) -> None:
    # Each resample has one of the maps twice, or both.
    recall = judged["all kinds", "model, excess"].recall
    assert (recall.low, recall.high) == (0, 1)


def test_lists_of_faults(tmp_path: Path) -> None:
    file = tmp_path / "planted.jsonl"
    fault = {"file": "data/set/a.osu", "kind": "unsnapped", "object": 7, "time_ms": 1.0, "change": "+8 ms"}
    file.write_text(f"{json.dumps(fault)}\n\n", encoding="utf-8")
    assert read_planted(file) == [PlantedFault(tmp_path.resolve() / "data/set/a.osu", 7, "unsnapped")]
    for wrong in ('{"file": 1, "object": 2, "kind": "a"}', "[]", "no JSON", "[" * 100_000):
        file.write_text(f"{json.dumps(fault)}\n{wrong}\n", encoding="utf-8")
        with pytest.raises(FormatError, match=r":2: is not a planted fault|planted"):
            read_planted(file)
    file.write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="no planted faults"):
        read_planted(file)


def test_faults_of_other_maps_and_objects_that_are_not_there(tmp_path: Path) -> None:
    maps = [found_in(tmp_path / "a.osu", [1, 2], [0, 0])]
    with pytest.raises(InputError, match="none of the maps"):
        judge(maps, [PlantedFault((tmp_path / "b.osu").resolve(), 0, "x")])
    with pytest.raises(InputError, match="object 2, and there are 2"):
        judge(maps, [PlantedFault((tmp_path / "a.osu").resolve(), 2, "x")])
