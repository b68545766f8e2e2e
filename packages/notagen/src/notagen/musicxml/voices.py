"""Distributes the events of MusicXML parts over voices whose bars are filled without gaps or overlaps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from notagen.musicxml.document import MAX_BARS
from notagen.musicxml.measures import GraceChord, Tone, XmlChange, XmlEvent, XmlMark, XmlMeasure, XmlPart
from notagen.musicxml.split_measures import join_split_measures
from pentatonic.errors import FormatError

MAX_LAYERS = 8
MAX_VOICES = 256

_ORDINARY_MEASURE = Fraction(4)
_ZERO = Fraction(0)


@dataclass(slots=True)
class VoiceMeasure:
    """One bar of a voice.

    Args:
        events: Events in order, without gaps or overlaps.
        marks: Marks at points in time, not attached to a note.
        changes: New keys, meters and clefs.
        late_grace: Grace notes after the last event.
    """

    events: list[XmlEvent]
    marks: list[XmlMark] = field(default_factory=list)
    changes: list[XmlChange] = field(default_factory=list)
    late_grace: list[GraceChord] = field(default_factory=list)


@dataclass(slots=True)
class XmlVoice:
    """One voice: the index of its part, its staff, and its bars."""

    part: int
    staff: int
    measures: list[VoiceMeasure]


_Stream = tuple[int, tuple[bool, int, str], int]  # staff, voice in numerical order, layer


def build_voices(parts: Sequence[XmlPart]) -> list[XmlVoice]:
    """Distribute the events of all parts over voices, in the order of the score.

    A MusicXML voice that sounds on two staves at once becomes one voice per staff, and overlapping notes of a voice
    become voices of their own. Gaps become invisible rests.

    Args:
        parts: The parts, with the same number of measures; they are modified.

    Raises:
        FormatError: There are too many voices or bars, or too many notes overlap.
    """
    lengths = join_split_measures(parts, _measure_lengths(parts))
    voices: list[XmlVoice] = []
    for index, part in enumerate(parts):
        voices += _part_voices(index, part, lengths, room=MAX_VOICES - len(voices))
    for voice in voices:
        _resolve_ties(voice)
        _resolve_slurs(voice)
    return voices


def _measure_lengths(parts: Sequence[XmlPart]) -> list[Fraction]:
    """Return the length of each measure: the end of its last note in any part, or else the length by the meter.

    Rests that fill a measure are given that length.
    """
    lengths: list[Fraction] = []
    nominal: Fraction | None = None
    count = len(parts[0].measures)
    for index in range(count):
        measures = [part.measures[index] for part in parts]
        nominal = next((meter.length for measure in measures if (meter := measure.new_meter)), nominal)
        played, rests = _ZERO, _ZERO
        for measure in measures:
            alone = Counter(voice for voice, _, _ in measure.events)
            for voice, _, event in measure.events:
                event.fills_measure &= alone[voice] == 1
                if event.fills_measure:
                    rests = max(rests, event.end)
                else:
                    played = max(played, event.end)
        filled = max((measure.filled_to for measure in measures), default=_ZERO)
        if played:
            # Empty time at the end belongs to the measure, except in the last one, which may complete a pick-up.
            if nominal is not None and index < count - 1:
                played = max(played, min(filled, nominal))
            lengths.append(played)
        else:
            known = [length for length in (rests or filled, nominal) if length]
            lengths.append(min(known, default=_ORDINARY_MEASURE))
        for measure in measures:
            for _, _, event in measure.events:
                if event.fills_measure:
                    event.onset, event.length = _ZERO, lengths[-1]
    return lengths


def _part_voices(index: int, part: XmlPart, lengths: Sequence[Fraction], *, room: int) -> list[XmlVoice]:
    split = _voices_on_two_staves(part.measures)
    home = _home_staves(part.measures)
    streams: dict[_Stream, dict[int, list[XmlEvent]]] = {}
    for at, measure in enumerate(part.measures):
        ends: dict[_Stream, Fraction] = {}
        for voice, staff, event in sorted(measure.events, key=lambda item: item[2].onset):
            place = staff if voice in split else home[voice]
            for layer in range(MAX_LAYERS):
                stream = (place, _voice_order(voice), layer)
                if ends.get(stream, _ZERO) <= event.onset:
                    break
            else:
                raise FormatError(f"measure {at + 1}: more than {MAX_LAYERS} notes of one voice overlap")
            ends[stream] = event.end
            streams.setdefault(stream, {}).setdefault(at, []).append(event)
    kept = _kept_streams(streams, part.staves)
    if len(kept) > room or (MAX_VOICES - room + len(kept)) * len(lengths) > MAX_BARS:
        raise FormatError(f"more than {MAX_VOICES} voices, or {MAX_BARS} bars in all voices")
    leaders = {stream[0]: stream for stream in reversed(kept)}
    busy = Counter((stream[0], at) for stream in kept for at in streams.get(stream, ()))
    voices: dict[_Stream, XmlVoice] = {}
    for stream in kept:
        leads = leaders[stream[0]] is stream
        bars = streams.get(stream, {})
        measures = [
            VoiceMeasure(_filled(bars.get(at, ()), length, visible=leads and not busy[stream[0], at]))
            for at, length in enumerate(lengths)
        ]
        voices[stream] = XmlVoice(index, stream[0], measures)
    for at, measure in enumerate(part.measures):
        _add_marks_and_changes(voices, leaders, measure, at)
    return list(voices.values())


def _voices_on_two_staves(measures: Iterable[XmlMeasure]) -> set[str]:
    """Return the voices that sound on several staves at once, where one number stands for a voice of each staff."""
    found: set[str] = set()
    for measure in measures:
        last: dict[str, tuple[int, Fraction]] = {}
        for voice, staff, event in sorted(measure.events, key=lambda item: item[2].onset):
            before, end = last.get(voice, (staff, _ZERO))
            if staff != before and event.onset < end:
                found.add(voice)
            last[voice] = (staff, max(end, event.end))
    return found


def _home_staves(measures: Iterable[XmlMeasure]) -> dict[str, int]:
    """Return the staff on which each voice has most of its events."""
    counts: dict[str, Counter[int]] = {}
    for measure in measures:
        for voice, staff, _ in measure.events:
            counts.setdefault(voice, Counter())[staff] += 1
    return {voice: staves.most_common(1)[0][0] for voice, staves in counts.items()}


def _kept_streams(streams: dict[_Stream, dict[int, list[XmlEvent]]], staves: int) -> list[_Stream]:
    """Return the streams with a note and, for each staff without one, its first stream or a new one."""
    sounding = {
        stream
        for stream, bars in streams.items()
        if any(event.tones for events in bars.values() for event in events)
    }
    for staff in range(1, staves + 1):
        if not any(stream[0] == staff for stream in sounding):
            own = [stream for stream in streams if stream[0] == staff]
            sounding.add(min(own, default=(staff, _voice_order("1"), 0)))
    return sorted(sounding)


def _voice_order(voice: str) -> tuple[bool, int, str]:
    number = voice.isascii() and voice.isdigit() and len(voice) < 10
    return (not number, int(voice) if number else 0, voice)


def _filled(events: Sequence[XmlEvent], length: Fraction, *, visible: bool) -> list[XmlEvent]:
    """Return the events with invisible rests in the gaps; a bar without events becomes one rest."""
    if not events:
        return [XmlEvent(_ZERO, length, hidden=not visible)]
    filled: list[XmlEvent] = []
    at = _ZERO
    for event in events:
        if event.onset > at:
            filled.append(XmlEvent(at, event.onset - at, hidden=True))
        filled.append(event)
        at = event.end
    if at < length:
        filled.append(XmlEvent(at, length - at, hidden=True))
    return filled


def _add_marks_and_changes(
    voices: dict[_Stream, XmlVoice], leaders: dict[int, _Stream], measure: XmlMeasure, at: int
) -> None:
    """Add the marks of a measure to the voice they name or else to the first of their staff, and changes to all."""
    for mark in measure.marks:
        named = (mark.staff, _voice_order(mark.voice or ""), 0)
        stream = named if named in voices else leaders.get(mark.staff, next(iter(voices)))
        voices[stream].measures[at].marks.append(mark)
    for voice_name, staff, grace in measure.late_grace:
        named = (staff, _voice_order(voice_name), 0)
        stream = named if named in voices else leaders.get(staff, next(iter(voices)))
        voices[stream].measures[at].late_grace += grace
    for change in measure.changes:
        for voice in voices.values():
            if change.staff in (None, voice.staff):
                voice.measures[at].changes.append(change)


def _resolve_ties(voice: XmlVoice) -> None:
    """Drop ties that are not followed directly by a note of the same pitch."""
    tied: list[Tone] = []
    for measure in voice.measures:
        for event in measure.events:
            pitches = {(tone.letter, tone.alteration, tone.octave) for tone in event.tones}
            for tone in tied:
                tone.tied = (tone.letter, tone.alteration, tone.octave) in pitches
            tied = [tone for tone in event.tones if tone.tied]
    for tone in tied:
        tone.tied = False


def _resolve_slurs(voice: XmlVoice) -> None:
    """Count the slurs whose start and end are both in this voice."""
    opened: dict[str, tuple[XmlEvent, int]] = {}
    index = 0
    for measure in voice.measures:
        for event in measure.events:
            index += 1
            for number in event.slur_stops:
                if number in opened and opened[number][1] < index:
                    opened.pop(number)[0].slurs_opened += 1
                    event.slurs_closed += 1
            for number in event.slur_starts:
                opened[number] = (event, index)
