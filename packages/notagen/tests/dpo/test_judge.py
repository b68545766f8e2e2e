"""Judges, what they must hear before they train a policy, and surface features that give choices away."""

import json
import math

import numpy as np
import pytest
import torch

from notagen.clamp2.config import ClampConfig, EncoderConfig
from notagen.clamp2.model import Clamp
from notagen.clamp2.weights import save_pretrained
from notagen.dpo.judge import ModelJudge, NgramJudge, judged_text, load_judge
from notagen.dpo.judge_checks import (
    area_under_curve,
    best_separation,
    check_judge,
    surface_features,
)
from notagen.notation.transposed_text import Interval, transpose_text
from pentatonic.errors import UsageError

from .made_music import leaps, walk

WALKS = [walk(i) for i in range(24)]
LEAPS = [leaps(i) for i in range(8)]


class CountingJudge:
    """Counts of some characters of the bars, which have no order."""

    def __init__(self, characters):
        self.name, self.fingerprint, self.characters = "counts", characters, characters

    def embed(self, texts):
        bodies = ["".join(line[5:] for line in text.split("\n") if line.startswith("[V:")) for text in texts]
        return np.array([[1 + body.count(c) for c in self.characters] for body in bodies], float)


def test_ngrams_hear_order_and_style_but_no_key():
    judge = NgramJudge()
    report = check_judge(judge, WALKS[:12], judge.embed(WALKS[12:]), others=LEAPS)
    assert report.passes and report.blind == ()
    assert report.order_gap.low > 0 and report.style_gap.low > 0 and report.style_auc == 1
    assert report.key_change == pytest.approx(0, abs=1e-12)
    assert "may train a policy" in report.lines()[-1]
    assert json.loads(json.dumps(report.to_dict()))["passes"] is True


def test_a_judge_without_ear_for_order_and_one_that_hears_keys():
    judge = CountingJudge("CDEFGABcdefgab")
    report = check_judge(judge, WALKS[:12], judge.embed(WALKS[12:]), others=LEAPS)
    assert not report.passes
    assert report.order_gap.value == pytest.approx(0, abs=1e-12)
    assert report.key_change > 0.01
    assert "does not hear the order of bars" in report.blind[0]
    assert "it hears the key" in report.blind[1]
    assert report.lines()[-1].startswith("  is blind: ")


def test_too_few_pieces_prove_nothing():
    judge = NgramJudge()
    report = check_judge(judge, WALKS[:3], judge.embed(WALKS[12:]), others=LEAPS[:2])
    assert [reason.split(" ")[0] for reason in report.blind] == ["only", "2"]
    assert report.style_gap is None and report.style_auc is None
    assert "another style was not given" in report.lines()[2]
    with pytest.raises(UsageError, match="cannot be tested without pieces"):
        check_judge(judge, [], judge.embed(WALKS))


def test_the_same_style_is_no_other_style():
    judge = NgramJudge()
    report = check_judge(judge, WALKS[:12], judge.embed(WALKS[12:]), others=WALKS[:12])
    assert report.style_gap.value == 0
    assert "does not tell the style from another" in report.blind[0]


def test_ngram_vectors():
    judge = NgramJudge(256)
    vectors = judge.embed(
        [WALKS[0], transpose_text(WALKS[0], Interval(semitones=3)), "no tune", "", LEAPS[0]]
    )
    assert vectors.shape == (5, 256)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1)
    np.testing.assert_array_equal(vectors[0], vectors[1])
    np.testing.assert_array_equal(vectors[2], vectors[3])
    assert vectors[0] @ vectors[2] == 0 and vectors[0] @ vectors[4] < 0.5


@pytest.fixture
def scorer():
    torch.manual_seed(0)
    music = EncoderConfig(layers=1, width=16, heads=2, mlp_width=32, length=32)
    return Clamp(ClampConfig(family="clamp2", projection=12, music=music)).eval()


def test_models_as_judges(scorer, tmp_path):
    judge = ModelJudge(scorer, "tiny")
    vectors = judge.embed(WALKS[:3])
    assert vectors.shape == (3, 12) and vectors.dtype == np.float64
    np.testing.assert_allclose(judge.embed(WALKS[1:2])[0], vectors[1], rtol=1e-5, atol=1e-6)
    save_pretrained(scorer, tmp_path / "scorer")
    loaded = load_judge(tmp_path / "scorer")
    assert (loaded.name, loaded.fingerprint) == ("scorer", judge.fingerprint)
    np.testing.assert_array_equal(loaded.embed(WALKS[:3]), vectors)
    with torch.no_grad():
        scorer.music.embed_bias += 1
    assert ModelJudge(scorer, "tiny").fingerprint != judge.fingerprint
    assert load_judge("ngrams").name == "ngrams"


def test_text_that_is_judged():
    text = "%Folk\n%Anon\n%%score 1 2\nL:1/8\nM:2/4\nK:C\nV:1\nV:2\n[r:0/1][V:1]C4|\n[r:1/0][V:2]E4|\n"
    assert judged_text(text).split("\n")[5:] == ["V:2", "[V:1]C4|[V:2]z4|", "[V:1]z4|[V:2]E4|", ""]
    assert judged_text(text).startswith("%%score")
    assert judged_text("%Folk\n") == "X:1\n"


def test_surface_features():
    found = surface_features(
        "%Folk\n%%score 1\nL:1/4\nM:2/4\nK:Am\nV:1\n[V:1]A2|\n[V:1]A2|\n[V:1]cd|\n[V:1]z2|\n"
    )
    assert found["bars"] == 3 and found["voices"] == 1 and found["key"] == 0
    assert found["different bars"] == pytest.approx(2 / 3)
    assert found["repeated bars"] == pytest.approx(1 / 3)
    assert surface_features("K:Bb\n")["key"] == -2
    assert math.isnan(surface_features("K:H\n")["key"]) and math.isnan(surface_features("")["different bars"])


def test_best_separation():
    longer = [walk(i, bars=12) for i in range(6)]
    found = best_separation(WALKS[:6], longer)
    assert found.feature == "length" and found.auc == 1 and not found.more and found.suspicious
    assert str(found) == "length (chosen pieces have less; area under the curve 1.000)"
    same = best_separation(WALKS[:6], WALKS[:6])
    assert same.auc == 0.5 and not same.suspicious
    with pytest.raises(UsageError, match="are needed"):
        best_separation([], WALKS)


def test_area_under_curve():
    assert area_under_curve([3, 4], [1, 2]) == 1
    assert area_under_curve([1, 2], [1, 2]) == 0.5
    assert area_under_curve([1], [2, 3, 0]) == pytest.approx(1 / 3)
