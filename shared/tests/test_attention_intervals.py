"""Leaving out keys that cannot matter: the bound holds, and both passes compute the same function."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from safetensors.torch import load_file
from torch import Tensor

from pentatonic.attention import (
    Alibi1D,
    Alibi2D,
    Bias,
    Causal,
    Directional,
    KeyBias,
    KeyLengths,
    Mask,
    Raw,
    SlidingWindow,
    attention,
    intervals,
    tiles,
)
from pentatonic.attention.chunked import chunked_backward, chunked_forward
from pentatonic.attention.descriptors import Visibility
from pentatonic.attention.intervals import GROUP, key_intervals, live_fraction
from pentatonic.attention.problem import lower_bias
from pentatonic.attention.reference import dense_bias, dense_visible
from pentatonic.errors import UsageError

D = 8
LONG_STEEP = Path(__file__).parent / "goldens" / "attention_alibi_2d_long_steep" / "io.safetensors"


@dataclass
class Case:
    """Inputs of one call in float64, and what its back ends agree on."""

    q: Tensor
    k: Tensor
    v: Tensor
    bias: Bias
    mask: Mask | None = None
    scale: float = D**-0.5

    @property
    def visibility(self) -> Visibility:
        return Visibility.of(self.mask, self.q.shape[2], self.k.shape[2])

    def intervals(self, tolerance: float) -> Tensor:
        batch, heads, n_k = self.k.shape[:3]
        distances, weights, _ = lower_bias(self.bias, batch, heads, n_k, torch.float32)
        return key_intervals(
            self.q.float(),
            self.k.float(),
            distances=distances,
            weights=weights,
            visibility=self.visibility,
            scale=self.scale,
            tolerance=tolerance,
        )

    def probabilities(self, live: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``(p, lse)`` with all matrices, over the visible keys that are live; 0 and -inf for dead rows."""
        n_q, n_k = self.q.shape[2], self.k.shape[2]
        scores = self.scale * self.q @ self.k.transpose(-1, -2)
        scores = scores + dense_bias(self.bias, n_q, n_k, torch.float64)
        seen = dense_visible(self.visibility, n_q, n_k, self.q.device)
        seen = seen if live is None else seen & live
        dead = ~seen.any(dim=-1, keepdim=True)
        scores = scores.masked_fill(~seen & ~dead, float("-inf"))
        lse = scores.logsumexp(dim=-1).masked_fill(dead[..., 0], float("-inf"))
        return scores.softmax(dim=-1).masked_fill(dead, 0.0), lse


def live_pairs(ranges: Tensor, n_q: int, n_k: int, cls_tokens: int) -> Tensor:
    """``(B, H, Nq, Nk)`` bool: what the intervals keep."""
    first, end = (x.repeat_interleave(GROUP, dim=2)[:, :, :n_q, None] for x in ranges.unbind(-1))
    group = torch.arange(n_k) // GROUP
    return ((group >= first) & (group < end)) | (bool(cls_tokens) & (group == 0))


def randn(seed: int, *shape: int, std: float = 1.0) -> Tensor:
    return std * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def grid(n: int, rows: int = 4) -> Tensor:
    """Coordinates of a leading CLS token and of patches sorted by time."""
    i = (torch.arange(n) - 1).clamp(min=0)
    return torch.stack((i // rows, i % rows), dim=-1)


def slopes(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def steep(n: int = 700, n_q: int | None = None, slope: float = 0.5, **options: Any) -> Case:
    """Two heads, of which the first leaves out most keys."""
    q, k, v = randn(1, 1, 2, n_q or n, D), randn(2, 1, 2, n, D), randn(3, 1, 2, n, D)
    return Case(q, k, v, Alibi2D(grid(n), slopes(slope, slope / 50), slopes(0.3, 0.1)), **options)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    n_k = draw(st.sampled_from([1, 2, GROUP, GROUP + 1, 300, 512, 700]))
    n_q = min(n_k, draw(st.sampled_from([1, GROUP - 1, GROUP, GROUP + 1, 333, 700])))
    b, seed, cls_tokens = draw(st.integers(1, 2)), draw(st.integers(0, 2**31)), draw(st.integers(0, 1))
    slope = draw(st.sampled_from([0.0, 0.05, 0.5, 3.0, 1e4, -0.01]))
    generator = torch.Generator().manual_seed(seed)
    coords = draw(st.sampled_from([grid(n_k), grid(n_k, rows=1), 1000 * grid(n_k)]))
    if draw(st.booleans()):
        coords = coords[torch.randperm(n_k, generator=generator)]
    if draw(st.booleans()):
        coords = torch.stack([coords + 5 * s for s in range(b)]) * torch.arange(1, b + 1)[:, None, None]
    std = draw(st.sampled_from([0.1, 1.0, 3.0]))
    q, k, v = (randn(seed + i, b, 2, n, D, std=std) for i, n in enumerate((n_q, n_k, n_k)))
    if draw(st.booleans()):  # one key outweighs its distance from most of the queries
        far = draw(st.integers(0, n_k - 1))
        k[:, :, far] = q[:, :, draw(st.integers(0, n_q - 1))] * draw(st.sampled_from([30.0, 1e3]))
    one, two = slopes(slope, 0.1), slopes(0.0, draw(st.sampled_from([0.0, slope])))
    bias = draw(
        st.sampled_from([Alibi2D(coords, one, two, cls_tokens), Alibi1D(one, coords[..., 0], cls_tokens)])
    )
    lengths = KeyLengths(torch.randint(0, n_k + 3, (b,), generator=generator))
    mask = draw(
        st.sampled_from([None, Causal(), lengths, Causal() & lengths, SlidingWindow(150, 40) & lengths])
    )
    return Case(q, k, v, bias, mask, scale=draw(st.sampled_from([D**-0.5, 1.0, -1.0])))


@settings(max_examples=120, deadline=None)
@given(case=cases(), tolerance=st.sampled_from([0.0, 1e-6, 1e-4, 1e-2, 0.5]))
def test_no_row_loses_more_than_the_tolerance(case: Case, tolerance: float):
    n_q, n_k, cls_tokens = case.q.shape[2], case.k.shape[2], case.bias.cls_tokens
    ranges = case.intervals(tolerance)
    assert ranges.shape == (*case.q.shape[:2], -(-n_q // GROUP), 2)
    assert ranges.dtype == torch.int32
    assert ((ranges[..., 0] >= 0) & (ranges[..., 0] <= ranges[..., 1])).all()
    assert (ranges[..., 1] <= -(-n_k // GROUP)).all()

    live = live_pairs(ranges, n_q, n_k, cls_tokens)
    p, lse = case.probabilities()
    # 1e-12: what a sum of 700 float64 probabilities may be off by.
    assert (p * ~live).sum(dim=-1).max() <= tolerance + 1e-12
    p_live, lse_live = case.probabilities(live)
    assert (lse.isinf() == lse_live.isinf()).all()
    moved = (p @ case.v - p_live @ case.v).norm(dim=-1)
    assert (moved <= 2 * tolerance * case.v.norm(dim=-1).amax() + 1e-9).all()


@pytest.mark.parametrize("tolerance", [1e-6, 1e-3])
def test_the_output_moves_by_less_than_the_tolerance(tolerance: float):
    for case in (steep(), steep(mask=Causal()), steep(n_q=300), steep(slope=1e4)):
        o, lse = attention(
            case.q, case.k, case.v, bias=case.bias, mask=case.mask, return_lse=True, backend="chunked",
            tolerance=tolerance,
        )  # fmt: skip
        p, exact_lse = case.probabilities()
        bound = 2 * tolerance * case.v.norm(dim=-1).amax()
        assert 0 < (o - p @ case.v).norm(dim=-1).max() <= bound
        assert ((exact_lse - lse) <= -torch.log1p(torch.tensor(-tolerance)) + 1e-12).all()


@pytest.mark.parametrize("mask", [None, Causal(), KeyLengths(torch.tensor([400])), SlidingWindow(200, 90)])
@pytest.mark.parametrize(("n_q", "cls_tokens"), [(700, 1), (700, 0), (333, 1)])
def test_both_passes_compute_softmax_over_the_live_keys(mask: Mask | None, n_q: int, cls_tokens: int):
    case = steep(n_q=n_q, slope=2.0, mask=mask)
    parameters = [slopes(2.0, 0.05).requires_grad_(), slopes(0.3, 0.1).requires_grad_()]
    case.bias = Alibi2D(grid(700), *parameters, cls_tokens=cls_tokens)
    leaves = [case.q.requires_grad_(), case.k.requires_grad_(), case.v.requires_grad_(), *parameters]
    ranges = case.intervals(0.01)
    live = live_pairs(ranges, n_q, 700, cls_tokens)
    assert 0.05 < live.double().mean() < 0.9

    def gradients(o: Tensor, lse: Tensor) -> list[Tensor]:
        objective = (o * randn(7, *o.shape)).sum() + (lse.clamp(min=-1e6) * randn(8, *lse.shape)).sum()
        return [o, lse, *torch.autograd.grad(objective, leaves)]

    p, expected_lse = case.probabilities(live)
    got = attention(
        case.q, case.k, case.v, bias=case.bias, mask=mask, return_lse=True, backend="chunked", tolerance=0.01
    )
    for a, b in zip(gradients(*got), gradients(p @ case.v, expected_lse), strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("kind", ["alibi", "directional", "key"])
def test_any_intervals_and_dropout_are_differentiated_as_they_were_taken(kind: str):
    n, tangents = 300, [randn(20 + i, 2, 2, 300, D) for i in range(3)]
    q, k, v = (randn(i, 2, 2, n, D) for i in range(3))
    bias = {
        "alibi": lambda: Alibi2D(grid(n), slopes(0.3, 0.1), slopes(0.2, 0.1)),
        "directional": lambda: Directional(grid(n), slopes(-0.3, 0.1), slopes(0.02, -0.1), signed=False),
        "key": lambda: KeyBias(randn(9, 2, 2, n), cls_tokens=1),
    }[kind]()
    distances, weights, key_bias = lower_bias(bias, 2, 2, n, torch.float64)
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(0, 3, (2, 2, 3), generator=generator)
    options: dict[str, Any] = {
        "distances": distances,
        "visibility": Visibility(),
        "scale": 0.4,
        "dropout_p": 0.3,
        "seed": 5,
        "intervals": torch.stack(
            (first, first + torch.randint(0, 2, (2, 2, 3), generator=generator)), dim=-1
        ),
    }
    grad_o, grad_lse = randn(10, 2, 2, n, D), randn(11, 2, 2, n)

    def objective(step: float) -> Tensor:
        moved = [x + step * t for x, t in zip((q, k, v), tangents, strict=True)]
        w = None if weights is None else weights + step
        b = None if key_bias is None else key_bias + step * torch.arange(n)
        o, lse = chunked_forward(*moved, w, b, **options)
        return (o * grad_o).sum() + (lse.masked_fill(lse.isinf(), 0.0) * grad_lse).sum()

    o, lse = chunked_forward(q, k, v, weights, key_bias, **options)
    dq, dk, dv, dw, db = chunked_backward(
        grad_o,
        grad_lse,
        q,
        k,
        v,
        o,
        lse,
        weights,
        key_bias,
        **options,
        needs_weights=True,
        needs_key_bias=True,
    )
    slope = sum((g * t).sum() for g, t in zip((dq, dk, dv), tangents, strict=True))
    slope = slope + (0 if dw is None else dw.sum()) + (0 if db is None else (db * torch.arange(n)).sum())
    difference = (objective(1e-6) - objective(-1e-6)) / 2e-6
    torch.testing.assert_close(slope, difference, atol=1e-5, rtol=1e-6)


def even(slope: float, n_q: int = 9 * GROUP, mask: Mask | None = None) -> Case:
    """Nine groups at times 0 to 8 and all products 1: the bounds are exact, a group d away weighs exp(-slope d)."""
    ones, time = torch.ones(1, 1, 9 * GROUP, 1, dtype=torch.float64), torch.arange(9 * GROUP) // GROUP
    bias = Alibi1D(slopes(slope), time, cls_tokens=0)
    return Case(ones[:, :, :n_q].clone(), ones.clone(), ones, bias, mask, scale=1.0)


def test_the_intervals_are_those_of_a_count_by_hand():
    # Half the tolerance is 0.05; exp(-4) = 0.018 and exp(-3) = 0.050, together too much.
    assert even(1.0).intervals(0.1)[0, 0, 4].tolist() == [1, 8]
    # A key that scores 3 more makes its whole group count 20 times: 0.37 instead of 0.018.
    loud = even(1.0)
    loud.k[0, 0, 8 * GROUP + 5] = 4.0
    assert loud.intervals(0.1)[0, 0, 4].tolist() == [1, 9]
    # The first row of a causal group sees itself alone: 128 exp(-9) is little enough, 128 exp(-6) is not.
    assert even(3.0).intervals(0.1)[0, 0, 4, 0] == 3
    assert even(3.0, mask=Causal()).intervals(0.1)[0, 0, 4, 0] == 2


def test_every_query_row_counts():
    case = even(3.0, n_q=3 * GROUP)
    case.bias = Alibi1D(slopes(3.0), torch.arange(9 * GROUP) // GROUP, cls_tokens=1)
    assert case.intervals(0.1)[0, 0, 0, 0] == 5
    case.q[0, 0, 0] = 4.0  # the first row is not a CLS token here
    assert case.intervals(0.1)[0, 0, 0, 0] == 4


def test_what_the_coordinates_hold_for_the_cls_token_is_ignored():
    case = steep(1500, slope=3.0)
    other = steep(1500, slope=3.0)
    coords = grid(1500)
    coords[0] = 10_000
    other.bias = Alibi2D(coords, case.bias.slope_t, case.bias.slope_f)
    assert other.intervals(1e-4).equal(case.intervals(1e-4))
    assert (case.intervals(1e-4)[0, 0, 8:, 0] > 0).all()


def test_steeper_slopes_and_larger_tolerances_leave_less():
    def live(slope: float, tolerance: float = 1e-4) -> float:
        return float(live_fraction(steep(2000, slope=slope).intervals(tolerance), 2000, 2000, 1)[0, 0])

    by_slope = [live(slope) for slope in (0.0, 0.1, 0.5, 4.0)]
    assert by_slope[0] == 1.0
    assert by_slope == sorted(by_slope, reverse=True)
    assert by_slope[-1] < 0.35 < by_slope[1]
    assert live(0.3, 1e-9) > live(0.3, 1e-2)


def test_the_steepest_head_of_the_long_golden_leaves_out_half():
    """Its 113 tokens are less than a group, so the groups are made smaller here."""
    stored = load_file(LONG_STEEP)
    leaves = {name: stored[f"in.{name}"].requires_grad_() for name in ("q", "k", "v", "slope_t", "slope_f")}
    coords = torch.stack((stored["in.coord_t"], stored["in.coord_f"]), dim=-1)
    bias = Alibi2D(coords, leaves["slope_t"], leaves["slope_f"])
    case = Case(leaves["q"], leaves["k"], leaves["v"], bias, scale=0.25)
    with mock.patch.object(intervals, "GROUP", 4), mock.patch.object(tiles, "GROUP", 4):
        fraction = live_fraction(case.intervals(1e-4), 113, 113, 1)
        o = attention(case.q, case.k, case.v, bias=bias, backend="chunked", tolerance=1e-4)
        o.backward(stored["in.grad_out"])
    assert fraction[0, 0] < 0.5
    assert fraction[0, 0] < fraction[0, 1] < fraction[0, 2]
    assert (o - stored["out.o"]).abs().max() < 1e-5
    for name, leaf in leaves.items():
        torch.testing.assert_close(leaf.grad, stored[f"grad.{name}"], atol=1e-4, rtol=0.0)


def test_the_order_of_tokens_decides_how_much_is_left_out():
    case = steep(1500, slope=3.0)
    shuffled = steep(1500, slope=3.0)
    order = torch.cat((torch.zeros(1, dtype=torch.long), 1 + torch.randperm(1499)))
    shuffled.bias = Alibi2D(grid(1500)[order], case.bias.slope_t, case.bias.slope_f)
    kept, kept_shuffled = (live_fraction(c.intervals(1e-4), 1500, 1500, 1)[0, 0] for c in (case, shuffled))
    assert kept < 0.4
    assert kept_shuffled == 1.0


def test_biases_that_do_not_fall_with_distance_keep_everything():
    n, far = 700, slopes(5.0, 5.0)
    q, k = randn(1, 1, 2, n, D), randn(2, 1, 2, n, D)
    for bias in (
        Alibi2D(grid(n), -far, -far),
        Alibi2D(grid(n), 0 * far, 0 * far),
        Alibi1D(-far),
        Directional(grid(n), -far, -far, signed=False),
        Raw(grid(n), signed=False),
        KeyBias(torch.arange(n).double()),
    ):
        assert (live_fraction(Case(q, k, k, bias).intervals(0.1), n, n, bias.cls_tokens) == 1).all()


def test_the_cls_token_sees_all_and_is_seen_by_all():
    case = steep(1500, slope=3.0)
    case.k[:, :, 0] = 40 * case.q[:, :, 1200]  # the last rows look at nothing else
    ranges = case.intervals(1e-3)
    assert ranges[0, :, 0].tolist() == [[0, 12]] * 2
    assert (ranges[0, 0, 4:, 0] > 0).all()  # and yet the interval passes it by
    o = attention(case.q, case.k, case.v, bias=case.bias, backend="chunked", tolerance=1e-3)
    p, _ = case.probabilities()
    assert p[0, 0, 1200, 0] > 0.99
    assert (o - p @ case.v).abs().max() < 1e-2
    queries = steep(1500, n_q=200, slope=3.0).intervals(1e-3)
    assert queries[0, 0, 0, 0] > 0  # without the CLS query the first group has an interval too


def test_padding_is_left_out_and_dead_rows_stay_zero():
    case = steep(700, mask=KeyLengths(torch.tensor([0, 130, 700])))
    case.q, case.k, case.v = (x.expand(3, -1, -1, -1) for x in (case.q, case.k, case.v))
    case.bias = Alibi2D(grid(700), slopes(0.5, 0.1), slopes(0.3, 0.1), cls_tokens=0)
    ranges = case.intervals(1e-4)
    assert (ranges[0, :, :, 0] == ranges[0, :, :, 1]).all()
    assert (ranges[1, ..., 1] <= 2).all()
    options: dict[str, Any] = {"bias": case.bias, "mask": case.mask, "backend": "chunked", "tolerance": 1e-4}
    o, lse = attention(case.q, case.k, case.v, return_lse=True, **options)
    assert o[0].abs().max() == 0
    assert lse[0].isneginf().all()
    p, _ = case.probabilities()
    assert (o - p @ case.v).abs().max() < 1e-3


# An infinite key does no harm to the rows that score -inf with it: about half of them.
@pytest.mark.parametrize(("value", "harmed"), [(float("nan"), 700), (float("inf"), 300)])
def test_what_is_not_finite_is_not_left_out(value: float, harmed: int):
    case = steep(700, slope=3.0)
    assert live_fraction(case.intervals(1e-4), 700, 700, 1)[0, 0] < 0.7
    case.k[0, 0, 650, 0] = value
    assert (case.intervals(1e-4)[0, 0, :, 1] == 6).all()
    o = attention(case.q, case.k, case.v, bias=case.bias, backend="chunked", tolerance=1e-4)
    assert o[0, 0].isnan().any(dim=-1).sum() >= harmed


def test_far_groups_are_never_visited():
    case, visits = steep(1500, slope=3.0), []
    original = tiles.Tiling.hidden

    def count(self, samples, rows, keys, device):
        visits.append((keys.stop - keys.start) * (rows.stop - rows.start))
        return original(self, samples, rows, keys, device)

    with mock.patch.object(tiles.Tiling, "hidden", count):
        attention(case.q, case.k, case.v, bias=case.bias, backend="chunked", tolerance=1e-4)
    live = live_pairs(case.intervals(1e-4), 1500, 1500, 1)
    assert sum(visits) == live.sum()
    assert sum(visits) < 0.7 * live.numel()


def test_the_diagonal_may_be_cut_anywhere():
    case = steep(1500, mask=Causal() & KeyLengths(torch.tensor([1400])))
    whole = case.intervals(1e-4)
    with mock.patch.object(intervals, "DIAGONAL_SCORES", 1):
        assert case.intervals(1e-4).equal(whole)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_decides_in_float32(dtype: torch.dtype):
    case = steep(1500, slope=3.0)
    halves = [x.to(dtype) for x in (case.q, case.k, case.v)]
    with torch.autocast("cpu", torch.bfloat16):
        o = attention(*halves, bias=case.bias, backend="chunked", tolerance=1e-4)
    exact = attention(*halves, bias=case.bias, backend="chunked")
    assert o.dtype == dtype
    assert (o - exact).abs().max() <= 2 * torch.finfo(dtype).eps * case.v.abs().max()


@pytest.mark.parametrize("tolerance", [-1e-9, 1.0, float("nan")])
def test_a_tolerance_is_a_probability(tolerance: float):
    with pytest.raises(UsageError, match="tolerance"):
        steep(130).intervals(tolerance)


def test_no_queries_have_no_intervals():
    case = steep(300)
    case.q = case.q[:, :, :0]
    ranges = case.intervals(1e-4)
    assert ranges.shape == (1, 2, 0, 2)
    assert live_fraction(ranges, 0, 300, 1).tolist() == [[0.0, 0.0]]
