"""The events of one layer, with ties and slurs that continue beyond barlines."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace

from notagen.score.model import Event, Pitch, SlurEnd

MAX_SLURS = 16  # slurs of a layer that are open at the same time; MusicXML has no more numbers


@dataclass
class EventLine:
    """The events of one layer in the current measure, and the open ties and slurs.

    Attributes:
        events: Events of the current measure.
        last: The list with the newest event, and its index; None before the first.
        tied: Step and octave of each tied note of the newest event -> its alteration.
        slurs: Open slurs: list with the first event, its index, number, and whether it is dotted.
        opening: Slurs that start at the next event: whether each is dotted.
        loose: Ties of which the next event of the layer lacks the note: list with the event, its index, and the pitch.
    """

    events: list[Event] = field(default_factory=list)
    last: tuple[list[Event], int] | None = None
    tied: dict[tuple[str, int], int] = field(default_factory=dict)
    slurs: list[tuple[list[Event], int, int, bool]] = field(default_factory=list)
    opening: list[bool] = field(default_factory=list)
    loose: list[tuple[list[Event], int, Pitch]] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """Append an event, connect open ties to it, and start slurs at it."""
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
        self.loosen(stopped)
        self.events.append(replace(event, heads=heads))
        self.last = (self.events, len(self.events) - 1)
        for dotted in self.opening:
            used = {number for _, _, number, _ in self.slurs}
            number = next(number for number in range(1, MAX_SLURS + 2) if number not in used)
            if number <= MAX_SLURS:
                self.slurs.append((*self.last, number, dotted))
        self.opening = []

    def loosen(self, stopped: Container[tuple[str, int]] = ()) -> None:
        """End the open ties; those of notes other than ``stopped`` may go on in another voice."""
        if self.last:
            events, index = self.last
            self.loose += [
                (events, index, Pitch(step, alter, octave))
                for (step, octave), alter in self.tied.items()
                if (step, octave) not in stopped
            ]
        self.tied = {}

    def _ties(self, pitch: Pitch) -> bool:
        return self.tied.get((pitch.step, pitch.octave)) == pitch.alter

    def tie(self, tied: Sequence[bool] | None = None) -> None:
        """Tie the newest event to the next one: the notes for which ``tied`` is true; None: all."""
        if self.last:
            heads = self.last[0][self.last[1]].heads
            for head, tie in zip(heads, tied or [True] * len(heads), strict=True):
                if tie:
                    self.tied[head.pitch.step, head.pitch.octave] = head.pitch.alter

    def close_slur(self) -> None:
        """End the newest slur that did not start at the newest event."""
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
