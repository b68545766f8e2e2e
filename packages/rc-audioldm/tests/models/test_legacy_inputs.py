"""The tensors that the original hands to the pipelines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pentatonic.errors import UsageError
from rc_audioldm.legacy.blending import external_blend, to_hidden_size
from rc_audioldm.legacy.inputs import EmbedMode, embed_mode, language_inputs, retrieval_embeds

GOLDENS = Path(__file__).parent.parent / "goldens"


def near(result: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    torch.testing.assert_close(result, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("mixing", "blend"), [("residual", "orth"), ("orth", "residual"), ("replace", "orth")]
)
def test_the_condition_of_audioldm_with_retrieval(golden: Any, mixing: Any, blend: Any) -> None:
    case = golden("aldm1_cond_mix")
    t = case.tensors
    blended = external_blend(t["clap_text_unit"], t["projected_style"], blend, 0.09)
    near(blended, t[f"blended/{blend}/alpha0.09"], case.tolerance)
    for batch, rows in enumerate((slice(0, 2), slice(2, 3))):
        encoded = t[f"{mixing}/encode_prompt_batch{batch}"]
        result = retrieval_embeds(encoded, blended[rows], mixing, case.meta["beta"])
        near(result, t[f"{mixing}/prompt_embeds_batch{batch}"], case.tolerance)
    with pytest.raises(UsageError, match="twice as many"):
        retrieval_embeds(encoded, blended, mixing, 0.18)


def test_the_inputs_of_audioldm2_with_retrieval(golden: Any, tiny: Any) -> None:
    case = golden("aldm2_retrieval_inputs")
    t, width = case.tensors, case.meta["lm_hidden"]
    style = golden("aldm1_cond_mix").tensors["projected_style"]
    near(t["projected_style"], style, case.tolerance)
    blended = external_blend(t["clap_text_unit"], style, "orth", 0.08)
    near(blended, t["blended/orth/alpha0.08"], case.tolerance)
    for how in ("pad", "linear"):
        for batch, rows in enumerate((slice(0, 2), slice(2, 3))):
            own = to_hidden_size(blended[rows], width, how, 1000)[:, None]  # type: ignore[arg-type]
            near(own, t[f"{how}/batch{batch}/generated_prompt_embeds"], case.tolerance)
            empty = to_hidden_size(t["clap_empty_unit"], width, how, 1000)[:, None]  # type: ignore[arg-type]
            negative = t[f"{how}/batch{batch}/negative_generated_prompt_embeds"]
            near(empty.expand_as(negative), negative, case.tolerance)
    # No token ids are stored, so the states of T5 are compared by their shapes.
    model = tiny("audioldm2")
    model.tokenizer_2.ids = {"a": [5, 6, 1], "b": [7, 8, 9, 1]}
    inputs = language_inputs(model, ["a", "b"], blended[:2], "linear", 1000)
    for name in ("prompt_embeds", "attention_mask", "generated_prompt_embeds"):
        expected = t[f"pad/batch0/{name}"]
        assert (getattr(inputs, name).shape, getattr(inputs, name).dtype) == (expected.shape, expected.dtype)
    assert inputs.attention_mask.sum(1).tolist() == [3, 4]
    near(inputs.generated_prompt_embeds, t["linear/batch0/generated_prompt_embeds"], case.tolerance)
    with pytest.raises(UsageError, match="is an AudioLDM 1"):
        language_inputs(tiny("audioldm"), ["a"], blended[:1], "pad", 0)


def test_the_embed_mode_of_audioldm(golden: Any) -> None:
    case = golden("aldm1_embed_mode")
    t = case.tensors
    raw = {name.split("/")[1]: value for name, value in t.items() if name.startswith("clap_text_raw/")}
    texts = torch.stack([raw["prompt0"], raw["prompt1"], raw["prompt2"]])
    options = {
        "default": EmbedMode(),
        "plain_noop": EmbedMode(blend_mode="plain"),
        "all": EmbedMode(
            alpha_style=0.2,
            prior_weight=0.35,
            music_anchor_weight=0.2,
            style_gate_margin=0.01,
            speech_push=0.1,
            center_style_bank=True,
            normalize_after_blend=True,
        ),
    }
    for name, own in options.items():
        result = embed_mode(
            texts, t["style_bank"], own, prior=raw["prior"], anchor=raw["prior"], speech=raw["speech_push"]
        )
        near(result, t[f"{name}/prompt_embeds"], case.tolerance)
        negative = raw["speech"] if name == "all" else raw["empty"]
        for row in t[f"{name}/negative_prompt_embeds"]:
            near(torch.nn.functional.normalize(negative, dim=0), row, case.tolerance)


def test_the_options_of_the_embed_mode_are_those_of_the_case() -> None:
    content = json.loads((GOLDENS / "aldm1_embed_mode/io.json").read_text(encoding="utf-8"))
    assert "--alpha_style" in content["all"] and "--center_style_bank" in content["all"]
