"""MIDI files hold what is played, and other programs read them."""

from __future__ import annotations

from pathlib import Path

import pytest
from symusic.core import ScoreTick

from notagen.sound.midi import TICKS_PER_QUARTER, midi_bytes
from notagen.sound.performance import perform

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
