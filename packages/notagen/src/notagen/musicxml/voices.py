"""Distributes the events of MusicXML parts over voices whose bars are filled without gaps or overlaps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from notagen.abc.accidentals import Alteration
from notagen.musicxml.document import MAX_BARS
from notagen.musicxml.measures import GraceChord, Tone, XmlChange, XmlEvent, XmlMark, XmlMeasure, XmlPart
from notagen.musicxml.slurs import mark_slurs, match_slurs
from notagen.musicxml.split_measures import join_split_measures
from notagen.musicxml.values import TICKS, Time, XmlMeter
from notagen.score.losses import lost
from notagen.score.model import Pitch
from pentatonic.errors import FormatError

MAX_LAYERS = 8
MAX_VOICES = 256

_ORDINARY_MEASURE = 4 * TICKS


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
    """One voice: the index of its part, its staff, its bars, and whether it is percussion."""

    part: int
    staff: int
    measures: list[VoiceMeasure]
    percussion: bool = False


_Stream = tuple[int, tuple[bool, int, str], int, bool]  # staff, voice in numerical order, layer, percussion


def build_voices(parts: Sequence[XmlPart]) -> list[XmlVoice]:
    """Distribute the events of all parts over voices, in the order of the score.

    A MusicXML voice that sounds on two staves at once becomes one voice per staff, and overlapping notes of a voice
    become voices of their own. Gaps become invisible rests.

    Args:
        parts: The parts, with the same number of measures; they are modified.

    Raises:
        FormatError: There are too many voices or bars, or too many notes overlap.
    """
    lengths = join_split_measures(parts, _measure_lengths(parts, _share_meters(parts)))
    voices: list[XmlVoice] = []
    slurs = [match_slurs(part.measures) for part in parts]
    for index, part in enumerate(parts):
        voices += _part_voices(index, part, lengths, room=MAX_VOICES - len(voices))
    for index in range(len(parts)):
        of_part = [voice for voice in voices if voice.part == index]
        _resolve_ties(of_part, lengths)
        mark_slurs(slurs[index], of_part)
    return voices


def _share_meters(parts: Sequence[XmlPart]) -> set[int]:
    """Give a new meter to all parts where only some declare it, because bars have one meter in ABC.

    Returns:
        Indices of the measures in which parts have meters of different lengths.
    """
    own: list[XmlMeter | None] = [None] * len(parts)
    local: set[int] = set()
    for index, row in enumerate(zip(*(part.measures for part in parts), strict=True)):
        own = [measure.new_meter or before for measure, before in zip(row, own, strict=True)]
        if len({meter.length for meter in own if meter}) > 1:
            local.add(index)
        meter = next((meter for measure in row if (meter := measure.new_meter)), None)
        for measure in row:
            if meter and measure.new_meter is None:
                measure.changes.insert(0, XmlChange(0, None, meter))
    return local


def _measure_lengths(parts: Sequence[XmlPart], local: Collection[int]) -> list[Time]:
    """Return the length of each measure: the end of its last note in any part, or else the length by the meter.

    Rests that fill a measure are given that length, but for the measures ``local``: there they count as notes, because
    they are as long as the meter of their part says.
    """
    lengths: list[Time] = []
    nominal: Time | None = None
    count = len(parts[0].measures)
    for index in range(count):
        measures = [part.measures[index] for part in parts]
        nominal = next((meter.length for measure in measures if (meter := measure.new_meter)), nominal)
        played, rests = 0, 0
        for measure in measures:
            alone = Counter(voice for voice, _, _ in measure.events)
            for voice, _, event in measure.events:
                event.fills_measure &= alone[voice] == 1 and index not in local
                if event.fills_measure:
                    rests = max(rests, event.end)
                else:
                    played = max(played, event.end)
        filled = max((measure.filled_to for measure in measures), default=0)
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
                    event.onset, event.length = 0, lengths[-1]
    return lengths


def _part_voices(index: int, part: XmlPart, lengths: Sequence[Time], *, room: int) -> list[XmlVoice]:
    split = _voices_on_two_staves(part.measures)
    home = _home_staves(part.measures)
    drums, mixed = _percussion(part.measures, split, home)
    streams: dict[_Stream, dict[int, list[XmlEvent]]] = {}
    for at, measure in enumerate(part.measures):
        ends: dict[_Stream, Time] = {}
        for voice, staff, event in sorted(measure.events, key=lambda item: item[2].onset):
            place = staff if voice in split else home[voice]
            drum = (place, voice) in drums or (event.unpitched and (place, voice) in mixed)
            if not drum:
                _drop_drums(event)
            for layer in range(MAX_LAYERS):
                stream = (place, _voice_order(voice), layer, drum)
                if ends.get(stream, 0) <= event.onset:
                    break
            else:
                raise FormatError(f"measure {at + 1}: more than {MAX_LAYERS} notes of one voice overlap")
            ends[stream] = event.end
            streams.setdefault(stream, {}).setdefault(at, []).append(event)
    kept = _kept_streams(streams, part)
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
        voices[stream] = XmlVoice(index, stream[0], measures, stream[3])
    for at, measure in enumerate(part.measures):
        _add_marks_and_changes(voices, leaders, measure, at)
    return list(voices.values())


def _percussion(
    measures: Iterable[XmlMeasure], split: set[str], home: Mapping[str, int]
) -> tuple[set[tuple[int, str]], set[tuple[int, str]]]:
    """Sort the voices, given by staff and name, that have notes without pitch.

    Returns:
        Those that are percussion, because all their notes are without pitch or because their staff has no clef but the
        one of percussion; and those that have notes of both kinds.
    """
    measures = list(measures)
    clefs: dict[int, set[str]] = {}
    for change in (change for measure in measures for change in measure.changes):
        if isinstance(change.value, str):
            clefs.setdefault(change.staff or 1, set()).add(change.value)
    kinds: dict[tuple[int, str], set[bool]] = {}
    for voice, staff, event in (item for measure in measures for item in measure.events):
        of_voice = kinds.setdefault((staff if voice in split else home[voice], voice), set())
        of_voice |= {event.unpitched} if event.tones else set()
    drums = {voice for voice, found in kinds.items() if found == {True} or clefs.get(voice[0]) == {"perc"}}
    return drums, {voice for voice, found in kinds.items() if len(found) == 2} - drums


def _drop_drums(event: XmlEvent) -> None:
    """Leave out the notes without pitch of a chord that has pitches too."""
    if event.tones and any(tone.unpitched for tone in event.tones):
        pitched = [tone for tone in event.tones if not tone.unpitched]
        lost("note without pitch in a chord", len(event.tones) - len(pitched))
        event.tones = pitched


def _voices_on_two_staves(measures: Iterable[XmlMeasure]) -> set[str]:
    """Return the voices that sound on several staves at once, where one number stands for a voice of each staff."""
    found: set[str] = set()
    for measure in measures:
        last: dict[str, tuple[int, Time]] = {}
        for voice, staff, event in sorted(measure.events, key=lambda item: item[2].onset):
            before, end = last.get(voice, (staff, 0))
            if staff != before and event.onset < end:
                found.add(voice)
            last[voice] = (staff, max(end, event.end))
    return found


def _home_staves(measures: Iterable[XmlMeasure]) -> dict[str, int]:
    """Return the staff on which each voice has most of its events."""
    counts: dict[str, Counter[int]] = {}
    for measure in measures:
        for voice, staff, event in measure.events:
            # Rests count only where there are no notes: what fills the gaps of a voice has no staff of its own.
            counts.setdefault(voice, Counter())[staff] += 1 << 20 if event.tones else 1
    return {voice: staves.most_common(1)[0][0] for voice, staves in counts.items()}


def _kept_streams(streams: dict[_Stream, dict[int, list[XmlEvent]]], part: XmlPart) -> list[_Stream]:
    """Return the streams with a note and, for each staff without one, its first stream or a new one."""
    sounding = {
        stream
        for stream, bars in streams.items()
        if any(event.tones for events in bars.values() for event in events)
    }
    for staff in range(1, part.staves + 1):
        if not any(stream[0] == staff for stream in sounding):
            own = [stream for stream in streams if stream[0] == staff]
            sounding.add(min(own, default=(staff, _voice_order("1"), 0, _drum_staff(part, staff))))
    return sorted(sounding)


def _drum_staff(part: XmlPart, staff: int) -> bool:
    changes = (change for measure in part.measures for change in measure.changes)
    clefs = {each.value for each in changes if isinstance(each.value, str) and each.staff in (None, staff)}
    return clefs == {"perc"}


def _voice_order(voice: str) -> tuple[bool, int, str]:
    number = voice.isascii() and voice.isdigit() and len(voice) < 10
    return (not number, int(voice) if number else 0, voice)


def _filled(events: Sequence[XmlEvent], length: Time, *, visible: bool) -> list[XmlEvent]:
    """Return the events with invisible rests in the gaps; a bar without events becomes one rest."""
    if not events:
        return [XmlEvent(0, length, hidden=not visible)]
    filled: list[XmlEvent] = []
    at = 0
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

    def place(staff: int, name: str | None) -> _Stream:
        named = [(staff, _voice_order(name or ""), 0, drum) for drum in (False, True)]
        return next((each for each in named if each in voices), leaders.get(staff, next(iter(voices))))

    for mark in measure.marks:
        stream = place(mark.staff, mark.voice)
        voices[stream].measures[at].marks.append(mark)
    for voice_name, staff, grace in measure.late_grace:
        stream = place(staff, voice_name)
        voices[stream].measures[at].late_grace += grace
    for change in measure.changes:
        for voice in voices.values():
            if change.staff in (None, voice.staff):
                voice.measures[at].changes.append(change)


def _resolve_ties(voices: Sequence[XmlVoice], lengths: Sequence[Time]) -> None:
    """Drop the ties of a part that no note of the same pitch ends, in any voice and spelling.

    A note ends a tie where the file says so; in a part that never does, any note may.
    """
    starts: set[tuple[int, Time, Alteration]] = set()
    ends: set[tuple[int, Time, Alteration]] = set()
    tied: list[tuple[int, Time, Tone]] = []
    for voice in voices:
        for index, measure in enumerate(voice.measures):
            for event in measure.events:
                for tone in event.tones:
                    place = (index, event.onset, _semitones(tone))
                    starts.add(place)
                    if tone.ends_tie:
                        ends.add(place)
                    if tone.tied:
                        inside = event.end < lengths[index]
                        tied.append((index, event.end, tone) if inside else (index + 1, 0, tone))
    for index, onset, tone in tied:
        tone.tied = (index, onset, _semitones(tone)) in (ends or starts)
        if not tone.tied:
            lost("tie without an end")


def _semitones(tone: Tone) -> Alteration:
    return Pitch(tone.letter, tone.alteration, tone.octave).semitones
