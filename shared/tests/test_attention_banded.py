"""Narrow windows block by block: equal to the plain reference, values and gradients, padded and packed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pentatonic.attention import Causal, KeyLengths, Rope, SlidingWindow, attention, explain, varlen_attention
from pentatonic.attention.banded import WIDEST, banded_attention
from pentatonic.errors import BackendUnavailable


def leaves(*shape: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """q, k and v."""
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(3)]


def assert_equal_with_gradients(first: Tensor, second: Tensor, inputs: list[Tensor]) -> None:
    """Outputs and gradients agree to float64's last digits."""
    torch.testing.assert_close(first, second, rtol=0, atol=1e-12)
    weights = torch.randn_like(first)
    for a, b in zip(
        torch.autograd.grad((first * weights).sum(), inputs),
        torch.autograd.grad((second * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


@pytest.mark.parametrize("length", [1, 31, 32, 33, 200, 385])
@pytest.mark.parametrize(("left", "right"), [(0, 0), (1, 0), (0, 5), (64, 64), (100, 3)])
def test_a_window_equals_the_reference(length: int, left: int, right: int) -> None:
    torch.manual_seed(length + left)
    q, k, v = leaves(2, 3, length, 8)
    # Sides that reach the ends hide nothing, which is not a narrow window.
    mask = SlidingWindow(min(left, max(0, length - 2)), min(right, max(0, length - 2)))
    if length == 1:
        with pytest.raises(BackendUnavailable, match="banded takes windows"):
            attention(q, k, v, mask=mask, backend="banded")
        return
    options: dict[str, Any] = {"mask": mask, "scale": 0.3, "rope": Rope(1e4)}
    found = attention(q, k, v, backend="banded", **options)
    assert_equal_with_gradients(found, attention(q, k, v, backend="reference", **options), [q, k, v])


@pytest.mark.parametrize("lengths", [[300], [1, 1, 40], [0, 70, 0, 33, 129, 2], [5] * 9])
@pytest.mark.parametrize("side", [0, 3, 32, 64])
def test_packed_sequences_do_not_see_each_other(lengths: list[int], side: int) -> None:
    torch.manual_seed(side)
    total = sum(lengths)
    q, k, v = leaves(total, 2, 8)
    bounds = torch.tensor([0, *lengths]).cumsum(0)
    options: dict[str, Any] = {
        "mask": SlidingWindow(min(side, total - 1), min(side, total - 1)),
        "max_seqlen_q": max(lengths),
        "rope": Rope(500.0),
    }
    found = varlen_attention(q, k, v, bounds, backend="banded", **options)
    expected = varlen_attention(q, k, v, bounds, backend="reference", **options)
    assert_equal_with_gradients(found, expected, [q, k, v])


def test_float32_is_as_near_to_float64_as_the_tiles() -> None:
    torch.manual_seed(0)
    q, k, v = leaves(1, 4, 500, 64)
    exact = attention(q, k, v, mask=SlidingWindow(64, 64), backend="reference")
    single = [x.float() for x in (q, k, v)]
    gaps = {
        backend: (attention(*single, mask=SlidingWindow(64, 64), backend=backend).double() - exact)
        .abs()
        .max()
        for backend in ("banded", "chunked")
    }
    assert gaps["banded"] <= 2 * gaps["chunked"] + 1e-7


def test_it_is_chosen_for_narrow_windows_alone() -> None:
    x = torch.empty(2, 2, 2000, 8)
    window = SlidingWindow(64, 64)
    assert explain(x, x, x, mask=window).backend == "banded"
    assert explain(x, x, x, mask=window, backend="-banded").backend == "chunked"
    assert explain(x, x, x, mask=SlidingWindow(WIDEST, 0)).backend == "banded"
    assert explain(x, x, x, mask=SlidingWindow(WIDEST, 1)).backend == "chunked"
    assert explain(x, x, x, mask=window & KeyLengths(torch.tensor([3, 4]))).backend == "chunked"
    assert explain(x.half(), x.half(), x.half(), mask=window).backend == "chunked"
    assert explain(x, x, x, mask=Causal()).backend == "sdpa"
    assert explain(x[:, :, :9], x, x, mask=window).backend == "chunked"


@pytest.mark.parametrize("options", [{"return_lse": True}, {"mask": Causal()}, {"mask": None}])
def test_what_it_cannot_compute_is_refused(options: dict[str, Any]) -> None:
    x = torch.zeros(1, 1, 200, 8)
    bounds = torch.tensor([0, 50, 200])
    options = {"mask": SlidingWindow(3, 3), **options}
    with pytest.raises(BackendUnavailable, match="banded takes windows of up to 1024"):
        attention(x, x, x, backend="banded", **options)
    with pytest.raises(BackendUnavailable, match="banded takes windows of up to 1024"):
        packed = x[0].transpose(0, 1)
        varlen_attention(packed, packed, packed, bounds, max_seqlen_q=150, backend="banded", **options)


def test_the_default_of_a_packed_batch_is_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(*args: Any, **options: Any) -> Tensor:
        calls.append(1)
        return banded_attention(*args, **options)

    monkeypatch.setattr("pentatonic.attention.varlen.banded_attention", counted)
    q, k, v = leaves(300, 2, 8, dtype=torch.float32)
    bounds = torch.tensor([0, 100, 110, 300])
    varlen_attention(q, k, v, bounds, max_seqlen_q=190, mask=SlidingWindow(8, 8))
    assert len(calls) == 1
    # A window that hides nothing of the longest sequence is full attention.
    varlen_attention(q, k, v, bounds, max_seqlen_q=190, mask=SlidingWindow(189, 189))
    assert len(calls) == 1


def test_rows_that_fill_up_the_last_block_have_no_gradient_of_their_own() -> None:
    q, k, v = leaves(1, 1, 33, 4)
    attention(q, k, v, mask=SlidingWindow(2, 2), backend="banded").sum().backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in (q, k, v))


def test_a_sequence_has_the_same_bits_whatever_is_packed_with_it() -> None:
    torch.manual_seed(0)
    window = SlidingWindow(64, 64)
    lengths = [1, 700, 33, 201]
    sequences = [[torch.randn(length, 4, 16) for _ in range(3)] for length in lengths]

    def attended(numbers: list[int]) -> list[Tensor]:
        chosen = [lengths[number] for number in numbers]
        q, k, v = (torch.cat([sequences[number][i] for number in numbers]) for i in range(3))
        bounds = torch.tensor([0, *chosen]).cumsum(0)
        options: dict[str, Any] = {"mask": window, "rope": Rope(1e4), "backend": "banded"}
        return list(varlen_attention(q, k, v, bounds, max_seqlen_q=max(chosen), **options).split(chosen))

    together, turned = attended([0, 1, 2, 3]), attended([3, 2, 1, 0])[::-1]
    alone = attended([1])
    assert all(one.equal(other) for one, other in zip(together, turned, strict=True))
    assert alone[0].equal(together[1])
