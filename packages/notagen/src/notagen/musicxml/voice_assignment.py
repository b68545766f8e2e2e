"""Assigns MusicXML voice numbers and staves to the voices of a part, and selects what each measure has to write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from notagen.musicxml.writer_marks import Place
from notagen.score import Layer, Measure, Part, Voice


@dataclass(frozen=True)
class LayerSlot:
    """One layer of one voice in one measure, with its staff and voice number.

    Args:
        voice: The voice.
        index: Index of the measure.
        layer_index: Index of the layer in the measure.
        place: Staff and voice number in the part.
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
        """Whether the layer has neither events nor trailing marks."""
        return not self.layer.events and not self.layer.trailing

    @property
    def silent(self) -> bool:
        """Whether the layer is empty, or only a rest as long as the bar without any marks."""
        if self.empty:
            return True
        signs = self.layer.trailing or any(event.marks for event in self.layer.events)
        return not signs and is_measure_rest(self.layer, self.measure)

    @property
    def blank(self) -> bool:
        """Whether the layer is silent and its rest, if any, is invisible."""
        return self.silent and all(event.invisible for event in self.layer.events)


class VoiceAssignment:
    """Staves and voice numbers of the voices of a part.

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
        """Return the layers that a measure has to write, in order.

        Bar-long rests are left out if they are invisible and the part has other voices, or if nothing else is on their
        staff and it is not the first one. If nothing is left, the first voice is written.
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
