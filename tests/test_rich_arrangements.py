"""Arrangements of scores for training: what is drawn stays music of the score."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pytest
import symusic

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import render_scores
import rich_arrangements

TUNE = "X:1\nM:4/4\nL:1/4\nQ:1/4=120\nK:C\nCEGc|CEGc|\n"


@pytest.fixture
def midi(tmp_path):
    source, target = tmp_path / "tune.abc", tmp_path / "tune.mid"
    source.write_text(TUNE)
    assert render_scores.write_midi(source, target) is None
    return target


def test_abc_and_musicxml_become_midi_and_what_is_no_score_is_named(midi, tmp_path):
    assert [note.pitch for note in symusic.Score(midi).tracks[0].notes] == [60, 64, 67, 72] * 2
    broken = tmp_path / "broken.mxl"
    broken.write_bytes(b"no archive")
    reason = render_scores.write_midi(broken, tmp_path / "broken.mid")
    assert reason is not None and reason.startswith("broken.mxl")
    assert not (tmp_path / "broken.mid").exists()


def test_the_same_seed_gives_the_same_arrangement_and_another_one_another(midi):
    def drawn(seed):
        arranged, families = rich_arrangements.arrange(midi, random.Random(seed), 20.0)
        return arranged.to("tick").dumps_midi(), families

    assert drawn(1) == drawn(1)
    assert len({drawn(seed)[0] for seed in range(8)}) == 8


def test_every_melodic_note_has_a_pitch_of_the_transposed_score(midi):
    kinds = set()
    for seed in range(40):
        arranged, families = rich_arrangements.arrange(midi, random.Random(seed), 20.0)
        melodic = [track for track in arranged.tracks if not track.is_drum]
        first = melodic[0].notes[0].pitch
        classes = {(note.pitch - first) % 12 for track in melodic for note in track.notes}
        assert classes <= {0, 4, 7}
        assert set(families) <= set(rich_arrangements.FAMILIES)
        kinds |= {"drums" if track.is_drum else "bass" if track.program in rich_arrangements.BASSES else "part"
                  for track in arranged.tracks}  # fmt: skip
    assert kinds == {"drums", "bass", "part"}


def test_the_bass_has_the_lowest_sounding_note():
    parts = [[(0.0, 1.0, 72), (1.0, 1.0, 65)], [(0.0, 2.0, 60)]]
    assert rich_arrangements.bass_line(parts, 2.0) == [
        (0.0, 0.5, 36),
        (0.5, 0.5, 36),
        (1.0, 0.5, 36),
        (1.5, 0.5, 36),
    ]


def test_effects_keep_length_and_are_finite_even_for_silence():
    for seed in range(12):
        for mono in (np.zeros(8000), np.sin(np.arange(8000) / 5)):
            changed = rich_arrangements.effects(mono, 16000, random.Random(seed))
            assert changed.shape == (8000,)
            assert np.isfinite(changed).all()
