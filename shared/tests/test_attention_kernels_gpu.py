"""The kernels on a GPU: every dtype against explicit attention, same bits twice, no wait for the GPU, graphs, memory.

What each option means is proved on the CPU, in test_attention_kernels.py; here the compiled kernels must be as exact as
PyTorch's attention with an explicit bias in the same dtype.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
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
    varlen_attention,
)
from pentatonic.attention.descriptors import Visibility
from pentatonic.attention.kernels import why_not
from pentatonic.attention.reference import dense_bias, dense_visible
from pentatonic.rope import apply_rope, rope_table

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# Each combination is another binary: every bias with two masks, every mask with two biases.
BIASES = ["none", "alibi_1d", "alibi_2d", "growing", "absolute", "signed", "raw_signed", "key"]
MASKS = ["none", "causal", "window", "lengths", "causal_lengths"]
COMBINATIONS = [
    (bias, mask)
    for bias in BIASES
    for mask in MASKS
    if mask in ("none", "causal_lengths") or bias in ("none", "alibi_2d")
]
# Around the sides of the tiles, and where most of them are full.
SIZES = [(1, 1), (1, 600), (127, 127), (129, 129), (40, 333), (1025, 1025)]


def tensors(
    n_q: int, n_k: int, dtype: torch.dtype, dim: int = 64, batch: int = 2, heads: int = 3, seed: int = 0
) -> list[Tensor]:
    """q, k, v and the gradient of the output, ``(B, H, N, D)`` views of token-major memory."""
    g = torch.Generator("cuda").manual_seed(seed)
    return [
        torch.randn(batch, n, heads, dim, generator=g, device="cuda").to(dtype).transpose(1, 2)
        for n in (n_q, n_k, n_k, n_q)
    ]


def parameters(kind: str, n: int, heads: int = 3) -> list[Tensor]:
    g = torch.Generator("cuda").manual_seed(1)
    one, two = (0.02 + 0.2 * torch.rand(heads, generator=g, device="cuda") for _ in range(2))
    if kind == "growing":
        one, two = one.clone(), -0.01 * two
    vec = torch.randn(heads, n, generator=g, device="cuda")
    return {"none": [], "raw_signed": [], "key": [vec], "alibi_1d": [one]}.get(kind, [one, two])


def make_bias(kind: str, n: int, w: list[Tensor]) -> Any:
    tokens = torch.arange(n, device="cuda")
    coords = torch.stack((tokens // 8, tokens % 8), dim=-1)
    match kind:
        case "alibi_1d":
            return Alibi1D(*w)
        case "alibi_2d" | "growing":
            return Alibi2D(coords, *w)
        case "absolute" | "signed":
            return Directional(coords, -0.3 * w[0], -0.2 * w[1], signed=kind == "signed")
        case "raw_signed":
            return Raw(coords % 7, signed=True)
        case "key":
            return KeyBias(w[0], cls_tokens=1)
    return None


def make_mask(kind: str, n: int) -> Any:
    lengths = KeyLengths(torch.tensor([n, (n + 1) // 2], device="cuda"))
    return {
        "none": None,
        "causal": Causal(),
        "window": SlidingWindow(64, 64),
        "lengths": lengths,
        "causal_lengths": Causal() & lengths,
    }[kind]


def explicit(q: Tensor, k: Tensor, v: Tensor, bias: Any, mask: Any) -> Tensor:
    """SDPA with a matrix; every row sees something."""
    n_q, n_k = q.shape[2], k.shape[2]
    visible = dense_visible(Visibility.of(mask, n_q, n_k), n_q, n_k, q.device)
    matrix = torch.zeros(1, 1, n_q, n_k, device=q.device, dtype=torch.float32)
    if bias is not None:
        matrix = dense_bias(bias, n_q, n_k, torch.promote_types(q.dtype, torch.float32))
    matrix = matrix.to(q.dtype).masked_fill(~visible, float("-inf"))
    matrix = matrix.expand(q.shape[0], q.shape[1], -1, -1)
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, matrix)


def with_gradients(
    run: Any, inputs: list[Tensor], do: Tensor, dtype: torch.dtype | None = None
) -> list[Tensor]:
    leaves = [x.detach().to(dtype or x.dtype).requires_grad_() for x in inputs]
    o = run(*leaves)
    grads = torch.autograd.grad(o, leaves, do.to(o.dtype), allow_unused=True)
    return [o, *(torch.zeros_like(x) if g is None else g for x, g in zip(leaves, grads, strict=True))]


def assert_as_exact(ours: list[Tensor], theirs: list[Tensor], truth: list[Tensor]) -> None:
    """The largest and the mean error of each tensor are at most twice those of explicit attention.

    That one can be exact by chance (one key, few numbers): both may have what sums in float32 leave, and the last bit
    of their dtype.
    """
    for i, (a, b, t) in enumerate(zip(ours, theirs, truth, strict=True)):
        error, other, largest = (a.double() - t).abs(), (b.double() - t).abs(), t.abs().max()
        sums = 16 * torch.finfo(torch.float32).eps * largest.clamp(min=1.0)
        last_bit = torch.finfo(a.dtype).eps
        assert a.isfinite().all(), f"tensor {i}"
        assert error.max() <= 2 * other.max() + sums + last_bit * largest, f"tensor {i}"
        assert error.mean() <= 2 * other.mean() + sums + last_bit / 4 * t.abs().mean(), f"tensor {i}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("bias_kind", "mask_kind"), COMBINATIONS)
def test_values_and_gradients_are_as_exact_as_explicit_attention(bias_kind, mask_kind, sizes, dtype):
    n_q, n_k = sizes
    q, k, v, do = tensors(n_q, n_k, dtype)
    mask, inputs = make_mask(mask_kind, n_k), [q, k, v, *parameters(bias_kind, n_k)]

    def by(backend: Any) -> Any:
        def run(q: Tensor, k: Tensor, v: Tensor, *w: Tensor) -> Tensor:
            bias = make_bias(bias_kind, n_k, list(w))
            if backend == "explicit":
                return explicit(q, k, v, bias, mask)
            return attention(q, k, v, bias=bias, mask=mask, backend=backend)

        return run

    truth = with_gradients(by("reference"), inputs, do, torch.float64)
    assert_as_exact(
        with_gradients(by("triton"), inputs, do), with_gradients(by("explicit"), inputs, do), truth
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [5, 32, 64, 96, 128])
@pytest.mark.parametrize("style", ["half", "interleaved"])
@pytest.mark.parametrize("mask", [None, SlidingWindow(64, 64)])
def test_rope_and_head_dimensions(mask, style, dim, dtype):
    q, k, v, do = tensors(300, 300, dtype, dim)
    cos, sin = rope_table(torch.arange(300, device="cuda"), dim - dim % 2, 100.0)

    def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attention(q, k, v, rope=Rope(cos_sin=(cos, sin), style=style), mask=mask, backend="triton")

    def apart(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = (apply_rope(x, cos, sin, style=style) for x in (q, k))
        return explicit(q, k, v, None, mask)

    def exact(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        rope = Rope(cos_sin=(cos.double(), sin.double()), style=style)
        return attention(q, k, v, rope=rope, mask=mask, backend="reference")

    truth = with_gradients(exact, [q, k, v], do, torch.float64)
    assert_as_exact(with_gradients(fused, [q, k, v], do), with_gradients(apart, [q, k, v], do), truth)


PACKED = [0, 130, 1, 0, 257, 64]


def packed(dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
    q, k, v, do = (x[0].transpose(0, 1) for x in tensors(sum(PACKED), sum(PACKED), dtype, batch=1))
    return [q, k, v, do], torch.tensor([0, *PACKED], device="cuda").cumsum(0).to(torch.int32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["plain", "window_rope", "alibi_2d", "causal_lengths"])
def test_packed_sequences_are_as_exact_as_explicit_attention(kind, dtype):
    (q, k, v, do), cu = packed(dtype)
    total = q.shape[0]
    coords = torch.randint(0, 9, (total, 2), device="cuda")
    w = torch.tensor([0.3, 0.1, 0.02], device="cuda")
    cos_sin = rope_table(torch.arange(total, device="cuda"), 64, 1000.0)
    kv_len = torch.tensor([max(1, n - 3) for n in PACKED], device="cuda")

    def ours(backend: Any) -> Any:
        def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            options: dict[str, Any] = {
                "plain": {},
                "window_rope": {"mask": SlidingWindow(64, 64), "rope": Rope(cos_sin=cos_sin)},
                "alibi_2d": {"bias": Alibi2D(coords, w, w)},
                "causal_lengths": {"mask": Causal() & KeyLengths(kv_len)},
            }[kind]
            return varlen_attention(q, k, v, cu, max_seqlen_q=257, backend=backend, **options)

        return run

    def one_by_one(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if kind == "window_rope":
            q, k = (apply_rope(x.transpose(0, 1), *cos_sin, style="half").transpose(0, 1) for x in (q, k))
        outputs, start = [], 0
        for s, n in enumerate(PACKED):
            rows = slice(start, start + n)
            one = (x[rows].transpose(0, 1)[None] for x in (q, k, v))
            bias = Alibi2D(coords[rows], w, w) if kind == "alibi_2d" else None
            mask = {
                "window_rope": SlidingWindow(64, 64),
                "causal_lengths": Causal() & KeyLengths(kv_len[s : s + 1]),
            }.get(kind)
            if n:
                outputs.append(explicit(*one, bias, mask)[0].transpose(0, 1))
            start += n
        return torch.cat(outputs)

    truth = with_gradients(ours("reference"), [q, k, v], do, torch.float64)
    assert_as_exact(
        with_gradients(ours("triton"), [q, k, v], do), with_gradients(one_by_one, [q, k, v], do), truth
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_q", [1, 7, 16])
@pytest.mark.parametrize("splits", [1, 3, 9, None])
def test_decoding_is_as_exact_as_explicit_attention(splits, n_q, dtype):
    q, k, v, _ = tensors(n_q, 2100, dtype)
    kv_len = torch.tensor([2100, 77], device="cuda")
    o = decode_attention(q, k, v, kv_len, num_splits=splits, backend="triton")
    other = decode_attention(q, k, v, kv_len, backend="sdpa")
    truth = decode_attention(q.double(), k.double(), v.double(), kv_len, backend="sdpa")
    assert_as_exact([o], [other], [truth])


# --- whole passes --------------------------------------------------------------------------------------------------


def passes() -> dict[str, Any]:
    """Forward and backward passes over fixed inputs, by name; each gives all that it computed."""
    q, k, v, do = tensors(1000, 1000, torch.bfloat16)
    w = torch.tensor([0.5, 0.1, 0.01], device="cuda")
    tokens = torch.arange(1000, device="cuda")
    coords = torch.stack((tokens // 8, tokens % 8), dim=-1)
    (q_p, k_p, v_p, do_p), cu = packed(torch.bfloat16)
    cache = tensors(4, 4096, torch.bfloat16)[:3]
    kv_len = torch.tensor([4000, 1234], device="cuda")

    def dense(tolerance: float | None) -> Any:
        return lambda: with_gradients(
            lambda q, k, v, w: attention(
                q, k, v, bias=Alibi2D(coords, w, w), mask=Causal(), tolerance=tolerance, backend="triton"
            ),
            [q, k, v, w],
            do,
        )

    def varlen() -> list[Tensor]:
        return with_gradients(
            lambda q, k, v: varlen_attention(
                q, k, v, cu, max_seqlen_q=257, mask=SlidingWindow(64, 64), rope=Rope(1000.0), backend="triton"
            ),
            [q_p, k_p, v_p],
            do_p,
        )

    def decode() -> list[Tensor]:
        return [decode_attention(*cache, kv_len, num_splits=5, backend="triton")]

    return {"dense": dense(None), "tolerance": dense(1e-4), "varlen": varlen, "decode": decode}


PASSES = pytest.mark.parametrize("name", ["dense", "tolerance", "varlen", "decode"])


@contextmanager
def no_synchronization() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@PASSES
def test_the_same_bits_twice(name):
    run = passes()[name]
    first, second = run(), run()
    assert all(a.equal(b) for a, b in zip(first, second, strict=True))


@PASSES
def test_nothing_waits_for_the_gpu(name):
    run = passes()[name]
    run()  # compiles
    torch.cuda.synchronize()
    with no_synchronization():
        run()


@PASSES
def test_a_graph_captures_and_replays(name):
    run = passes()[name]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        expected = [x.clone() for x in run()]
        run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run()
    for x in captured:
        x.detach().zero_()
    graph.replay()
    torch.cuda.synchronize()
    assert all(a.equal(b) for a, b in zip(captured, expected, strict=True))


def test_memory_grows_with_the_number_of_tokens_only():
    def peak(n: int) -> int:
        """Bytes of a training step besides its inputs."""
        q, k, v, do = tensors(n, n, torch.bfloat16, batch=1)
        w = torch.tensor([0.5, 0.1, 0.01], device="cuda")
        coords = torch.stack((torch.arange(n, device="cuda"),) * 2, dim=-1)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        with_gradients(
            lambda q, k, v, w: attention(q, k, v, bias=Alibi2D(coords, w, w), backend="triton"),
            [q, k, v, w],
            do,
        )
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    peak(1024)
    small, large = peak(8192), peak(32768)
    assert large < 4.5 * small
    assert large < 32768 * 32768  # a byte for each score of one of three heads


def test_a_gpu_that_is_new_enough_runs_the_kernels():
    q = torch.zeros(1, 1, 4, 16, device="cuda")
    expected = torch.cuda.get_device_capability() >= (8, 0)
    assert (why_not(q, q, q) is None) == expected
