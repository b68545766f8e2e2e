"""The kernels in Triton's interpreter, against the naive reference in float64: values, lse and all gradients.

The interpreter runs one program after the other on the CPU; it shows wrong arithmetic and wrong addresses, but neither
races nor speed, and it rounds bfloat16 wrongly. Those are for a GPU: test_attention_kernels_gpu.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import Any
from unittest import mock

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import Phase, given, note, settings
from torch import Tensor

from pentatonic.attention import (
    Alibi1D,
    Alibi2D,
    Causal,
    Directional,
    KeyBias,
    KeyLengths,
    Raw,
    Rope,
    SlidingWindow,
    attention,
    decode_attention,
    intervals,
    pack,
    unpack,
    varlen_attention,
)
from pentatonic.attention.descriptors import Visibility
from pentatonic.attention.problem import Problem, lower_bias
from pentatonic.attention.reference import dense_bias, dense_visible
from pentatonic.errors import BackendUnavailable
from pentatonic.rope import rope_table

if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("Triton's interpreter is off: the kernels run on a GPU", allow_module_level=True)
pytest.importorskip("triton")

from pentatonic.attention.kernels import launch
from pentatonic.attention.kernels.configs import KERNELS, Config, forced

# What Triton's interpreter does with NumPy is not ours to fix.
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")

BIASES = ["none", "alibi_1d", "alibi_1d_index", "alibi_2d", "absolute", "signed", "raw", "raw_signed", "key"]
MASKS = ["none", "causal", "window", "lengths", "causal_lengths", "window_lengths", "causal_window"]
ROPES = ["none", "half", "interleaved", "partial_half", "partial_interleaved", "positions", "table"]
SLOPES = {
    "gentle": (0.3, 0.05),
    "none": (0.0, 0.0),
    "growing": (-0.2, -0.4),
    "mixed": (0.5, -0.3),
    "huge": (1e4, 3e3),
}
LAYOUTS = ["plain", "tokens_first", "sliced", "dim_outside"]
# Around the sides of the tiles below, and primes.
SIZES = [17, 33, 23, 1, 2, 7, 13, 15, 16, 31, 32, 45, 0]
BLOCKS = [(16, 16), (32, 16), (16, 32), (64, 32), (32, 64)]


# --- one call ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A call in plain words, so that a failing one can be read; the tensors come from the seed.

    ``n_q=None`` means as many queries as keys; with a bias or a rope there are never more.
    """

    seed: int = 0
    batch: int = 2
    heads: int = 2
    n_q: int | None = None
    n_k: int = 33
    head_dim: int = 16
    bias: str = "none"
    slopes: str = "gentle"
    float_coordinates: bool = False
    cls_tokens: int = 1
    mask: str = "none"
    rope: str = "none"
    scale: float | None = None
    layouts: tuple[str, str, str, str] = ("plain", "plain", "plain", "plain")
    half: bool = False
    outputs: str = "both"
    blocks: tuple[tuple[int, int], ...] = ((16, 16),) * len(KERNELS)
    splits: int = 1

    @property
    def dtype(self) -> torch.dtype:
        return torch.float16 if self.half else torch.float32

    @property
    def queries(self) -> int:
        n_q = self.n_k if self.n_q is None else self.n_q
        return n_q if self.bias == self.rope == "none" else min(n_q, self.n_k)


def random_case(seed: int) -> Case:
    """Every choice at random: a strategy of many parts would be drawn with most of them alike."""
    r = Random(seed)
    return Case(
        seed=seed,
        batch=r.choice([1, 1, 2]),
        heads=r.choice([1, 2]),
        n_q=r.choice([None, None, *SIZES]),
        n_k=r.choice(SIZES),
        head_dim=r.choice([16, 1, 5, 32, 48, 64, 96, 128]),
        bias=r.choice(BIASES),
        slopes=r.choice(list(SLOPES)),
        float_coordinates=r.random() < 0.3,
        cls_tokens=r.randrange(2),
        mask=r.choice(MASKS),
        rope=r.choice(ROPES) if r.random() < 0.5 else "none",
        scale=r.choice([None, None, 0.4, -0.3, 0.0]),
        layouts=(r.choice(LAYOUTS), r.choice(LAYOUTS), r.choice(LAYOUTS), r.choice(LAYOUTS)),
        half=r.random() < 0.3,
        outputs=r.choice(["both", "both", "both", "o", "lse"]),
        blocks=tuple(r.choice(BLOCKS) for _ in KERNELS),
        splits=r.randint(1, 4),
    )


CASES = st.integers(0, 2**40).map(random_case)
# No shrinking: a smaller seed does not make a simpler case.
SEARCH = settings(deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])


def tensor(g: torch.Generator, shape: tuple[int, int, int, int], layout: str, dtype: torch.dtype) -> Tensor:
    """Random ``(B, H, N, D)`` in one of several memory orders."""
    b, h, n, d = shape
    match layout:
        case "tokens_first":
            return torch.randn(b, n, h, d, generator=g).to(dtype).transpose(1, 2)
        case "sliced":
            return torch.randn(b, h, n + 2, 3 * d, generator=g).to(dtype)[:, :, 1 : n + 1, d : 2 * d]
        case "dim_outside":
            return torch.randn(b, h, d, n, generator=g).to(dtype).transpose(2, 3)
    return torch.randn(b, h, n, d, generator=g).to(dtype)


def make_bias(case: Case, g: torch.Generator) -> tuple[list[Tensor], Callable[..., Any]]:
    """Differentiable parameters of a bias, and what builds it from them. Coordinates repeat; some are per sample."""
    b, h, n = case.batch, case.heads, case.n_k
    per_sample = bool(torch.randint(2, (), generator=g))
    lead = (b, n) if per_sample else (n,)
    coords = torch.randint(-3, 6, (*lead, 2), generator=g, dtype=torch.int16 if per_sample else torch.int64)
    if case.float_coordinates:
        coords = 3 * torch.randn(*lead, 2, generator=g)
    one, two = (s * (0.5 + torch.rand(h, generator=g)) for s in SLOPES[case.slopes])
    cls = case.cls_tokens
    match case.bias:
        case "alibi_1d":
            return [one], lambda w: Alibi1D(w, coords[..., 0], cls)
        case "alibi_1d_index":
            return [one], lambda w: Alibi1D(w, cls_tokens=cls)
        case "alibi_2d":
            return [one, two], lambda w, u: Alibi2D(coords, w, u, cls)
        case "absolute" | "signed":
            return [one, two], lambda w, u: Directional(coords, w, u, case.bias == "signed", cls)
        case "raw" | "raw_signed":
            return [], lambda: Raw(coords, case.bias == "raw_signed", cls)
        case "key":
            shapes = [(n,), (h, n), (b, h, n), (b, 1, n), (1, h, n)]
            vec = torch.randn(shapes[int(torch.randint(5, (), generator=g))], generator=g)
            return [vec], lambda w: KeyBias(w, cls)
    return [], lambda: None


def make_mask(case: Case, g: torch.Generator) -> Any:
    """Window sides are often beyond one end; lengths include 0 and more than there are."""
    left, right = (int(x) for x in torch.randint(0, 12, (2,), generator=g))
    side = int(torch.randint(4, (), generator=g))
    window = SlidingWindow(999 if side == 0 else left, 999 if side == 1 else right)
    lengths = KeyLengths(torch.randint(0, case.n_k + 2, (case.batch,), generator=g))
    return {
        "none": None,
        "causal": Causal(),
        "window": window,
        "lengths": lengths,
        "causal_lengths": Causal() & lengths,
        "window_lengths": lengths & window,
        "causal_window": Causal() & window,
    }[case.mask]


def make_rope(case: Case, g: torch.Generator) -> Rope | None:
    d = case.head_dim - case.head_dim % 2
    if case.rope == "none" or d == 0:
        return None
    positions = torch.randint(0, 40, (case.batch, case.n_k), generator=g)
    match case.rope:
        case "positions":
            return Rope(100.0, positions=positions, style="interleaved", rotary_dim=d)
        case "table":
            return Rope(cos_sin=rope_table(positions, d, 50.0))
    style: Any = case.rope.removeprefix("partial_")
    return Rope(1000.0, style=style, rotary_dim=d - 2 if case.rope.startswith("partial") and d > 2 else d)


@dataclass(frozen=True)
class Call:
    """The tensors of a case: q, k, v and the parameters of the bias, and the gradients that come back."""

    inputs: list[Tensor]
    bias: Callable[..., Any]
    options: dict[str, Any]
    grads: dict[str, Tensor]

    @staticmethod
    def of(case: Case) -> Call:
        g = torch.Generator().manual_seed(case.seed)
        b, h, n_q, n_k, d = case.batch, case.heads, case.queries, case.n_k, case.head_dim
        shapes = [(b, h, n_q, d), (b, h, n_k, d), (b, h, n_k, d), (b, h, n_q, d)]
        q, k, v, do = (tensor(g, s, x, case.dtype) for s, x in zip(shapes, case.layouts, strict=True))
        parameters, bias = make_bias(case, g)
        options = {"mask": make_mask(case, g), "rope": make_rope(case, g), "scale": case.scale}
        dlse = torch.randn(b, n_q, h, generator=g).transpose(1, 2)
        grads = {"both": {"o": do, "lse": dlse}, "o": {"o": do}, "lse": {"lse": dlse}}[case.outputs]
        return Call([q, k, v, *parameters], bias, options, grads)

    def run(self, backend: Any, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """Both outputs, and one gradient per input."""
        leaves = [x.detach().to(dtype or x.dtype).requires_grad_() for x in self.inputs]
        q, k, v, *parameters = leaves
        options = self.options | {"bias": self.bias(*parameters), "backend": backend, "return_lse": True}
        results = dict(zip(("o", "lse"), attention(q, k, v, **options), strict=True))
        outputs = [results[name] for name in self.grads]
        upstream = [x.to(results[name].dtype) for name, x in self.grads.items()]
        grads = torch.autograd.grad(outputs, leaves, upstream, allow_unused=True)
        names = ["dq", "dk", "dv", *(f"d_parameter_{i}" for i in range(len(parameters)))]
        filled = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, grads, strict=True)]
        return {name: x.detach() for name, x in (results | dict(zip(names, filled, strict=True))).items()}


@contextmanager
def block_sizes(blocks: tuple[tuple[int, int], ...], splits: int = 1) -> Iterator[None]:
    """Tiles of these sizes in each kernel; so many ranges of keys where queries are few."""
    with ExitStack() as stack:
        for kernel, (m, n) in zip(KERNELS, blocks, strict=True):
            stack.enter_context(forced(Config(m, n, 4, 1), kernel))
        stack.enter_context(mock.patch.object(launch, "_splits", lambda q, k: splits))
        yield


def assert_close(got: dict[str, Tensor], truth: dict[str, Tensor], rounding: float) -> None:
    """Everything within ``rounding`` of the largest number in it.

    float32 holds a log-sum-exp to one part in 2^24, and the weights are recomputed from it: where huge slopes leave
    only far keys, it is that large that the weights inherit its rounding.
    """
    assert got.keys() == truth.keys()
    lse = truth["lse"].detach()
    largest_lse = lse[lse.isfinite()].abs().max() if lse.isfinite().any() else 0.0
    for name, expected in ((name, x.detach()) for name, x in truth.items()):
        scale = max(
            1.0, float(expected[expected.isfinite()].abs().max()) if expected.isfinite().any() else 0.0
        )
        atol = (rounding + 5e-7 * float(largest_lse)) * scale
        torch.testing.assert_close(
            got[name].double(), expected, atol=atol, rtol=0, msg=lambda m, name=name: f"{name}: {m}"
        )


def check(case: Case) -> None:
    call = Call.of(case)
    truth = call.run("reference", torch.float64)
    with block_sizes(case.blocks, case.splits):
        got = call.run("triton")
    assert got["o"].dtype == case.dtype
    assert got["lse"].dtype == torch.float32
    assert_close(got, truth, 1e-2 if case.half else 5e-5)


@pytest.mark.parametrize(
    ("bias", "half", "slopes"),
    [(bias, half, "gentle") for bias in BIASES for half in (False, True)]
    + [("alibi_1d", True, "growing"), ("alibi_2d", True, "mixed")],
)
def test_every_bias_over_tiles_with_and_without_the_first_token(bias: str, half: bool, slopes: str):
    check(Case(seed=3, batch=1, heads=1, n_k=40, bias=bias, half=half, slopes=slopes))


@pytest.mark.parametrize("scale", [30.0, -30.0])
def test_scores_beyond_the_range_of_exponentials(scale: float):
    check(Case(seed=4, batch=1, heads=1, n_k=40, scale=scale))


@pytest.mark.parametrize("bias", BIASES)
@settings(SEARCH, max_examples=5)
@given(case=CASES)
def test_kernels_equal_the_reference(bias: str, case: Case):
    case = replace(case, bias=bias)
    note(str(case))
    check(case)


@pytest.mark.slow
@pytest.mark.parametrize("bias", BIASES)
@settings(SEARCH, max_examples=60)
@given(case=CASES)
def test_kernels_equal_the_reference_in_many_cases(bias: str, case: Case):
    case = replace(case, bias=bias)
    note(str(case))
    check(case)


def test_gradients_of_weights_whose_terms_cancel():
    """Terms that add up to 630 without their signs leave 0.15: what is rounded once per row must not add up."""
    check(replace(random_case(1), bias="absolute"))


@pytest.mark.parametrize("outputs", ["o", "both"])
@pytest.mark.parametrize("mask", [None, Causal()])
def test_scaled_losses_do_not_overflow_the_gradient_of_the_scores(mask: Any, outputs: str):
    """Gradients of scores exceed 65,504 here, where float16 ends; all results are within it."""
    g = torch.Generator().manual_seed(0)
    q, k, v, do = (torch.randn(1, 2, 40, 64, generator=g) for _ in range(4))
    q, k, v, do = (scale * x for x, scale in ((q, 0.05), (k, 0.05), (v, 40.0), (do, 8000.0)))
    inputs, do = [x.half() for x in (q, k, v)], do.half()
    dlse = 3e5 * torch.randn(1, 2, 40, generator=g)

    def run(backend: Any, dtype: torch.dtype) -> list[Tensor]:
        leaves = [x.to(dtype).requires_grad_() for x in inputs]
        o, lse = attention(*leaves, mask=mask, return_lse=True, backend=backend)
        results, upstream = ([o, lse], [do, dlse]) if outputs == "both" else ([o], [do])
        upstream = [x.to(result.dtype) for x, result in zip(upstream, results, strict=True)]
        return list(torch.autograd.grad(results, leaves, upstream))

    truth = run("reference", torch.float64)
    scores = 0.125 * inputs[0].double() @ inputs[1].double().transpose(2, 3)
    largest = (scores.softmax(dim=-1) * (do.double() @ inputs[2].double().transpose(2, 3))).abs().max()
    assert largest > 3 * 65504
    for got, expected in zip(run("triton", torch.float16), truth, strict=True):
        assert expected.abs().max() < 65504
        torch.testing.assert_close(got.double(), expected, atol=1e-2 * float(expected.abs().max()), rtol=0)


def test_infinite_gradients_stay_infinite():
    """Loss scaling looks for them."""
    q, k, v = (torch.randn(1, 1, 20, 16).half().requires_grad_() for _ in range(3))
    do = torch.ones(1, 1, 20, 16).half()
    do[0, 0, 3, 5] = float("inf")
    grads = torch.autograd.grad(attention(q, k, v, backend="triton"), (q, k, v), do)
    assert not any(x.isfinite().all() for x in grads)


def test_gradients_of_any_layout_are_addressed():
    """The strides of a gradient are not ours: one too far apart for 31-bit offsets is copied."""
    q, k, v = (torch.randn(1, 2, 20, 16, requires_grad=True) for _ in range(3))
    o = attention(q, k, v, backend="triton")
    do = torch.randn(1, 2, 20, 16)
    expected = torch.autograd.grad(o, (q, k, v), do, retain_graph=True)
    with mock.patch.object(launch, "fits_31_bits", lambda x: False):
        copied = torch.autograd.grad(o, (q, k, v), do)
    assert all(a.equal(b) for a, b in zip(copied, expected, strict=True))


# --- packed batches ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PackedCase:
    """A packed call in plain words. With a bias or a rope, sequences have no more queries than keys."""

    seed: int
    lengths: tuple[tuple[int, int], ...]
    same_lengths: bool
    heads: int
    head_dim: int
    bias: str
    cls_tokens: int
    mask: str
    rope: str
    index_dtype: torch.dtype
    fused: bool
    half: bool
    blocks: tuple[tuple[int, int], ...]


def random_packed_case(seed: int) -> PackedCase:
    r = Random(seed)
    case = PackedCase(
        seed=seed,
        lengths=tuple(
            (r.choice([0, 1, 3, 9, 17]), r.choice([0, 1, 5, 17, 20])) for _ in range(r.randint(1, 4))
        ),
        same_lengths=r.random() < 0.5,
        heads=r.choice([1, 2]),
        head_dim=r.choice([16, 6, 32, 64]),
        bias=r.choice(BIASES),
        cls_tokens=r.randrange(2),
        mask=r.choice(MASKS),
        rope=r.choice(["none", "half", "interleaved", "positions", "table"]),
        index_dtype=r.choice([torch.int32, torch.int64]),
        fused=r.random() < 0.5,
        half=r.random() < 0.25,
        blocks=tuple(r.choice(BLOCKS) for _ in KERNELS),
    )
    if case.same_lengths:
        return replace(case, lengths=tuple((n, n) for _, n in case.lengths))
    if case.bias == case.rope == "none":
        return case
    return replace(case, lengths=tuple((min(n, m), m) for n, m in case.lengths))


PACKED_CASES = st.integers(0, 2**40).map(random_packed_case)


def running(lengths: list[int], dtype: torch.dtype = torch.int32) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(dtype)


def run_packed(case: PackedCase, backend: str, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """Outputs and gradients; q, k, v may be slices of one projection, as models have them."""
    g = torch.Generator().manual_seed(case.seed)
    n_q, n_k = (list(x) for x in zip(*case.lengths, strict=True))
    h, d, total_q, total_k = case.heads, case.head_dim, sum(n_q), sum(n_k)
    own = torch.float16 if case.half else torch.float32
    kv = torch.randn(total_k, 3, h, d, generator=g).to(own)
    q = kv[:, 2] if case.same_lengths and case.fused else torch.randn(total_q, h, d, generator=g).to(own)
    k, v = (kv[:, i] if case.fused else kv[:, i].contiguous() for i in range(2))
    coords = torch.randint(-3, 6, (total_k, 2), generator=g)
    slopes = [0.4 * torch.rand(h, generator=g) for _ in range(2)]
    vec = torch.randn((h, total_k) if case.seed % 2 else (total_k,), generator=g)
    left, right = (int(x) for x in torch.randint(0, 9, (2,), generator=g))
    kv_len = KeyLengths((torch.tensor(n_k) + torch.randint(-3, 2, (len(n_k),), generator=g)).clamp(min=0))
    cls, signed = case.cls_tokens, case.bias == "signed"
    parameters: list[Tensor] = {"key": [vec], "none": [], "raw": [], "raw_signed": []}.get(case.bias, slopes)
    parameters = parameters[:1] if case.bias.startswith("alibi_1d") else parameters
    leaves = [x.detach().to(dtype or x.dtype).requires_grad_() for x in (q, k, v, *parameters)]
    w = leaves[3:]
    bias = {
        "none": lambda: None,
        "alibi_1d": lambda: Alibi1D(w[0], coords[:, 0], cls),
        "alibi_1d_index": lambda: Alibi1D(w[0], cls_tokens=cls),
        "alibi_2d": lambda: Alibi2D(coords, w[0], w[1], cls),
        "absolute": lambda: Directional(coords, w[0], w[1], signed, cls),
        "signed": lambda: Directional(coords, w[0], w[1], signed, cls),
        "raw": lambda: Raw(coords, False, cls),
        "raw_signed": lambda: Raw(coords, True, cls),
        "key": lambda: KeyBias(w[0], cls),
    }[case.bias]()
    mask = {
        "none": None,
        "causal": Causal(),
        "window": SlidingWindow(left, right),
        "lengths": kv_len,
        "causal_lengths": Causal() & kv_len,
        "window_lengths": kv_len & SlidingWindow(left, right),
        "causal_window": Causal() & SlidingWindow(left, right),
    }[case.mask]
    rope = {
        "half": Rope(1000.0),
        "interleaved": Rope(1000.0, style="interleaved", rotary_dim=d - 2),
        "positions": Rope(100.0, positions=coords[:, 1] + 3),
        "table": Rope(cos_sin=rope_table(coords[:, 0], d, 50.0), style="interleaved"),
    }.get(case.rope)
    cu_q = running(n_q, case.index_dtype)
    options: dict[str, Any] = {
        "cu_seqlens_q": cu_q,
        "cu_seqlens_k": None if case.same_lengths else running(n_k, case.index_dtype),
        "max_seqlen_q": max(n_q),
        "max_seqlen_k": max(n_k),
    }
    o, lse = varlen_attention(
        *leaves[:3], **options, bias=bias, mask=mask, rope=rope, return_lse=True, backend=backend
    )
    do = torch.randn(total_q, h, d, generator=g).to(own).to(o.dtype)
    dlse = torch.randn(total_q, h, generator=g).to(lse.dtype)
    grads = torch.autograd.grad((o, lse), leaves, (do, dlse), allow_unused=True)
    filled = [
        torch.zeros_like(x) if x_grad is None else x_grad for x, x_grad in zip(leaves, grads, strict=True)
    ]
    return {"o": o, "lse": lse} | {f"d{i}": x for i, x in enumerate(filled)}


def check_packed(case: PackedCase) -> None:
    truth = run_packed(case, "reference", torch.float64)
    with block_sizes(case.blocks):
        got = run_packed(case, "triton")
    assert_close(got, truth, 1e-2 if case.half else 5e-5)


@settings(SEARCH, max_examples=10)
@given(case=PACKED_CASES)
def test_packed_sequences_equal_the_reference_one_by_one(case: PackedCase):
    note(str(case))
    check_packed(case)


def test_gradients_of_weights_whose_terms_cancel_in_a_packed_batch():
    check_packed(random_packed_case(1725402))


@pytest.mark.slow
@settings(SEARCH, max_examples=120)
@given(case=PACKED_CASES)
def test_packed_sequences_equal_the_reference_in_many_cases(case: PackedCase):
    note(str(case))
    check_packed(case)


def surrounded(x: Tensor) -> Tensor:
    """The same numbers with NaN before and behind them in memory: reading past an end shows."""
    n = x.shape[0]
    wide = torch.full((n + 600, *x.shape[1:]), float("nan"), dtype=x.dtype)
    wide[300 : 300 + n] = x
    return wide[300 : 300 + n]


def test_a_packed_sequence_with_fewer_coordinates_than_queries_gives_zero_and_touches_no_other():
    """Lengths stay on the device, so that nothing can refuse them; the first and the last sequence are such."""
    n_q, n_k = [20, 5, 19], [3, 9, 2]
    q, k, v = (surrounded(torch.randn(n, 2, 16)).requires_grad_() for n in (sum(n_q), sum(n_k), sum(n_k)))
    coords = torch.randint(0, 5, (sum(n_k), 2))
    w = torch.rand(2, requires_grad=True)
    bias = Alibi2D(coords, w, w)
    o, lse = varlen_attention(
        q, k, v, running(n_q), running(n_k), max_seqlen_q=20, max_seqlen_k=9, bias=bias, return_lse=True,
        backend="triton",
    )  # fmt: skip
    grads = torch.autograd.grad(o.sum() + lse.nan_to_num(neginf=0.0).sum(), (q, k, v, w))
    assert all(x.isfinite().all() for x in (o, *grads))
    dead = torch.ones(sum(n_q), dtype=torch.bool)
    dead[20:25] = False
    assert (o[dead] == 0).all()
    assert lse[dead].isneginf().all()
    one = attention(
        *(
            x[rows].transpose(0, 1)[None]
            for x, rows in ((q, slice(20, 25)), (k, slice(3, 12)), (v, slice(3, 12)))
        ),
        bias=Alibi2D(coords[3:12], w, w),
        backend="reference",
    )
    torch.testing.assert_close(o[20:25], one[0].transpose(0, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("mask", [None, SlidingWindow(4, 4)])
def test_a_packed_sequence_with_fewer_angles_than_queries_reads_none_that_are_not_there(mask):
    n_q, n_k = [20, 5], [3, 9]
    q, k, v = (torch.randn(n, 2, 16, requires_grad=True) for n in (25, 12, 12))
    cos, sin = (surrounded(x) for x in rope_table(torch.arange(12), 16))
    o = varlen_attention(
        q, k, v, running(n_q), running(n_k), max_seqlen_q=20, max_seqlen_k=9, rope=Rope(cos_sin=(cos, sin)),
        mask=mask, backend="triton",
    )  # fmt: skip
    assert o.isfinite().all()
    assert all(x.isfinite().all() for x in torch.autograd.grad(o.sum(), (q, k, v)))


# --- decoding ------------------------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n_q=st.integers(1, 16),
    splits=st.integers(1, 9),
    head_dim=st.sampled_from([16, 5, 64, 128]),
    half=st.booleans(),
    per_sample=st.booleans(),
    blocks=st.sampled_from(BLOCKS),
)
def test_decoding_equals_the_reference(seed, n_q, splits, head_dim, half, per_sample, blocks):
    g = torch.Generator().manual_seed(seed)
    dtype = torch.float16 if half else torch.float32
    capacity = int(torch.randint(1, 90, (), generator=g))
    q = torch.randn(2, n_q, 1, head_dim, generator=g).to(dtype).transpose(1, 2)
    k, v = (torch.randn(2, 1, capacity + 3, head_dim, generator=g).to(dtype)[:, :, 1:-2] for _ in range(2))
    lengths = torch.randint(0, capacity + 1, (2,), generator=g)
    if not per_sample:
        lengths[:] = lengths[0]
    for s, n in enumerate(lengths.tolist()):
        k[s, :, n:] = v[s, :, n:] = 1e3  # what a cache holds past its end must not matter
    with block_sizes((blocks,) * len(KERNELS)):
        o = decode_attention(
            q,
            k,
            v,
            lengths if per_sample else int(lengths[0]),
            scale=0.3,
            num_splits=splits,
            backend="triton",
        )
    assert o.dtype == dtype
    for s, n in enumerate(lengths.tolist()):
        one = [x[s : s + 1].double() for x in (q, k[:, :, :n], v[:, :, :n])]
        expected = attention(*one, mask=Causal(), scale=0.3, backend="reference")
        torch.testing.assert_close(o[s : s + 1].double(), expected, atol=2e-3 if half else 1e-5, rtol=0)


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("splits", [1, 3])
def test_decoding_appends_the_newest_tokens_and_leaves_the_rest(splits: int, per_sample: bool):
    q, new_k, new_v = (torch.randn(2, 2, 3, 16) for _ in range(3))
    caches = [torch.randn(2, 2, 40, 16) for _ in range(2)]
    expected = [x.clone() for x in caches]
    lengths = [37, 3] if per_sample else [37, 37]
    for x, new in zip(expected, (new_k, new_v), strict=True):
        for s, n in enumerate(lengths):
            x[s, :, n - 3 : n] = new[s]
    kv_len = torch.tensor(lengths, dtype=torch.int32) if per_sample else 37
    o = decode_attention(q, *caches, kv_len, num_splits=splits, append=(new_k, new_v), backend="triton")
    assert all(x.equal(y) for x, y in zip(caches, expected, strict=True))
    for s, n in enumerate(lengths):
        k, v = (x[s : s + 1, :, :n] for x in expected)
        truth = attention(q[s : s + 1], k, v, mask=Causal(), backend="reference")
        torch.testing.assert_close(o[s : s + 1], truth, atol=1e-5, rtol=0)


def test_decoding_takes_sixteen_queries_at_most():
    q = torch.randn(1, 1, 17, 16)
    with pytest.raises(BackendUnavailable, match="up to 16 queries"):
        decode_attention(q, q, q, 17, backend="triton")


# --- live intervals --------------------------------------------------------------------------------------------------


def test_the_groups_of_the_intervals_are_those_of_the_kernels():
    from pentatonic.attention import ops

    assert launch.GROUP == intervals.GROUP == ops.GROUP == 128


def masked_reference(
    inputs: list[Tensor], bias: Any, live: Tensor, mask: Any, scale: float, grads: tuple[Tensor, Tensor]
) -> dict[str, Tensor]:
    """Attention over a given set of pairs, in float64."""
    leaves = [x.detach().double().requires_grad_() for x in inputs]
    q, k, v, *parameters = leaves
    n_q, n_k = q.shape[2], k.shape[2]
    s = scale * q @ k.transpose(-1, -2) + dense_bias(bias(*parameters), n_q, n_k, torch.float64)
    visible = live & dense_visible(Visibility.of(mask, n_q, n_k), n_q, n_k, q.device)
    dead = ~visible.any(-1, keepdim=True)
    s = s.masked_fill(~visible & ~dead, float("-inf"))
    lse = s.logsumexp(-1).masked_fill(dead[..., 0], float("-inf"))
    o = s.softmax(-1).masked_fill(dead, 0.0) @ v
    d = torch.autograd.grad((o, lse), leaves, tuple(x.double() for x in grads))
    return {"o": o, "lse": lse} | {f"d{i}": x for i, x in enumerate(d)}


def random_intervals(n_q: int, n_k: int, heads: int, g: torch.Generator) -> Tensor:
    """Other ranges for each head and row group, so that the rows of a key group have gaps; the second is empty."""
    rows, keys = -(-n_q // 128), -(-n_k // 128)
    first = torch.randint(0, keys, (1, heads, rows), generator=g)
    end = first + 1 + torch.randint(0, keys, (1, heads, rows), generator=g)
    live = torch.stack((first, end.clamp(max=keys)), dim=-1).int()
    live[:, 0, 1:2] = keys - 1  # from there to there
    return live


@pytest.mark.parametrize(
    ("n_q", "n_k", "cls_tokens", "mask", "slope", "half"),
    [
        (400, 400, 1, None, 0.05, False),
        (400, 400, 0, None, 0.05, False),
        (390, 390, 1, SlidingWindow(140, 90), 0.05, False),
        (390, 390, 1, Causal() & SlidingWindow(200, 5), -0.02, True),
        (257, 390, 0, Causal() & KeyLengths(torch.tensor([300])), 0.05, False),
        (257, 385, 1, KeyLengths(torch.tensor([260])), -0.02, True),
        (7, 385, 1, None, 0.05, False),
        (300, 300, 1, None, -0.02, False),
    ],
)
def test_live_intervals_hide_the_other_keys(n_q, n_k, cls_tokens, mask, slope, half):
    g = torch.Generator().manual_seed(n_q + n_k)
    dtype = torch.float16 if half else torch.float32
    heads = 2
    q, do = (torch.randn(1, heads, n_q, 16, generator=g).to(dtype) for _ in range(2))
    k, v = (torch.randn(1, heads, n_k, 16, generator=g).to(dtype) for _ in range(2))
    dlse = torch.randn(1, heads, n_q, generator=g)
    coords = torch.stack((torch.arange(n_k) // 3, torch.arange(n_k) % 3), dim=-1)
    weights = -slope * (0.5 + torch.rand(2, heads, generator=g))
    live = random_intervals(n_q, n_k, heads, g)

    groups = torch.arange(n_k) // 128
    first, end = (x[..., torch.arange(n_q) // 128, None] for x in live.unbind(-1))
    pairs = (first <= groups) & (groups < end)
    if cls_tokens:
        pairs |= groups == 0
    truth = masked_reference(
        [q, k, v, weights], lambda w: Alibi2D(coords, -w[0], -w[1], cls_tokens), pairs, mask, 0.25, (do, dlse)
    )

    visibility = Visibility.of(mask, n_q, n_k)
    distances, lowered, _ = lower_bias(
        Alibi2D(coords, -weights[0], -weights[1], cls_tokens), 1, heads, n_k, torch.float32
    )
    problem = Problem(distances, 0.25, visibility.left, visibility.right, visibility.kv_len).within(live)
    with block_sizes(((64, 64), (16, 64), (128, 64), (64, 128)), splits=3):
        o, lse = launch.forward(q, k, v, lowered, None, problem)
        grads = launch.backward(do, dlse, q, k, v, o, lse, lowered, None, problem, needs_weights=True)
    got = {"o": o, "lse": lse} | {f"d{i}": x for i, x in enumerate(grads) if x is not None}
    assert_close(got, truth, 1e-2 if half else 1e-5)


@pytest.mark.parametrize("cls_tokens", [0, 1])
def test_a_tolerance_bounds_the_error(cls_tokens: int):
    g = torch.Generator().manual_seed(cls_tokens)
    q, k, v = (torch.randn(1, 2, 500, 16, generator=g) for _ in range(3))
    slopes = torch.tensor([0.5, 0.004])
    coords = torch.stack((torch.arange(500), torch.zeros(500)), dim=-1).int()
    visits = []
    original = launch.forward

    def record(*args: Any, **options: Any) -> Any:
        visits.append(args[5].intervals)
        return original(*args, **options)

    def run(backend: Any, dtype: torch.dtype, tolerance: float | None) -> dict[str, Tensor]:
        leaves = [x.detach().to(dtype).requires_grad_() for x in (q, k, v, slopes)]
        bias = Alibi2D(coords, leaves[3], leaves[3], cls_tokens)
        o, lse = attention(*leaves[:3], bias=bias, tolerance=tolerance, return_lse=True, backend=backend)
        grads = torch.autograd.grad((o.sum() + lse.sum()) / 500, leaves)
        return {"o": o, "lse": lse} | {f"d{i}": x for i, x in enumerate(grads)}

    truth = run("reference", torch.float64, None)
    with (
        block_sizes(((64, 64), (16, 16), (128, 64), (64, 128))),
        mock.patch.object(launch, "forward", record),
    ):
        got = run("triton", torch.float32, 1e-5)
    live = intervals.live_fraction(visits[0], 500, 500, cls_tokens)[0]
    assert live[0] < 0.9  # the steep head skips
    assert live[1] == 1
    assert_close(got, truth, 2e-5 * float(v.abs().max()))


# --- laws ----------------------------------------------------------------------------------------------------------


def by_kernel(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    with block_sizes(((16, 16),) * len(KERNELS)):
        return attention(q, k, v, backend="triton", return_lse=True, **options)


@pytest.fixture
def qkv() -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(11)
    q, k, v = (torch.randn(1, 2, 35, 16, generator=g) for _ in range(3))
    return q, k, v


COORDS = torch.randint(0, 6, (35, 2), generator=torch.Generator().manual_seed(5))
STEEP, FLAT = torch.tensor([0.3, 0.7]), torch.tensor([0.2, 0.1])


def same(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> None:
    for got, expected in zip(a, b, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("cls_tokens", [0, 1])
def test_tokens_and_coordinates_may_be_permuted_together(qkv, cls_tokens):
    order = torch.randperm(35 - cls_tokens, generator=torch.Generator().manual_seed(0)) + cls_tokens
    order = torch.cat((torch.arange(cls_tokens), order))
    o, lse = by_kernel(*qkv, bias=Alibi2D(COORDS, STEEP, FLAT, cls_tokens))
    moved = by_kernel(*(x[:, :, order] for x in qkv), bias=Alibi2D(COORDS[order], STEEP, FLAT, cls_tokens))
    same(moved, (o[:, :, order], lse[:, :, order]))


def test_coordinates_may_be_shifted_together(qkv):
    for build in (lambda c: Alibi2D(c, STEEP, FLAT), lambda c: Directional(c, STEEP, FLAT, signed=True)):
        a, b = (by_kernel(*qkv, bias=build(c))[0] for c in (COORDS, COORDS + torch.tensor([4000, -2000])))
        assert a.equal(b)  # integer differences are exact in float32


def test_limits_of_the_biases_and_windows(qkv):
    full = by_kernel(*qkv)
    flat = COORDS * torch.tensor([1, 0])
    same(by_kernel(*qkv, bias=Alibi2D(COORDS, 0 * STEEP, 0 * STEEP)), full)
    same(by_kernel(*qkv, bias=Alibi2D(COORDS[:1].expand(35, 2), STEEP, FLAT)), full)
    same(
        by_kernel(*qkv, bias=Alibi2D(flat, STEEP, FLAT, 0)), by_kernel(*qkv, bias=Alibi1D(STEEP, flat[:, 0]))
    )
    same(
        by_kernel(*qkv, bias=Directional(COORDS, -STEEP, -STEEP, signed=False)),
        by_kernel(*qkv, bias=Alibi2D(COORDS, STEEP, STEEP)),
    )
    same(
        by_kernel(*qkv, bias=Raw(COORDS, signed=True, cls_tokens=0)),
        tuple(
            x + shift
            for x, shift in zip(
                by_kernel(*qkv, bias=KeyBias(-COORDS.sum(-1).float())), (0.0, COORDS.sum(-1)), strict=True
            )
        ),
    )
    same(by_kernel(*qkv, mask=SlidingWindow(34, 34)), full)
    same(by_kernel(*qkv, mask=SlidingWindow(34, 0)), by_kernel(*qkv, mask=Causal()))


@pytest.mark.parametrize("split", [0, 1, 16, 20, 35])
def test_two_halves_of_the_keys_merge_by_their_lse(qkv, split):
    q, k, v = qkv
    parts = [by_kernel(q, k[:, :, half], v[:, :, half]) for half in (slice(0, split), slice(split, 35))]
    lse = torch.logaddexp(parts[0][1], parts[1][1])
    merged = sum((o * (part - lse).exp()[..., None] for o, part in parts), torch.zeros(()))
    same((merged, lse), by_kernel(q, k, v))


def test_a_packed_batch_equals_its_sequences(qkv):
    q, k, v = (x[0].transpose(0, 1) for x in qkv)
    _, cu, _ = pack([q[:20], q[20:20], q[20:]])
    o = varlen_attention(q, k, v, cu, max_seqlen_q=20, bias=Alibi2D(COORDS, STEEP, FLAT), backend="triton")
    for got, rows in zip(unpack(o, cu), (slice(0, 20), slice(20, 20), slice(20, 35)), strict=True):
        one = (x[:, :, rows] for x in qkv)
        expected, _ = by_kernel(*one, bias=Alibi2D(COORDS[rows], STEEP, FLAT))
        torch.testing.assert_close(got, expected[0].transpose(0, 1), atol=1e-6, rtol=0)
