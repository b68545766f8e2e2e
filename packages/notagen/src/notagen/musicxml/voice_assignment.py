"""Which voices a part writes in a measure, and under which numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from notagen.musicxml.writer_marks import Place
from notagen.score import Layer, Measure, Part, Voice


@dataclass(frozen=True)
class LayerSlot:
    """A layer of a voice in a measure of the part.

    Args:
        voice: The voice.
        index: Of the measure.
        layer_index: Of the layer.
        place: The staff, and the number under which the layer is written.
    """

    voice: Voice
    index: int
    layer_index: int
    place: Place

    @property
    def measure(self) -> Measure:
        """The measure of the voice."""
        return self.voice.measures[self.index]

    @property
    def layer(self) -> Layer:
        """The layer of the measure."""
        return self.measure.layers[self.layer_index]

    @property
    def empty(self) -> bool:
        """Whether there is nothing at all."""
        return not self.layer.events and not self.layer.trailing

    @property
    def silent(self) -> bool:
        """Whether there is at most a rest as long as the bar, without any sign."""
        if self.empty:
            return True
        signs = self.layer.trailing or any(event.marks for event in self.layer.events)
        return not signs and is_measure_rest(self.layer, self.measure)

    @property
    def blank(self) -> bool:
        """Whether it is silent, and its rest is not drawn."""
        return self.silent and all(event.invisible for event in self.layer.events)


class VoiceAssignment:
    """The voices of a part on its staves.

    Args:
        part: The part.
        voices: The voices of the score by name.
    """

    def __init__(self, part: Part, voices: Mapping[str, Voice]) -> None:
        self.voices = [voices[name] for name in part.voices]
        self.staves = {name: number for number, names in enumerate(part.staves, 1) for name in names}
        self.several_staves = len(part.staves) > 1
        self.overlays: dict[tuple[str, int], int] = {}  # voice and layer -> number of a voice of the part

    def slots(self, index: int) -> list[LayerSlot]:
        """Return what is written in a measure, in order.

        Left out are bar-long rests that are invisible, where the part has other voices, and those that are alone on a
        lower staff; of a measure in which nothing is left the first voice is written.
        """
        slots = list(self._all(index))
        several = len(self.voices) > 1
        kept = [slot for slot in slots if not (slot.empty or (several and slot.blank))]
        on_staff = Counter(slot.place.staff for slot in kept)
        kept = [
            slot
            for slot in kept
            if slot.place.staff in (None, 1) or on_staff[slot.place.staff] > 1 or not slot.silent
        ]
        return kept or slots[:1]

    def _all(self, index: int) -> Iterator[LayerSlot]:
        overlays: list[LayerSlot] = []
        for number, voice in enumerate(self.voices, 1):
            staff = self.staves[voice.name] if self.several_staves else None
            yield LayerSlot(voice, index, 0, Place(number, staff, voice.percussion))
            for layer in range(1, len(voice.measures[index].layers)):
                own = self.overlays.setdefault((voice.name, layer), len(self.voices) + len(self.overlays) + 1)
                overlays.append(LayerSlot(voice, index, layer, Place(own, staff, voice.percussion)))
        yield from overlays


def is_measure_rest(layer: Layer, measure: Measure) -> bool:
    """Whether a layer is one rest that fills the bar; in free meter, one rest of any length."""
    if len(layer.events) != 1 or not layer.events[0].rest:
        return False
    return measure.nominal_duration in (None, layer.duration)
