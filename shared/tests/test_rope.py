"""Rotary embeddings against complex multiplication."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pentatonic.errors import UsageError
from pentatonic.rope import apply_rope, rope_frequencies, rope_table

STYLES = pytest.mark.parametrize("style", ["half", "interleaved"])


def test_frequencies_fall_geometrically_from_one():
    frequencies = rope_frequencies(8, 10000.0)
    assert frequencies.dtype == torch.float32
    torch.testing.assert_close(frequencies, torch.tensor([1.0, 1e-1, 1e-2, 1e-3]))
    assert rope_frequencies(8, 16.0, dtype=torch.float64).tolist() == [1.0, 0.5, 0.25, 0.125]


def test_table_holds_cosine_and_sine_of_position_times_frequency():
    positions = torch.tensor([[0, 1, 5], [7, 300, 2]])
    cos, sin = rope_table(positions, 6, 100.0)
    assert cos.shape == sin.shape == (2, 3, 3)
    assert cos.dtype == sin.dtype == torch.float32
    for b, n, p in [(0, 1, 0), (0, 2, 2), (1, 0, 1), (1, 1, 2)]:
        angle = int(positions[b, n]) * 100.0 ** (-2 * p / 6)
        assert math.isclose(float(cos[b, n, p]), math.cos(angle), abs_tol=2e-5)
        assert math.isclose(float(sin[b, n, p]), math.sin(angle), abs_tol=2e-5)


@STYLES
def test_rotation_is_multiplication_by_a_unit_complex_number(style):
    x = torch.randn(2, 3, 5, 10, dtype=torch.float64)
    cos, sin = rope_table(torch.arange(5), 6, dtype=torch.float64)
    y = apply_rope(x, cos, sin, style=style)
    pairs = [(p, p + 3) if style == "half" else (2 * p, 2 * p + 1) for p in range(3)]
    for p, (a, b) in enumerate(pairs):
        turned = torch.complex(x[..., a], x[..., b]) * torch.complex(cos[:, p], sin[:, p])
        torch.testing.assert_close(y[..., a], turned.real)
        torch.testing.assert_close(y[..., b], turned.imag)
    assert y[..., 6:].equal(x[..., 6:])  # beyond the rotary dimension nothing moves


@STYLES
@settings(max_examples=20, deadline=None)
@given(shift=st.integers(-10_000, 10_000))
def test_scores_depend_on_the_difference_of_positions(style, shift: int):
    q, k = torch.randn(2, 4, 8, dtype=torch.float64)
    positions = torch.arange(4)

    def scores(p):
        cos, sin = rope_table(p, 8, dtype=torch.float64)
        return apply_rope(q, cos, sin, style=style) @ apply_rope(k, cos, sin, style=style).T

    torch.testing.assert_close(scores(positions + shift), scores(positions), atol=1e-9, rtol=0)


@STYLES
def test_gradient_is_the_inverse_rotation(style):
    x = torch.randn(1, 2, 4, 8, dtype=torch.float64, requires_grad=True)
    cos, sin = rope_table(torch.arange(4), 8, dtype=torch.float64)
    upstream = torch.randn(1, 2, 4, 8, dtype=torch.float64)
    (grad,) = torch.autograd.grad(apply_rope(x, cos, sin, style=style), x, upstream)
    torch.testing.assert_close(grad, apply_rope(upstream, cos, -sin, style=style))


def test_a_batched_table_serves_all_heads():
    x = torch.randn(2, 3, 4, 8)
    cos, sin = rope_table(torch.tensor([[0, 1, 2, 3], [5, 6, 9, 9]]), 8)
    y = apply_rope(x, cos, sin)
    for b in range(2):
        assert y[b].equal(apply_rope(x[b], cos[b], sin[b]))


@STYLES
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_only_once(style, dtype):
    x = torch.randn(1, 2, 400, 8).to(dtype)
    cos, sin = rope_table(torch.arange(400), 8)
    y = apply_rope(x, cos, sin, style=style)
    assert y.dtype == dtype
    assert y.equal(apply_rope(x.float(), cos, sin, style=style).to(dtype))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rope_frequencies(7), "even and positive, got 7"),
        (lambda: rope_frequencies(0), "even and positive, got 0"),
        (lambda: rope_table(torch.arange(3), 4, 0.0), "theta must be positive"),
        (lambda: apply_rope(torch.ones(3, 2), *rope_table(torch.arange(3), 4)), "only 2"),
        (
            lambda: apply_rope(torch.ones(3, 4), *rope_table(torch.arange(3), 4), style="axial"),
            "'interleaved'",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(UsageError, match=message):
        call()


@pytest.mark.parametrize("turned", [8, 6, 2])
def test_half_rows_have_the_bits_of_their_four_products(turned):
    x = torch.randn(2, 5, 3, 8).transpose(1, 2).requires_grad_()
    cos, sin = rope_table(torch.arange(5), turned)
    a, b, rest = x[..., : turned // 2], x[..., turned // 2 : turned], x[..., turned:]
    expected = torch.cat((a * cos - b * sin, a * sin + b * cos, rest), dim=-1)
    found = apply_rope(x, cos, sin)
    assert found.equal(expected)
    weights = torch.randn_like(found)
    gradients = [torch.autograd.grad((each * weights).sum(), x)[0] for each in (found, expected)]
    assert gradients[0].equal(gradients[1])
