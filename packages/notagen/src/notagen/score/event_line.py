"""A line of events, and the ties and slurs that join them over the barlines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from notagen.score.model import Event, Pitch, SlurEnd

MAX_SLURS = 16  # open at the same time, as MusicXML can number them


@dataclass
class EventLine:
    """The events of one layer, and what stays open from one measure to the next."""

    events: list[Event] = field(default_factory=list)
    last: tuple[list[Event], int] | None = None
    tied: dict[tuple[str, int], int] = field(default_factory=dict)  # place of a pitch -> its alteration
    slurs: list[tuple[list[Event], int, int, bool]] = field(default_factory=list)
    opening: list[bool] = field(default_factory=list)  # slurs before the next event: whether they are dotted

    def add(self, event: Event) -> None:
        """Append an event: ties lead to it, and slurs start at it."""
        heads = tuple(
            replace(head, tie_stop=True) if self._ties(head.pitch) else head for head in event.heads
        )
        stopped = {(head.pitch.step, head.pitch.octave) for head in heads if head.tie_stop}
        if stopped and self.last:
            events, index = self.last
            before = events[index]
            started = (
                replace(head, tie_start=True) if (head.pitch.step, head.pitch.octave) in stopped else head
                for head in before.heads
            )
            events[index] = replace(before, heads=tuple(started))
        self.tied = {}
        self.events.append(replace(event, heads=heads))
        self.last = (self.events, len(self.events) - 1)
        for dotted in self.opening:
            used = {number for _, _, number, _ in self.slurs}
            number = next(number for number in range(1, MAX_SLURS + 2) if number not in used)
            if number <= MAX_SLURS:
                self.slurs.append((*self.last, number, dotted))
        self.opening = []

    def _ties(self, pitch: Pitch) -> bool:
        return self.tied.get((pitch.step, pitch.octave)) == pitch.alter

    def tie(self, tied: Sequence[bool] | None = None) -> None:
        """Tie the last event to the next one: the notes for which ``tied`` holds, or all."""
        if self.last:
            heads = self.last[0][self.last[1]].heads
            for head, tie in zip(heads, tied or [True] * len(heads), strict=True):
                if tie:
                    self.tied[head.pitch.step, head.pitch.octave] = head.pitch.alter

    def close_slur(self) -> None:
        """End the last slur that did not start at the last event."""
        if self.opening:
            self.opening.pop()
            return
        if not self.slurs or self.last is None:
            return
        events, index = self.last
        open_before = [i for i, slur in enumerate(self.slurs) if slur[0] is not events or slur[1] != index]
        if not open_before:
            self.slurs.pop()
            return
        first, at, number, dotted = self.slurs.pop(open_before[-1])
        first[at] = replace(first[at], slurs=(*first[at].slurs, SlurEnd(number, True, dotted)))
        events[index] = replace(events[index], slurs=(*events[index].slurs, SlurEnd(number, False, dotted)))
