"""The live intervals that the kernels compute are those of plain PyTorch."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from pentatonic.attention import Alibi1D, Alibi2D, Causal, KeyLengths, SlidingWindow, attention, live_fraction
from pentatonic.attention.descriptors import Visibility
from pentatonic.attention.intervals import GROUP, key_intervals
from pentatonic.attention.kernels import why_not
from pentatonic.attention.kernels.configs import Config, forced
from pentatonic.attention.problem import Distances, Problem, lower_bias
from pentatonic.errors import UsageError

needs_kernels = pytest.mark.skipif(
    why_not(*[torch.zeros(1, 1, 1, 16)] * 3) is not None,
    reason="the kernels run neither on a GPU nor in the interpreter",
)


@st.composite
def cases(draw: st.DrawFn):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    n_k = draw(st.sampled_from([1, GROUP - 1, GROUP, GROUP + 1, 3 * GROUP + 40]))
    n_q = draw(st.sampled_from([n_k, max(1, n_k - 2 * GROUP - 9)]))
    batch, heads, head_dim = 2, 2, draw(st.sampled_from([16, 24]))
    times = torch.arange(n_k).div(4, rounding_mode="floor").expand(batch, n_k)
    if draw(st.booleans()):
        order = torch.stack([torch.randperm(n_k, generator=generator) for _ in range(batch)])
        times = times.gather(1, order)
    coords = torch.stack((times, torch.arange(n_k).expand(batch, n_k) % 4), dim=-1)
    one = torch.tensor(draw(st.sampled_from([(0.5, 0.02), (3.0, 0.0), (-0.1, 1e4)])))
    cls_tokens = draw(st.integers(0, 1))
    if draw(st.booleans()):
        bias = Alibi2D(coords, one, one.flip(0), cls_tokens)
    else:
        bias = Alibi1D(one, times.float() / 3, cls_tokens)
    mask = draw(
        st.sampled_from(
            [
                None,
                KeyLengths(torch.tensor([0, 130])),
                Causal(),
                SlidingWindow(9, 40),
                Causal() & SlidingWindow(2, 2),
            ]
        )
    )
    q = torch.randn(batch, heads, n_q, head_dim, generator=generator)
    k = torch.randn(batch, n_k, heads, head_dim, generator=generator).transpose(1, 2)
    k[:, :, n_k // 3] *= draw(st.sampled_from([1.0, 12.0]))
    return q, k, bias, mask, draw(st.sampled_from([1e-2, 1e-6]))


@needs_kernels
@settings(max_examples=12, deadline=None)
@given(case=cases())
def test_the_kernels_find_the_intervals_that_pytorch_finds(case):
    from pentatonic.attention.kernels import launch

    q, k, bias, mask, tolerance = case
    visibility = Visibility.of(mask, q.shape[2], k.shape[2])
    distances, weights, _ = lower_bias(bias, *k.shape[:3], torch.float32)
    assert weights is not None
    problem = Problem(distances, 0.25, visibility.left, visibility.right, visibility.kv_len)
    expected = key_intervals(
        q, k, distances=distances, weights=weights, visibility=visibility, scale=0.25, tolerance=tolerance
    )
    got = launch.key_intervals(q, k, weights, problem, tolerance)
    assert got.dtype == torch.int32
    # A sum of bounds that ends a rounding away from the tolerance may fall on either side of it.
    different = (got != expected).any(dim=-1)
    assert different.float().mean() <= 0.02
    assert ((got - expected).abs() <= 1).all()


@needs_kernels
@pytest.mark.parametrize("cls_tokens", [0, 1])
def test_the_kernels_stay_within_the_tolerance(cls_tokens):
    generator = torch.Generator().manual_seed(0)
    n = 3 * GROUP + 5
    q, k, v = (torch.randn(1, 2, n, 16, generator=generator) for _ in range(3))
    k[:, :, -3] *= 20.0  # far from most queries, and yet heard by them
    coords = torch.stack((torch.arange(n) // 2, torch.arange(n) % 2), dim=-1)
    slopes = torch.tensor([1.0, 0.2])
    bias = Alibi2D(coords, slopes, slopes, cls_tokens)
    options = {"bias": bias, "mask": KeyLengths(torch.tensor([n - 7]))}
    exact = attention(q.double(), k.double(), v.double(), backend="reference", **options)
    with forced(Config(64, 64, 4, 1)):
        skipping = attention(q, k, v, backend="triton", tolerance=1e-3, **options)
    assert (skipping - exact).abs().max() <= 2e-3 * v.abs().max()
    assert live_fraction(q, k, tolerance=1e-3, **options).min() < 0.9


def test_live_fraction_counts_what_a_tolerance_leaves():
    n = 8 * GROUP
    q = torch.randn(2, 3, n, 16, generator=torch.Generator().manual_seed(1))
    slopes = torch.tensor([4.0, 0.05, 0.0])
    bias = Alibi1D(slopes)
    steep, gentle, flat = live_fraction(q, q, bias=bias, tolerance=1e-4).unbind(-1)
    assert (steep <= 22 / 64).all()  # a group and its neighbours
    assert ((steep < gentle) & (gentle < flat)).all()
    assert (flat == 1.0).all()
    assert (
        live_fraction(q, q, bias=bias, tolerance=0.5) <= live_fraction(q, q, bias=bias, tolerance=1e-6)
    ).all()
    with pytest.raises(UsageError, match="tolerance"):
        live_fraction(q, q, bias=bias, tolerance=0.0)


@needs_kernels
@pytest.mark.parametrize("cls_tokens", [0, 1])
def test_the_rows_that_visit_a_key_group_take_two_numbers_however_many_there_are(cls_tokens: int):
    from pentatonic.attention.kernels import launch

    g = torch.Generator().manual_seed(cls_tokens)
    row_groups, key_groups = 300, 200
    intervals = torch.randint(0, key_groups + 1, (1, 2, row_groups, 2), generator=g, dtype=torch.int32)
    intervals = intervals.sort(dim=-1).values
    intervals[0, 1] //= 40  # most key groups are visited by no row
    problem = Problem(Distances(cls_tokens=cls_tokens), 1.0).within(intervals)
    live_rows = launch._live_rows(problem, key_groups * GROUP)
    assert live_rows is not None
    assert live_rows.shape == (1, 2, key_groups, 2)
    for h in range(2):
        for key_group in range(key_groups):
            visits = (intervals[0, h, :, 0] <= key_group) & (key_group < intervals[0, h, :, 1])
            visits |= bool(cls_tokens) & (key_group == 0)
            rows = [row for row in visits.nonzero().flatten().tolist() if row >= cls_tokens]
            first, end = live_rows[0, h, key_group].tolist()
            assert (first, end) == ((rows[0], rows[-1] + 1) if rows else (end, end)), (h, key_group)
