"""MIDI files hold what is played, and other programs read them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from symusic.core import ScoreTick

from notagen.clamp2.mtf.midi_reading import read_midi
from notagen.score import read_score
from notagen.score.losses import losses
from notagen.sound.midi import TICKS_PER_QUARTER, midi_bytes
from notagen.sound.performance import perform
from notagen.sound.synth import render_audio

TRIO = (
    'X:1\n%%score 1 2 3\nL:1/4\nQ:1/4=100\nM:3/4\nK:Gmin\nV:1 nm="Violin"\nV:2 bass nm="Cello"\nV:3 perc nm="Snare"\n'
    "[V:1]|:(3gab d'|[V:2]|:G,3|[V:3]|:c3|\n"
    "[V:1][M:2/4][K:D]f-f:|[V:2][M:2/4][K:D]D,2:|[V:3][M:2/4]z2:|\n"
)


def read(data: bytes) -> ScoreTick:
    return ScoreTick.from_midi(data)


def test_tracks_notes_and_signatures_come_back() -> None:
    score = read(midi_bytes(perform(TRIO)))
    assert score.ticks_per_quarter == TICKS_PER_QUARTER == 480
    assert [(track.name, track.program, track.is_drum) for track in score.tracks] == [
        ("Violin", 40, False),
        ("Cello", 42, False),
        ("Snare", 0, True),
    ]
    violin, cello, snare = ([(n.time, n.pitch, n.duration) for n in track.notes] for track in score.tracks)
    assert violin == [
        *((0, 79, 320), (320, 81, 320), (640, 82, 320), (960, 86, 480), (1440, 78, 960)),
        *((2400, 79, 320), (2720, 81, 320), (3040, 82, 320), (3360, 86, 480), (3840, 78, 960)),
    ]
    assert cello == [(0, 55, 1440), (1440, 50, 960), (2400, 55, 1440), (3840, 50, 960)]
    assert [note[1] for note in snare] == [38, 38]
    assert [(t.time, round(t.qpm)) for t in score.tempos] == [(0, 100)]
    assert [(t.time, t.numerator, t.denominator) for t in score.time_signatures] == [
        *((0, 3, 4), (1440, 2, 4)),
        *((2400, 3, 4), (3840, 2, 4)),
    ]
    assert [(k.time, k.key, k.tonality) for k in score.key_signatures] == [
        *((0, -2, 1), (1440, 2, 0)),
        *((2400, -2, 1), (3840, 2, 0)),
    ]


@pytest.mark.slow  # music21 takes seconds to load
def test_music21_reads_the_same_notes(tmp_path: Path) -> None:
    music21 = pytest.importorskip("music21")
    (tmp_path / "a.mid").write_bytes(midi_bytes(perform(TRIO)))
    part = music21.converter.parse(tmp_path / "a.mid").parts[1]
    notes = [note for note in part.recurse().notes if note.tie is None or note.tie.type == "start"]
    found = [(float(note.getOffsetInHierarchy(part)), note.pitch.midi) for note in notes]
    assert found == [(0, 55), (3, 50), (5, 55), (8, 50)]


@pytest.mark.parametrize(
    ("header", "meters", "keys"),
    [
        ("M:none\nK:none", [], []),
        ("M:4/6\nK:C#", [], [(7, 0)]),
        ("M:999/4\nK:F#loc", [], [(1, 0)]),
        ("M:7/8\nK:G#maj", [(7, 8)], []),
    ],
)
def test_signatures_that_midi_lacks_are_left_out(header: str, meters: list, keys: list) -> None:
    score = read(midi_bytes(perform(f"X:1\nL:1/4\n{header}\nc4|\n")))
    assert [(t.numerator, t.denominator) for t in score.time_signatures] == meters
    assert [(k.key, k.tonality) for k in score.key_signatures] == keys


@pytest.mark.parametrize(("tempo", "microseconds"), [("1/4=1", 16777215), ("1/1=9999", 1500)])
def test_tempi_are_brought_within_the_bounds_of_midi(tempo: str, microseconds: int) -> None:
    score = read(midi_bytes(perform(f"X:1\nL:1/4\nQ:{tempo}\nM:4/4\nK:C\nc4|\n")))
    assert [t.mspq for t in score.tempos] == [microseconds]


def test_the_shortest_notes_last_a_tick() -> None:
    score = read(midi_bytes(perform("X:1\nL:1/512\nM:none\nK:C\nc/64 z1000|\n")))
    assert [note.duration for note in score.tracks[0].notes] == [1]


def test_forty_voices_are_forty_tracks() -> None:
    voices = "".join(f"V:{n}\n" for n in range(40))
    bars = "".join(f"[V:{n}]c4|" for n in range(40))
    score = read(midi_bytes(perform(f"X:1\nL:1/4\nM:4/4\nK:C\n{voices}{bars}\n")))
    assert [(track.name, len(track.notes)) for track in score.tracks] == [
        (f"Voice {n}", 1) for n in range(40)
    ]


# --- quarter tones

QUARTERS = """X:1
%%score 1 2 3
L:1/4
M:4/4
K:C
V:1 nm="Violin"
V:2 bass nm="Cello" transpose=-12
V:3 perc nm="Snare"
[V:1]c_/d^/f=f|[V:2][C_/E]^3/2G,2C,|[V:3]c4|
[V:1][^/ce]2_3/2B2-|[V:2]C4|[V:3]^/c4|
[V:1]_3/2B4|][V:2]C4|][V:3]c4|]
"""


def heard_in(data: bytes) -> list[tuple[int, int, float]]:
    """Start, channel and sounding pitch of all notes of a MIDI file, as its messages in their order say."""
    at, bends, ranges, parameter = 0, [0] * 16, [2] * 16, [(127, 127)] * 16
    notes = []
    for kind, time, values in read_midi(data).messages:
        at += time
        if kind == "control_change":
            channel, control, value = values
            chosen = parameter[channel]
            parameter[channel] = {101: (value, chosen[1]), 100: (chosen[0], value)}.get(control, chosen)
            if control == 6:
                assert parameter[channel] == (0, 0)
                ranges[channel] = value
        elif kind == "pitchwheel":
            bends[values[0]] = values[1]
        elif kind == "note_on" and values[2]:
            channel, pitch, _ = values
            notes.append((at, channel, pitch + bends[channel] * ranges[channel] / 8192))
    return sorted(notes)


def written_in(text: str) -> list[tuple[int, float]]:
    """Start and sounding pitch of the notes of a score without repeats, ties and drums."""
    score, found = read_score(text), []
    for voice in (each for each in score.voices.values() if not each.percussion):
        start = Fraction(0)
        for measure in voice.measures:
            for event in measure.layers[0].events:
                found += [
                    (int((start + event.onset) * 4 * 480), float(head.pitch.semitones + measure.transpose))
                    for head in event.heads
                    if not head.tie_stop
                ]
            start += measure.duration
    return sorted(found)


def test_quarter_tones_come_back_from_midi() -> None:
    with losses() as lost:
        heard = heard_in(midi_bytes(perform(QUARTERS)))
    assert not lost
    assert sorted((at, pitch) for at, channel, pitch in heard if channel != 9) == written_in(QUARTERS)
    assert [pitch for _, channel, pitch in heard if channel == 9] == [38.0] * 3
    # No channel has two bends: each voice has one of its own for each direction.
    cents = {channel: {pitch % 1 for _, each, pitch in heard if each == channel} for _, channel, _ in heard}
    assert sorted(map(sorted, cents.values())) == [[0.0]] * 3 + [[0.5]] * 4
    names = [(track.name, len(track.notes)) for track in read(midi_bytes(perform(QUARTERS))).tracks]
    assert names == [
        *(("Violin", 3), ("Cello", 4), ("Snare", 3)),
        *(("Violin (-50 cents)", 2), ("Violin (+50 cents)", 2)),
        *(("Cello (-50 cents)", 1), ("Cello (+50 cents)", 1)),
    ]


def test_a_piece_without_quarter_tones_has_no_bends() -> None:
    score = read(midi_bytes(perform(TRIO)))
    assert not any(track.pitch_bends or track.controls for track in score.tracks)


@pytest.mark.parametrize(("voices", "bent"), [(13, 2), (14, 1), (15, 0), (40, 0)])
def test_quarter_tones_without_a_channel_go_to_the_natural_and_are_counted(voices: int, bent: int) -> None:
    declared = "".join(f"V:{n}\n" for n in range(voices))
    # Voice 1 has more quarter tones of its kind than voice 0.
    bars = "".join(f"[V:{n}]{ {0: '^/cc=cc', 1: '_/ccc=c'}.get(n, 'c4') }|]" for n in range(voices))
    text = f"X:1\nL:1/4\nM:4/4\nK:C\n{declared}{bars}\n"
    with losses() as lost:
        heard = heard_in(midi_bytes(perform(text)))
    sharp, flat = (sum(pitch == each for _, _, pitch in heard) for each in (72.5, 71.5))
    assert (sharp, flat) == {2: (2, 3), 1: (0, 3), 0: (0, 0)}[bent]
    missing = {2: 0, 1: 2, 0: 5}[bent]
    assert lost == ({"quarter tone in MIDI, for which no channel is left": missing} if missing else {})
    assert len(heard) == len(perform(text).tracks) + 6


def test_quarter_tones_in_the_sound_of_the_synthesiser() -> None:
    def frequency(note: str) -> float:
        sound = render_audio(f"X:1\nL:1/4\nM:4/4\nK:C\n%%MIDI program 73\n{note}4|]\n", sample_rate=16000)[0]
        spectrum = torch.fft.rfft(sound[:16000] * torch.hann_window(16000)).abs()
        return float(spectrum.argmax())  # in Hz, as it is one second

    natural, quarter, sharp = map(frequency, ("=c", "^/c", "^c"))
    assert natural == pytest.approx(523.25, abs=1.5) and sharp == pytest.approx(554.4, abs=1.5)
    assert quarter == pytest.approx(538.6, abs=1.5)
