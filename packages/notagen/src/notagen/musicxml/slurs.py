"""Slurs of a MusicXML part: which starts and ends belong together, and which of them ABC can express.

In ABC, slurs are brackets within a voice. The signs of a slur from one voice to another are left over there, and are
paired by :func:`notagen.score.slurs.pair_between_layers`; where that would not give the slur again, it is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from notagen.musicxml.measures import GraceChord, XmlEvent, XmlMeasure
from notagen.musicxml.values import Time
from notagen.score.losses import lost
from notagen.score.slurs import NOTE, Moment, SlurPlace, SlurStack, pair_between_layers

if TYPE_CHECKING:
    from notagen.musicxml.voices import XmlVoice

#: Voice, and place in it.
VoicePlace = tuple[int, SlurPlace]

_MAX_ATTEMPTS = 8
_WITHOUT_END = "slur without a start or end"


@dataclass(frozen=True, eq=False, slots=True)
class XmlSlur:
    """A slur, from a note or grace note to another one."""

    start: XmlEvent | GraceChord
    end: XmlEvent | GraceChord
    dotted: bool


@dataclass(frozen=True, slots=True)
class _Sign:
    """A start or an end that waits for the other one."""

    voice: str
    onset: Time
    note: XmlEvent | GraceChord
    dotted: bool = False


def match_slurs(measures: Sequence[XmlMeasure]) -> list[XmlSlur]:
    """Match the starts and ends of a part by their numbers, in the order of the file.

    An end belongs to the newest open start in its own voice, or else in another one, which may come later in the same
    measure of the file. Those without a counterpart are counted as lost.
    """
    slurs: list[XmlSlur] = []
    opened: dict[str, list[_Sign]] = {}
    for measure in measures:
        ends: dict[str, list[_Sign]] = {}  # whose starts may come later in the file
        for voice, onset, note in _notes(measure):
            for number in note.slur_stops:
                sign = _Sign(voice, onset, note)
                if start := _taken(opened.get(number, []), sign):
                    slurs.append(XmlSlur(start.note, note, start.dotted))
                else:
                    ends.setdefault(number, []).append(sign)
            for number, dotted in note.slur_starts:
                sign = _Sign(voice, onset, note, dotted)
                later = [end for end in ends.get(number, ()) if end.voice != voice and end.onset > onset]
                if later:
                    ends[number].remove(later[0])
                    slurs.append(XmlSlur(note, later[0].note, dotted))
                    continue
                others = [start for start in opened.get(number, ()) if start.voice != voice]
                lost(_WITHOUT_END, len(opened.get(number, ())) - len(others))
                opened[number] = [*others, sign]
        lost(_WITHOUT_END, sum(map(len, ends.values())))
    lost(_WITHOUT_END, sum(map(len, opened.values())))
    return slurs


def _notes(measure: XmlMeasure) -> Iterator[tuple[str, Time, XmlEvent | GraceChord]]:
    """Yield voice, onset and object of the notes and grace notes, in the order of the file."""
    for voice, _, event in measure.events:
        yield from ((voice, event.onset, chord) for chord in event.grace)
        yield voice, event.onset, event
    for voice, _, grace in measure.late_grace:
        onset = max((event.end for _, _, event in measure.events), default=0)
        yield from ((voice, onset, chord) for chord in grace)


def _taken(opened: list[_Sign], end: _Sign) -> _Sign | None:
    """Take the start of an end from the open ones: the newest of its voice, or else of another one."""
    fitting = [start for start in opened if start.note is not end.note]
    start = next((start for start in reversed(fitting) if start.voice == end.voice), None)
    start = start or (fitting[-1] if fitting else None)
    if start:
        opened.remove(start)
    return start


def mark_slurs(slurs: Sequence[XmlSlur], voices: Sequence[XmlVoice]) -> None:
    """Give the notes of a part the slur signs of ABC.

    Slurs from one voice to another of which ABC readers would not find the ends are counted as lost.
    """
    places = _places(voices)
    slurs = [slur for slur in slurs if id(slur.start) in places and id(slur.end) in places]
    for attempt in range(_MAX_ATTEMPTS + 1):
        between = {slur: (places[id(slur.start)], places[id(slur.end)]) for slur in slurs}
        between = {slur: ends for slur, ends in between.items() if ends[0][0] != ends[1][0]}
        found = _understood(slurs, places, voices) if between and attempt < _MAX_ATTEMPTS else set()
        missed = {slur for slur, ends in between.items() if ends not in found}
        if not missed:
            break
        lost("slur from one voice to another", len(missed))
        slurs = [slur for slur in slurs if slur not in missed]
    for slur in slurs:
        (voice, start), end = places[id(slur.start)], places[id(slur.end)]
        signs = ".(" if slur.dotted else "("
        inside = end[0] == voice and end[1][:2] == start[:2] and end[1][2] != NOTE
        if isinstance(slur.start, GraceChord) and (start[2] or inside):
            slur.start.opened_inside += signs
        else:
            slur.start.opened += signs
        slur.end.closed += ")"


def _places(voices: Sequence[XmlVoice]) -> dict[int, VoicePlace]:
    """Return voice and place of each note and grace note, by its ``id``."""
    places: dict[int, VoicePlace] = {}
    for number, voice in enumerate(voices):
        for at, measure in enumerate(voice.measures):
            for index, event in enumerate(measure.events):
                places[id(event)] = number, (at, index, NOTE)
                for note, chord in enumerate(event.grace):
                    places[id(chord)] = number, (at, index, note)
            for note, chord in enumerate(measure.late_grace):
                places[id(chord)] = number, (at, len(measure.events), note)
    return places


def _understood(
    slurs: Sequence[XmlSlur], places: Mapping[int, VoicePlace], voices: Sequence[XmlVoice]
) -> set[tuple[VoicePlace, VoicePlace]]:
    """Return start and end of the slurs between voices that a reader of the signs finds."""
    signs: list[list[tuple[SlurPlace, bool]]] = [[] for _ in voices]
    for slur in slurs:
        for note, ends in ((slur.start, False), (slur.end, True)):
            voice, place = places[id(note)]
            signs[voice].append((place, ends))
    loose: tuple[list[tuple[Moment, int, VoicePlace]], ...] = [], []
    for number, (voice, of_voice) in enumerate(zip(voices, signs, strict=True)):
        stack = SlurStack()
        for place, ends in sorted(of_voice):
            if ends:
                stack.close(place)
            else:
                stack.opened.append((place, False))
        stack.finish()
        for found, at in zip(
            loose, ([start for start, _ in stack.loose_starts], stack.loose_ends), strict=True
        ):
            found += [(_moment(voice, place), number, (number, place)) for place in at]
    return set(pair_between_layers(*loose))


def _moment(voice: XmlVoice, place: SlurPlace) -> Moment:
    at, index, _ = place
    events = voice.measures[at].events
    return at, events[index].onset if index < len(events) else events[-1].end
