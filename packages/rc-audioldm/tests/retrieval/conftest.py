"""A tiny random CLAP model in the file layout of the published ones: 1 s windows at 16 kHz, 16 bands."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
import torch
from tokenizers import ByteLevelBPETokenizer
from tokenizers.processors import RobertaProcessing
from transformers import (
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapTextConfig,
    PreTrainedTokenizerFast,
)

from rc_audioldm.clap import ClapEncoder, from_pretrained
from rc_audioldm.clap.encoder import CAPTIONS

RATE, WIDTH = 16000, 24
_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def write_clap(folder: Path, *, seed: int = 0, fused: bool = False, width: int = WIDTH) -> Path:
    """Write ``config.json``, ``model.safetensors``, ``preprocessor_config.json`` and the tokenizer's files."""
    torch.manual_seed(seed)
    tokenizer = ByteLevelBPETokenizer()
    words = [*CAPTIONS, "Hello world", "speech and music", "piano violin drums"]
    tokenizer.train_from_iterator(words * 3, vocab_size=500, min_frequency=1, special_tokens=_SPECIAL)
    ends = [(name, tokenizer.token_to_id(name)) for name in ("</s>", "<s>")]
    tokenizer._tokenizer.post_processor = RobertaProcessing(*ends)  # so that an empty text has tokens
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        model_max_length=64,
    )
    text = ClapTextConfig(
        vocab_size=len(wrapped),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=80,
        projection_dim=width,
    )
    audio = ClapAudioConfig(
        num_mel_bins=16,
        spec_size=64,
        window_size=4,
        depths=[1, 1],
        num_attention_heads=[2, 2],
        patch_embeds_hidden_size=16,
        hidden_size=32,
        projection_dim=width,
        enable_fusion=fused,
        fusion_type=None,
    )
    config = ClapConfig(text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=width)
    model = ClapModel(config).eval()
    with torch.no_grad():  # so that recordings differ: the projection of a random tower is nearly constant
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    wrapped.save_pretrained(folder)
    extractor(fused=fused).save_pretrained(folder)
    return folder


def extractor(*, fused: bool = False) -> ClapFeatureExtractor:
    """The feature extractor of the tiny model, with every setting given."""
    return ClapFeatureExtractor(
        feature_size=16,
        sampling_rate=RATE,
        hop_length=160,
        max_length_s=1,
        fft_window_size=512,
        padding_value=0.0,
        return_attention_mask=False,
        frequency_min=50,
        frequency_max=7000,
        top_db=None,
        truncation="fusion" if fused else "rand_trunc",
        padding="repeatpad",
    )


def tone(pitch: float, seconds: float = 1.5, *, seed: int = 0) -> torch.Tensor:
    """A note with six partials and a little noise, ``(n,)`` at 16 kHz."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(int(seconds * RATE)) / RATE
    loud = torch.rand(6, generator=generator)
    sound = sum(loud[i] * torch.sin(2 * torch.pi * pitch * (i + 1) * time) for i in range(6))
    noise = torch.randn(len(time), generator=generator)
    return (0.1 * torch.as_tensor(sound) * torch.exp(-3 * time) + 0.001 * noise).float()


@pytest.fixture(scope="session")
def clap_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clap(tmp_path_factory.mktemp("clap"))


@pytest.fixture(scope="session")
def encoder(clap_folder: Path) -> ClapEncoder:
    return from_pretrained(clap_folder, random_weights=True)


@pytest.fixture(scope="session")
def tiny() -> SimpleNamespace:
    """What makes tiny models and sounds."""
    return SimpleNamespace(write_clap=write_clap, extractor=extractor, tone=tone)


@pytest.fixture
def clips_folder(tmp_path: Path) -> Path:
    """Six clips: one in a folder of its own, one long, one with a licence in its tags; and what is no clip."""
    folder = tmp_path / "clips"
    (folder / "kit").mkdir(parents=True)
    for i in range(4):
        soundfile.write(folder / f"{i}.wav", tone(110 * 1.5**i, 0.5 + i, seed=i).numpy(), RATE)
    soundfile.write(folder / "long.flac", tone(300, 9, seed=7).numpy(), RATE)
    with soundfile.SoundFile(folder / "kit" / "tagged.ogg", "w", RATE, 1) as file:
        file.license, file.artist, file.title = "http://creativecommons.org/licenses/by/3.0/", "Ann", "Bell"
        file.write(tone(500, 1.0, seed=9).numpy())
    (folder / "notes.txt").write_text("no clip")
    return folder
