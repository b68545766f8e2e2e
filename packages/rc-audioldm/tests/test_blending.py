"""Blends: the original's numbers, and what a strength promises."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from pentatonic.errors import UsageError
from rc_audioldm.legacy.blending import external_blend, script_blend, select_style_rows, to_hidden_size
from rc_audioldm.style.blending import MODES, blend, cosines
from rc_audioldm.style.vectors import softmax_weights, style_from

CASE = re.compile(r"(external|fallback)/(\w+)/alpha([\d.]+)/renorm([01])")


def test_the_blends_of_the_original(golden: Any) -> None:
    case = golden("blend")
    text, style = case.tensors["text"], case.tensors["style"]
    found = 0
    for name, expected in case.tensors.items():
        if not (match := CASE.fullmatch(name)):
            continue
        kind, mode, strength, renorm = match.groups()
        function: Any = external_blend if kind == "external" else script_blend
        result = function(text, style, mode, float(strength), renormalise=renorm == "1")
        rows = 3 if mode == "orth" else 4  # in the last one text and style are equal, which leaves noise
        torch.testing.assert_close(result[:rows], expected[:rows], atol=case.tolerance, rtol=0)
        found += 1
    assert found == 3 * (2 * 3 * 2 + 1)  # strengths, and the fallback for unknown modes


def test_the_style_of_the_nearest_rows(golden: Any) -> None:
    case = golden("retrieval_softmax")
    bank = case.tensors["bank_raw"] / (case.tensors["bank_raw"].norm(dim=1, keepdim=True) + 1e-9)
    query = normalize(case.tensors["query_text"], dim=1)
    found = 0
    for name, expected in case.tensors.items():
        if not (match := re.fullmatch(r"style/topk(\d+)/temp([\d.e-]+)", name)):
            continue
        similarities, rows = (query @ bank.T).topk(min(int(match[1]), len(bank)), dim=1)
        weights = softmax_weights(similarities, float(match[2]))
        torch.testing.assert_close(weights, case.tensors[f"weights/{name[6:]}"], atol=case.tolerance, rtol=0)
        torch.testing.assert_close(style_from(bank[rows], weights), expected, atol=case.tolerance, rtol=0)
        found += 1
    assert found >= 2


def test_the_width_of_the_language_model(golden: Any) -> None:
    case = golden("style2lm_map")
    found = 0
    for name, expected in case.tensors.items():
        if match := re.fullmatch(r"(pad|linear)/hidden(\d+)/seed(\d+)", name):
            result = to_hidden_size(case.tensors["x"], int(match[2]), match[1], int(match[3]))  # type: ignore[arg-type]
            torch.testing.assert_close(result, expected, atol=case.tolerance, rtol=0)
            found += 1
    assert found >= 3


@pytest.fixture
def rows() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(normalize(torch.randn(6, 12, generator=generator), dim=1) for _ in range(2))  # type: ignore[return-value]


@pytest.mark.parametrize("mode", MODES)
def test_no_strength_gives_the_text_itself(rows: Any, mode: Any) -> None:
    text, style = rows
    assert blend(text, style, 0, mode) is text


@pytest.mark.parametrize("mode", ["slerp", "linear"])
def test_full_strength_gives_the_style(rows: Any, mode: Any) -> None:
    text, style = rows
    torch.testing.assert_close(blend(text, style, 1, mode), style)


@pytest.mark.parametrize("mode", ["slerp", "linear", "add", "orth"])
def test_more_strength_is_nearer_to_the_style_and_further_from_the_text(rows: Any, mode: Any) -> None:
    text, style = rows
    to_text, to_style = zip(
        *(cosines(blend(text, style, s, mode), text, style) for s in (0, 0.25, 0.5, 0.75, 1)), strict=True
    )
    assert (torch.stack(to_style).diff(dim=0) > 0).all()
    assert (torch.stack(to_text).diff(dim=0) < 0).all()


def test_a_slerp_goes_at_an_even_pace(rows: Any) -> None:
    text, style = rows
    angle = (text * style).sum(1).acos()
    for strength in (0.2, 0.5, 0.9):
        blended = blend(text, style, strength)
        torch.testing.assert_close((text * blended).sum(1).acos(), strength * angle, atol=1e-4, rtol=0)
        torch.testing.assert_close(blended.norm(dim=1), torch.ones(6))


@pytest.mark.parametrize("mode", ["slerp", "linear", "add", "orth"])
@pytest.mark.parametrize("sign", [1, -1])
def test_rows_that_are_equal_or_opposite_give_finite_unit_rows(rows: Any, mode: Any, sign: int) -> None:
    text = rows[0]
    blended = blend(text, sign * text, 0.5, mode)
    assert blended.isfinite().all()
    torch.testing.assert_close(blended.norm(dim=1), torch.ones(6))
    if mode == "orth" or sign == 1:
        torch.testing.assert_close(blended, text)


def test_the_rows_that_the_original_takes() -> None:
    bank = torch.eye(3)
    assert select_style_rows(bank, 5, "roundrobin", 0).argmax(1).tolist() == [0, 1, 2, 0, 1]
    assert select_style_rows(bank, 5, "index", 0).argmax(1).tolist() == [0, 1, 2, 2, 2]
    assert torch.equal(select_style_rows(bank, 5, "random", 3), select_style_rows(bank, 5, "random", 3))


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda t, s: blend(t, s, 1.5), "strength is 1.5; allowed: 0 to 1"),
        (lambda t, s: blend(t, s, float("nan")), "strength is nan"),
        (lambda t, s: blend(t, s, 0.5, "mean"), "allowed: slerp, linear, add, orth, none"),
        (lambda t, s: blend(t, s[:2], 0.5), "they must agree"),
        (lambda t, s: external_blend(t, s, "slerp", 0.5), "allowed: residual, orth, concat"),
        (lambda t, s: select_style_rows(t[:0], 2, "index", 0), "no rows"),
        (lambda t, s: softmax_weights(t, -1), "temperature is -1"),
    ],
)
def test_wrong_options_are_named(rows: Any, call: Any, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        call(*rows)
