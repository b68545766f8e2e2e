"""Tiny models of both families: the weights of the goldens, in memory and as directories in the original's layout."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from rc_audioldm.model import AudioLDM

GOLDENS = Path(__file__).parent.parent / "goldens"
CASES = {"audioldm": "aldm1_tiny_pipeline", "audioldm2": "aldm2_tiny_pipeline"}
PROMPTS = [
    "a solo piano melody in a small room",
    "flute and cello",
    "slow warm strings",
    "drum",
    "a harp",
    "bass",
]
AUDIO_TOWER = {
    "spec_size": 64,
    "num_mel_bins": 16,
    "window_size": 4,
    "patch_size": 2,
    "patch_stride": 2,
    "patch_embeds_hidden_size": 16,
    "hidden_size": 32,
    "depths": [1, 1],
    "num_attention_heads": [2, 2],
    "projection_dim": 16,
}


@dataclass
class StoredTokens:
    """A tokenizer that knows the ids of a few texts."""

    ids: Mapping[str, Sequence[int]] = field(default_factory=dict)
    pad_token_id: int = 1
    model_max_length: int = 16

    def __call__(self, text: str, *, truncation: bool = True, max_length: int = 16, **_: Any) -> Any:
        ids = list(self.ids[text])
        return {"input_ids": ids if len(ids) <= max_length else [*ids[: max_length - 1], ids[-1]]}


@dataclass
class StoredTexts:
    """Stands for the encoders of a model or a bank: vectors by text. A negative text comes back with its prompt."""

    vectors: Mapping[str, Tensor]

    def clap(self, text: str) -> Tensor:
        return self.vectors[text]

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        return torch.stack([self.vectors[text] for text in texts])

    def encode(self, text: str) -> str:
        return text

    def encode_negative(self, text: str, prompt: str) -> tuple[str, str]:
        return text, prompt


def _filled(module: nn.Module, weights: Mapping[str, Tensor], prefix: str, missing: str = "") -> Any:
    """A module with the weights of a component; those that start with ``missing`` keep random values."""
    own = {name[len(prefix) + 1 :]: value for name, value in weights.items() if name.startswith(prefix + ".")}
    result = module.load_state_dict(own, strict=False)
    assert own and not result.unexpected_keys
    assert all(name.startswith(tuple(missing.split())) for name in result.missing_keys), result.missing_keys
    return module.eval().requires_grad_(False)


def make_model(family: str) -> AudioLDM:
    """The model of a golden, with tokenizers that know no text."""
    import diffusers
    import transformers

    folder = GOLDENS / CASES[family]
    configs = json.loads((folder / "meta.json").read_text(encoding="utf-8"))["configs"]
    weights = load_file(folder / "weights.safetensors")
    torch.manual_seed(0)
    stated = ("beta_start", "beta_end", "beta_schedule", "clip_sample", "set_alpha_to_one", "steps_offset")
    parts: dict[str, Any] = {
        "vae": _filled(
            diffusers.AutoencoderKL.from_config(configs["vae"]), weights, "vae", "encoder. quant_conv."
        ),
        "vocoder": _filled(
            transformers.SpeechT5HifiGan(transformers.SpeechT5HifiGanConfig(**configs["vocoder"])),
            weights,
            "vocoder",
        ),
        # As in the released files, the spacing of the steps is not stated.
        "scheduler": diffusers.DDIMScheduler(**{name: configs["scheduler"][name] for name in stated}),
        "tokenizer": StoredTokens(),
    }
    if family == "audioldm":
        parts["unet"] = _filled(diffusers.UNet2DConditionModel.from_config(configs["unet"]), weights, "unet")
        text = transformers.ClapTextConfig(**configs["text_encoder"])
        parts["text_encoder"] = _filled(
            transformers.ClapTextModelWithProjection(text), weights, "text_encoder"
        )
        return AudioLDM(**parts)
    parts["unet"] = _filled(
        diffusers.AudioLDM2UNet2DConditionModel.from_config(configs["unet"]), weights, "unet"
    )
    clap = transformers.ClapConfig(
        text_config=configs["clap_text"], audio_config=AUDIO_TOWER, projection_dim=16
    )
    parts["text_encoder"] = _filled(
        transformers.ClapModel(clap), weights, "text_encoder", "audio_ logit_scale"
    )
    parts["text_encoder_2"] = _filled(
        transformers.T5EncoderModel(transformers.T5Config(**configs["t5"])),
        weights,
        "text_encoder_2",
        "encoder.embed_tokens.",
    )
    parts["projection_model"] = _filled(
        diffusers.AudioLDM2ProjectionModel.from_config(configs["projection"]), weights, "projection_model"
    )
    parts["language_model"] = _filled(
        transformers.GPT2Model(transformers.GPT2Config(**configs["gpt2"])), weights, "language_model"
    )
    parts["tokenizer_2"] = StoredTokens(pad_token_id=0)
    return AudioLDM(**parts)


@pytest.fixture(scope="session", params=["audioldm", "audioldm2"])
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def tiny() -> Callable[[str], AudioLDM]:
    return make_model


def write_tokenizers(folder: Path, family: str) -> None:
    """Tokenizers that are trained on a few words: RoBERTa's in its old layout, T5's as one file."""
    from tokenizers import ByteLevelBPETokenizer, SentencePieceUnigramTokenizer
    from transformers import PreTrainedTokenizerFast

    clap = ByteLevelBPETokenizer()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    clap.train_from_iterator(PROMPTS * 4, vocab_size=300, special_tokens=specials, show_progress=False)
    (folder / "tokenizer").mkdir()
    clap.save_model(str(folder / "tokenizer"))
    (folder / "tokenizer/tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "RobertaTokenizer", "model_max_length": 16})
    )
    if family == "audioldm":
        return
    from tokenizers.processors import TemplateProcessing

    text = SentencePieceUnigramTokenizer()
    text.train_from_iterator(
        PROMPTS * 4,
        vocab_size=60,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    text.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=text._tokenizer,
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=30,
    )
    fast.save_pretrained(folder / "tokenizer_2")


def write_directory(folder: Path, family: str) -> Path:
    """Write a model as diffusers and transformers write it, with the index of the released models."""
    folder.mkdir(parents=True)
    model = make_model(family)
    for name, module in model.modules().items():
        module.save_pretrained(folder / name)
    (folder / "scheduler").mkdir()
    own = {
        name: value
        for name, value in model.scheduler.config.items()
        if name not in [*model.scheduler.config["_use_default_values"], "_use_default_values"]
    }
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(own))
    write_tokenizers(folder, family)
    index = {
        "_class_name": "AudioLDMPipeline" if family == "audioldm" else "AudioLDM2Pipeline",
        "_diffusers_version": "0.20.0",
        "scheduler": ["diffusers", "DDIMScheduler"],
        "tokenizer": ["transformers", "RobertaTokenizerFast"],
    } | {
        name: ["diffusers" if name in ("unet", "vae") else "transformers", type(module).__name__]
        for name, module in model.modules().items()
    }
    if family == "audioldm2":
        index |= {"tokenizer_2": ["transformers", "T5TokenizerFast"], "feature_extractor": [None, None]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="session")
def directories(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of a family; written once, so tests must not change it."""
    root, done = tmp_path_factory.mktemp("models"), {}

    def directory(family: str) -> Path:
        if family not in done:
            done[family] = write_directory(root / family, family)
        return done[family]

    return directory
