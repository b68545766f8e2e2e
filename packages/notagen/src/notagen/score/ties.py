"""Ties that go on in another voice of the part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from notagen.score.event_line import EventLine
from notagen.score.events import OpenMeasure
from notagen.score.losses import lost
from notagen.score.model import Event, Pitch


def connect_ties(rows: Sequence[Sequence[OpenMeasure]], lines: Sequence[Sequence[EventLine]]) -> None:
    """Connect the ties of a part that its own voices could not connect: to a note of their pitch where they end.

    Ties without such a note are left out.

    Args:
        rows: The measures of each voice; their events are replaced.
        lines: The layers of each voice.
    """
    for voice in lines:
        for line in voice:
            line.loosen()
    loose = [tie for voice in lines for line in voice for tie in line.loose]
    if not loose:
        return
    measures = list(zip(*rows, strict=True))
    place = {
        id(events): index
        for index, row in enumerate(measures)
        for measure in row
        for events, _ in measure.layers
    }
    starts: dict[tuple[int, Fraction], list[tuple[list[Event], int]]] = {}
    for index, row in enumerate(measures):
        for measure in row:
            for events, _ in measure.layers:
                for number, event in enumerate(events):
                    starts.setdefault((index, event.onset), []).append((events, number))
    for events, number, pitch in loose:
        index, end = place[id(events)], events[number].end
        if end == max(measure.duration for measure in measures[index]):
            index, end = index + 1, Fraction(0)
        if not any(_stop(*candidate, pitch) for candidate in starts.get((index, end), ())):
            lost("tie without an end")
            continue
        heads = events[number].heads
        events[number] = replace(
            events[number],
            heads=tuple(replace(head, tie_start=True) if head.pitch == pitch else head for head in heads),
        )


def _stop(events: list[Event], number: int, pitch: Pitch) -> bool:
    """End a tie at the note of this pitch, in any spelling, that has none yet; return whether there is one."""
    heads = list(events[number].heads)
    for index, head in enumerate(heads):
        if head.pitch.semitones == pitch.semitones and not head.tie_stop:
            heads[index] = replace(head, tie_stop=True)
            events[number] = replace(events[number], heads=tuple(heads))
            return True
    return False
