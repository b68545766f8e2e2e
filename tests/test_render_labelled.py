"""Labels of rendered scores and of MIDI files, on music of a few bars."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import numpy as np
import pretty_midi
import pytest
import soundfile
from music21 import converter

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import labels_from_notes as rules
import render_labelled as labelled

TUNE = """X:1
T:Two parts
M:3/4
L:1/4
Q:1/4=120
K:G
D | GAB | dcB | A2 :|
|: e | dBG | ABc | B2 :|
"""
TRIAD = (60, 64, 67)


def held(pitches, start=0.0, end=1.0):
    return [(start, end, pitch) for pitch in pitches]


@pytest.mark.parametrize(
    ("notes", "chord"),
    [
        (held(TRIAD), "C:maj"),
        (held((57, 60, 64)), "A:min"),
        (held((*TRIAD, 70)), "C:maj"),  # with a seventh three of four tones are the triad's
        (held((57, 60, 64, 67)), "A:min"),  # two triads with as much time: that of the lowest note
        (held((60, 64, 67, 69)), "C:maj"),
        (held((60, 67)), "N"),
        (held((59, 62, 65)), "N"),
        (held((60, 64)) + held((67,), 0.8), "N"),  # a fifth of the beat is too little for the fifth
        (held(TRIAD) + held((61, 62), 0.0, 0.8), "N"),
        ([], "N"),
    ],
)
def test_the_chord_of_a_beat(notes, chord):
    assert rules.chord_of(notes, 0.0, 1.0) == chord


def test_beats_of_one_chord_are_one_span_and_long_notes_count_in_all_their_beats():
    notes = held(TRIAD, 0.0, 2.0) + held((65, 69, 72), 2.0, 3.0)
    assert rules.chords(notes, [0.0, 1.0, 2.0], 3.0) == [(0.0, 2.0, "C:maj"), (2.0, 3.0, "F:maj")]


def test_the_key_of_a_scale_follows_its_transposition():
    times = np.zeros(12)
    times[[0, 2, 4, 5, 7, 9, 11]] = [3, 1, 2, 1, 2, 1, 1]
    assert rules.key_of(times) == "C major"
    assert rules.key_of(np.roll(times, 6)) == "F# major"
    assert rules.key_of(np.ones(12)) is None


def test_a_tune_with_repeats_and_pickups():
    score = labelled.read_score(converter.parse(TUNE, format="abc"))
    assert score.meter == "3/4"
    assert score.keys == [(0.0, 7, "major")]
    assert score.sections == [(0.0, "A"), (9.0, "A"), (18.0, "B"), (27.0, "B")]
    assert score.end == 36
    # A pickup is the last beat of its bar, at the start and around the signs.
    assert [position for _, position in score.beats] == [3, *[1, 2, 3] * 11, 1, 2]
    assert [time for time, _ in score.beats] == list(range(36))
    assert score.parts[0][:2] == [(0.0, 1.0, 62), (1.0, 2.0, 67)]


def test_labels_are_transposed_and_stretched_together():
    score = labelled.ReadScore(
        [held((60,), 0, 4), held((64,), 0, 4), held((67,), 0, 4)],
        [(beat, beat % 4 + 1) for beat in range(4)],
        4.0,
        "4/4",
        [(0.0, 0, "major")],
    )
    for seed in range(4):
        labels, drums = labelled.labels_of(score, "bach__x", random.Random(seed), 60.0)
        shift = labels["notes"][0][2] - 60
        root = rules.NAMES[shift % 12]
        assert labels["key"] == f"{root} major"
        assert [span[2] for span in labels["chords"]] == [f"{root}:maj"]
        assert labels["beats"][1][0] == pytest.approx(60 / labels["tempo"], abs=1e-3)
        assert ("drums" in labels["instruments"]) == bool(drums)


def test_a_rendering_has_sound_where_its_notes_are(tmp_path, monkeypatch):
    def click(midi, _soundfont):
        path = tmp_path / "played.mid"
        path.write_bytes(midi)
        return pretty_midi.PrettyMIDI(str(path)).synthesize(fs=labelled.RENDERED_RATE)

    monkeypatch.setattr(labelled, "synthesise", click)
    labels = {"notes": [[0.5, 1.0, 69, 0], [0.5, 0.6, 38, labelled.DRUM_PROGRAM]]}
    mono = labelled.sound_of(labels, random.Random(0))
    assert abs(mono[: int(0.4 * labelled.SAMPLE_RATE)]).max() < 0.01 < abs(mono).max()


def pair(folder: Path, name: str, seconds: float, lead_s: float = 0.0):
    music = pretty_midi.PrettyMIDI(initial_tempo=120)
    music.time_signature_changes = [pretty_midi.TimeSignature(3, 4, 0.0)]
    part = pretty_midi.Instrument(0)
    part.notes = [pretty_midi.Note(90, pitch, lead_s, 6.0 + lead_s) for pitch in TRIAD]
    music.instruments.append(part)
    music.write(str(folder / f"{name}.mid"))
    soundfile.write(folder / f"{name}.ogg", np.zeros(int(seconds * 16000)) + 0.01, 16000)


def test_pairs_of_recording_and_midi_file(tmp_path, capsys):
    pair(tmp_path, "music004", 7.0, lead_s=0.05)
    pair(tmp_path, "music005", 17.0)
    labelled.collect_planetblupi(tmp_path, tmp_path, tmp_path / "out")
    assert [path.stem for path in (tmp_path / "out/labels").iterdir()] == ["music004"]
    assert "music005: left out, 17.0 s of sound and 6.0 s of MIDI" in capsys.readouterr().err
    labels = json.loads((tmp_path / "out/labels/music004.json").read_text())
    assert labels["split"] == "test" and labels["meter"] == "3/4" and labels["tempo"] == 120
    assert [beat for beat in labels["beats"] if beat[0] < 3] == [
        [0.0, 1], [0.5, 2], [1.0, 3], [1.5, 1], [2.0, 2], [2.5, 3],
    ]  # fmt: skip
    assert labels["chords"][0][2] == "C:maj"
    assert labels["key"] == "C major"
    assert labels["notes"][0][:2] == [0.0, 6.0]  # a short rest before the first note is not in the recording


def test_of_a_loop_the_first_pass_is_kept(tmp_path, monkeypatch):
    monkeypatch.setitem(labelled.LOOPS_S, "music000", 2.0)
    pair(tmp_path, "music000", 6.5)
    labelled.collect_planetblupi(tmp_path, tmp_path, tmp_path / "out")
    labels = json.loads((tmp_path / "out/labels/music000.json").read_text())
    assert labels["loop_s"] == 2.0
    assert soundfile.info(tmp_path / "out/audio/music000.flac").duration == 2.0
    assert max(note[1] for note in labels["notes"]) == 2.0
