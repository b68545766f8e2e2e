"""The knob: how alike outputs are to reference and prompt at several strengths, and whether the curve is monotone.

``knob.json`` of a run holds :meth:`DoseResponse.as_dict` of each item, by its id.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from pentatonic.errors import ConfigError, FormatError, UsageError
from pentatonic.statistics import DEFAULT_RESAMPLES, Estimate, mean_interval
from pentatonic.untrusted.config import Range, read_fields
from pentatonic.untrusted.files import shortened
from rc_audioldm.knob.likeness import Likeness, Reference, Sound

STRENGTHS = (0.0, 0.5, 1.0)
MEASURES = tuple(field.name for field in fields(Likeness))
FEWEST_FOR_INTERVAL = 5
"""With fewer items a bootstrap says nothing, so there are no intervals."""

_MOST_DOSES = 100
_SMALLEST_STEP = 1e-9

Shape = Literal["monotone", "not monotone", "no effect shown", "not measured"]


@dataclass(frozen=True)
class Dose:
    """What was measured at one strength; the measures are those of :class:`~rc_audioldm.knob.likeness.Likeness`."""

    strength: Annotated[float, Range(0, 1)]
    timbre: Annotated[float, Range(-1.001, 1.001)] | None = None
    melody: Annotated[float, Range(-1.001, 1.001)] | None = None
    melody_any_key: Annotated[float, Range(-1.001, 1.001)] | None = None
    clap_reference: Annotated[float, Range(-1.001, 1.001)] | None = None
    clap_prompt: Annotated[float, Range(-1.001, 1.001)] | None = None


@dataclass(frozen=True)
class DoseResponse:
    """The doses of an item, by rising strength."""

    item: str
    doses: tuple[Dose, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"item": self.item, "doses": [asdict(each) for each in self.doses]}

    @classmethod
    def from_dict(cls, values: object, where: str = "a record of the knob") -> Self:
        """Read what :meth:`as_dict` returns, as a stranger may have changed it.

        Raises:
            FormatError: A key is unknown or missing, a value is out of its range, or strengths do not rise.
        """
        if not isinstance(values, Mapping) or set(values) != {"item", "doses"}:
            raise FormatError(f"{where} is {shortened(values)}; allowed: an object with item and doses")
        doses = values["doses"]
        if not isinstance(doses, list | tuple) or not 0 < len(doses) <= _MOST_DOSES:
            raise FormatError(f"{where}: doses is {shortened(doses)}; allowed: 1 to {_MOST_DOSES} doses")
        try:
            found = tuple(read_fields(Dose, each, f"{where}: doses[{i}]") for i, each in enumerate(doses))
        except ConfigError as error:
            raise FormatError(str(error)) from error
        if any(one.strength >= other.strength for one, other in pairwise(found)):
            raise FormatError(f"{where}: its strengths do not rise")
        return cls(str(values["item"])[:200], found)


def dose_response(item: str, outputs: Mapping[float, Sound], reference: Reference) -> DoseResponse:
    """Measure an item at several strengths.

    Args:
        item: Its id.
        outputs: Strength -> output, all of the same noise; at best those of :data:`STRENGTHS`.
        reference: What they are compared with.

    Raises:
        UsageError: There are no outputs, or a strength is not from 0 to 1.
        AudioError: An output has no samples, or some that are not finite.
    """
    if not outputs or not all(0 <= strength <= 1 for strength in outputs):
        raise UsageError(f"strengths are {sorted(outputs)}; allowed: at least one, from 0 to 1")
    doses = [Dose(strength, **asdict(reference.compare(outputs[strength]))) for strength in sorted(outputs)]
    return DoseResponse(item, tuple(doses))


@dataclass(frozen=True)
class Curve:
    """A measure over the items of a run, at rising strengths.

    Args:
        measure: Its name.
        items: Items that have it at every strength.
        strengths: The strengths.
        means: At each strength; ends of intervals are NaN for fewer than five items.
        steps: Paired difference from each strength to the next.
        total: Paired difference from the first to the last.
        monotone_items: Share of the items whose own curve never turns.
        shape: What the curve is.
        verdict: The same in words, with the place where it turns.
    """

    measure: str
    items: int
    strengths: tuple[float, ...]
    means: tuple[Estimate, ...]
    steps: tuple[Estimate, ...]
    total: Estimate
    monotone_items: float
    shape: Shape
    verdict: str


def curves(
    records: Sequence[DoseResponse], *, resamples: int = DEFAULT_RESAMPLES, seed: int = 0
) -> list[Curve]:
    """Return the mean curve of each measure that was measured.

    The verdict is about the mean curve. It should rise with similarity to the reference, and may fall with that to the
    prompt; both are monotone. It is not where the mean turns back, however little; whether that is more than chance is
    said by the interval beside it.

    Args:
        records: Of the items, all with the same strengths.
        resamples: Of the bootstrap over items.
        seed: Of its draws.

    Raises:
        UsageError: There are no records, or their strengths differ.
    """
    strengths = {tuple(each.strength for each in record.doses) for record in records}
    if len(strengths) != 1:
        raise UsageError(f"items have {len(strengths)} different lists of strengths; needed: one for all")
    (doses,) = strengths
    found = []
    for measure in MEASURES:
        table = np.array(
            [[_number(getattr(dose, measure)) for dose in record.doses] for record in records], np.float64
        )
        table = table[~np.isnan(table).any(axis=1)]
        if len(table):
            found.append(_curve(measure, doses, table, resamples, seed))
    return found


def _curve(
    measure: str, strengths: tuple[float, ...], table: NDArray[np.float64], resamples: int, seed: int
) -> Curve:
    groups = np.arange(len(table))

    def estimate(values: NDArray[np.float64]) -> Estimate:
        if len(values) < FEWEST_FOR_INTERVAL:
            return Estimate(float(values.mean()), math.nan, math.nan)
        return mean_interval(values, groups, resamples=resamples, seed=seed)

    changes = np.diff(table, axis=1)
    steps = tuple(estimate(column) for column in changes.T)
    total = estimate(table[:, -1] - table[:, 0])
    turns = (changes > _SMALLEST_STEP).any(axis=1) & (changes < -_SMALLEST_STEP).any(axis=1)
    shape, verdict = _verdict(strengths, steps, total, len(table))
    return Curve(
        measure,
        len(table),
        strengths,
        tuple(estimate(column) for column in table.T),
        steps,
        total,
        float(1 - turns.mean()),
        shape,
        verdict,
    )


def _verdict(
    strengths: Sequence[float], steps: Sequence[Estimate], total: Estimate, items: int
) -> tuple[Shape, str]:
    if not steps:
        return "not measured", "one strength only, so there is no curve"
    known = not math.isnan(total.low)
    sure = "" if known else f", by {items} item{'s' if items > 1 else ''}, too few for an interval"
    direction = "rises" if total.value > 0 else "falls"
    against = [
        f"{'falls' if step.value < 0 else 'rises'} from strength {low:g} to {high:g} by {_size(step)}"
        for (low, high), step in zip(pairwise(strengths), steps, strict=True)
        if step.value * math.copysign(1, total.value) < -_SMALLEST_STEP
    ]
    if against:
        rest = f"; in all it {direction} by {_size(total)}" if abs(total.value) > _SMALLEST_STEP else ""
        return "not monotone", f"not monotone: {' and '.join(against)}{rest}{sure}"
    flat = total.low <= 0 <= total.high if known else abs(total.value) <= _SMALLEST_STEP
    if flat:
        return "no effect shown", f"no effect shown: it changes by {total}, which may be none{sure}"
    return "monotone", f"monotone: {direction} by {_size(total)}{sure}"


def _size(change: Estimate) -> str:
    """The size of a change, with its interval in the same direction."""
    if math.isnan(change.low):
        return f"{abs(change.value):.3f}"
    return str(change if change.value >= 0 else Estimate(-change.value, -change.high, -change.low))


def _number(value: float | None) -> float:
    return math.nan if value is None else value
