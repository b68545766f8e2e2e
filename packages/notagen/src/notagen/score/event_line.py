"""The events of one layer, with ties and slurs that continue beyond barlines."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace

from notagen.abc.accidentals import Alteration
from notagen.score.model import Event, Pitch
from notagen.score.slurs import NOTE, SlurPlace, SlurStack


@dataclass
class EventLine:
    """The events of one layer in the current measure, and the open ties and slurs.

    Attributes:
        events: Events of the current measure.
        last: The list with the newest event, and its index; None before the first.
        tied: Step and octave of each tied note of the newest event -> its alteration.
        measure: Index of the current measure.
        slurs: The slurs so far.
        opening: Slurs that start at the next note or grace note: whether each is dotted.
        newest: Place of the newest note or grace note; None before the first.
        loose: Ties of which the next event of the layer lacks the note: list with the event, its index, and the pitch.
    """

    events: list[Event] = field(default_factory=list)
    last: tuple[list[Event], int] | None = None
    tied: dict[tuple[str, int], Alteration] = field(default_factory=dict)
    measure: int = 0
    slurs: SlurStack = field(default_factory=SlurStack)
    opening: list[bool] = field(default_factory=list)
    newest: SlurPlace | None = None
    loose: list[tuple[list[Event], int, Pitch]] = field(default_factory=list)

    def start_measure(self, measure: int) -> None:
        """Begin a measure."""
        self.events, self.measure = [], measure

    def add(self, event: Event) -> None:
        """Append an event, connect open ties to it, and start slurs at it."""
        stops = self._stopped([head.pitch for head in event.heads])
        heads = tuple(
            replace(head, tie_stop=True) if stop else head
            for head, stop in zip(event.heads, stops, strict=True)
        )
        stopped = {stop for stop in stops if stop}
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
        self._reach((self.measure, len(self.events) - 1, NOTE))

    def grace(self, index: int) -> None:
        """Start slurs at a grace note before the next event; ``index`` is its position among them."""
        self._reach((self.measure, len(self.events), index))

    def _reach(self, place: SlurPlace) -> None:
        self.newest = place
        self.slurs.opened += [(place, dotted) for dotted in self.opening]
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

    def _stopped(self, pitches: Sequence[Pitch]) -> list[tuple[str, int] | None]:
        """Return for each pitch step and octave of the note that is tied to it; None where there is none.

        A note may be spelled otherwise after the tie, unless the next event has it in the same spelling too.
        """
        exact = {
            (pitch.step, pitch.octave)
            for pitch in pitches
            if self.tied.get((pitch.step, pitch.octave)) == pitch.alter
        }
        others = {
            Pitch(place[0], alter, place[1]).semitones: place
            for place, alter in self.tied.items()
            if place not in exact
        }
        return [
            place if (place := (pitch.step, pitch.octave)) in exact else others.get(pitch.semitones)
            for pitch in pitches
        ]

    def tie(self, tied: Sequence[bool] | None = None) -> None:
        """Tie the newest event to the next one: the notes for which ``tied`` is true; None: all."""
        if self.last:
            heads = self.last[0][self.last[1]].heads
            for head, tie in zip(heads, tied or [True] * len(heads), strict=True):
                if tie:
                    self.tied[head.pitch.step, head.pitch.octave] = head.pitch.alter

    def close_slur(self) -> None:
        """End the newest slur that did not start at the newest note."""
        if self.opening:
            self.opening.pop()
        elif self.newest:
            self.slurs.close(self.newest)
