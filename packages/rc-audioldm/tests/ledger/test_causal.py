"""Leaving clips out: on generators whose answer is known, the effects, ranks and trials are the right ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pentatonic.errors import InputError, UsageError
from rc_audioldm.ledger.causal import Make, leave_one_out
from rc_audioldm.ledger.ledger import Influence, Ledger
from rc_audioldm.ledger.planted import planted_clip_trials

RATE, LENGTH, TONES = 16_000, 4000, 8
TIMES = np.arange(LENGTH) / RATE
# One sine for each dimension of the vectors, an octave-free scale: what is mixed can be read off again.
SINES = np.sin(2 * np.pi * np.array([300, 420, 590, 830, 1160, 1620, 2270, 3180])[:, None] * TIMES)


def embed(samples: np.ndarray) -> np.ndarray:
    return SINES @ samples / (LENGTH / 2) + 1e-6


def mixer(bank: np.ndarray, seed: int = 0, ignored: Sequence[int] = ()) -> Make:
    """A generator that adds the vectors of its clips to a prompt of its own, in sound."""
    prompt = np.random.default_rng(seed).uniform(0.2, 0.4, TONES)

    def make(rows: Sequence[int], weights: Sequence[float]) -> np.ndarray:
        style = sum(
            (weight * bank[row] for row, weight in zip(rows, weights, strict=True) if row not in ignored),
            np.zeros(TONES),
        )
        return (prompt + style) @ SINES

    return make


BANK = np.eye(TONES)


def test_the_heavier_clip_has_the_larger_effect_and_draws_the_output_to_itself() -> None:
    found = leave_one_out(mixer(BANK), [4, 1, 6], [0.7, 0.2, 0.1], BANK[[4, 1, 6]], embed, RATE)
    assert [each.row for each in found.effects] == [4, 1, 6]
    assert [each.rank for each in found.effects] == [1, 2, 3]
    assert sum(found.shares) == pytest.approx(1) and found.shares[0] > 0.5
    assert all(each.towards > 0 for each in found.effects)
    assert found.chance == pytest.approx(1 / 3)
    assert found.repeat_clap == found.repeat_mel_db == 0


def test_a_clip_that_the_generator_ignores_has_the_last_place_and_none_wins_by_nothing() -> None:
    found = leave_one_out(mixer(BANK, ignored=[4]), [4, 1], [0.5, 0.5], BANK[[4, 1]], embed, RATE)
    assert found.ranks == [2, 1] and found.effects[0].clap < found.effects[1].clap
    nothing = leave_one_out(mixer(BANK, ignored=[4, 1]), [4, 1], [0.9, 0.1], BANK[[4, 1]], embed, RATE)
    assert nothing.ranks == [2, 2] and nothing.shares == [0, 0]


def test_without_its_only_clip_the_prompt_alone_is_made() -> None:
    calls = []
    inner = mixer(BANK)

    def make(rows: Sequence[int], weights: Sequence[float]) -> np.ndarray:
        calls.append((list(rows), list(weights)))
        return inner(rows, weights)

    leave_one_out(make, [3], [0.2], BANK[[3]], embed, RATE)
    assert calls == [([3], [1.0]), ([3], [1.0]), ([], [])]
    calls.clear()
    leave_one_out(make, [3, 5], [1.0, 0.0], BANK[[3, 5]], embed, RATE)
    assert calls[2:] == [([], []), ([3], [1.0])]


def test_noise_that_changes_is_shown() -> None:
    rng = np.random.default_rng(0)
    inner = mixer(BANK)

    def make(rows: Sequence[int], weights: Sequence[float]) -> np.ndarray:
        return inner(rows, weights) + rng.normal(0, 0.1, LENGTH)

    found = leave_one_out(make, [3, 5], [0.5, 0.5], BANK[[3, 5]], embed, RATE)
    assert found.repeat_clap > 0 and found.repeat_mel_db > 1


def test_effects_go_into_the_ledger() -> None:
    found = leave_one_out(mixer(BANK), [4, 1], [0.7, 0.3], BANK[[4, 1]], embed, RATE)
    clips = (Influence("a", "CC0 1.0", 0.7), Influence("b", "CC0 1.0", 0.3))
    ledger = Ledger("p", "p", "clap-in", 0.5, 0, "m", "", "CC0 1.0", clips)
    known = ledger.with_effects(found.shares, found.ranks)
    assert [each.effect_rank for each in known.influences] == [1, 2]
    assert Ledger.from_dict(known.as_dict()) == known


@pytest.mark.parametrize(
    ("rows", "weights", "clips", "error"),
    [
        ([], [], BANK[[]], UsageError),
        ([1, 1], [0.5, 0.5], BANK[[1, 1]], UsageError),
        ([1, 2], [1.0], BANK[[1, 2]], UsageError),
        ([1, 2], [0.0, 0.0], BANK[[1, 2]], InputError),
        ([1, 2], [-1.0, 2.0], BANK[[1, 2]], InputError),
        ([1, 2], [0.5, 0.5], np.zeros((2, TONES)), InputError),
    ],
)
def test_what_cannot_be_measured_is_refused(
    rows: list[int], weights: list[float], clips: np.ndarray, error: type
) -> None:
    with pytest.raises(error):
        leave_one_out(mixer(BANK), rows, weights, clips, embed, RATE)


def distinct_bank(count: int = 24) -> np.ndarray:
    vectors = np.abs(np.random.default_rng(5).normal(size=(count, TONES)))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_planted_clip_is_found_where_the_generator_follows_its_clips() -> None:
    bank = np.eye(TONES)
    found = planted_clip_trials(lambda run: mixer(bank, run), bank, embed, RATE, runs=20, clips=4)
    assert found.first == 20 and found.ranks == (1,) * 20 and found.mel_share.value == 1
    assert found.chance == 0.25 and found.p_value < 1e-6 and 0.8 < found.share.low < found.share.high == 1
    assert "first in 20 of 20 runs" in str(found)


def test_a_generator_that_ignores_its_clips_or_their_weights_is_at_chance_or_below() -> None:
    bank = distinct_bank()
    deaf = planted_clip_trials(
        lambda run: mixer(bank, run, ignored=range(len(bank))), bank, embed, RATE, runs=5, clips=3
    )
    assert deaf.first == 0

    def without_weights(run: int) -> Make:
        inner = mixer(bank, run)
        return lambda rows, weights: inner(rows, [1 / max(1, len(rows))] * len(rows))

    equal = planted_clip_trials(without_weights, bank, embed, RATE, runs=60, clips=3)
    assert equal.share.low < equal.chance < equal.share.high


def test_a_bank_without_enough_distinct_clips_and_wrong_settings_are_refused() -> None:
    alike = np.ones((5, TONES)) + 0.01 * np.eye(TONES)[:5]
    with pytest.raises(InputError, match="no 4 clips"):
        planted_clip_trials(lambda run: mixer(alike), alike, embed, RATE, runs=1)
    settings: list[dict[str, Any]] = [{"runs": 0}, {"clips": 1}, {"planted_weight": 0.2}, {"most_alike": 1.0}]
    for wrong in settings:
        with pytest.raises(UsageError):
            planted_clip_trials(lambda run: mixer(BANK), BANK, embed, RATE, **wrong)
