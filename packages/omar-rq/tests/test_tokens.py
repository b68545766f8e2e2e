"""Target tokens: recorded ones of the original, geometry, and decoding."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from omar_rq import gin
from omar_rq.config import (
    ConformerConfig,
    CQTConfig,
    EncodecConfig,
    MelFrontendConfig,
    ModelConfig,
    QuantizerConfig,
    WaveformConfig,
)
from omar_rq.frontends import build_frontend
from omar_rq.quantizers import build_quantizers
from omar_rq.tokens import Tokenizer, shortest
from pentatonic.errors import AudioTooShort, ConfigError, InputError, UsageError

GOLDENS = Path(__file__).parent / "goldens"
NET = ConformerConfig(embed_dim=16, depth=1, num_heads=2)
MEL_24K = MelFrontendConfig(sample_rate=24000, hop_length=320, patch_size=(96, 3))
CQT = CQTConfig(patch_size=(188, 3))


def tokenizer_for(config: ModelConfig) -> Tokenizer:
    return Tokenizer(config, build_frontend(config.input))


def small(**changes) -> ModelConfig:
    """Waveform in, mel and CQT out, four scalar levels each."""
    quantizer = QuantizerConfig(
        type="finite_scalar_quantizer", num_codebooks=2, codebook_size=64, fsq_levels=(4, 4, 4)
    )
    config = ModelConfig(input=WaveformConfig(), targets=(CQT, MEL_24K), net=NET, quantizer=quantizer)
    return dataclasses.replace(config, **changes)


@pytest.mark.parametrize(
    "case", ["model_mel_tiny", "model_multifeature_rpq_tiny", "model_multifeature_fsq_tiny"]
)
def test_tokens_equal_the_recorded_ones(case, golden, signal, request):
    io, _ = golden(case)
    config = gin.model_config(gin.parse((GOLDENS / case / "config.gin").read_text()))
    if case != "model_mel_tiny":
        path = request.getfixturevalue("encodec")
        config = dataclasses.replace(
            config,
            targets=tuple(
                dataclasses.replace(target, weights_path=path)
                if isinstance(target, EncodecConfig)
                else target
                for target in config.targets
            ),
        )
    tokenizer = tokenizer_for(config)
    rate = f"{config.sample_rate // 1000}k"
    audio = torch.stack([signal(f"{row}_{rate}", 2 * config.sample_rate) for row in "ab"])
    tokens = tokenizer.tokenize(audio, sample_rate=config.sample_rate)
    assert torch.equal(tokens, io["train.tokens"])
    assert len(tokenizer.codebook_sizes) == tokens.shape[-1]


@pytest.mark.parametrize("case", ["model_mel_tiny", "model_multifeature_fsq_tiny"])
def test_quantisers_have_the_recorded_values_and_names(case, golden_weights):
    config = gin.model_config(gin.parse((GOLDENS / case / "config.gin").read_text()))
    kept = tuple(target for target in config.targets if not isinstance(target, EncodecConfig))
    state = tokenizer_for(dataclasses.replace(config, targets=kept)).state_dict()
    recorded = {k: v for k, v in golden_weights(case).items() if k.startswith("quantizers.0.")}
    assert recorded
    for name, value in recorded.items():
        assert torch.equal(state[name], value), name


def test_streams_are_representation_major(signal):
    audio = signal("a_24k", 24000)[None]
    tokens = tokenizer_for(small())(audio)
    assert tokens.shape == (1, 25, 4) and tokens.dtype == torch.int64
    assert tokenizer_for(small()).codebook_sizes == (64,) * 4
    assert torch.equal(tokenizer_for(small(targets=(CQT,)))(audio), tokens[..., :2])
    assert torch.equal(tokenizer_for(small(targets=(MEL_24K,)))(audio), tokens[..., 2:])


def test_any_length_rate_and_kind_of_audio(signal):
    tokenizer, audio = tokenizer_for(small()), signal("a_24k", 30000)
    whole = tokenizer.tokenize(audio, sample_rate=24000)
    assert whole.shape == (1, 31, 4)
    rows = tokenizer.tokenize([audio, audio[:20000].numpy()], sample_rate=24000)
    assert torch.equal(rows[0], whole[0])
    assert torch.equal(rows[1], tokenizer(audio[None, :20000])[0])
    assert tokenizer.tokenize(signal("a_16k", 20000), sample_rate=16000).shape == (1, 31, 4)
    with pytest.raises(AudioTooShort, match=str(tokenizer.min_samples)):
        tokenizer.tokenize(audio[: tokenizer.min_samples - 1], sample_rate=24000)


def test_streams_are_cut_to_the_shortest(signal):
    """Centred frames give one token more than the waveform has whole patches for."""
    tokenizer = tokenizer_for(small(targets=(MEL_24K,)))
    samples = 960 * 5 - 1
    assert tokenizer.frontends[0].frames(samples) // 3 == 5
    assert tokenizer(signal("a_24k", samples)[None]).shape[1] == 4


def test_streams_too_far_apart_are_refused(signal):
    wide = dataclasses.replace(MEL_24K, patch_size=(96, 4))
    config = small()
    assert config.quantizer is not None
    # Put in place afterwards: a configuration with such a target is refused when the tokenizer is built.
    tokenizer = tokenizer_for(config)
    tokenizer.frontends[1] = build_frontend(wide)
    tokenizer.quantizers[1] = build_quantizers(config.quantizer, 96 * 4)
    with pytest.raises(InputError, match="cqt 25, mel 19"):
        tokenizer(signal("a_24k", 24000)[None])
    assert shortest({"a": 7, "b": 9}) == 7
    with pytest.raises(InputError):
        shortest({"a": 7, "b": 10})


def test_equal_front_ends_are_shared():
    mel = MelFrontendConfig()
    tokenizer = tokenizer_for(ModelConfig(input=mel, targets=(mel,), net=NET, quantizer=QuantizerConfig()))
    assert tokenizer.frontends[0] is tokenizer.input_frontend
    tokenizer = tokenizer_for(small())
    assert all(frontend is not tokenizer.input_frontend for frontend in tokenizer.frontends)


def test_scalar_tokens_can_be_decoded(signal):
    tokenizer = tokenizer_for(small())
    tokens = tokenizer(signal("a_24k", 24000)[None])
    decoded = tokenizer.detokenize(tokens)
    assert [d.codes.shape for d in decoded] == [(1, 25, 3)] * 4
    assert [d.patches.shape for d in decoded] == [(1, 25, 564)] * 2 + [(1, 25, 288)] * 2
    levels = ((decoded[1].codes + 1) * 1.5).round().long()
    assert torch.equal((levels * torch.tensor([1, 4, 16])).sum(-1), tokens[..., 1])
    with pytest.raises(UsageError, match="4"):
        tokenizer.detokenize(tokens[..., :3])


def test_random_tokens_cannot():
    tokenizer = tokenizer_for(small(quantizer=QuantizerConfig(codebook_size=8)))
    with pytest.raises(UsageError, match="random codebooks"):
        tokenizer.detokenize(torch.zeros(1, 2, dtype=torch.int64))


def test_tokens_do_not_depend_on_the_dtype_of_the_model(signal):
    tokenizer, audio = tokenizer_for(small()), signal("a_24k", 24000)[None]
    before = tokenizer(audio)
    assert torch.equal(tokenizer.to(torch.bfloat16)(audio), before)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"quantizer": None}, "no quantizer"),
        ({"targets": ()}, "no targets"),
        ({"targets": (MelFrontendConfig(),)}, "16000 Hz"),
    ],
)
def test_models_without_usable_targets_are_refused(changes, says):
    with pytest.raises(ConfigError, match=says):
        tokenizer_for(small(**changes))


def test_targets_have_as_many_tokens_per_second_as_the_input():
    reason = "target cqt has patches of 3 frames, 25 tokens per second, but the input has 12.5; .* patches of 6 frames"
    with pytest.raises(ConfigError, match=reason):
        tokenizer_for(small(input=dataclasses.replace(MEL_24K, patch_size=(96, 6))))
