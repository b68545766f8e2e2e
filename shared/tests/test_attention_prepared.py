"""A bias prepared once for all layers gives the numbers that its descriptor gives, bit by bit."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from torch import Tensor

from pentatonic.attention import (
    Alibi1D,
    Alibi2D,
    Directional,
    DistanceTable,
    KeyBias,
    Raw,
    attention,
    explain,
    live_fraction,
    prepare_bias,
    varlen_attention,
)
from pentatonic.errors import UsageError

pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")

INTERPRETED = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1", reason="Triton's interpreter is off: the kernels run on a GPU"
)
BACKENDS = ["reference", "sdpa", "chunked", pytest.param("triton", marks=INTERPRETED)]
COORDS = torch.randint(0, 6, (2, 20, 2), generator=torch.Generator().manual_seed(0))
# Tokens where every back end runs with every option: one tile that is not full, as Triton's interpreter takes its time.
FEW = 13


def bias_of(kind: str, w: Tensor, vec: Tensor) -> Any:
    coords = COORDS[:, :FEW]
    return {
        "alibi_1d": lambda: Alibi1D(w[0]),
        "alibi_2d": lambda: Alibi2D(coords, *w),
        "directional": lambda: Directional(coords, *w, signed=True),
        "raw": lambda: Raw(coords[0], signed=False),
        "key": lambda: KeyBias(vec, cls_tokens=1),
        "table": lambda: DistanceTable(coords, vec),
    }[kind]()


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("kind", ["alibi_1d", "alibi_2d", "directional", "raw", "key", "table"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_numbers_are_the_same(backend: Any, kind: str, half: bool, learned: bool):
    if (kind, backend) == ("table", "triton"):
        pytest.skip("the kernels take no table")
    g = torch.Generator().manual_seed(1)
    qkv = [
        torch.randn(2, 2, FEW, 16, generator=g).to(torch.float16 if half else torch.float32) for _ in range(3)
    ]
    w, vec = torch.rand(2, 2, generator=g), torch.randn(2, FEW, generator=g)

    def run(prepared: bool) -> list[Tensor]:
        leaves = [x.clone().requires_grad_() for x in qkv]
        parameters = [x.clone().requires_grad_(learned) for x in (w, vec)]
        bias = bias_of(kind, *parameters)
        bias = prepare_bias(bias, leaves[1]) if prepared else bias
        first = attention(*leaves, bias=bias, backend=backend)
        o = attention(first, *leaves[1:], bias=bias, backend=backend)  # the next layer
        wanted = [*leaves, *(x for x in parameters if x.requires_grad)]
        grads = torch.autograd.grad(o.float().square().sum(), wanted, allow_unused=True)
        return [o, *(x for x in grads if x is not None)]

    plain, prepared = run(False), run(True)
    assert len(plain) == len(prepared) == (4 if not learned or kind == "raw" else 5)
    assert all(a.equal(b) for a, b in zip(plain[:4], prepared[:4], strict=True))
    # Two layers add up in another order.
    torch.testing.assert_close(prepared[4:], plain[4:])


@pytest.mark.parametrize("backend", BACKENDS)
def test_packed_batches_and_tolerances_take_it(backend: Any):
    q, k, v = (torch.randn(20, 2, 16) for _ in range(3))
    cu = torch.tensor([0, 7, 7, 20])
    bias = Alibi2D(COORDS[0], torch.rand(2), torch.rand(2))
    outputs = [
        varlen_attention(q, k, v, cu, max_seqlen_q=13, bias=b, backend=backend)
        for b in (bias, prepare_bias(bias, k))
    ]
    assert outputs[0].equal(outputs[1])
    padded = [x.transpose(0, 1)[None] for x in (q, k, v)]
    prepared = prepare_bias(bias, padded[1])
    skipping = [attention(*padded, bias=b, tolerance=1e-3, backend=backend) for b in (bias, prepared)]
    assert skipping[0].equal(skipping[1])
    fractions = [live_fraction(*padded[:2], bias=b, tolerance=1e-3) for b in (bias, prepared)]
    assert fractions[0].equal(fractions[1])
    assert explain(*padded, bias=prepared) == explain(*padded, bias=bias)


def test_it_belongs_to_the_keys_that_it_was_prepared_for():
    k = torch.randn(1, 2, 20, 16)
    bias = Alibi1D(torch.rand(2))
    prepared = prepare_bias(bias, k)
    short = k[:, :, :19]
    with pytest.raises(UsageError, match=r"prepared for keys \(B, H, N\) = \(1, 2, 20\) .* got \(1, 2, 19\)"):
        attention(short, short, short, bias=prepared)
    with pytest.raises(UsageError, match=r"got .* of torch.float64"):
        attention(k.double(), k.double(), k.double(), bias=prepared)
    with pytest.raises(UsageError, match="Alibi1D needs positions to be prepared for packed keys"):
        prepare_bias(bias, k[0].transpose(0, 1))
    with pytest.raises(UsageError, match="not a bias"):
        prepare_bias(torch.rand(2), k)  # type: ignore[arg-type]
