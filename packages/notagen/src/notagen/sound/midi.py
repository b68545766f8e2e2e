"""The content of MIDI files: one track per voice, with tempi, time and key signatures."""

from __future__ import annotations

from fractions import Fraction

# The types behind `symusic.Score` and so on, which are functions without types.
from symusic.core import KeySignatureTick, NoteTick, ScoreTick, TempoTick, TimeSignatureTick, TrackTick

from notagen.sound.performance import Performance

TICKS_PER_QUARTER = 480

_MAX_MICROSECONDS = (1 << 24) - 1  # longest quarter note
_MAX_SHARPS = 7
_MAX_BEATS = 255


def midi_bytes(performance: Performance) -> bytes:
    """Return a piece as the content of a MIDI file; repeats and endings are played out.

    Time signatures whose unit is not a power of 2, and keys of more than seven signs, are left out, because MIDI does
    not have them. If there are more than 15 pitched voices, some share a channel.
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
    for track in performance.tracks:
        name = (track.name or f"Voice {track.voice}").encode(errors="replace").decode()
        written = TrackTick(name, track.programme, track.percussion)
        for note in track.notes:
            start, end = _ticks(note.position), _ticks(note.position + note.length)
            written.notes.append(NoteTick(start, max(end - start, 1), note.pitch, note.velocity))
        score.tracks.append(written)
    return score.dumps_midi()


def _ticks(position: Fraction) -> int:
    return round(position * 4 * TICKS_PER_QUARTER)
