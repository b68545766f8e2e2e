"""Directories of models: read as they were published, written, refused."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pentatonic.errors import BackendUnavailable, CheckpointError, ConfigError, HubError, WeightsError
from rc_audioldm import library_versions, weights
from rc_audioldm.components import COMPONENTS, build_component, own_names, with_tied
from rc_audioldm.denoising.loop import Denoising
from rc_audioldm.denoising.sampling import Item, Sampling, sample
from rc_audioldm.denoising.schedulers import make_scheduler
from rc_audioldm.model import AudioLDM
from rc_audioldm.weights import LICENCE, RELEASED, from_pretrained, load_directory, save_pretrained

GOLDENS = Path(__file__).parent.parent / "goldens"


SETTINGS = Sampling(seconds=0.01675, denoising=Denoising("ddim", 3))


def audio(model: AudioLDM) -> torch.Tensor:
    return next(sample(model, [Item("a solo piano melody")], SETTINGS)).audio


def same_weights(one: AudioLDM, other: AudioLDM) -> None:
    for name, module in one.modules().items():
        own, others = module.state_dict(), other.modules()[name].state_dict()
        assert own.keys() == others.keys()
        assert all(torch.equal(own[key], others[key]) for key in own)


@pytest.fixture
def copied(directories: Any, tmp_path: Path) -> Callable[[str], Path]:
    """A directory that a test may change."""
    return lambda family: Path(shutil.copytree(directories(family), tmp_path / family))


def changed(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | values), encoding="utf-8")


def test_a_directory_as_published(directories: Any, tiny: Any, family: str) -> None:
    model, made = from_pretrained(directories(family)), tiny(family)
    same_weights(model, made)
    assert model.family == family
    assert (model.sample_rate, model.hop, model.vae_factor, model.clap_width) == (16000, 4, 2, 16)
    assert model.state_count == (8 if family == "audioldm2" else 0)
    assert not any(module.training for module in model.modules().values())
    assert all(p.dtype == torch.float32 for module in model.modules().values() for p in module.parameters())
    # Buffers that files do not hold, such as positions, have their values.
    for name, module in model.modules().items():
        own, expected = dict(module.named_buffers()), dict(made.modules()[name].named_buffers())
        assert own.keys() == expected.keys()
        assert all(torch.equal(own[key], expected[key]) for key in own)


def test_only_the_unet_takes_another_type(directories: Any, family: str) -> None:
    model = from_pretrained(directories(family), dtype=torch.bfloat16)
    types = {name: next(module.parameters()).dtype for name, module in model.modules().items()}
    assert types.pop("unet") == torch.bfloat16
    assert set(types.values()) == {torch.float32}
    result = audio(model)
    assert result.dtype == torch.float32 and result.isfinite().all()
    exact = audio(from_pretrained(directories(family)))
    assert 0 < float((result - exact).abs().max()) < 0.05


def test_written_and_read_again(directories: Any, tmp_path: Path, family: str) -> None:
    model = load_directory(directories(family))
    save_pretrained(model, tmp_path / "new", card="A card.")
    again = load_directory(tmp_path / "new")
    same_weights(model, again)
    assert torch.equal(audio(model), audio(again))
    assert (tmp_path / "new/README.md").read_text() == "A card."
    stated = json.loads((tmp_path / "new/scheduler/scheduler_config.json").read_text())
    assert "timestep_spacing" not in stated and stated["steps_offset"] == 1


def test_the_language_model_of_either_class(copied: Any, tiny: Any) -> None:
    from transformers import GPT2LMHeadModel

    folder = copied("audioldm2")
    model = tiny("audioldm2")
    full = GPT2LMHeadModel(model.language_model.config)
    full.transformer.load_state_dict(model.language_model.state_dict())
    tensors = {name: value.clone() for name, value in full.state_dict().items()}
    tensors["transformer.h.0.attn.bias"] = torch.ones(1, 1, 99, 99)
    tensors["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, folder / "language_model/model.safetensors")
    changed(folder / "model_index.json", language_model=["transformers", "GPT2LMHeadModel"])
    changed(folder / "language_model/config.json", max_new_tokens=5)
    again = load_directory(folder)
    same_weights(again, model)
    assert (model.state_count, again.state_count) == (8, 5)


def test_names_of_earlier_versions(copied: Any, tiny: Any) -> None:
    folder = copied("audioldm")
    path = folder / "vae/diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, name in old.items():
        for key in [key for key in tensors if f"mid_block.attentions.0.{new}." in key]:
            tensors[key.replace(new, name)] = tensors.pop(key)
    assert any("proj_attn" in key for key in tensors)
    save_file(tensors, path)
    path = folder / "text_encoder/model.safetensors"
    save_file(load_file(path) | {"text_model.embeddings.position_ids": torch.arange(40)[None]}, path)
    same_weights(load_directory(folder), tiny("audioldm"))


def test_a_pickled_component_is_read_without_code(copied: Any, tiny: Any, tmp_path: Path) -> None:
    folder = copied("audioldm")
    path = folder / "vocoder/model.safetensors"
    torch.save(load_file(path), folder / "vocoder/pytorch_model.bin")
    path.unlink()
    same_weights(load_directory(folder), tiny("audioldm"))
    torch.save({"x": Trap(tmp_path / "ran")}, folder / "vocoder/pytorch_model.bin")
    with pytest.raises(CheckpointError, match="refused"):
        load_directory(folder)
    assert not (tmp_path / "ran").exists()


class Trap:
    """Leaves a file behind if it is unpickled with its code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_tensors_that_do_not_fit(copied: Any) -> None:
    folder = copied("audioldm")
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "extra": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="unexpected: extra"):
        load_directory(folder)
    tensors.pop("conv_in.bias")
    save_file(tensors, path)
    with pytest.raises(WeightsError, match=r"missing: conv_in\.bias"):
        load_directory(folder)
    path.unlink()
    with pytest.raises(
        CheckpointError, match=r"has no weights; allowed: diffusion_pytorch_model\.safetensors"
    ):
        load_directory(folder)


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("model_index.json", {"_class_name": "StableDiffusionPipeline"}, "allowed: AudioLDMPipeline, AudioLDM2Pipeline"),
    ("model_index.json", {"unet": ["diffusers", "UNet3DConditionModel"]}, "allowed: the class AudioLDM2UNet2D"),
    ("model_index.json", {"language_model": ["os", "system"]}, "allowed: the class GPT2Model or GPT2LMHeadModel"),
    ("model_index.json", {"text_encoder_2": ["transformers", "VitsModel"]}, "allowed: the class T5EncoderModel"),
    ("model_index.json", {"scheduler": ["diffusers", "PNDMScheduler"]}, "allowed: DDIMScheduler"),
    ("unet/config.json", {"layers_per_block": 10**9}, "layers_per_block is 1000000000"),
    ("unet/config.json", {"block_out_channels": [8] * 1000}, "lists of 128 entries"),
    ("unet/config.json", {"cross_attention_dim": [[[[[[1]]]]]]}, "not nested deeply"),
    ("unet/config.json", {"act_fn": "x" * 300}, "act_fn"),
    ("unet/config.json", {"act_fn": "none such"}, "AudioLDM2UNet2DConditionModel cannot be built"),
    ("unet/config.json", {"in_channels": 8}, "does not fit"),
    ("text_encoder_2/config.json", {"num_layers": 10**6}, "num_layers is 1000000"),
    ("language_model/config.json", {"n_positions": 10**6}, "n_positions is 1000000"),
    ("language_model/config.json", {"auto_map": {"AutoModel": "x.y"}}, "auto_map names code"),
    ("tokenizer/tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["x.y", None]}}, "auto_map names code"),
    ("text_encoder/config.json", {"text_config": {"num_hidden_layers": 1000}}, "num_hidden_layers is 1000"),
    ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**9}, "num_train_timesteps"),
    ("vae/config.json", {"latent_channels": 6}, "does not fit"),
    ("vae/config.json", {"scaling_factor": 0}, "scaling_factor is 0"),
    ("vocoder/config.json", {"sampling_rate": 0}, "sampling_rate is 0"),
    ("vocoder/config.json", {"upsample_rates": [2, -2]}, "vocoder"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "values", "named"), WRONG, ids=[f"{f}:{v}"[:60] for f, v, _ in WRONG])
def test_wrong_configurations_are_named(copied: Any, file: str, values: dict[str, Any], named: str) -> None:
    folder = copied("audioldm2")
    changed(folder / file, **values)
    with pytest.raises((ConfigError, WeightsError), match=named):
        load_directory(folder)


def test_how_attention_is_computed_is_not_read_from_a_file(copied: Any) -> None:
    folder = copied("audioldm2")
    changed(folder / "language_model/config.json", attn_implementation="somebody/kernels", dtype="float16")
    model = load_directory(folder)
    assert model.language_model.config._attn_implementation in ("sdpa", "eager")
    assert next(model.language_model.parameters()).dtype == torch.float32


def test_components_whose_widths_differ(copied: Any) -> None:
    folder = copied("audioldm")
    config = folder / "vocoder/config.json"
    changed(config, model_in_dim=9)
    path = folder / "vocoder/model.safetensors"
    tensors = load_file(path)
    tensors["mean"], tensors["scale"] = torch.zeros(9), torch.ones(9)
    tensors["conv_pre.weight"] = torch.zeros(16, 9, 7)
    save_file(tensors, path)
    with pytest.raises(WeightsError, match="model_in_dim is 1; the other components need 0"):
        load_directory(folder)


def test_missing_files_are_named(copied: Any, tmp_path: Path) -> None:
    folder = copied("audioldm")
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(CheckpointError, match="tokenizer: is missing"):
        load_directory(folder)
    (folder / "model_index.json").unlink()
    with pytest.raises(ConfigError, match=r"model_index\.json: is missing"):
        load_directory(folder)
    with pytest.raises(HubError, match="there is no model 'nobody/nothing'"):
        from_pretrained("nobody/nothing")


@pytest.mark.parametrize(
    ("name", "installed"),
    [
        ("transformers", "5.16.2"),
        ("transformers", "6.0.0"),
        ("diffusers", "0.41.0"),
        ("diffusers", "0.43.0.dev0"),
    ],
)
def test_untested_versions_are_refused(
    monkeypatch: pytest.MonkeyPatch, directories: Any, name: str, installed: str
) -> None:
    folder = directories("audioldm")
    real = library_versions.version
    monkeypatch.setattr(
        library_versions, "version", lambda asked: installed if asked == name else real(asked)
    )
    with pytest.raises(
        BackendUnavailable, match=rf"{name} {installed} is outside the tested range.*install {name}>="
    ):
        load_directory(folder)


def test_the_released_models() -> None:
    assert {
        "cvssp/audioldm",
        "cvssp/audioldm-m-full",
        "cvssp/audioldm2",
        "cvssp/audioldm2-music",
    } <= RELEASED.keys()
    assert {released.licence for released in RELEASED.values()} == {LICENCE} == {"CC BY-NC-SA 4.0"}


def test_pickles_are_fetched_only_for_components_without_safetensors(
    copied: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied("audioldm")
    shutil.move(folder / "vae/diffusion_pytorch_model.safetensors", folder / "vae/elsewhere")
    asked: list[list[str]] = []

    def resolve(_: Any, *, allow_patterns: Any, **__: Any) -> Path:
        asked.append(list(allow_patterns))
        return folder

    monkeypatch.setattr(weights, "resolve", resolve)
    assert weights.find_directory("cvssp/audioldm") == folder
    assert asked[1:] == [["vae/*.bin"]] and not any("bin" in pattern for pattern in asked[0])


def test_a_dumped_spacing_is_kept_and_an_unstated_one_is_not(copied: Any) -> None:
    folder = copied("audioldm")
    unstated = load_directory(folder).scheduler
    assert make_scheduler(unstated, "dpm", 4).timesteps.tolist() == [999, 749, 500, 250]
    changed(folder / "scheduler/scheduler_config.json", timestep_spacing="leading")
    stated = load_directory(folder).scheduler
    assert make_scheduler(stated, "dpm++", 4).timesteps.tolist() == [801, 601, 401, 201]


def test_a_scheduler_of_another_class(copied: Any) -> None:
    folder = copied("audioldm")
    dumped = json.loads((GOLDENS / "aldm1_tiny_pipeline/meta.json").read_text(encoding="utf-8"))["configs"][
        "dpm_from"
    ]
    changed(folder / "model_index.json", scheduler=["diffusers", "DPMSolverMultistepScheduler"])
    (folder / "scheduler/scheduler_config.json").write_text(
        json.dumps(dumped), encoding="utf-8"
    )  # one is -Infinity
    trained = load_directory(folder).scheduler
    for name in ("checkpoint", "dpm++"):
        assert make_scheduler(trained, name, 4).timesteps.tolist() == [999, 749, 500, 250]
    assert type(make_scheduler(trained, "ddim", 4)).__name__ == "DDIMScheduler"


VALUES = [
    None,
    True,
    -1,
    0,
    1,
    3,
    2**20,
    2**70,
    1e300,
    float("nan"),
    "x",
    "silu",
    [],
    [0],
    [[None]],
    {},
    {"a": 1},
]


@pytest.mark.parametrize("name", sorted(COMPONENTS["audioldm2"]))
def test_mutated_configurations_give_typed_errors(directories: Any, name: str) -> None:
    config = json.loads((directories("audioldm2") / name / "config.json").read_text(encoding="utf-8"))
    component, random_numbers, refused = COMPONENTS["audioldm2"][name], random.Random(name), 0
    for _ in range(60):
        keys = random_numbers.sample(sorted(config), min(2, len(config)))
        values = config | {key: random_numbers.choice(VALUES) for key in keys}
        try:
            build_component(component, values)
        except ConfigError:
            refused += 1
    assert refused


def released(component: str, family: str) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Configuration and tensors of a component of released size."""
    if family == "audioldm":
        content = json.loads((GOLDENS / "released_audioldm1_unet_keys.json").read_text(encoding="utf-8"))
        return _audioldm_unet(), content["unet_m"]
    content = json.loads((GOLDENS / "released_audioldm2_keys.json").read_text(encoding="utf-8"))
    return RELEASED_CONFIGS[component], content["components"][component]


def _audioldm_unet() -> dict[str, Any]:
    width = 192
    return {
        "in_channels": 8,
        "out_channels": 8,
        "block_out_channels": [width, 2 * width, 3 * width, 5 * width],
        "down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 3],
        "up_block_types": [*["CrossAttnUpBlock2D"] * 3, "UpBlock2D"],
        "cross_attention_dim": [width, 2 * width, 3 * width, 5 * width],
        "class_embed_type": "simple_projection",
        "class_embeddings_concat": True,
        "projection_class_embeddings_input_dim": 512,
        "layers_per_block": 2,
    }


RELEASED_CONFIGS: dict[str, dict[str, Any]] = {
    "unet": {
        "in_channels": 8,
        "out_channels": 8,
        "block_out_channels": [128, 256, 384, 640],
        "down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 3],
        "up_block_types": [*["CrossAttnUpBlock2D"] * 3, "UpBlock2D"],
        "cross_attention_dim": [[None, 768, 1024]] * 4,
        "layers_per_block": 2,
        "transformer_layers_per_block": 1,
    },
    "vae": {
        "in_channels": 1,
        "out_channels": 1,
        "block_out_channels": [128, 256, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
        "layers_per_block": 2,
        "latent_channels": 8,
    },
    "projection_model": {"text_encoder_dim": 512, "text_encoder_1_dim": 1024, "langauge_model_dim": 768},
    "language_model": {"n_embd": 768, "n_layer": 12, "n_head": 12},
    "vocoder": {
        "model_in_dim": 64,
        "sampling_rate": 16000,
        "upsample_initial_channel": 1024,
        "upsample_rates": [5, 4, 2, 2, 2],
        "upsample_kernel_sizes": [16, 16, 8, 4, 4],
    },
}


@pytest.mark.parametrize(
    ("family", "component"),
    [("audioldm", "unet"), *(("audioldm2", name) for name in RELEASED_CONFIGS)],
)
def test_tensors_of_released_size(family: Any, component: str) -> None:
    config, expected = released(component, family)
    module: nn.Module = build_component(COMPONENTS[family][component], config)
    found = {
        name: [list(value.shape), str(value.dtype).removeprefix("torch.")]
        for name, value in module.state_dict().items()
    }
    assert found == expected
    assert all(parameter.is_meta for parameter in module.parameters() if parameter.numel() > 10_000)


def test_tied_tensors_are_given_under_all_names(tiny: Any) -> None:
    module = tiny("audioldm2").text_encoder_2
    component = COMPONENTS["audioldm2"]["text_encoder_2"]
    table = torch.zeros(1)
    for stored in ("shared.weight", "encoder.embed_tokens.weight"):
        full = with_tied(module, own_names(component, {stored: table}))
        assert full == {"shared.weight": table, "encoder.embed_tokens.weight": table}
