"""The curve of the knob: what rises, what turns, and what is said about it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from pentatonic.errors import FormatError, UsageError
from rc_audioldm.knob.dose_response import Curve, Dose, DoseResponse, curves, dose_response
from rc_audioldm.knob.likeness import Reference, Sound

RATE = 16_000
Play = Callable[..., np.ndarray]


def record(item: str, values: Sequence[float | None], measure: str = "timbre") -> DoseResponse:
    doses = [Dose(strength, **{measure: value}) for strength, value in zip((0, 0.5, 1), values, strict=True)]
    return DoseResponse(item, tuple(doses))


def only(records: Sequence[DoseResponse]) -> Curve:
    (curve,) = curves(records)
    return curve


def items(shape: Sequence[float], spread: float = 0.05, count: int = 20) -> list[DoseResponse]:
    rng = np.random.default_rng(0)
    return [record(str(i), (np.array(shape) + rng.normal(0, spread, 3)).tolist()) for i in range(count)]


def test_a_mix_of_output_and_reference_is_more_like_it_the_more_of_it_there_is(play: Play) -> None:
    prompt, style = play("flute", 1), play("reed")
    outputs = {s: Sound((1 - s) * prompt + s * style, RATE) for s in (1.0, 0.0, 0.5)}
    found = dose_response("a", outputs, Reference([Sound(style, RATE)]))
    assert [each.strength for each in found.doses] == [0, 0.5, 1]
    assert found.doses[2].timbre == pytest.approx(1) and found.doses[2].melody == pytest.approx(1)
    by_measure = {curve.measure: curve for curve in curves([found])}
    assert set(by_measure) == {"timbre", "melody", "melody_any_key"}
    timbre = by_measure["timbre"]
    assert timbre.shape == "monotone" and timbre.items == 1
    assert timbre.verdict.startswith("monotone: rises by 0.") and "1 item, too few" in timbre.verdict
    assert DoseResponse.from_dict(found.as_dict()) == found


@pytest.mark.parametrize(
    ("shape", "expected", "words"),
    [
        ((0.2, 0.4, 0.6), "monotone", "monotone: rises by 0."),
        ((0.6, 0.4, 0.2), "monotone", "monotone: falls by 0."),
        ((0.2, 0.6, 0.4), "not monotone", "falls from strength 0.5 to 1 by 0."),
        ((0.4, 0.2, 0.6), "not monotone", "falls from strength 0 to 0.5 by 0."),
        ((0.6, 0.2, 0.4), "not monotone", "rises from strength 0.5 to 1 by 0."),
    ],
)
def test_the_verdict_names_where_a_curve_turns(shape: Sequence[float], expected: str, words: str) -> None:
    curve = only(items(shape))
    assert curve.shape == expected and words in curve.verdict
    assert all(mean.low < mean.value < mean.high for mean in curve.means)
    assert [mean.value for mean in curve.means] == pytest.approx(shape, abs=0.05)
    assert curve.total.value == pytest.approx(sum(step.value for step in curve.steps))


def test_a_change_that_may_be_chance_is_no_effect() -> None:
    rng = np.random.default_rng(3)
    records = [record(str(i), np.sort(rng.normal(0.5, 0.1, 3)).tolist()) for i in range(3)]
    records += [record(str(i + 3), [-each + 1.01 for each in values_of(records[i])]) for i in range(3)]
    curve = only(records)
    assert curve.total.low < 0 < curve.total.high
    assert curve.shape in ("no effect shown", "not monotone")
    flat = only([record(str(i), (0.5, 0.5, 0.5)) for i in range(8)])
    assert flat.shape == "no effect shown" and flat.monotone_items == 1


def values_of(found: DoseResponse) -> list[float]:
    return [dose.timbre or 0.0 for dose in found.doses]


def test_few_items_have_no_interval_and_items_without_a_value_do_not_count() -> None:
    few = only([record("a", (0.1, 0.2, 0.3)), record("b", (0.3, 0.2, 0.1)), record("c", (None, 0.2, 0.9))])
    assert few.items == 2 and math.isnan(few.total.low) and few.monotone_items == 1
    assert few.shape == "no effect shown" and "2 items, too few" in few.verdict
    turning = only([record("a", (0.1, 0.5, 0.3))])
    assert turning.shape == "not monotone" and turning.monotone_items == 0


def test_records_of_other_strengths_are_not_mixed() -> None:
    with pytest.raises(UsageError, match="different lists"):
        curves([record("a", (0, 0, 0)), DoseResponse("b", (Dose(0.0, timbre=0.5),))])
    with pytest.raises(UsageError):
        curves([])
    assert only([DoseResponse("b", (Dose(0.0, timbre=0.5),))]).shape == "not measured"


@pytest.mark.parametrize("strengths", [(), (0.0, 1.5), (-0.5,)])
def test_strengths_out_of_range_are_refused(play: Play, strengths: Sequence[float]) -> None:
    sound = Sound(play("cello"), RATE)
    with pytest.raises(UsageError, match="from 0 to 1"):
        dose_response("a", dict.fromkeys(strengths, sound), Reference([sound]))


@pytest.mark.parametrize(
    "values",
    [
        [],
        {"item": "a"},
        {"item": "a", "doses": []},
        {"item": "a", "doses": [{"strength": 2}]},
        {"item": "a", "doses": [{"strength": 0, "timbre": "1"}]},
        {"item": "a", "doses": [{"strength": 0, "other": 1}]},
        {"item": "a", "doses": [{"strength": 0.5}, {"strength": 0.5}]},
        {"item": "a", "doses": [{"strength": 0.5}] * 101},
    ],
)
def test_records_of_strangers_are_bounded(values: Any) -> None:
    with pytest.raises(FormatError):
        DoseResponse.from_dict(values)
