"""Streamed embeddings equal those of one pass, whatever the pieces; memory does not grow."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn

from omar_rq.config import (
    ConformerConfig,
    CQTConfig,
    MelFrontendConfig,
    ModelConfig,
    TransformerConfig,
    WaveformConfig,
)
from omar_rq.model import OmarRQ
from omar_rq.signals import LayerIndexError
from omar_rq.streaming import StreamingConformer, stream_embeddings
from pentatonic.attention import SlidingWindow
from pentatonic.errors import AudioTooShort, NonFiniteAudio, UsageError

MEL = MelFrontendConfig()
WAVEFORM = WaveformConfig(sample_rate=8000, patch_size=(1, 320))
NET = ConformerConfig(embed_dim=16, depth=2, num_heads=2, beta_deepnorm=1.0)
BOUND = 2e-5  # of the largest value, float32


def random_model(frontend=MEL, net=NET, **changes) -> OmarRQ:
    """A small model in which every part matters, batch statistics included."""
    torch.manual_seed(1)
    model = OmarRQ(ModelConfig(input=frontend, net=dataclasses.replace(net, **changes))).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)
    return model


def noise(n_samples: int) -> torch.Tensor:
    return 0.2 * torch.randn(n_samples, generator=torch.Generator().manual_seed(2))


def streamed(model, audio, block, layers=None, **options):
    pieces = list(stream_embeddings(model, audio.split(block), layers, **options))
    return [torch.cat(parts) for parts in zip(*pieces, strict=True)]


def assert_equal(got, expected, bound=BOUND):
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=bound * float(other.abs().max()))


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("block", [10**6, 20000, 4097, 333])
def test_mel_model_streamed_in_blocks_equals_one_pass(depth, block):
    model, audio = random_model(depth=depth), noise(16000 * 6 + 123)
    layers = sorted({0, depth - 1})
    whole = model.extract_embeddings(audio, layers, sample_rate=16000)[:, 0]
    assert_equal(streamed(model, audio, block, layers, context_s=None), list(whole))
    assert_equal(streamed(model, audio, block, layers), list(whole))  # shorter than the default context


@pytest.mark.parametrize("block", [10**6, 7777, 320, 111])
def test_waveform_model_streamed_in_blocks_equals_one_pass(block):
    model, audio = random_model(WAVEFORM, depth=3), noise(320 * 80 + 319)
    whole = model.extract_embeddings(audio, [0, 1, 2], sample_rate=8000)[:, 0]
    assert whole.shape[1] == 80
    assert_equal(streamed(model, audio, block, [2, 0, 1], context_s=None), list(whole))


@pytest.mark.parametrize("n_tokens", [1, 2, 14, 15, 16, 30, 31, 46])
@pytest.mark.parametrize("block", [320, 10**6])
def test_signals_around_the_reach_of_the_convolution(n_tokens, block):
    model, audio = random_model(WAVEFORM), noise(320 * n_tokens)
    whole = model.extract_embeddings(audio, [0, 1], sample_rate=8000)[:, 0]
    assert whole.shape[1] == n_tokens
    assert_equal(streamed(model, audio, block, [0, 1]), list(whole))


@torch.no_grad()
def windowed(model, audio, context_tokens):
    """One pass in which a token attends to itself and ``context_tokens`` earlier ones."""
    trunk = model.trunk
    x = model.embed(audio.reshape(1, -1, 320) / WAVEFORM.norm_std)
    code = trunk.position_code(torch.arange(x.shape[1]))
    outputs = []
    for block in trunk.blocks:
        x = block(x, code, SlidingWindow(context_tokens, 0))
        outputs.append(x[0])
    return outputs


@pytest.mark.parametrize("changes", [{}, {"use_rope": False}, {"use_deepnorm": False}])
@pytest.mark.parametrize("context_tokens", [1, 20])
@pytest.mark.parametrize("block", [320, 2000, 10**6])
def test_finite_context_equals_one_pass_with_that_window(changes, context_tokens, block):
    model, audio = random_model(WAVEFORM, **changes), noise(320 * 150)
    expected = windowed(model, audio, context_tokens)
    context_s = context_tokens / model.eps
    assert_equal(streamed(model, audio, block, [0, 1], context_s=context_s), expected)
    whole = model.extract_embeddings(audio, sample_rate=8000)[0, 0]
    assert not torch.allclose(expected[1], whole, atol=1e-3), "the window must matter here"


def test_signals_up_to_the_context_equal_one_pass_without_window():
    model = random_model(MEL)
    audio = noise(16000 * 2)
    whole = model.extract_embeddings(audio, sample_rate=16000)[:, 0]
    assert_equal(streamed(model, audio, 999, context_s=2.0), list(whole))


@torch.no_grad()
def test_hours_do_not_blur_positions():
    """A periodic signal gives a periodic output; with positions that grow on, it drifts by 7e-5 here."""
    trunk = random_model(depth=1, embed_dim=64, num_heads=1).trunk
    trunk.blocks[0].attention.qkv.weight[:128] *= 3  # sharp attention
    period, repeats = 7, 4000
    tokens = torch.randn(1, period, 64, generator=torch.Generator().manual_seed(3)).repeat(1, repeats, 1)
    stream = StreamingConformer(trunk, [0], context_tokens=20)
    out = torch.cat([stream.push(piece)[0] for piece in tokens.split(500, dim=1)], dim=1)[0]
    early, late = (out[period * first : period * (first + 10)] for first in (10, repeats - 20))
    torch.testing.assert_close(late, early, rtol=0, atol=5e-6 * float(early.abs().max()))


@torch.no_grad()
def test_what_is_remembered_does_not_grow():
    trunk = random_model().trunk
    stream = StreamingConformer(trunk, [1], 30)

    def held() -> int:
        tensors = [
            t for s in stream._stages for t in (s.cache.key_buffer, s.cache.value_buffer, s.attended, s.gated)
        ]
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors)

    sizes = []
    for _ in range(40):
        stream.push(torch.randn(1, 25, 16))
        sizes.append(held())
    assert max(sizes[20:]) <= max(sizes[:20])


def test_bfloat16_is_close_to_float32():
    audio = noise(16000 * 5)
    expected = streamed(random_model(depth=4), audio, 5000, context_s=1.0)[0]
    got = streamed(random_model(depth=4).bfloat16(), audio, 5000, context_s=1.0)[0]
    assert got.dtype == torch.float32
    assert float(torch.cosine_similarity(got, expected).min()) > 0.998
    assert float((got - expected).norm() / expected.norm()) < 0.03
    # ... and not by chance: it did run in bfloat16.
    assert float((got - expected).norm() / expected.norm()) > 1e-4


@pytest.mark.parametrize(
    ("frontend", "net", "n_samples"),
    [
        (CQTConfig(n_bins=24, f_min=500.0, patch_size=(24, 4)), NET, 24000),
        (WAVEFORM, dataclasses.replace(NET, causal=False), 320 * 40),
        (WAVEFORM, dataclasses.replace(NET, rope_positions="bf16"), 320 * 300),
        (
            WAVEFORM,
            TransformerConfig(patch_size=(1, 320), embed_dim=16, depth=2, num_heads=2, num_patches=40),
            320 * 50,
        ),
    ],
    ids=["cqt", "bidirectional", "rounded positions", "transformer"],
)
def test_what_cannot_stream_gives_the_same_in_one_pass(frontend, net, n_samples):
    model, audio = random_model(frontend, net), noise(n_samples)
    whole = model.extract_embeddings(audio, [0, 1], sample_rate=model.sample_rate)[:, 0]
    assert_equal(streamed(model, audio, 5000, [0, 1]), list(whole))


def test_results_come_before_the_signal_ends():
    model, taken = random_model(WAVEFORM), []

    def blocks():
        for block in noise(320 * 200).split(320 * 10):
            taken.append(block)
            yield block

    pieces = stream_embeddings(model, blocks(), [0, 1])
    while not len(next(pieces)[1]):
        pass
    assert len(taken) == 4  # 30 tokens of lag after two layers


def test_gradients_are_off_only_inside():
    pieces = stream_embeddings(random_model(WAVEFORM), noise(320 * 60).split(320 * 20))
    first = next(pieces)[0]
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert not first.requires_grad and not first.is_inference()


@pytest.mark.parametrize("context_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_context_that_is_not_a_duration_is_refused(context_s):
    with pytest.raises(UsageError, match="context_s"):
        stream_embeddings(random_model(), [], context_s=context_s)


def test_bad_arguments_are_named():
    model = random_model(WAVEFORM)
    with pytest.raises(LayerIndexError, match="layer 2"):
        stream_embeddings(model, [], 2)
    with pytest.raises(AudioTooShort, match="319 samples"):
        streamed(model, noise(319), 100)
    with pytest.raises(NonFiniteAudio, match=r"blocks\[1\]"):
        streamed(model, torch.cat((noise(500), torch.tensor([torch.nan]))), 400)
    with pytest.raises(UsageError, match="int16"):
        streamed(model, torch.zeros(500, dtype=torch.int16), 400)
    with pytest.raises(UsageError, match=r"\(1, 400\)"):
        list(stream_embeddings(model, [torch.zeros(1, 400)]))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.slow
def test_ten_minutes_need_no_more_memory_than_two():
    program = """
        import re, sys
        import torch
        from omar_rq.config import ConformerConfig, MelFrontendConfig, ModelConfig
        from omar_rq.model import OmarRQ
        from omar_rq.streaming import stream_embeddings

        net = ConformerConfig(embed_dim=64, depth=4, num_heads=4)
        model = OmarRQ(ModelConfig(input=MelFrontendConfig(), net=net)).eval()

        def blocks(minutes):
            generator = torch.Generator().manual_seed(0)
            for _ in range(minutes * 6):
                yield 0.1 * torch.randn(160000, generator=generator)

        for minutes in (2, int(sys.argv[1])):
            n = sum(len(piece[0]) for piece in stream_embeddings(model, blocks(minutes), context_s=30.0))
            print(n, re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
    """
    command = [sys.executable, "-c", textwrap.dedent(program), "10"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert int(output[2]) == 9375
    assert int(output[3]) - int(output[1]) < 8 * 1024  # KiB; the samples alone are 38 MB
