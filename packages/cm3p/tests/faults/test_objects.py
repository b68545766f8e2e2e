"""Scores of objects, and tokens in words."""

from __future__ import annotations

import numpy as np
import pytest

from cm3p.faults.objects import aspect_scores, standardised
from cm3p.faults.surprisal import ASPECTS, TokenScores
from cm3p.faults.tokens import Aspect
from cm3p.faults.words import expectation, wording


def test_an_aspect_is_as_surprising_as_its_most_surprising_token() -> None:
    time, position = ASPECTS.index(Aspect.TIME), ASPECTS.index(Aspect.POSITION)
    numbers = np.zeros(3, np.int64)
    scores = TokenScores(
        windows=numbers,
        objects=np.array([0, 0, 2]),
        aspects=np.array([position, position, time]),
        ids=numbers,
        bits=np.array([5, 7, 1], np.float32),
        entropy=np.array([1, 6, 0], np.float32),
        expected=numbers,
        probability=np.ones(3, np.float32),
    )
    excess, bits = aspect_scores(scores, 3), aspect_scores(scores, 3, of="bits")
    assert (excess[0, position], bits[0, position], excess[2, time]) == (4, 7, 1)
    assert np.isfinite(excess).sum() == np.isfinite(bits).sum() == 2


def test_deviations_are_those_of_the_same_aspect() -> None:
    excess = np.array([[0, 40, 0.0], [10, 42, 0.1], [20, -np.inf, 0.2]])
    found = standardised(excess)
    assert found[:, 0].tolist() == pytest.approx([-(1.5**0.5), 0, 1.5**0.5])
    assert found[:2, 1].tolist() == [-1, 1] and found[2, 1] == -np.inf
    assert found[:, 2].tolist() == pytest.approx([-0.1, 0, 0.1])  # less than a bit apart
    assert standardised(np.full((2, 3), -np.inf)).max() == -np.inf
    assert standardised(np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize(
    ("token", "aspect", "words"),
    [
        ("[HITSOUND_8_2_2]", Aspect.HIT_SOUND, "clap, soft set"),
        ("[HITSOUND_6_1_3]", Aspect.HIT_SOUND, "whistle and finish, normal with drum set"),
        ("[HITSOUND_0_1_1]", Aspect.HIT_SOUND, "no addition, normal set"),
        ("[VOLUME_70]", Aspect.HIT_SOUND, "volume 70 %"),
        ("[POS_X_-16]", Aspect.POSITION, "x -16"),
        ("[CIRCLE_NEW_COMBO]", Aspect.NEW_COMBO, "new combo"),
        ("[CIRCLE]", Aspect.NEW_COMBO, "no new combo"),
        ("[SLIDER_HEAD_NEW_COMBO]", Aspect.TYPE, "slider head"),
        ("[SCROLL_SPEED_1.60]", Aspect.SCROLL_SPEED, "scroll speed 1.60"),
        ("[TIME_SHIFT_2340]", Aspect.TIME, "2340 ms into the window"),
    ],
)
def test_tokens_in_words(token: str, aspect: Aspect, words: str) -> None:
    assert wording(token, aspect) == words


def test_expected_times_are_distances() -> None:
    here = "[TIME_SHIFT_2340]"
    assert expectation(here, "[TIME_SHIFT_2360]", Aspect.TIME) == "20 ms later"
    assert expectation(here, "[TIME_SHIFT_2330]", Aspect.TIME) == "10 ms earlier"
    assert expectation(here, here, Aspect.TIME) == "the same time"
    assert expectation(here, "[SNAPPING_4]", Aspect.TIME) == "snapping 4"
