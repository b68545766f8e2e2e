"""Meters of bars that are not as long as their time signature says."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from notagen.musicxml.measures import XmlChange
from notagen.musicxml.values import TICKS, Time, XmlMeter
from notagen.musicxml.voices import XmlVoice
from notagen.notation.validation import allows_other_length
from notagen.score.losses import lost

_MAX_UNIT = 64
_MAX_BEATS = 999


def fit_meters(voices: Sequence[XmlVoice], barlines: Sequence[str]) -> None:
    """Give the bars whose length differs from the meter one of their own, so that the bars of the ABC add up.

    Scores have such bars where a signature is hidden, as in cadenzas, or where staves have different ones. The first
    and last bar keep their meter, as do bars next to signs that allow another length. Each bar with a meter of its own
    is counted as lost.

    Args:
        voices: All voices, whose bars have the same lengths; their changes are replaced.
        barlines: The barline before the first bar and after each bar.
    """
    count = len(voices[0].measures)
    stated = written = XmlMeter("none", None)
    for index in range(count):
        measure = voices[0].measures[index]
        changes = [change for change in measure.changes if isinstance(change.value, XmlMeter)]
        for change in changes:
            if not change.onset and isinstance(change.value, XmlMeter):
                stated = change.value
        length = measure.events[-1].end
        meter = stated
        inside = 0 < index < count - 1 and not any(change.onset for change in changes)
        if inside and stated.length not in (None, length):
            around = barlines[index], barlines[index + 1]
            if not allows_other_length(around, shorter=length < (stated.length or 0)):
                meter = written if written.length == length else _meter_of(length) or stated
        if meter != stated:
            lost("bar of another length than its time signature says: it has one of its own")
        declared = any(not change.onset for change in changes)
        if meter != stated or (written != stated and not declared):
            _set_meter(voices, index, meter)
        written = meter
        for change in changes:
            if change.onset and isinstance(change.value, XmlMeter):
                stated = written = change.value


def _meter_of(length: Time) -> XmlMeter | None:
    """Return a meter for a length, in quarters or shorter notes; None where there is none."""
    whole = Fraction(length, 4 * TICKS)
    unit = max(whole.denominator, 4)
    if unit & (unit - 1) or unit > _MAX_UNIT or whole * unit > _MAX_BEATS:
        return None
    return XmlMeter(f"{whole * unit}/{unit}", length)


def _set_meter(voices: Sequence[XmlVoice], index: int, meter: XmlMeter) -> None:
    for voice in voices:
        measure = voice.measures[index]
        others = [each for each in measure.changes if each.onset or not isinstance(each.value, XmlMeter)]
        measure.changes = [XmlChange(0, None, meter), *others]
