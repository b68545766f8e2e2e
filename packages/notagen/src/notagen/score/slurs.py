"""Slurs: which starts and ends belong together, in one layer or in two layers of a part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, TypeVar

from notagen.score.losses import lost
from notagen.score.model import Event, GraceNote, SlurEnd

if TYPE_CHECKING:
    from notagen.score.event_line import EventLine
    from notagen.score.events import OpenMeasure

MAX_SLURS = 16  # slurs of a part that are open at the same time; MusicXML has no more numbers
#: Measures that a slur between two layers may last; signs further apart do not belong together.
MAX_MEASURES_BETWEEN_LAYERS = 8

#: Position in a layer: indices of measure, event (one past the last for what follows it) and grace note or ``NOTE``.
SlurPlace = tuple[int, int, int]
#: Instead of the index of a grace note: the note itself.
NOTE = 1 << 30
#: Position in a part: index of a layer, and position in it.
PartPlace = tuple[int, SlurPlace]
#: Measure, and time since its start, in any unit.
Moment = tuple[int, int | Fraction]

T = TypeVar("T")


@dataclass
class SlurStack:
    """Pairs the slur signs of one layer as brackets: an end belongs to the newest open start before its note.

    Attributes:
        opened: Places of the open starts, and whether each slur is dotted.
        pairs: Places of start and end, and whether the slur is dotted.
        loose_starts: Starts that nothing in the layer ends.
        loose_ends: Ends that nothing in the layer starts.
    """

    opened: list[tuple[SlurPlace, bool]] = field(default_factory=list)
    pairs: list[tuple[SlurPlace, SlurPlace, bool]] = field(default_factory=list)
    loose_starts: list[tuple[SlurPlace, bool]] = field(default_factory=list)
    loose_ends: list[SlurPlace] = field(default_factory=list)

    def close(self, place: SlurPlace) -> None:
        """End a slur; a start at the same place is not its start, and the end may belong to another layer."""
        for index in range(len(self.opened) - 1, -1, -1):
            if self.opened[index][0] != place:
                start, dotted = self.opened.pop(index)
                self.pairs.append((start, place, dotted))
                return
        self.loose_ends.append(place)

    def finish(self) -> None:
        """Leave what is still open to other layers."""
        self.loose_starts += self.opened
        self.opened = []


def pair_between_layers(
    starts: Iterable[tuple[Moment, int, T]], ends: Iterable[tuple[Moment, int, T]]
) -> list[tuple[T, T]]:
    """Pair the loose starts and ends of a part: an end belongs to the newest start before it in another layer.

    Args:
        starts: Moment, layer and any value.
        ends: The same.

    Returns:
        Pairs of the values of a start and an end, in the order of the ends.
    """
    pending = sorted(starts, key=lambda item: item[0], reverse=True)
    opened: list[tuple[Moment, int, T]] = []
    pairs: list[tuple[T, T]] = []
    for moment, layer, value in sorted(ends, key=lambda item: item[0]):
        while pending and pending[-1][0] < moment:
            opened.append(pending.pop())
        opened = [start for start in opened if moment[0] - start[0][0] <= MAX_MEASURES_BETWEEN_LAYERS]
        fitting = [index for index, start in enumerate(opened) if start[1] != layer]
        if fitting:
            pairs.append((opened.pop(fitting[-1])[2], value))
    return pairs


def connect_slurs(rows: Sequence[list[OpenMeasure]], lines: Sequence[Sequence[EventLine]]) -> None:
    """Write the slurs of a part to its events; signs without a counterpart are left out.

    Args:
        rows: The measures of each voice; their events are replaced.
        lines: The layers of each voice.
    """
    # In the order of a MusicXML measure: the first layers of all voices, then the others.
    layers = [(layer, voice) for voice, of_voice in enumerate(lines) for layer in range(len(of_voice))]
    layers = [(voice, layer) for layer, voice in sorted(layers, key=lambda item: (item[0] > 0, item[1]))]
    stacks = [lines[voice][layer].slurs for voice, layer in layers]
    slurs: list[tuple[PartPlace, PartPlace, bool]] = []
    starts: list[tuple[Moment, int, tuple[PartPlace, bool]]] = []
    ends: list[tuple[Moment, int, tuple[PartPlace, bool]]] = []
    for number, stack in enumerate(stacks):
        stack.finish()
        voice, layer = layers[number]
        slurs += [((number, start), (number, end), dotted) for start, end, dotted in stack.pairs]
        for place, dotted in stack.loose_starts:
            starts.append((_moment(rows[voice], layer, place), number, ((number, place), dotted)))
        for place in stack.loose_ends:
            ends.append((_moment(rows[voice], layer, place), number, ((number, place), False)))
    between = pair_between_layers(starts, ends)
    slurs += [(start, end, dotted) for (start, dotted), (end, _) in between]
    lost("slur without a start or end", len(starts) + len(ends) - 2 * len(between))
    found: dict[PartPlace, list[SlurEnd]] = {}
    for (start, end, dotted), number in _numbered(slurs):
        found.setdefault(start, []).append(SlurEnd(number, True, dotted))
        found.setdefault(end, []).append(SlurEnd(number, False, dotted))
    for (number, place), signs in found.items():
        voice, layer = layers[number]
        _write(rows[voice], layer, place, tuple(signs))


def _moment(row: Sequence[OpenMeasure], layer: int, place: SlurPlace) -> Moment:
    measure, event, _ = place
    events = row[measure].layers[layer][0]
    return measure, events[event].onset if event < len(events) else row[measure].duration


def _numbered(
    slurs: Iterable[tuple[PartPlace, PartPlace, bool]],
) -> Iterator[tuple[tuple[PartPlace, PartPlace, bool], int]]:
    """Yield the slurs with numbers of which none is used twice at the same time, in the order of the file."""

    def position(place: PartPlace) -> tuple[int, int, int, int]:
        layer, (measure, event, note) = place
        return measure, layer, event, note

    spans = [(*sorted((position(slur[0]), position(slur[1]))), slur) for slur in slurs]
    used: dict[int, tuple[int, int, int, int]] = {}  # number -> end of its last slur
    for first, last, slur in sorted(spans, key=lambda span: span[:2]):
        free = [number for number in range(1, MAX_SLURS + 1) if number not in used or used[number] < first]
        if not free:
            lost(f"slur beyond {MAX_SLURS} at the same time")
            continue
        # Best a number that no other layer has in this measure, for programs that read the voices together.
        number = min(free, key=lambda number: (number in used and _shared(used[number], first), number))
        used[number] = last
        yield slur, number


def _shared(end: tuple[int, int, int, int], start: tuple[int, int, int, int]) -> bool:
    return end[0] == start[0] and end[1] != start[1]


def _write(row: list[OpenMeasure], layer: int, place: SlurPlace, signs: tuple[SlurEnd, ...]) -> None:
    measure, index, note = place
    events, trailing = row[measure].layers[layer]
    if index < len(events) and note == NOTE:
        events[index] = replace(events[index], slurs=signs)
    elif index < len(events):
        events[index] = _with_grace(events[index], note, signs)
    else:
        layers = list(row[measure].layers)
        layers[layer] = events, replace(trailing, grace=_marked(trailing.grace, note, signs))
        row[measure] = replace(row[measure], layers=tuple(layers))


def _with_grace(event: Event, note: int, signs: tuple[SlurEnd, ...]) -> Event:
    return replace(event, marks=replace(event.marks, grace=_marked(event.marks.grace, note, signs)))


def _marked(grace: Sequence[GraceNote], note: int, signs: tuple[SlurEnd, ...]) -> tuple[GraceNote, ...]:
    return tuple(replace(each, slurs=signs) if index == note else each for index, each in enumerate(grace))
