"""The whole model: recorded embeddings of the original, and the manners of the public interface."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from omar_rq import gin, signals
from omar_rq.config import ConformerConfig, MelFrontendConfig, ModelConfig, TransformerConfig, WaveformConfig
from omar_rq.model import OmarRQ
from omar_rq.signals import LayerIndexError, prepare_audio
from omar_rq.weights import from_upstream
from pentatonic.errors import (
    AudioError,
    AudioTooShort,
    ConfigError,
    EmptyAudio,
    NonFiniteAudio,
    PentatonicError,
    UsageError,
)

GOLDENS = Path(__file__).parent / "goldens"
MODELS = ["model_mel_tiny", "model_multifeature_rpq_tiny", "model_multifeature_fsq_tiny"]
TIGHT = {"rtol": 0, "atol": 5e-6}


@cache
def recorded(case: str) -> OmarRQ:
    """The tiny model of a case, in evaluation mode."""
    config = gin.model_config(gin.parse((GOLDENS / case / "config.gin").read_text()))
    model = OmarRQ(config).eval()
    ours = from_upstream(load_file(GOLDENS / case / "weights.safetensors"), config)
    model.load_state_dict(ours)
    return model


def audio_of(case: str, signal) -> torch.Tensor:
    """Rows a and b of the recorded signals, 2 s."""
    rate = "16k" if case == "model_mel_tiny" else "24k"
    n = 2 * recorded(case).sample_rate
    return torch.stack([signal(f"a_{rate}", n), signal(f"b_{rate}", n)])


@pytest.fixture
def model() -> OmarRQ:
    return recorded("model_multifeature_rpq_tiny")


@pytest.fixture
def audio(signal) -> torch.Tensor:
    return signal("a_24k", 24000)


def embed(model: OmarRQ, audio, layers=None, **options):
    return model.extract_embeddings(audio, layers, sample_rate=model.sample_rate, **options)


@pytest.mark.parametrize("case", MODELS)
def test_embeddings_equal_the_recorded_ones(case, golden, signal):
    io, _ = golden(case)
    model, audio = recorded(case), audio_of(case, signal)
    one = audio[:1]
    depth = len(model.trunk.blocks)
    got = {
        "emb_all_layers_batch2": embed(model, audio, range(depth)),
        "emb_default": embed(model, one),
        "emb_layers_1_last": embed(model, one, [-1, 1]),
        "emb_long_31s3_last": embed(model, one.repeat(1, 16)[:, : int(31.3 * model.sample_rate)]),
    }
    for name in io:
        if name.startswith("emb_len_"):
            got[name] = embed(model, one[:, : int(name.rpartition("_")[2])])
    assert set(got) == {name for name in io if name.startswith("emb_")}
    for name, value in got.items():
        torch.testing.assert_close(value, io[name], **TIGHT, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("case", MODELS)
def test_attributes_of_the_original(case, golden):
    _, meta = golden(case)
    model, derived = recorded(case), meta["derived"]
    assert (model.eps, model.sr, model.hop_length) == (derived["eps"], derived["sr"], derived["hop_length"])
    assert list(model.patch_size) == derived["patch_size"] and model.rep_dims == derived["rep_dims"]
    assert model.net is model.trunk and model.embedding_layer is model.embed
    assert model.input_rep is model.frontend and model.sample_rate == model.sr


def test_shapes_of_input(model, audio):
    expected = embed(model, audio[None])
    assert expected.shape == (1, 1, 18, 16) and expected.dtype == torch.float32
    assert torch.equal(embed(model, audio), expected)
    assert torch.equal(embed(model, audio.numpy()), expected)
    assert torch.equal(embed(model, audio.double().numpy()[None]), expected)
    half = embed(model, audio.half())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, embed(model, audio.half().float()), rtol=0, atol=0)


@pytest.mark.parametrize("case", MODELS[:2])
def test_list_of_lengths_equals_single_calls(case, signal):
    model, full = recorded(case), audio_of(case, signal)[0]
    rows = [full, full[:9001].numpy(), full[: model.frontend.min_samples], full[:20001]]
    together = embed(model, rows, [0, 2])
    assert [e.shape[1] for e in together] == [model.n_tokens(len(row)) for row in rows]
    for row, embedding in zip(rows, together, strict=True):
        torch.testing.assert_close(embedding, embed(model, row, [0, 2])[:, 0], rtol=0, atol=3e-6)


def test_list_of_equal_lengths_is_still_a_list(model, audio):
    together = embed(model, [audio, audio])
    assert isinstance(together, list) and torch.equal(together[0], together[1])
    torch.testing.assert_close(together[0], embed(model, audio)[:, 0], rtol=0, atol=2e-6)


def test_bidirectional_model_ignores_padding(audio):
    torch.manual_seed(0)
    net = ConformerConfig(embed_dim=16, depth=2, num_heads=2, beta_deepnorm=1.0, causal=False)
    model = OmarRQ(ModelConfig(input=WaveformConfig(), net=net)).eval()
    short = embed(model, [audio, audio[:5000]])[1]
    torch.testing.assert_close(short, embed(model, audio[:5000])[:, 0], rtol=0, atol=3e-6)


def test_layers(model, audio):
    every = embed(model, audio, range(3))
    assert torch.equal(embed(model, audio, 1), every[1:2])
    assert torch.equal(embed(model, audio, -1), embed(model, audio))
    assert torch.equal(embed(model, audio, np.int64(2)), every[2:])
    assert torch.equal(embed(model, audio, [2, 0]), every[[0, 2]])
    assert torch.equal(embed(model, audio, [2, 0, -1], order="as_given"), every[[2, 0, 2]])
    assert embed(model, audio, [-1, 2]).shape == (1, 1, 18, 16)


@pytest.mark.parametrize("layers", [3, -4, [0, 3]])
def test_layer_out_of_range(model, audio, layers):
    with pytest.raises(LayerIndexError, match="allowed: -3 to 2") as error:
        embed(model, audio, layers)
    assert isinstance(error.value, IndexError) and isinstance(error.value, PentatonicError)


@pytest.mark.parametrize("layers", [[], [0.5], "last"])
def test_layers_that_are_none(model, audio, layers):
    with pytest.raises(UsageError, match="layers"):
        embed(model, audio, layers)


def test_unknown_order(model, audio):
    with pytest.raises(UsageError, match="as_given"):
        embed(model, audio, order="descending")


@pytest.mark.parametrize(
    ("audio", "error"),
    [
        (torch.zeros(0), EmptyAudio),
        (torch.zeros(2, 0), EmptyAudio),
        ([], EmptyAudio),
        (torch.tensor([0.0, float("nan")] * 2000), NonFiniteAudio),
        (np.array([0.0, np.inf] * 2000), NonFiniteAudio),
        (torch.zeros(1279), AudioTooShort),
        ([torch.zeros(1280), torch.zeros(100)], AudioTooShort),
        (torch.zeros(1, 1, 2000), AudioError),
        ([torch.zeros(1, 2000)], AudioError),
        (torch.zeros(2000, dtype=torch.int16), AudioError),
        (np.zeros(2000, dtype=np.int16), AudioError),
        (np.array(["a"]), AudioError),
        ([0.5, 0.25], AudioError),
        ("song.wav", AudioError),
    ],
)
def test_unusable_audio_is_refused(model, audio, error):
    with pytest.raises(error) as caught:
        embed(model, audio)
    assert isinstance(caught.value, ValueError)


def test_error_names_the_signal_in_a_list(model):
    with pytest.raises(AudioTooShort, match=r"audio\[1\]"):
        embed(model, [torch.zeros(1280), torch.zeros(100)])


def test_other_sample_rates_are_resampled(model, signal):
    at_24k, at_16k = signal("a_24k", 48000), signal("a_16k", 32000)
    direct = model.extract_embeddings(at_24k, sample_rate=24000)
    resampled = model.extract_embeddings(at_16k, sample_rate=16000)
    assumed = model.extract_embeddings(at_16k, sample_rate=24000)
    assert resampled.shape == direct.shape != assumed.shape
    with pytest.raises(UsageError, match="sample_rate"):
        model.extract_embeddings(at_16k, sample_rate=0)


def test_missing_sample_rate_warns_once(model, audio):
    signals._warn_of_assumed_rate.cache_clear()
    with pytest.warns(UserWarning, match="24000 samples per second"):
        first = model.extract_embeddings(audio)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(model.extract_embeddings(audio), first)


def test_gradients_on_request_only(model, audio):
    modes = []
    hook = model.embed.register_forward_hook(lambda *_: modes.append(torch.is_inference_mode_enabled()))
    plain = embed(model, audio)
    embed(model, audio, requires_grad=True)
    hook.remove()
    assert modes == [True, False] and not plain.requires_grad
    torch.nn.functional.linear(plain, torch.ones(1, 16, requires_grad=True)).sum().backward()
    learned = audio.clone().requires_grad_()
    kept = embed(model, learned, requires_grad=True)
    torch.testing.assert_close(kept, plain, rtol=0, atol=0)
    gradient, weight = torch.autograd.grad(kept.square().sum(), (learned, model.embed.weight))
    assert gradient.abs().sum() > 0 and weight.abs().sum() > 0


def test_encode_is_differentiable_and_equal(model, signal):
    audio = audio_of("model_multifeature_rpq_tiny", signal)
    encoded = model.encode(audio, [0, 2])
    assert encoded.requires_grad
    torch.testing.assert_close(encoded, embed(model, audio, [0, 2]), rtol=0, atol=0)
    padded = model.encode(audio, lengths=torch.tensor([48000, 9000]))
    alone = embed(model, audio[1, :9000])
    torch.testing.assert_close(padded[:, 1, : alone.shape[2]], alone[:, 0], rtol=0, atol=3e-6)


def test_audio_can_be_learned_through_another_rate(model, signal):
    audio = signal("a_16k", 8000).requires_grad_()
    out = model.extract_embeddings(audio, sample_rate=16000, requires_grad=True)
    (gradient,) = torch.autograd.grad(out.sum(), audio)
    assert gradient.shape == audio.shape and gradient.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", MODELS[:2])
def test_trunk_runs_in_half_precision(case, dtype, signal):
    model = OmarRQ(recorded(case).config).eval()
    model.load_state_dict(recorded(case).state_dict())
    model.to(dtype)
    audio = audio_of(case, signal)
    frames = model.frontend(audio)
    assert torch.equal(frames, recorded(case).frontend(audio)) and frames.dtype == torch.float32
    assert model.encode(audio).dtype == dtype
    out, exact = embed(model, audio), embed(recorded(case), audio)
    assert out.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(out, exact, dim=-1).min() > 0.99


def test_transformer_trunk(audio):
    torch.manual_seed(0)
    net = TransformerConfig(embed_dim=16, depth=2, num_heads=2, num_patches=9)
    model = OmarRQ(ModelConfig(input=WaveformConfig(), net=net)).eval()
    every = embed(model, audio, [0, 1])
    assert every.shape == (2, 1, 25, 16)
    assert torch.equal(embed(model, audio, 0), every[:1])


@pytest.mark.parametrize("option", ["do_vit_tokenization", "do_classification"])
def test_trunks_with_tokens_of_their_own_are_refused(option):
    net = TransformerConfig(embed_dim=16, depth=1, num_heads=2, **{option: True})
    with pytest.raises(ConfigError, match=option):
        OmarRQ(ModelConfig(input=MelFrontendConfig(), net=net))


def test_timestamps_are_the_left_edges(model):
    times = model.timestamps(4)
    torch.testing.assert_close(times, torch.tensor([0, 1, 2, 3], dtype=torch.float64) / 18.75)


def test_state_is_embedding_and_trunk_alone(model):
    assert {key.partition(".")[0] for key in model.state_dict()} == {"embed", "trunk"}


@pytest.mark.parametrize("rate", [44100.5, 0, -1, float("nan"), float("inf"), "fast"])
def test_a_sample_rate_is_a_whole_number(rate):
    with pytest.raises(UsageError, match=r"sample_rate is .*; allowed: a positive whole number of Hz"):
        prepare_audio(torch.zeros(1000), sample_rate=rate, model_rate=16000, min_samples=1)


def test_a_whole_sample_rate_may_be_a_float():
    signal = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    one, other = (
        prepare_audio(signal, sample_rate=rate, model_rate=16000, min_samples=1)[0]
        for rate in (44100, 44100.0)
    )
    assert torch.equal(one, other)


@pytest.mark.parametrize("input", [MelFrontendConfig(), WaveformConfig()])
def test_a_centre_is_where_the_audio_of_a_token_is(input):
    model = OmarRQ(ModelConfig(input=input, net=ConformerConfig(embed_dim=16, depth=1, num_heads=2)))
    generator = torch.Generator().manual_seed(0)
    audio = torch.randn(8, model.sample_rate, generator=generator, requires_grad=True)
    token = 5
    first, past = (t * input.patch_size[1] for t in (token, token + 1))
    model.frontend(audio)[..., first:past].square().sum().backward()
    weight = audio.grad.square().sum(0)
    samples = torch.arange(model.sample_rate)
    centre = (weight * samples).sum() / weight.sum() / model.sample_rate
    assert centre == pytest.approx(model.centres(8)[token].item(), abs=0.001)
    assert model.timestamps(8)[token] < centre < model.timestamps(8)[token + 1]
