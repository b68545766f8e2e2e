"""The content of MIDI files: one track per voice, with tempi, time and key signatures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction

# The types behind `symusic.Score` and so on, which are functions without types.
from symusic.core import (
    ControlChangeTick,
    KeySignatureTick,
    NoteTick,
    PitchBendTick,
    ScoreTick,
    TempoTick,
    TimeSignatureTick,
    TrackTick,
)

from notagen.score.losses import lost
from notagen.sound.performance import Performance, PlayedNote, Track

TICKS_PER_QUARTER = 480

_MAX_MICROSECONDS = (1 << 24) - 1  # longest quarter note
_MAX_SHARPS = 7
_MAX_BEATS = 255
_CHANNELS = 15  # that tracks have for themselves; the one of the drums stays free
_BEND_RANGE = 2  # semitones
_LARGEST_BEND = 1 << 13


def midi_bytes(performance: Performance) -> bytes:
    """Return a piece as the content of a MIDI file; repeats and endings are played out.

    Time signatures whose unit is not a power of 2, and keys of more than seven signs, are left out, because MIDI does
    not have them. If there are more than 15 voices, some share a channel.

    The quarter tones of a voice have a track and a channel of their own, for each of their two directions, which is
    bent throughout: by 50 cents, in a bend range of two semitones that is set first. Of more than 15 tracks together,
    those with the most notes have one; the others go to the natural, which is counted
    (:mod:`notagen.score.losses`).
    """
    score = ScoreTick(TICKS_PER_QUARTER)
    for position, whole_note_s in performance.tempi:
        microseconds = min(max(round(whole_note_s / 4 * 1e6), 1), _MAX_MICROSECONDS)
        score.tempos.append(TempoTick(_ticks(position), mspq=microseconds))
    for position, meter in performance.meters:
        if meter and meter.beats <= _MAX_BEATS and meter.unit.bit_count() == 1:
            score.time_signatures.append(TimeSignatureTick(_ticks(position), meter.beats, meter.unit))
    for position, key in performance.keys:
        if key.tonic and abs(key.fifths) <= _MAX_SHARPS:
            minor = key.mode in ("min", "aeo")
            score.key_signatures.append(KeySignatureTick(_ticks(position), key.fifths, int(minor)))
    bent = _bent(performance.tracks)
    for track in performance.tracks:
        notes = (note for note in track.notes if (track.voice, note.cents) not in bent)
        score.tracks.append(_track(track, _name(track), notes))
    voices = {track.voice: track for track in performance.tracks}
    for voice, cents in bent:
        track = voices[voice]
        notes = (note for note in track.notes if note.cents == cents)
        written = _track(track, f"{_name(track)} ({cents:+d} cents)", notes)
        # The registered parameter 0 is the bend range, in semitones and cents; the last two values close it.
        for control, value in ((101, 0), (100, 0), (6, _BEND_RANGE), (38, 0), (101, 127), (100, 127)):
            written.controls.append(ControlChangeTick(0, control, value))
        written.pitch_bends.append(PitchBendTick(0, cents * _LARGEST_BEND // (100 * _BEND_RANGE)))
        score.tracks.append(written)
    return score.dumps_midi()


def _bent(tracks: Sequence[Track]) -> list[tuple[str, int]]:
    """Return the voices with quarter tones and their cents, as many as there are channels left; count the others."""
    wanted = Counter((track.voice, note.cents) for track in tracks for note in track.notes if note.cents)
    found = [each for each, _ in wanted.most_common()]
    room = max(_CHANNELS - len(tracks), 0)
    lost("quarter tone in MIDI, for which no channel is left", sum(wanted[each] for each in found[room:]))
    return sorted(found[:room], key=list(wanted).index)


def _name(track: Track) -> str:
    return (track.name or f"Voice {track.voice}").encode(errors="replace").decode()


def _track(track: Track, name: str, notes: Iterable[PlayedNote]) -> TrackTick:
    written = TrackTick(name, track.programme, track.percussion)
    for note in notes:
        start, end = _ticks(note.position), _ticks(note.position + note.length)
        written.notes.append(NoteTick(start, max(end - start, 1), note.pitch, note.velocity))
    return written


def _ticks(position: Fraction) -> int:
    return round(position * 4 * TICKS_PER_QUARTER)
