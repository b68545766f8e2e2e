"""Released layouts, saving and loading, and models that take the tower of others."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cm3p import model as models
from cm3p.configuration import CM3PBeatmapConfig, CM3PConfig
from cm3p.weights import from_pretrained, load_directory, save_pretrained
from pentatonic.errors import CorruptCheckpoint, PentatonicError, WeightsError

GOLDENS = Path(__file__).parent / "goldens"
SAVED = {
    "saved_full": models.CM3PModel,
    "saved_mlm": models.CM3PForMaskedLM,
    "saved_classifier": models.CM3PForBeatmapClassification,
}
BEATMAP: dict[str, Any] = {"vocab_size": 3968, "audio_token_id": 3967, "audio_eos_token_id": 3966}
RELEASED = {
    "v7": (models.CM3PModel, CM3PConfig(beatmap_config=BEATMAP, has_decoder_head=True)),
    "v1_v6_contrastive": (models.CM3PModel, CM3PConfig(beatmap_config=BEATMAP)),
    "v6_mask": (models.CM3PForMaskedLM, CM3PBeatmapConfig(**BEATMAP)),
    "v7_classifier": (models.CM3PForBeatmapClassification, CM3PBeatmapConfig(**BEATMAP)),
}


@pytest.mark.parametrize("name", RELEASED)
def test_released_layouts(name: str) -> None:
    kind, config = RELEASED[name]
    golden = json.loads((GOLDENS / f"released_{name}_keys.json").read_text())
    with torch.device("meta"):
        model: Any = kind(config)
    tied = {"decoder.weight"} if name == "v6_mask" else set()
    got = {key: [list(value.shape), str(value.dtype)[6:]] for key, value in model.state_dict().items()}
    assert {key: value for key, value in got.items() if key not in tied} == golden["keys"]
    assert sum(parameter.numel() for parameter in model.parameters()) == golden["total_parameters"]


def inputs_of(name: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.removeprefix("proc."): value for key, value in tensors.items() if key.startswith("proc.")}


@pytest.mark.parametrize("name", SAVED)
def test_saving_and_loading_changes_nothing(name: str, tmp_path: Path) -> None:
    first = from_pretrained(GOLDENS / name)
    assert type(first) is SAVED[name] and first.dtype == torch.float32
    save_pretrained(first, tmp_path / "own", card="A card.")
    first.save_pretrained(tmp_path / "theirs")
    original = json.loads((GOLDENS / name / "config.json").read_text())
    for folder in ("own", "theirs"):
        assert (
            load_file(tmp_path / folder / "model.safetensors").keys()
            == load_file(GOLDENS / name / "model.safetensors").keys()
        )
        config = json.loads((tmp_path / folder / "config.json").read_text())
        assert sections(config) == sections(original)
        for again in (from_pretrained(tmp_path / folder), SAVED[name].from_pretrained(tmp_path / folder)):
            torch.testing.assert_close(dict(again.named_parameters()), dict(first.named_parameters()))
            torch.testing.assert_close(dict(again.named_buffers()), dict(first.named_buffers()))
            ids = torch.arange(20)[None]
            torch.testing.assert_close(
                again.beatmap_model(ids).vectors, first.beatmap_model(ids).vectors, rtol=0, atol=0
            )


def sections(config: dict[str, Any]) -> dict[str, Any]:
    """What a configuration says, without what the original dumps of its library, versions and dtype."""
    known = {"transformers_version", "dtype"}
    found = {}
    for key, value in config.items():
        if key == "audio_config":
            fields = {"hidden_size", "n_mels", "projector_dim", "local_attention", "model_type"}
            found[key] = {name: value[name] for name in fields}
        elif isinstance(value, dict):
            found[key] = sections(value)
        elif key not in known:
            found[key] = value
    return found


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float64])
def test_the_dtype_can_be_chosen(dtype: torch.dtype | None) -> None:
    model = from_pretrained(GOLDENS / "saved_full", dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype or torch.float32}


def test_a_full_model_gives_its_tower_to_a_classifier() -> None:
    full = load_file(GOLDENS / "saved_full" / "model.safetensors")
    model, info = models.CM3PForBeatmapClassification.from_pretrained(
        GOLDENS / "saved_full", output_loading_info=True, dtype=torch.bfloat16
    )
    assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    assert not info["unexpected_keys"]
    assert 0 < model.classifier.weight.float().std() < 1 and model.classifier.bias.abs().max() == 0
    for key, value in model.state_dict().items():
        if key.startswith("beatmap_model."):
            torch.testing.assert_close(value, full[key])


def test_a_masked_language_model_gives_its_tower_to_a_full_model() -> None:
    model, info = models.CM3PModel.from_pretrained(GOLDENS / "saved_mlm", output_loading_info=True)
    assert {key.split(".")[0] for key in info["missing_keys"]} == {
        "beatmap_projection", "metadata_projection", "metadata_model", "logit_scale"
    }  # fmt: skip
    tower = load_file(GOLDENS / "saved_mlm" / "model.safetensors")
    for key, value in model.beatmap_model.state_dict(prefix="beatmap_model.").items():
        torch.testing.assert_close(value.float(), tower[key].float())


def test_a_decoder_of_its_own_stays_untied(tmp_path: Path) -> None:
    full = load_file(GOLDENS / "saved_full" / "model.safetensors")
    model = models.CM3PForMaskedLM.from_pretrained(GOLDENS / "saved_full", dtype=torch.bfloat16)
    model.save_pretrained(tmp_path)
    for again in (model, from_pretrained(tmp_path), models.CM3PForMaskedLM.from_pretrained(tmp_path)):
        again.tie_weights()  # as the Trainer may
        torch.testing.assert_close(again.decoder.weight.bfloat16(), full["decoder.weight"])
        assert again.decoder.weight is not again.get_input_embeddings().weight
    tied = from_pretrained(GOLDENS / "saved_mlm")
    assert tied.decoder.weight is tied.get_input_embeddings().weight


def test_first_values_of_weights() -> None:
    config = CM3PConfig(
        beatmap_config={"num_hidden_layers": 2, "audio_config": {"num_hidden_layers": 1}},
        has_decoder_head=True,
    )
    torch.manual_seed(0)
    state = models.CM3PModel(config).state_dict()
    for key, std in {
        "beatmap_model.encoder.embeddings.tok_embeddings.weight": 0.0176,
        "beatmap_model.encoder.layers.1.attn.Wqkv.weight": 0.0176,
        "beatmap_model.encoder.layers.1.mlp.Wo.weight": 0.0088,
        "beatmap_model.audio_encoder.conv2.weight": 0.02,
        "decoder.weight": 0.02,
        "head.dense.weight": 0.02,
        "beatmap_projection.weight": 768**-0.5,
        "metadata_projection.weight": 256**-0.5,
    }.items():
        assert state[key].std().item() == pytest.approx(std, rel=0.02), key
    assert state["beatmap_model.encoder.layers.1.attn.Wqkv.weight"].abs().max() <= 0.04
    assert state["logit_scale"].item() == pytest.approx(2.6592)
    assert state["beatmap_model.audio_encoder.conv1.bias"].abs().max() == 0


@pytest.mark.parametrize(
    "change",
    [
        {"architectures": ["os.system"]},
        {"architectures": None},
        {"model_type": "CM3PBeatmap"},
        {"beatmap_config": {"hidden_size": 10**9}},
        {"beatmap_config": [1]},
        {"metadata_config": {"num_hidden_layers": 10**6}},
        {"projection_dim": "8"},
        {"projection_dim": 9},
        {"logit_scale_init_value": float("nan")},
        {"dtype": "load"},
        {"num_labels": 10**12},
        {"id2label": 3},
    ],
    ids=str,
)
def test_hostile_configurations_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    config = json.loads((GOLDENS / "saved_full" / "config.json").read_text())
    shutil.copy(GOLDENS / "saved_full" / "model.safetensors", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(PentatonicError, match=r"config\.json|projection"):
        load_directory(tmp_path)


def test_damaged_and_unfitting_weights_are_refused(tmp_path: Path) -> None:
    shutil.copy(GOLDENS / "saved_full" / "config.json", tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes((GOLDENS / "saved_full" / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(CorruptCheckpoint):
        load_directory(tmp_path)
    shutil.copy(GOLDENS / "saved_mlm" / "model.safetensors", weights)
    with pytest.raises(WeightsError, match="does not fit the model: missing: beatmap_projection"):
        load_directory(tmp_path)
