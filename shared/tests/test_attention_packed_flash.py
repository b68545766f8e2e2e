"""PyTorch's packed attention behind ours: what reaches it, with a stand-in, since it needs a CUDA device."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from torch import Tensor

from pentatonic.attention import (
    Alibi1D,
    Causal,
    KeyLengths,
    Rope,
    SlidingWindow,
    attention,
    dispatch,
    kernels,
    varlen_attention,
)
from pentatonic.errors import BackendUnavailable

varlen = pytest.importorskip("torch.nn.attention.varlen")


def stand_in(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
) -> Tensor:
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    left, right = (10**6 if side < 0 else side for side in window_size)
    outputs = []
    for s in range(len(cu_seq_q) - 1):
        rows, keys = slice(cu_seq_q[s], cu_seq_q[s + 1]), slice(cu_seq_k[s], cu_seq_k[s + 1])
        assert query[rows].shape[0] <= max_q
        assert key[keys].shape[0] <= max_k
        heads_first = [x.transpose(0, 1)[None] for x in (query[rows], key[keys], value[keys])]
        o = attention(*heads_first, mask=SlidingWindow(left, right), scale=scale, backend="reference")
        outputs.append(o[0].transpose(0, 1))
    return torch.cat(outputs)


@pytest.fixture
def flash():
    with (
        mock.patch.object(varlen, "varlen_attn", stand_in),
        mock.patch.object(dispatch, "_why_not_flash", lambda q, v, plain: None if plain else "not plain"),
    ):
        yield


@pytest.mark.parametrize("mask", [None, Causal(), SlidingWindow(2, 1), Causal() & SlidingWindow(1, 5)])
@pytest.mark.parametrize("rope", [None, Rope(100.0), Rope(100.0, style="interleaved", rotary_dim=4)])
def test_it_computes_what_one_call_per_sequence_computes(flash, mask, rope):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(11, 2, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    cu_seqlens = torch.tensor([0, 4, 4, 5, 11])
    options = {"max_seqlen_q": 6, "mask": mask, "rope": rope, "scale": 0.3}
    got = varlen_attention(q, k, v, cu_seqlens, backend="flash", **options)
    torch.testing.assert_close(got, varlen_attention(q, k, v, cu_seqlens, backend="reference", **options))


@pytest.mark.parametrize(
    "options",
    [
        {"bias": Alibi1D(torch.ones(2))},
        {"mask": KeyLengths(torch.tensor([1, 2]))},
        {"mask": Causal() & KeyLengths(torch.tensor([1, 2]))},
        {"return_lse": True},
        {"rope": Rope(10.0), "cu_seqlens_k": torch.tensor([0, 2, 5])},
    ],
)
def test_it_refuses_what_it_cannot_do(flash, options):
    x = torch.randn(5, 2, 4)
    with pytest.raises(BackendUnavailable, match="not plain"):
        varlen_attention(x, x, x, torch.tensor([0, 2, 5]), max_seqlen_q=3, backend="flash", **options)


@pytest.mark.parametrize("which", range(3))
def test_the_kernels_refuse_samples_that_32_bit_offsets_cannot_reach(which):
    token = torch.empty(1, device="meta")
    near = token.as_strided((2, 4, 2**17, 64), (2**40, 64, 2**13, 1))
    far = token.as_strided((2, 4, 2**17, 64), (2**40, 64, 2**14, 1))
    # Queries repeated for many heads: the output, which repeats nothing, would be too large.
    repeated = token.as_strided((2, 512, 2**17, 64), (2**23, 0, 64, 1))
    with mock.patch.object(kernels, "_INTERPRETED", True):
        assert kernels.why_not(near, near, near) is None
        for wrong in (far, repeated):
            qkv = [near, near, near]
            qkv[which] = wrong
            assert "31 bits" in str(kernels.why_not(*qkv))


def test_it_needs_a_cuda_device():
    x = torch.randn(5, 2, 4)
    with pytest.raises(BackendUnavailable, match="CUDA"):
        varlen_attention(x, x, x, torch.tensor([0, 2, 5]), max_seqlen_q=3, backend="flash")
