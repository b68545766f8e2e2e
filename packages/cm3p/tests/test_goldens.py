"""Outputs, losses and gradients of the original's models, within its tolerances, packed and padded."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers.utils import ModelOutput

from cm3p import model as models
from cm3p.losses import contrastive_loss
from cm3p.network.layout import Packed, layout_of
from pentatonic.errors import UsageError

GOLDENS = Path(__file__).parent / "goldens"
CASES = (
    "contrastive_cls",
    "contrastive_mean_variations",
    "full_decoder_mlm",
    "masked_lm",
    "masked_lm_sparse",
    "classification_single",
    "classification_multi",
    "classification_regression",
    "beatmap_with_projection",
    "metadata_with_projection",
)


def golden_model(name: str) -> tuple[Any, dict[str, Any], dict[str, Tensor]]:
    meta = json.loads((GOLDENS / name / "meta.json").read_text())
    kind = getattr(models, meta["model_class"])
    config = meta["config"]
    section = kind.config_class.base_config_key
    model = kind(kind.config_class(**(config[section] if section else config)))
    found = model.load_state_dict(load_file(GOLDENS / name / "weights.safetensors"), strict=False)
    assert not found.unexpected_keys and set(found.missing_keys) <= {"decoder.weight"}
    return model.eval(), meta, load_file(GOLDENS / name / "io.safetensors")


def named(output: ModelOutput, prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in output.items():
        if isinstance(value, ModelOutput):
            found |= named(value, f"{prefix}.{key}")
        elif isinstance(value, tuple):
            found |= {f"{prefix}.{key}.{n}": one for n, one in enumerate(value)}
        else:
            found[f"{prefix}.{key}"] = value
    return found


def tolerance(name: str) -> float:
    if "beatmap_model_output.hidden_states" in name:
        return 5e-5
    return 1e-4 if "logits" in name or name.endswith("loss") else 2e-5


def check(name: str, got: Any, expected: Tensor, inputs: dict[str, Tensor]) -> None:
    mask = inputs.get("metadata_attention_mask" if "metadata_model" in name else "attention_mask")
    if "audio" not in name and mask is not None and expected.shape[: mask.dim()] == mask.shape:
        got, expected = got[mask.bool()], expected[mask.bool()]
    torch.testing.assert_close(
        got.detach(), expected, rtol=0, atol=tolerance(name), msg=lambda m: f"{name}: {m}"
    )


@pytest.mark.parametrize("packing", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("name", CASES)
def test_models_meet_their_goldens(name: str, packing: bool) -> None:
    model, meta, io = golden_model(name)
    model.use_packing(packing)
    inputs = {key[3:]: value for key, value in io.items() if key.startswith("in.")}
    output = model(**inputs, **meta["kwargs"], output_hidden_states=True)
    got = named(output, "out")
    for key in (key for key in io if key.startswith("out.")):
        check(key, got[key], io[key], inputs)
    gradients = [key for key in io if key.startswith("grad.")]
    if gradients:
        output.loss.backward()
    for key in gradients:
        torch.testing.assert_close(model.get_parameter(key[5:]).grad, io[key], rtol=0, atol=2e-5)
    for variant, call in meta.get("variants", {}).items():
        given = {key: io.get(f"{variant}.in.{key}", inputs.get(key)) for key in call["inputs"]}
        got = named(model(**given, **call["kwargs"]), f"{variant}.out")
        for key in (key for key in io if key.startswith(f"{variant}.out.")):
            check(key, got[key], io[key], given)
    for key, value in meta.get("python_scalars", {}).items():
        variant = key.split(".")[0]
        given = {name: inputs[name] for name in meta["variants"][variant]["inputs"]}
        assert model(**given).loss == value


def test_order_of_outputs_without_loss() -> None:
    """Metrics of the original take outputs by number: 0 logits_per_beatmap, 4 logits."""
    model, _, io = golden_model("full_decoder_mlm")
    inputs = {key[3:]: value for key, value in io.items() if key.startswith("in.") and key != "in.labels"}
    output = model(**inputs, return_loss=False)
    outputs = output.to_tuple()
    assert outputs[0] is output.logits_per_beatmap and outputs[4] is output.logits


def edge_calls() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    io = load_file(GOLDENS / "full_decoder_mlm" / "io.safetensors")
    given: dict[str, Any] = {key[3:]: value for key, value in io.items() if key.startswith("in.")}
    beatmap = {key: given[key] for key in ("input_ids", "attention_mask", "input_features")}
    metadata = {key: given[key] for key in ("metadata_ids", "metadata_attention_mask")}
    classes = {"metadata_variation_classes": given["metadata_variation_classes"]}
    labels = {"labels": given["labels"]}
    first = {key: value[:, 0] for key, value in metadata.items()}
    no_audio = {"input_ids": given["input_ids"][:2], "attention_mask": given["attention_mask"][:2]}
    no_zero = given["metadata_variation_classes"].clone()
    no_zero[1][no_zero[1] == 0] = 1
    one_less = given["input_ids"].clone()
    one_less[0, 1] = 5
    return {
        "mlm_only": (beatmap | labels, {}),
        "mlm_only_num_items": (beatmap | labels, {"num_items_in_batch": 7}),
        "mlm_return_loss_false": (beatmap | labels, {"return_loss": False}),
        "no_labels_no_metadata": (beatmap, {}),
        "metadata_only_output_logits_false": (metadata, {"output_logits": False, "return_loss": False}),
        "two_metadata_three_beatmaps": (beatmap | {key: value[:2] for key, value in first.items()}, {}),
        "three_metadata_two_beatmaps": (no_audio | first, {}),
        "three_metadata_two_beatmaps_no_loss": (no_audio | first, {"return_loss": False}),
        "three_d_metadata_two_beatmaps": (no_audio | metadata | classes, {}),
        "three_d_no_classes": (beatmap | metadata, {}),
        "embeds_only": ({"inputs_embeds": torch.zeros(3, 27, 24)}, {"output_logits": False}),
        "row_without_class_0": (beatmap | metadata | {"metadata_variation_classes": no_zero}, {}),
        "one_audio_placeholder_missing": (beatmap | {"input_ids": one_less}, {}),
        "placeholders_without_features": (
            {key: value for key, value in beatmap.items() if key != "input_features"},
            {},
        ),
    }


@pytest.mark.parametrize("name", edge_calls())
def test_edge_calls(name: str) -> None:
    cases = json.loads((GOLDENS / "model_edge" / "cases.json").read_text())["cases"]
    result = next(case["result"] for case in cases if case["name"] == name)
    model, _, _ = golden_model("full_decoder_mlm")
    inputs, options = edge_calls()[name]
    if "error" in result:
        with pytest.raises(UsageError):
            model(**inputs, **options)
        return
    output = model(**inputs, **options)
    for key, expected in result.items():
        got = output.get(key)
        if expected is None:
            assert got is None
        else:
            torch.testing.assert_close(torch.as_tensor(got), torch.tensor(expected), rtol=0, atol=1e-5)


def test_metadata_alone_has_no_logits_and_no_error() -> None:
    model, _, io = golden_model("full_decoder_mlm")
    output = model(
        metadata_ids=io["in.metadata_ids"], metadata_attention_mask=io["in.metadata_attention_mask"]
    )
    assert output.logits is None and output.metadata_embeds.shape == (3, 5, 12)


def test_masked_tokens_without_loss_type_are_not_shifted() -> None:
    """The original falls back to its causal loss there."""
    model, _, _ = golden_model("full_decoder_mlm")
    model.config.loss_type = None
    inputs, _ = edge_calls()["mlm_only"]
    assert model(**inputs).loss.item() == pytest.approx(2.1549630165100098, abs=1e-5)


@pytest.mark.parametrize("name", ["square", "variations", "odd_classes"])
def test_contrastive_loss(name: str) -> None:
    io = load_file(GOLDENS / "loss_and_unpad" / "io.safetensors")
    similarity = io[f"{name}.similarity"].requires_grad_()
    loss = contrastive_loss(similarity, io.get(f"{name}.classes"))
    torch.testing.assert_close(loss, io[f"{name}.loss"], rtol=0, atol=1e-6)
    if f"{name}.grad" in io:
        loss.backward()
        torch.testing.assert_close(similarity.grad, io[f"{name}.grad"], rtol=0, atol=1e-6)


def test_packing() -> None:
    io = load_file(GOLDENS / "loss_and_unpad" / "io.safetensors")
    layout = layout_of(io["unpad.mask"], 3, 7, torch.device("cpu"))
    assert isinstance(layout, Packed)
    assert layout.max_seqlen == io["unpad.max_seqlen"]
    torch.testing.assert_close(layout.take(io["unpad.ids"]), io["unpad.out_ids"])
    torch.testing.assert_close(layout.take(io["unpad.labels"]), io["unpad.out_labels"])
    torch.testing.assert_close(layout.indices, io["unpad.indices"])
    torch.testing.assert_close(layout.cu_seqlens, io["unpad.cu_seqlens"])
    torch.testing.assert_close(layout.positions, io["unpad.out_positions"])
    torch.testing.assert_close(layout.padded(io["pad.in"]), io["pad.out"])
