"""Packed batches, decoding with a cache, and slopes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from pentatonic.attention import (
    Alibi1D,
    Alibi2D,
    Causal,
    Directional,
    DistanceTable,
    KeyBias,
    KeyLengths,
    KVCache,
    Raw,
    Rope,
    SlidingWindow,
    alibi_slopes,
    attention,
    decode_attention,
    pack,
    pad_packed,
    unpack,
    varlen,
    varlen_attention,
)
from pentatonic.errors import BackendUnavailable, UsageError

LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None)
@given(lengths=LENGTHS)
def test_pack_unpack_and_pad(lengths: list[int]):
    tensors = [torch.randn(n, 2, 3) for n in lengths]
    x, cu_seqlens, longest = pack(tensors)
    assert cu_seqlens.dtype == torch.int32
    assert cu_seqlens.tolist() == [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    assert longest == max(lengths)
    assert all(a.equal(b) for a, b in zip(unpack(x, cu_seqlens), tensors, strict=True))
    padded = pad_packed(x, cu_seqlens, value=-7.0)
    assert padded.shape == (len(lengths), longest, 2, 3)
    for row, sequence in zip(padded, tensors, strict=True):
        assert row[: len(sequence)].equal(sequence)
        assert (row[len(sequence) :] == -7.0).all()


def test_padding_passes_gradients_to_the_tokens():
    x, cu_seqlens, _ = pack([torch.randn(2, 1), torch.randn(3, 1)])
    x.requires_grad_()
    pad_packed(x, cu_seqlens).sum().backward()
    assert x.grad.eq(1).all()


BIASES: dict[str, Any] = {
    "none": lambda total, h, xy, w: None,
    "alibi_1d_index": lambda total, h, xy, w: Alibi1D(w[0], cls_tokens=1),
    "alibi_1d": lambda total, h, xy, w: Alibi1D(w[0], xy[:, 0]),
    "alibi_2d": lambda total, h, xy, w: Alibi2D(xy, w[0], w[1]),
    "directional": lambda total, h, xy, w: Directional(xy, w[0], w[1], signed=True),
    "raw": lambda total, h, xy, w: Raw(xy, signed=False),
    "table": lambda total, h, xy, w: DistanceTable(xy, torch.arange(9.0).double() * w[0][:, None]),
    "key": lambda total, h, xy, w: KeyBias(xy[:, 0].double() * w[0][:, None], cls_tokens=1),
}


@settings(max_examples=60, deadline=None)
@given(
    lengths=LENGTHS,
    kind=st.sampled_from(sorted(BIASES)),
    mask=st.sampled_from(["none", "causal", "window", "lengths", "causal & lengths"]),
    rope=st.sampled_from(["none", "theta", "positions"]),
    backend=st.sampled_from(["auto", "chunked", "reference"]),
    seed=st.integers(0, 2**31),
)
def test_packed_equals_one_by_one(lengths, kind, mask, rope, backend, seed):
    generator = torch.Generator().manual_seed(seed)
    qkv = [
        [torch.randn(n, 2, 6, generator=generator, dtype=torch.float64) for n in lengths] for _ in range(3)
    ]
    coords = [torch.randint(0, 5, (n, 2), generator=generator) for n in lengths]
    weights = torch.rand(2, 2, generator=generator, dtype=torch.float64)
    kv_len = torch.tensor([max(0, n - 2) for n in lengths])

    def options(s: int | None) -> dict[str, Any]:
        """For sequence s alone, or for the packed batch."""
        xy = torch.cat(coords) if s is None else coords[s]
        seen = KeyLengths(kv_len if s is None else kv_len[s : s + 1])
        masks = {
            "causal": Causal(),
            "window": SlidingWindow(2, 1),
            "lengths": seen,
            "causal & lengths": Causal() & seen,
        }
        ropes = {
            "theta": Rope(100.0),
            "positions": Rope(100.0, positions=xy[:, 1], style="interleaved", rotary_dim=4),
        }
        return {
            "bias": BIASES[kind](len(xy), 2, xy, weights),
            "mask": masks.get(mask),
            "rope": ropes.get(rope),
        }

    (q, cu, longest), (k, _, _), (v, _, _) = (pack(x) for x in qkv)
    q.requires_grad_()
    o, lse = varlen_attention(
        q, k, v, cu, max_seqlen_q=longest, return_lse=True, backend=backend, **options(None)
    )
    assert o.shape == q.shape
    assert lse.shape == q.shape[:2]
    fused = varlen_attention(q, k, v, cu, max_seqlen_q=longest, backend="sdpa", **options(None))
    torch.testing.assert_close(fused, o, atol=1e-12, rtol=0)
    for s, (got, got_lse) in enumerate(zip(unpack(o, cu), unpack(lse, cu), strict=True)):
        one = [x[s].transpose(0, 1)[None] for x in qkv]
        expected, expected_lse = attention(*one, return_lse=True, backend="reference", **options(s))
        torch.testing.assert_close(got, expected[0].transpose(0, 1), atol=1e-12, rtol=0)
        torch.testing.assert_close(got_lse, expected_lse[0].transpose(0, 1), atol=1e-12, rtol=0)
    o.sum().backward()
    assert q.grad.isfinite().all()


def test_sequences_of_one_length_go_in_one_call(monkeypatch: pytest.MonkeyPatch):
    calls: list[tuple[int, int]] = []

    def counted(q: Tensor, *others: Any, **options: Any) -> Any:
        calls.append((q.shape[0], q.shape[2]))
        return attention(q, *others, **options)

    monkeypatch.setattr(varlen, "attention", counted)
    lengths = [5, 3, 5, 0, 3, 5, 4]
    q, k, v = (torch.randn(sum(lengths), 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    cu_seqlens = torch.tensor([0, *lengths]).cumsum(0)
    packed = varlen_attention(q, k, v, cu_seqlens, max_seqlen_q=5, rope=Rope(theta=100.0))
    packed.square().sum().backward()
    assert calls == [(3, 5), (2, 3), (1, 0), (1, 4)]
    # A bias of each token's own is not the same for two sequences.
    calls.clear()
    varlen_attention(q, k, v, cu_seqlens, max_seqlen_q=5, bias=KeyBias(torch.zeros(25, dtype=torch.float64)))
    assert len(calls) == len(lengths)

    apart = [
        [x.detach()[start:stop].requires_grad_() for x in (q, k, v)] for start, stop in pairwise(cu_seqlens)
    ]
    for rows, tensors in zip(unpack(packed, cu_seqlens), apart, strict=True):
        alone = attention(*(x.transpose(0, 1)[None] for x in tensors), rope=Rope(theta=100.0))[0].transpose(
            0, 1
        )
        torch.testing.assert_close(rows, alone)
        alone.square().sum().backward()
    for x, each in zip((q, k, v), zip(*apart, strict=True), strict=True):
        torch.testing.assert_close(x.grad, torch.cat([part.grad for part in each]))


def test_packed_queries_are_the_last_tokens_of_their_keys():
    generator = torch.Generator().manual_seed(0)
    q = [torch.randn(n, 2, 4, generator=generator, dtype=torch.float64) for n in (2, 0, 3)]
    k = [torch.randn(n, 2, 4, generator=generator, dtype=torch.float64) for n in (7, 4, 3)]
    (q_packed, cu_q, _), (k_packed, cu_k, _) = pack(q), pack(k)
    options: dict[str, Any] = {"mask": Causal(), "rope": Rope(10.0), "bias": Alibi1D(torch.rand(2).double())}
    o = varlen_attention(q_packed, k_packed, k_packed, cu_q, cu_k, max_seqlen_q=3, max_seqlen_k=7, **options)
    for got, q_one, k_one in zip(unpack(o, cu_q), q, k, strict=True):
        q_one, k_one = (x.transpose(0, 1)[None] for x in (q_one, k_one))
        expected = attention(q_one, k_one, k_one, backend="reference", **options)
        torch.testing.assert_close(got, expected[0].transpose(0, 1), atol=1e-12, rtol=0)


X = torch.zeros(5, 2, 4)
CU = torch.tensor([0, 2, 5], dtype=torch.int32)
XY = torch.zeros(4, 2, dtype=torch.int32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pack([]), "at least one"),
        (lambda: pack([X, X[:, :1]]), "all but the first axis"),
        (lambda: unpack(X, CU[:2]), "rise from 0 to 5"),
        (lambda: unpack(X, torch.tensor([0, 4, 3, 5])), "rise from 0 to 5"),
        (lambda: unpack(X, torch.tensor([0])), "two or more"),
        (lambda: unpack(X, CU.float()), "integer vector"),
        (lambda: varlen_attention(X[None], X, X, CU, max_seqlen_q=3), r"\(total, H, D\)"),
        (lambda: varlen_attention(X, X, X, CU, max_seqlen_q=2), "max_seqlen_q is 2"),
        (lambda: varlen_attention(X, X, X, CU, max_seqlen_q=3, max_seqlen_k=2), "max_seqlen_k is 2"),
        (lambda: varlen_attention(X, X, X, CU, torch.tensor([0, 5]), max_seqlen_q=5), "1 sequences"),
        (
            lambda: varlen_attention(X, X, X, CU, max_seqlen_q=3, mask=KeyLengths(torch.tensor([1]))),
            "1 entries for 2 sequences",
        ),
        (lambda: varlen_attention(X, X, X, CU, max_seqlen_q=3, bias=Raw(XY, True)), r"\(4,\) tokens"),
        (
            lambda: varlen_attention(
                X, X, X, CU, max_seqlen_q=3, bias=Alibi1D(torch.ones(2), torch.arange(6))
            ),
            r"\(6,\) tokens",
        ),
        (
            lambda: varlen_attention(X, X, X, CU, max_seqlen_q=3, bias=KeyBias(torch.ones(6))),
            r"\(6,\) tokens",
        ),
        (
            lambda: varlen_attention(X, X, X, CU, max_seqlen_q=3, rope=Rope(1e4, positions=torch.arange(4))),
            r"\(5,\) tokens, got \(4,\)",
        ),
    ],
)
def test_wrong_packed_arguments_are_named(call, message):
    with pytest.raises(UsageError, match=message):
        call()


def test_a_forced_back_end_refuses_in_packed_batches_too():
    with pytest.raises(BackendUnavailable, match="log-sum-exp"):
        varlen_attention(X, X, X, CU, max_seqlen_q=3, backend="sdpa", return_lse=True)


# --- decoding ------------------------------------------------------------------------------------------------------


def kv(seed: int, n: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(2, 3, n, 8, generator=generator) for _ in range(3))
    return q, k, v


@pytest.mark.parametrize("steps", [[1] * 9, [4, 1, 3, 1], [9]])
def test_decoding_with_a_cache_equals_one_causal_pass(steps: list[int]):
    q, k, v = kv(0, 9)
    full = attention(q, k, v, mask=Causal(), backend="reference")
    cache = KVCache(2, 3, 12, 8)
    storage = cache.key_buffer.data_ptr()
    outputs, by_tensor, start = [], [], 0
    for n in steps:
        now = slice(start, start + n)
        keys, values = cache.append(k[:, :, now], v[:, :, now])
        outputs.append(attention(q[:, :, now], keys, values, mask=Causal()))
        held = torch.full((2,), cache.length)
        by_tensor.append(decode_attention(q[:, :, now], cache.key_buffer, cache.value_buffer, held))
        by_int = decode_attention(q[:, :, now], cache.key_buffer, cache.value_buffer, cache.length)
        torch.testing.assert_close(by_int, outputs[-1], atol=1e-6, rtol=0)
        start += n
    assert cache.length == 9
    assert cache.keys.data_ptr() == storage  # nothing was reallocated
    torch.testing.assert_close(torch.cat(outputs, dim=2), full, atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.cat(by_tensor, dim=2), full, atol=1e-6, rtol=0)


def test_decoding_with_one_length_per_sample():
    q, k, v = kv(1, 9)
    o = decode_attention(q[:, :, :2], k, v, torch.tensor([5, 9]), scale=0.2)
    for s, n in enumerate((5, 9)):
        expected = attention(
            q[s : s + 1, :, :2], k[s : s + 1, :, :n], v[s : s + 1, :, :n], mask=Causal(), scale=0.2
        )
        torch.testing.assert_close(o[s : s + 1], expected, atol=1e-6, rtol=0)
    assert decode_attention(q[:, :, :1], k, v, torch.tensor([0, 0])).abs().max() == 0
    assert decode_attention(q[:, :, :1], k, v, 0).abs().max() == 0


def test_a_cache_follows_the_beams():
    _, k, v = kv(2, 4)
    cache = KVCache(2, 3, 6, 8, dtype=torch.float64)
    cache.append(k[:, :, :3].requires_grad_(), v[:, :, :3])
    cache.reorder(torch.tensor([1, 1]))
    keys, values = cache.append(k[:, :, 3:], v[:, :, 3:])
    assert not keys.requires_grad
    assert keys.dtype == torch.float64
    assert keys[:, :, :3].equal(k[[1, 1], :, :3].double())
    assert values.equal(torch.cat((v[[1, 1], :, :3], v[:, :, 3:]), dim=2).double())
    cache.truncate(1)
    assert cache.length == 1
    assert cache.keys.equal(k[[1, 1], :, :1].double())


def test_rows_of_a_cache_may_have_lengths_of_their_own():
    g = torch.Generator().manual_seed(3)
    k, v = (torch.randn(2, 3, 3, 8, generator=g) for _ in range(2))
    cache = KVCache(3, 3, 2, 8)
    cache.reserve(5)
    cache.reserve(4)
    assert cache.max_tokens == 5
    cache.row(1).append(k[:1], v[:1])
    cache.drop_row(0)
    cache.write(torch.tensor([[2, 3, 4], [0, 1, 2]]), k.flip(0), v.flip(0))
    assert cache.length == 0
    assert cache.key_buffer[0].equal(torch.cat((torch.zeros(3, 2, 8), k[1]), dim=1))
    assert cache.value_buffer[1, :, :3].equal(v[0])
    cache.write(torch.tensor([1, 2, 4]), k, v)
    assert cache.value_buffer[:, :, [1, 2, 4]].equal(v)
    memory = torch.zeros(2, 2, 3, 4, 8)
    KVCache.over(memory[0, :, :, :], memory[1]).append(k, v)
    assert memory[:, :, :, :3].equal(torch.stack((k, v)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c, x: c.append(x.expand(-1, -1, 7, -1), x.expand(-1, -1, 7, -1)), "cache of 6"),
        (lambda c, x: c.append(x[:1], x[:1]), r"\(2, 3, n, 8\)"),
        (lambda c, x: c.append(x, x.expand(-1, -1, 2, -1)), r"\(2, 3, n, 8\)"),
        (lambda c, x: c.reorder(torch.tensor([0])), r"\(2,\) row numbers"),
        (lambda c, x: c.truncate(1), "0 to 0"),
        (lambda c, x: decode_attention(x, c.key_buffer, c.value_buffer, 7), "0 to 6"),
        (
            lambda c, x: decode_attention(x, c.key_buffer, c.value_buffer, torch.tensor([1])),
            r"\(2,\) integer",
        ),
    ],
)
def test_wrong_cache_arguments_are_named(call, message):
    cache = KVCache(2, 3, 6, 8)
    with pytest.raises(UsageError, match=message):
        call(cache, torch.zeros(2, 3, 1, 8))
    assert cache.length == 0


# --- slopes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heads", "variant", "expected"),
    [
        (1, "press", [2.0**-8]),
        (6, "press", [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]),
        (6, "halving", [0.25, 0.0625, 0.015625, 0.00390625, 0.001953125, 0.0009765625]),
        (8, "press", [2.0**-i for i in range(1, 9)]),
        (8, "halving", [2.0**-i for i in range(1, 9)]),
        (12, "press", [2.0**-i for i in range(1, 9)] + [2.0**-0.5, 2.0**-1.5, 2.0**-2.5, 2.0**-3.5]),
        (12, "halving", [2.0**-i for i in range(1, 13)]),
    ],
)
def test_slopes(heads, variant, expected):
    slopes = alibi_slopes(heads, variant)
    assert slopes.dtype == torch.float32
    assert slopes.equal(torch.tensor(expected))


@pytest.mark.parametrize(
    ("heads", "variant", "message"), [(0, "press", "positive"), (4, "linear", "'halving'")]
)
def test_wrong_slopes_are_named(heads, variant, message):
    with pytest.raises(UsageError, match=message):
        alibi_slopes(heads, variant)
