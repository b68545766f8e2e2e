"""The distribution of one character against recorded ones."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from notagen.generation.sampling import Sampling, compat_probabilities, draw, probabilities
from pentatonic.errors import ConfigError, UsageError

CASES = json.loads((Path(__file__).parent / "goldens" / "sampling.json").read_text())["cases"]


def settings(case, **changes):
    return Sampling(**{key: case[key] for key in ("top_k", "top_p", "temperature")}, **changes)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("case", CASES)
def test_compat_as_recorded(case):
    p = torch.tensor(case["probs_in"], dtype=torch.float32)
    stage, close = (
        {"rtol": 0, "atol": 5e-10},
        {"rtol": 1e-12, "atol": 0},
    )  # later floors are part of a stage here
    after_top_k = compat_probabilities(p, Sampling(case["top_k"], 1.0, 1.0))
    after_top_p = compat_probabilities(p, Sampling(case["top_k"], case["top_p"], 1.0))
    torch.testing.assert_close(after_top_k, tensor(case["after_top_k"]), **stage)
    torch.testing.assert_close(after_top_p, tensor(case["after_top_p"]), **stage)
    final = compat_probabilities(p, settings(case))
    torch.testing.assert_close(final, tensor(case["final"]), **close)
    uniforms = tensor(case["uniforms"])
    assert uniforms.tolist() == [np.random.RandomState(seed).random_sample() for seed in case["seeds"]]
    assert draw(final.expand(len(uniforms), -1), uniforms).tolist() == case["tokens"]


@pytest.mark.parametrize("pieces", [3, 8])  # as many as characters, too
@pytest.mark.parametrize(
    "sampling", [Sampling(0, 1.0, 1.0), Sampling(4, 1.0, 1.0), Sampling(0, 0.6, 1.0), Sampling(0, 1.0, 2.0)]
)
def test_compat_of_several_pieces_is_that_of_each(pieces, sampling):
    p = torch.rand(pieces, 8, generator=torch.Generator().manual_seed(pieces)) ** 4
    each = torch.stack([compat_probabilities(row, sampling) for row in p])
    torch.testing.assert_close(compat_probabilities(p, sampling), each, rtol=1e-12, atol=0)


@pytest.mark.parametrize("case", CASES)
def test_fast_mode_differs_by_the_floor_only(case):
    p = torch.tensor(case["probs_in"], dtype=torch.float32)
    fast, recorded = probabilities(p.log(), settings(case)), tensor(case["final"])
    tolerance = 2e-4 if case["temperature"] == 2 else 2e-8
    assert (fast - recorded).abs().max() < tolerance
    uniforms = tensor(case["uniforms"])
    assert draw(fast.expand(len(uniforms), -1), uniforms).tolist() == case["tokens"]


def test_removed_characters_are_never_drawn():
    logits = torch.tensor([[0.0, 3.0, 1.0, 2.0], [5.0, 0.0, 0.0, 0.0]])
    p = probabilities(logits, Sampling(top_k=2, top_p=1.0, temperature=2.0))
    assert p[0].nonzero().flatten().tolist() == [1, 3]
    almost_one = torch.full((2,), 1 - 2**-53, dtype=torch.float64)
    assert draw(p, almost_one)[0] == 3
    assert draw(p, torch.zeros(2, dtype=torch.float64)).tolist() == [1, 0]
    only = probabilities(logits, Sampling(top_k=0, top_p=0.5, temperature=1.0))
    assert only[1].tolist() == [1, 0, 0, 0]


def test_top_p_keeps_the_entry_that_crosses():
    p = probabilities(torch.tensor([0.5, 0.3, 0.2]).log(), Sampling(top_k=0, top_p=0.6, temperature=1.0))
    torch.testing.assert_close(p, tensor([0.625, 0.375, 0.0]), atol=1e-7, rtol=0)


def test_filters_see_the_distribution_before_temperature():
    logits = torch.tensor([0.6, 0.3, 0.1]).log()
    assert (probabilities(logits, Sampling(0, 0.5, 9.0)) > 0).tolist() == [True, False, False]


@pytest.mark.parametrize("compat", [True, False])
def test_broken_logits_still_give_a_distribution(compat):
    logits = torch.full((2, 4), torch.nan)
    logits[1, 2] = 0.0
    p = probabilities(logits, Sampling(top_k=0, top_p=1.0, temperature=1.0, compat=compat))
    torch.testing.assert_close(p.sum(-1), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(p[0], tensor([0.25] * 4))


@pytest.mark.parametrize(
    "wrong",
    [{"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}, {"temperature": 0.0}, {"temperature": float("nan")}],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Sampling(**wrong)


def test_a_stored_sampling_is_read_back():
    sampling = Sampling(3, 0.5, 0.8)
    assert sampling.to_dict() == {"top_k": 3, "top_p": 0.5, "temperature": 0.8}
    assert Sampling.from_dict(sampling.to_dict()) == sampling
    assert Sampling.from_dict({"temperature": 1}) == Sampling(temperature=1.0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "allowed keys: top_k, top_p, temperature"),
        ({"compat": True}, "allowed keys"),
        ({"temperature": 0}, "temperature must be positive, got 0"),
        ({"top_k": "9"}, "top_k"),
        ({"top_p": None}, "top_p"),
    ],
)
def test_a_wrong_stored_sampling_is_refused(values, said):
    with pytest.raises(ConfigError, match=said):
        Sampling.from_dict(values)
