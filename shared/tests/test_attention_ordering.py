"""Sorting tokens by time, and undoing it."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from pentatonic.attention import Alibi2D, attention
from pentatonic.attention.ordering import sort_by_time
from pentatonic.errors import UsageError


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 40),
    layout=st.sampled_from(["one", "shared", "per sample"]),
    cls_tokens=st.integers(0, 1),
    seed=st.integers(0, 2**31),
)
def test_sorted_by_time_stable_and_undone(n: int, layout: str, cls_tokens: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*(() if layout == "one" else (3,)), n, 2, generator=generator)
    coords = torch.randint(0, 6, (*((3,) if layout == "per sample" else ()), n, 2), generator=generator)
    sorted_x, sorted_coords, inverse = sort_by_time(x, coords, cls_tokens=cls_tokens)
    assert sorted_x.shape == x.shape
    assert inverse.shape == coords.shape[:-1]

    samples = x.shape[0] if layout != "one" else 1
    for s in range(samples):
        x_s, got_x = (t if layout == "one" else t[s] for t in (x, sorted_x))
        coords_s, got_coords, inverse_s = (
            t[s] if layout == "per sample" else t for t in (coords, sorted_coords, inverse)
        )
        head = list(range(min(cls_tokens, n)))
        order = head + sorted(range(cls_tokens, n), key=lambda i: int(coords_s[i, 0]))  # sorted() is stable
        assert got_x.equal(x_s[order])
        assert got_coords.equal(coords_s[order])
        assert got_x[inverse_s].equal(x_s)


def test_attention_does_not_mind_the_order():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 50, 8, generator=generator, dtype=torch.float64).requires_grad_()
    coords = torch.randint(0, 9, (2, 50, 2), generator=generator)
    slope = torch.tensor([0.3], dtype=torch.float64)

    def attend(x, coords):
        heads = x[:, None]
        return attention(heads, heads, heads, bias=Alibi2D(coords, slope, slope))[:, 0]

    sorted_x, sorted_coords, inverse = sort_by_time(x, coords, cls_tokens=1)
    back = attend(sorted_x, sorted_coords).take_along_dim(inverse[..., None], dim=1)
    torch.testing.assert_close(back, attend(x, coords), atol=1e-12, rtol=0)
    (gradient,) = torch.autograd.grad(back.square().sum(), x)
    assert gradient.abs().amax(dim=-1).min() > 0


@pytest.mark.parametrize(
    ("x", "coords", "cls_tokens", "message"),
    [
        ((5, 3), (4, 2), 0, r"\(5, 3\) and \(4, 2\)"),
        ((5, 3), (5, 3), 0, "coords"),
        ((5, 3), (1, 5, 2), 0, "coords"),
        ((2, 5, 3), (3, 5, 2), 0, "coords"),
        ((2, 2, 5, 3), (5, 2), 0, "coords"),
        ((5,), (5, 2), 0, "coords"),
        ((5, 3), (2,), 0, "coords"),
        ((5, 3), (5, 2), 2, "cls_tokens must be 0 or 1"),
    ],
)
def test_wrong_arguments_are_named(x, coords, cls_tokens, message):
    with pytest.raises(UsageError, match=message):
        sort_by_time(torch.zeros(x), torch.zeros(coords), cls_tokens=cls_tokens)
