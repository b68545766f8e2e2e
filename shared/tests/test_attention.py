"""Back ends against each other, the meaning of descriptors, dispatch, dropout and refusals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from unittest import mock

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pentatonic.attention import (
    Alibi1D,
    Alibi2D,
    Causal,
    Choice,
    Directional,
    DistanceTable,
    KeyBias,
    KeyLengths,
    Raw,
    Rope,
    SlidingWindow,
    attention,
    explain,
    tiles,
)
from pentatonic.errors import BackendUnavailable, UsageError

BLOCK = 8
ALIBI = ["alibi_1d", "alibi_1d_index", "alibi_2d"]
TABLES = ["table", "table_signed", "table_sides", "table_sides_signed"]
BIASES = ["none", *ALIBI, "absolute", "signed", "raw", "raw_signed", "key", *TABLES]
MASKS = ["none", "causal", "window", "lengths", "causal_lengths", "window_lengths", "causal_window"]


def small_tiles():
    """Many tiles at small sizes; one sample per tile."""
    return mock.patch.multiple(tiles, BLOCK_QUERIES=BLOCK, BLOCK_KEYS=BLOCK + 3, TILE_SCORES=1)


@dataclass
class Problem:
    """Inputs of one call; parameters of the bias are leaves, so that their gradients can be compared."""

    q: Tensor
    k: Tensor
    v: Tensor
    bias: Any
    mask: Any
    parameters: list[Tensor]

    def run(self, backend: str, with_lse: bool = True, seed: int = 0) -> list[Tensor]:
        leaves = [self.q, self.k, self.v, *self.parameters]
        result = attention(
            self.q, self.k, self.v, bias=self.bias, mask=self.mask, backend=backend, return_lse=with_lse
        )
        o, lse = result if with_lse else (result, None)
        generator = torch.Generator().manual_seed(seed)
        objective = (o * torch.randn(o.shape, generator=generator, dtype=o.dtype)).sum()
        if lse is not None:
            alive = lse.masked_fill(lse == float("-inf"), 0.0)
            objective = objective + (alive * torch.randn(lse.shape, generator=generator, dtype=o.dtype)).sum()
        grads = torch.autograd.grad(objective, leaves, allow_unused=True)
        grads = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, grads, strict=True)]
        return [o, *([] if lse is None else [lse]), *grads]


def tensor(generator: torch.Generator, shape: tuple[int, int, int, int], layout: str) -> Tensor:
    """A leaf whose memory order is (B, H, N, D), (B, N, H, D), or a slice of something wider."""
    b, h, n, d = shape
    if layout == "tokens_first":
        x = torch.randn(b, n, h, d, generator=generator, dtype=torch.float64).transpose(1, 2)
    elif layout == "sliced":
        x = torch.randn(b, h, n + 2, 3 * d, generator=generator, dtype=torch.float64)[
            :, :, 1 : n + 1, d : 2 * d
        ]
    else:
        x = torch.randn(b, h, n, d, generator=generator, dtype=torch.float64)
    return x.detach().requires_grad_()


def make_bias(kind: str, generator: torch.Generator, b: int, h: int, n: int, cls: int, slope: float):
    """A bias with duplicate coordinates, some per sample, and its differentiable parameters."""
    per_sample = bool(torch.randint(2, (), generator=generator))
    coords = torch.randint(0, 5, ((b, n, 2) if per_sample else (n, 2)), generator=generator)
    one, two = (
        (slope * torch.rand(h, generator=generator, dtype=torch.float64)).requires_grad_() for _ in range(2)
    )
    match kind:
        case "alibi_1d":
            return Alibi1D(one, coords[..., 0], cls_tokens=cls), [one]
        case "alibi_1d_index":
            return Alibi1D(one, cls_tokens=cls), [one]
        case "alibi_2d":
            return Alibi2D(coords, one, two, cls_tokens=cls), [one, two]
        case "absolute" | "signed":
            return Directional(coords, one, two, signed=kind == "signed", cls_tokens=cls), [one, two]
        case "raw" | "raw_signed":
            return Raw(coords, signed=kind == "raw_signed", cls_tokens=cls), []
        case "key":
            shape = (b, h, n) if per_sample else (n,)
            vec = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
            return KeyBias(vec, cls_tokens=cls), [vec]
        case "table" | "table_signed" | "table_sides" | "table_sides_signed":
            shape = (2, h, 5) if "sides" in kind else (h, 5)  # shorter than the largest distances
            values = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
            return DistanceTable(coords, values, kind.endswith("signed"), cls_tokens=cls), [values]
    return None, []


def make_mask(kind: str, generator: torch.Generator, b: int, n: int):
    left, right = (int(x) for x in torch.randint(0, 12, (2,), generator=generator))
    lengths = KeyLengths(torch.randint(0, n + 2, (b,), generator=generator))
    return {
        "none": None,
        "causal": Causal(),
        "window": SlidingWindow(left, right),
        "lengths": lengths,
        "causal_lengths": Causal() & lengths,
        "window_lengths": lengths & SlidingWindow(left, right),
        "causal_window": Causal() & SlidingWindow(left, right),
    }[kind]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    sizes = st.sampled_from([0, 1, 2, BLOCK - 1, BLOCK, BLOCK + 1, BLOCK + 3, 2 * BLOCK + 5, 31])
    b, h, n_k = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(sizes)
    bias_kind = draw(st.sampled_from(BIASES))
    n_q = draw(sizes) if bias_kind == "none" else min(n_k, draw(sizes))
    d, d_v = draw(st.sampled_from([(4, 4), (16, 16), (3, 5)]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    slope = draw(st.sampled_from([0.0, 0.3, 1e4]))
    bias, parameters = make_bias(bias_kind, generator, b, h, n_k, draw(st.integers(0, 1)), slope)
    mask = make_mask(draw(st.sampled_from(MASKS)), generator, b, n_k)
    layouts = [draw(st.sampled_from(["plain", "tokens_first", "sliced"])) for _ in range(3)]
    shapes = [(b, h, n_q, d), (b, h, n_k, d), (b, h, n_k, d_v)]
    q, k, v = (tensor(generator, s, layout) for s, layout in zip(shapes, layouts, strict=True))
    return Problem(q, k, v, bias, mask, parameters)


def assert_same(got: list[Tensor], expected: list[Tensor], tolerance: float = 1e-9) -> None:
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        # Gradients of huge slopes scale with the distances, not with the slopes: absolute tolerance is enough.
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


@settings(max_examples=150, deadline=None)
@given(problem=problems())
def test_chunked_equals_reference(problem: Problem):
    expected = problem.run("reference")
    with small_tiles():
        assert_same(problem.run("chunked"), expected)


@pytest.mark.parametrize("n_q", [25, 6])
@pytest.mark.parametrize("cls_tokens", [0, 1])
@pytest.mark.parametrize("kind", BIASES)
def test_chunked_equals_reference_for_every_bias(kind: str, cls_tokens: int, n_q: int):
    generator = torch.Generator().manual_seed(4)
    bias, parameters = make_bias(kind, generator, 2, 2, 25, cls_tokens, 0.3)
    q, k, v = (tensor(generator, (2, 2, n, 4), "plain") for n in (n_q, 25, 25))
    problem = Problem(q, k, v, bias, None, parameters)
    with small_tiles():
        assert_same(problem.run("chunked"), problem.run("reference"))


@pytest.mark.parametrize("kind", TABLES)
def test_samples_in_one_tile_take_their_entries_of_a_table(kind: str):
    shared = set()
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        bias, parameters = make_bias(kind, generator, 3, 2, 12, 1, 0.3)
        shared.add(bias.coords.dim() == 2)
        q, k, v = (tensor(generator, (3, 2, 12, 4), "plain") for _ in range(3))
        problem = Problem(q, k, v, bias, None, parameters)
        assert_same(problem.run("chunked"), problem.run("reference"))
    assert shared == {False, True}  # coordinates of each sample, and of all


@settings(max_examples=80, deadline=None)
@given(problem=problems())
def test_sdpa_and_auto_equal_reference(problem: Problem):
    expected = problem.run("reference", with_lse=False)
    assert_same(problem.run("auto", with_lse=False), expected)
    if problem.k.shape[2] > 0 or problem.q.shape[2] == 0:
        assert_same(problem.run("sdpa", with_lse=False), expected)


@pytest.mark.parametrize("n", [tiles.BLOCK_QUERIES - 1, tiles.BLOCK_QUERIES + 1, tiles.BLOCK_KEYS + 1])
def test_chunked_equals_reference_at_its_own_tile_size(n: int):
    generator = torch.Generator().manual_seed(n)
    bias, parameters = make_bias("alibi_2d", generator, 2, 2, n, 1, 0.3)
    q, k, v = (tensor(generator, (2, 2, n, 8), "tokens_first") for _ in range(3))
    problem = Problem(q, k, v, bias, Causal() & KeyLengths(torch.tensor([n, n // 2])), parameters)
    assert_same(problem.run("chunked"), problem.run("reference"))


@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize("kind", ["alibi_2d", "signed", "key", "table"])
def test_gradients_are_those_of_finite_differences(backend: str, kind: str):
    generator = torch.Generator().manual_seed(3)
    _, parameters = make_bias(kind, generator, 1, 2, 6, 1, 0.3)
    coords = torch.randint(0, 5, (6, 2), generator=generator)

    def run(q: Tensor, k: Tensor, v: Tensor, *p: Tensor):
        bias = {
            "alibi_2d": lambda: Alibi2D(coords, *p, cls_tokens=1),
            "signed": lambda: Directional(coords, *p, signed=True, cls_tokens=1),
            "key": lambda: KeyBias(*p, cls_tokens=1),
            "table": lambda: DistanceTable(coords, *p),
        }[kind]()
        return attention(q, k, v, bias=bias, mask=SlidingWindow(3, 2), return_lse=True, backend=backend)

    q, k, v = (tensor(generator, (1, 2, 6, 3), "plain") for _ in range(3))
    with mock.patch.multiple(tiles, BLOCK_QUERIES=4, BLOCK_KEYS=4):
        assert torch.autograd.gradcheck(run, (q, k, v, *parameters))


# --- what the descriptors mean ---------------------------------------------------------------------------------


@pytest.fixture
def qkv() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(11)
    q, k, v = (torch.randn(2, 3, 21, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    return q, k, v


def random_coords(seed: int = 5) -> Tensor:
    return torch.randint(0, 6, (2, 21, 2), generator=torch.Generator().manual_seed(seed))


def slopes(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


BACKENDS = pytest.mark.parametrize("backend", ["reference", "chunked", "sdpa"])


@BACKENDS
@pytest.mark.parametrize("cls_tokens", [0, 1])
def test_biases_as_explicit_loops(qkv, backend, cls_tokens):
    q, k, v = qkv
    coords = random_coords()
    a, b = slopes(0.3, 0.1, 0.7), slopes(0.2, 0.5, 0.4)
    vec = torch.randn(3, 21, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def explicit(entry) -> Tensor:
        bias = torch.zeros(2, 3, 21, 21, dtype=torch.float64)
        for s in range(2):
            for h in range(3):
                for i in range(cls_tokens, 21):
                    for j in range(cls_tokens, 21):
                        dt, df = (coords[s, i] - coords[s, j]).tolist()
                        bias[s, h, i, j] = entry(h, i, j, dt, df)
        return (0.35 * q @ k.transpose(-1, -2) + bias).softmax(-1) @ v

    cases = {
        Alibi1D(a, cls_tokens=cls_tokens): lambda h, i, j, dt, df: -a[h] * abs(i - j),
        Alibi1D(a, coords[..., 1], cls_tokens): lambda h, i, j, dt, df: -a[h] * abs(df),
        Alibi2D(coords, a, b, cls_tokens): lambda h, i, j, dt, df: -a[h] * abs(dt) - b[h] * abs(df),
        Directional(coords, a, b, True, cls_tokens): lambda h, i, j, dt, df: (
            (a if j <= i else b)[h] * (dt + df)
        ),
        Directional(coords, a, b, False, cls_tokens): (
            lambda h, i, j, dt, df: (a if j <= i else b)[h] * (abs(dt) + abs(df))
        ),
        Raw(coords, True, cls_tokens): lambda h, i, j, dt, df: dt + df,
        Raw(coords, False, cls_tokens): lambda h, i, j, dt, df: abs(dt) + abs(df),
        KeyBias(vec, cls_tokens): lambda h, i, j, dt, df: vec[h, j],
        DistanceTable(coords, vec[:, :4], False, cls_tokens): (
            lambda h, i, j, dt, df: vec[h, min(abs(dt) + abs(df), 3)]
        ),
        DistanceTable(coords, vec[:, :5], True, cls_tokens): (
            lambda h, i, j, dt, df: vec[h, min(max(dt + df + 2, 0), 4)]
        ),
        DistanceTable(coords, torch.stack((vec, vec + 1)), False, cls_tokens): (
            lambda h, i, j, dt, df: vec[h, abs(dt) + abs(df)] + (j > i)
        ),
    }
    with small_tiles():
        for bias, entry in cases.items():
            o = attention(q, k, v, bias=bias, scale=0.35, backend=backend)
            torch.testing.assert_close(o, explicit(entry), atol=1e-12, rtol=0)


@BACKENDS
def test_masks_as_explicit_loops(qkv, backend):
    q, k, v = qkv
    q = q[:, :, -9:]  # queries are the last tokens
    lengths = torch.tensor([13, 21])
    cases = {
        Causal(): lambda s, i, j: j <= i,
        SlidingWindow(4, 2): lambda s, i, j: i - 4 <= j <= i + 2,
        # One less than what would hide nothing: the last query misses the first key, the first query the last.
        SlidingWindow(19, 30): lambda s, i, j: i - 19 <= j,
        SlidingWindow(30, 7): lambda s, i, j: j <= i + 7,
        KeyLengths(lengths): lambda s, i, j: j < lengths[s],
        Causal() & SlidingWindow(30, 5) & KeyLengths(lengths): lambda s, i, j: j <= i and j < lengths[s],
    }
    with small_tiles():
        for mask, sees in cases.items():
            visible = torch.tensor(
                [[[sees(s, i, j) for j in range(21)] for i in range(12, 21)] for s in range(2)]
            )
            scores = (q @ k.transpose(-1, -2) / 8**0.5).masked_fill(~visible[:, None], float("-inf"))
            expected = (scores.softmax(-1) @ v).nan_to_num(0.0)
            o = attention(q, k, v, mask=mask, backend=backend)
            torch.testing.assert_close(o, expected, atol=1e-12, rtol=0)


@BACKENDS
def test_rows_that_see_nothing_are_zero_and_pass_no_gradient(backend):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, n, 8, generator=generator).requires_grad_() for n in (9, 5, 5))
    # Causal with 9 queries of 5 tokens: queries 0..3 come before every key; sample 1 has no keys at all.
    o = attention(q, k, v, mask=Causal() & KeyLengths(torch.tensor([5, 0])), backend=backend)
    dead = torch.zeros(2, 9, dtype=torch.bool)
    dead[0, :4] = dead[1] = True
    assert (o.abs().amax(dim=(1, 3)) == 0).equal(dead)
    o.sum().backward()
    assert (q.grad.abs().amax(dim=(1, 3)) == 0)[dead].all()
    assert all(x.grad.isfinite().all() and (x.grad[1] == 0).all() for x in (q, k, v))


@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_lse_of_dead_rows_is_minus_infinity_and_passes_no_gradient(backend):
    q = torch.randn(1, 1, 4, 8, requires_grad=True)
    k, v = torch.randn(1, 1, 2, 8), torch.randn(1, 1, 2, 8)
    o, lse = attention(q, k, v, mask=Causal(), return_lse=True, backend=backend)
    assert lse[0, 0].isinf().tolist() == [True, True, False, False]
    (o.sum() + lse.exp().sum()).backward()
    assert q.grad[0, 0, :2].abs().max() == 0
    assert q.grad[0, 0, 2:].abs().max() > 0


@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_undefined_gradients_of_dead_rows_stay_there(backend):
    q = torch.randn(1, 1, 4, 8, requires_grad=True)
    k, v = torch.randn(1, 1, 2, 8, requires_grad=True), torch.randn(1, 1, 2, 8)
    _, lse = attention(q, k, v, mask=Causal(), return_lse=True, backend=backend)
    # What merging two dead halves with logaddexp sends back.
    upstream = torch.tensor([[[float("nan"), float("nan"), 1.0, 1.0]]])
    dq, dk = torch.autograd.grad(lse, (q, k), upstream)
    assert dq.isfinite().all()
    assert dk.isfinite().all()


# --- metamorphic laws --------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    cls_tokens=st.integers(0, 1),
    kind=st.sampled_from(["alibi_2d", "raw", "raw_signed"]),
)
def test_tokens_and_coordinates_may_be_permuted_together(seed: int, cls_tokens: int, kind: str):
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(1, 2, 19, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    coords = torch.randint(0, 9, (19, 2), generator=generator)
    order = torch.randperm(19 - cls_tokens, generator=generator) + cls_tokens
    order = torch.cat((torch.arange(cls_tokens), order))  # the CLS token stays first

    def bias(c: Tensor):
        if kind == "alibi_2d":
            return Alibi2D(c, slopes(0.2, 0.6), slopes(0.5, 0.1), cls_tokens)
        return Raw(c, kind == "raw_signed", cls_tokens)

    with small_tiles():
        plain = attention(q, k, v, bias=bias(coords), backend="chunked")
        permuted = attention(
            q[:, :, order], k[:, :, order], v[:, :, order], bias=bias(coords[order]), backend="chunked"
        )
    torch.testing.assert_close(permuted, plain[:, :, order], atol=1e-12, rtol=0)


@settings(max_examples=25, deadline=None)
@given(shift_t=st.integers(-5000, 5000), shift_f=st.integers(-5000, 5000), signed=st.booleans())
def test_coordinates_may_be_shifted_together(shift_t: int, shift_f: int, signed: bool):
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(1, 2, 19, 4, generator=generator) for _ in range(3))
    coords = torch.randint(0, 9, (19, 2), generator=generator)
    moved = coords + torch.tensor([shift_t, shift_f])
    with small_tiles():
        for build in (
            lambda c: Alibi2D(c, slopes(0.2, 0.6).float(), slopes(0.5, 0.1).float()),
            lambda c: Directional(c, slopes(0.2, 0.6).float(), slopes(0.5, 0.1).float(), signed),
        ):
            a, b = (attention(q, k, v, bias=build(c), backend="chunked") for c in (coords, moved))
            assert a.equal(b)  # integer differences are exact in float32


def test_limits_of_the_biases(qkv):
    q, k, v = qkv
    coords = random_coords()
    zero, a = slopes(0, 0, 0), slopes(0.3, 0.1, 0.7)
    flat = coords * torch.tensor([1, 0])
    full = attention(q, k, v, backend="chunked")

    def run(bias):
        return attention(q, k, v, bias=bias, backend="chunked")

    with small_tiles():
        pairs = {
            "no slope, no bias": (run(Alibi2D(coords, zero, zero)), full),
            "one frequency is 1D": (run(Alibi2D(flat, a, a, 0)), run(Alibi1D(a, flat[..., 0]))),
            "one patch leaves no bias": (run(Alibi2D(coords[:, :1].expand(-1, 21, -1), a, a)), full),
            "equal sides are an ALiBi": (run(Directional(coords, -a, -a, False)), run(Alibi2D(coords, a, a))),
            "unit weights are raw": (run(Directional(coords, a**0, a**0, True)), run(Raw(coords, True))),
            "signed without CLS is a key bias": (
                run(Raw(coords, True, 0)),
                run(KeyBias(-coords.sum(-1)[:, None].double())),
            ),
        }
    for law, (got, expected) in pairs.items():
        torch.testing.assert_close(got, expected, atol=1e-12, rtol=0, msg=lambda m, law=law: f"{law}: {m}")


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 40), extra=st.integers(-1, 3))
def test_a_window_of_all_tokens_is_full_attention(n: int, extra: int):
    generator = torch.Generator().manual_seed(n)
    q, k, v = (torch.randn(1, 1, n, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    side = max(0, n + extra)
    with small_tiles():
        windowed = attention(q, k, v, mask=SlidingWindow(side, side), backend="chunked")
        torch.testing.assert_close(windowed, attention(q, k, v, backend="sdpa"), atol=1e-12, rtol=0)
    assert explain(q, k, v, mask=SlidingWindow(side, side)) == explain(q, k, v)


@settings(max_examples=20, deadline=None)
@given(split=st.integers(0, 21))
def test_two_halves_merge_by_their_lse(split: int):
    generator = torch.Generator().manual_seed(split)
    q, k, v = (torch.randn(2, 2, 21, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    whole, whole_lse = attention(q, k, v, return_lse=True)
    parts = [
        attention(q, k[:, :, half], v[:, :, half], return_lse=True)
        for half in (slice(0, split), slice(split, 21))
    ]
    lse = torch.logaddexp(parts[0][1], parts[1][1])
    merged = sum(o * (part_lse - lse).exp()[..., None] for o, part_lse in parts)
    torch.testing.assert_close(merged, whole, atol=1e-12, rtol=0)
    torch.testing.assert_close(lse, whole_lse, atol=1e-12, rtol=0)


def test_far_tiles_are_never_visited():
    visits = []
    original = tiles.Tiling.hidden

    def count(self, samples, rows, keys, device):
        visits.append((rows.start, keys.start))
        return original(self, samples, rows, keys, device)

    q = torch.randn(1, 1, 64, 4)
    with small_tiles(), mock.patch.object(tiles.Tiling, "hidden", count):
        attention(q, q, q, mask=SlidingWindow(3, 0), backend="chunked")
    assert len(visits) == 8  # 8 row blocks, each with at most 8 + 3 keys in one tile
    assert all(start - 3 <= key <= start for start, key in visits)


# --- rope --------------------------------------------------------------------------------------------------------


def test_rope_only_sees_relative_positions_and_aligns_queries_with_the_last_keys(qkv):
    q, k, v = qkv
    rope = Rope(10000.0)
    full = attention(q, k, v, mask=Causal(), rope=rope)
    shifted = attention(q, k, v, mask=Causal(), rope=Rope(10000.0, positions=torch.arange(21) + 1000))
    torch.testing.assert_close(shifted, full, atol=1e-10, rtol=0)
    last = attention(q[:, :, -4:], k, v, mask=Causal(), rope=rope)
    torch.testing.assert_close(last, full[:, :, -4:], atol=1e-12, rtol=0)


def test_rope_table_per_sample_equals_positions_per_sample(qkv):
    from pentatonic.rope import rope_table

    q, k, v = qkv
    positions = torch.stack((torch.arange(21), torch.arange(21) * 2))
    table = rope_table(positions, 6, 500.0, dtype=torch.float64)
    a = attention(q, k, v, rope=Rope(500.0, positions=positions, rotary_dim=6, style="interleaved"))
    b = attention(q, k, v, rope=Rope(cos_sin=table, style="interleaved"))
    one = attention(
        q[1:], k[1:], v[1:], rope=Rope(500.0, positions=positions[1], rotary_dim=6, style="interleaved")
    )
    assert a.equal(b)
    torch.testing.assert_close(a[1:], one, atol=1e-12, rtol=0)


# --- dropout, precision, dispatch ----------------------------------------------------------------------------------


def test_chunked_dropout_differentiates_the_masks_it_drew():
    generator = torch.Generator().manual_seed(2)
    q, k, v = (tensor(generator, (1, 2, 9, 2), "plain") for _ in range(3))

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        torch.manual_seed(7)
        return attention(q, k, v, bias=Alibi1D(slopes(0.1, 0.2)), dropout_p=0.4, backend="chunked")

    with small_tiles():
        assert torch.autograd.gradcheck(run, (q, k, v))
        assert not run(q, k, v).equal(attention(q, k, v, bias=Alibi1D(slopes(0.1, 0.2)), backend="chunked"))


@pytest.mark.parametrize("backend", ["chunked", "sdpa"])
def test_dropout_keeps_the_mean_and_follows_the_seed(backend):
    generator = torch.Generator().manual_seed(2)
    q, k = (torch.randn(1, 1, 64, 4, generator=generator) for _ in range(2))
    v = torch.ones(1, 1, 64, 1).expand(-1, -1, -1, 4)
    torch.manual_seed(0)
    first = attention(q, k, v, dropout_p=0.25, backend=backend)
    second = attention(q, k, v, dropout_p=0.25, backend=backend)
    torch.manual_seed(0)
    assert attention(q, k, v, dropout_p=0.25, backend=backend).equal(first)
    assert not second.equal(first)
    assert abs(float(first.mean()) - 1.0) < 0.1  # without the factor 1 / (1 - p) it would be 0.75
    assert attention(q, k, v, dropout_p=1.0, backend=backend).abs().max() == 0


def test_chunked_dropout_survives_activation_checkpointing():
    x = torch.randn(1, 2, 300, 8)
    grads = []
    for wrapped in (False, True):
        leaf = x.clone().requires_grad_()
        torch.manual_seed(3)

        def run(y: Tensor) -> Tensor:
            return attention(y, y, y, mask=SlidingWindow(9, 9), dropout_p=0.3, backend="chunked")

        o = checkpoint(run, leaf, use_reentrant=False) if wrapped else run(leaf)
        o.square().sum().backward()
        grads.append(leaf.grad)
    assert grads[0].equal(grads[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_good_as_an_explicit_matrix(dtype):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 300, 16, generator=generator).to(dtype) for _ in range(3))
    coords = torch.stack((torch.arange(300) // 4, torch.arange(300) % 4), dim=-1)
    bias = Alibi2D(coords, torch.tensor([0.3, 0.01]), torch.tensor([0.5, 0.1]))
    truth = attention(q.double(), k.double(), v.double(), bias=bias, backend="reference")
    explicit = attention(q, k, v, bias=bias, backend="sdpa")
    with torch.autocast("cpu", torch.bfloat16):  # must not lower the precision inside the tiles
        chunked = attention(q, k, v, bias=bias)
    assert chunked.dtype == dtype
    assert explain(q, k, v, bias=bias).backend == "chunked"
    assert (chunked - truth).abs().max() <= 2 * (explicit - truth).abs().max()
    assert (chunked - truth).abs().mean() <= 2 * (explicit - truth).abs().mean()


def test_square_causal_attention_goes_straight_to_sdpa(qkv):
    q, k, v = qkv
    with mock.patch(
        "pentatonic.attention.sdpa.scaled_dot_product_attention", return_value="fused", autospec=True
    ) as fused:
        assert attention(q, k, v, mask=Causal(), dropout_p=0.1) == "fused"
    (arguments, options) = fused.call_args
    assert [a is b for a, b in zip(arguments, (q, k, v), strict=True)] == [True] * 3
    assert options == {"dropout_p": 0.1, "is_causal": True, "scale": None}


def test_explain_names_the_back_end_and_the_reason():
    q = torch.randn(1, 2, 600, 4)
    coords = torch.zeros(600, 2, dtype=torch.int32)
    alibi = Alibi2D(coords, torch.ones(2), torch.ones(2))
    lengths = KeyLengths(torch.tensor([3]))

    def backend(n_q: int = 600, **options: Any) -> str:
        choice = explain(q[:, :, :n_q], q, q, **options)
        assert isinstance(choice, Choice)
        assert choice.reason
        return choice.backend

    assert backend() == backend(mask=Causal()) == backend(mask=lengths) == "sdpa"
    assert backend(n_q=1, mask=Causal()) == "sdpa"
    assert backend(n_q=20, mask=Causal()) == "sdpa"
    assert backend(n_q=500, mask=Causal()) == "chunked"
    assert backend(mask=SlidingWindow(64, 64)) == backend(mask=SlidingWindow(512, 0)) == "banded"
    assert backend(mask=SlidingWindow(300, 300) & lengths) == backend(mask=Causal() & lengths) == "chunked"
    assert backend(n_q=500, mask=SlidingWindow(64, 64)) == backend(mask=SlidingWindow(64, 599)) == "chunked"
    assert backend(bias=alibi) == backend(return_lse=True) == backend(n_q=0) == "chunked"
    assert backend(backend="reference", rope=Rope(1e4), scale=1.0) == "reference"
    assert explain(q, q, q, bias=alibi).reason == "Alibi2D: no Nq x Nk matrix"
    assert explain(q, q, q, backend="chunked") == Choice("chunked", "asked for")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"backend": "sdpa", "return_lse": True}, "log-sum-exp"),
        ({"backend": "reference", "dropout_p": 0.1}, "dropout"),
    ],
)
def test_a_forced_back_end_refuses_what_it_cannot_do(options, why):
    q = torch.randn(1, 1, 4, 4)
    with pytest.raises(BackendUnavailable, match=why):
        attention(q, q, q, **options)
    with pytest.raises(BackendUnavailable, match=why):
        explain(q, q, q, **options)


def test_sdpa_refuses_to_attend_to_nothing():
    with pytest.raises(BackendUnavailable, match="without keys"):
        attention(torch.randn(1, 1, 4, 4), torch.randn(1, 1, 0, 4), torch.randn(1, 1, 0, 4), backend="sdpa")


Q = torch.zeros(2, 3, 5, 4)
S = torch.ones(3)
XY = torch.zeros(5, 2, dtype=torch.int32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: attention(Q[0], Q, Q), r"\(B, H, N, D\)"),
        (lambda: attention(Q, Q, Q[:, :, :4]), "do not agree"),
        (lambda: attention(Q, Q[..., :2], Q), "do not agree"),
        (lambda: attention(Q, Q.double(), Q), "one floating dtype"),
        (lambda: attention(Q.int(), Q.int(), Q.int()), "one floating dtype"),
        (lambda: attention(Q, Q, Q, backend="flex"), "auto, reference, chunked, banded, sdpa, triton"),
        (lambda: attention(Q, Q, Q, tolerance=0.0), "between 0 and 1"),
        (lambda: attention(Q, Q, Q, dropout_p=1.5), r"\[0, 1\]"),
        (lambda: attention(Q, Q, Q, mask=object()), "not a mask"),
        (lambda: attention(Q, Q, Q, bias=object()), "not a bias"),
        (lambda: attention(Q, Q, Q, mask=KeyLengths(torch.tensor([1]))), "batch of 2"),
        (lambda: attention(Q, Q, Q, bias=Alibi1D(S[:2])), "2 entries for 3 heads"),
        (lambda: attention(Q, Q, Q, bias=Alibi1D(S, torch.arange(4))), r"\(4,\) tokens"),
        (lambda: attention(Q, Q, Q, bias=Raw(XY[:4], signed=True)), r"\(4,\) tokens"),
        (lambda: attention(Q, Q, Q, bias=Alibi2D(XY.expand(3, 5, 2), S, S)), r"\(3, 5\) tokens"),
        (lambda: attention(Q, Q, Q, bias=KeyBias(torch.zeros(2, 5))), "does not broadcast"),
        (lambda: attention(Q, Q[:, :, :3], Q[:, :, :3], bias=Alibi1D(S)), "as many keys as queries"),
        (lambda: attention(Q, Q[:, :, :3], Q[:, :, :3], rope=Rope(1e4)), "as many keys as queries"),
        (lambda: attention(Q, Q, Q, rope=Rope(1e4, positions=torch.arange(4))), "4 positions"),
        (lambda: Alibi1D(torch.ones(3, dtype=torch.int32)), r"floating vector \(H,\)"),
        (lambda: Alibi2D(XY.half(), S, S), "int16/32/64"),
        (lambda: Alibi2D(XY[:, :1], S, S), r"\(N, 2\)"),
        (lambda: Directional(XY, S, S, True, cls_tokens=2), "cls_tokens must be 0 or 1"),
        (lambda: KeyBias(torch.ones(3, dtype=torch.int32)), "floating"),
        (lambda: attention(Q, Q, Q, bias=DistanceTable(XY, torch.zeros(2, 9))), "2 rows for 3 heads"),
        (lambda: DistanceTable(XY, torch.zeros(3, 3, 9)), r"\(H, L\) or \(2, H, L\)"),
        (lambda: DistanceTable(XY, torch.zeros(3, 0)), r"\(H, L\) or \(2, H, L\)"),
        (lambda: DistanceTable(XY, torch.zeros(3, 8), signed=True), "odd number of values, got 8"),
        (lambda: SlidingWindow(-1, 2), "left=-1"),
        (lambda: KeyLengths(torch.tensor([1.0])), "integer vector"),
        (lambda: Rope(), "either theta or cos_sin"),
        (lambda: Rope(cos_sin=(S, S), rotary_dim=4), "belong to theta"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(UsageError, match=message):
        call()
