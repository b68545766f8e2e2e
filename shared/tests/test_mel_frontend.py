"""Framing, streaming, precision, gradients and refusals of the mel frontend."""

from __future__ import annotations

import copy
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pentatonic.errors import AudioTooShort, ConfigError, EmptyAudio, NonFiniteAudio, UsageError
from pentatonic.mel import PRESETS, MelConfig, MelFrontend, frontend

SMALL = MelConfig(
    sample_rate=8000, n_fft=64, win_length=48, hop_length=20, n_mels=6, f_min=0, f_max=4000, power=2.0
)
VARIANTS = {
    "plain": SMALL,
    "magnitude": replace(SMALL, power=1.0, pad_mode="constant"),
    "long hop": replace(SMALL, hop_length=100, log="log10_1p", mean=1.0, std=2.0),
    "db": replace(SMALL, log="db", mel_scale="htk", norm=None),
    "double": replace(SMALL, log="db", double=True),
    "peak": replace(SMALL, log="db_below_peak", mean=-40.0, std=10.0),
    "clips": replace(SMALL, log="whisper", clip_samples=500, drop_last_frame=True),
    "drop": replace(SMALL, drop_last_frame=True, pad_mode="constant"),
    "natural": replace(SMALL, power=1.0, log="ln"),
    "repeat": replace(SMALL, clip_samples=700, clip_fill="repeat"),
}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small_blocks():
    """Blocks of 5 frames, so that short signals have many."""
    return mock.patch.object(frontend, "_CPU_BLOCK", 5 * SMALL.n_fft)


def naive(config: MelConfig, audio: Tensor) -> Tensor:
    """One signal, with one large transform in float64."""
    x = audio.double()
    if config.clip_samples and config.clip_fill == "repeat":
        x = x.repeat(max(config.clip_samples // len(x), 1))
        first = max(len(x) - config.clip_samples, 0) // 2
        x = x[first : first + config.clip_samples]
        x = torch.cat([x, x.new_zeros(config.clip_samples - len(x))])
    elif config.clip_samples:
        x = torch.cat([x, x.new_zeros(-len(x) % config.clip_samples)])
    window = torch.hann_window(config.win_length, dtype=torch.float64)
    spectrum = (
        torch.stft(
            x,
            config.n_fft,
            config.hop_length,
            config.win_length,
            window,
            center=True,
            pad_mode=config.pad_mode,
            return_complex=True,
        ).abs()
        ** config.power
    )
    m = MelFrontend(config).filterbank.double() @ spectrum
    m = m[:, : m.shape[1] - config.drop_last_frame]
    if config.log == "log10_1p":
        m = (1 + 10000 * m).log10()
    elif config.log == "db":
        m = 10 * m.clamp(min=1e-10).log10()
    elif config.log == "db_below_peak":
        m = 20 * m.clamp(min=1e-5).log10()
        m = (m - m.max()).clamp(min=-80)
    elif config.log == "whisper":
        m = m.clamp(min=1e-10).log10()
        m = (m.clamp(min=m.max() - 8) + 4) / 4
    elif config.log == "ln":
        m = m.clamp(min=1e-5).log()
    return m if config.mean is None else (m - config.mean) / config.std


@pytest.mark.parametrize("name", VARIANTS)
@settings(max_examples=25, deadline=None)
@given(n=st.integers(33, 1600), seed=st.integers(0, 9))
def test_any_length_equals_one_large_transform(name: str, n: int, seed: int):
    audio = noise(n, seed=seed)
    with small_blocks():
        model = MelFrontend(VARIANTS[name])
        got = model(audio)
    assert got.shape == (6, model.frames(n))
    want = naive(VARIANTS[name], audio)
    torch.testing.assert_close(got.double(), want, rtol=2e-5, atol=2e-5 * want.abs().max().item())


@pytest.mark.parametrize("name", VARIANTS)
@settings(max_examples=25, deadline=None)
@given(n=st.integers(33, 1600), cuts=st.lists(st.integers(0, 1600), max_size=12))
def test_stream_equals_one_shot_bit_for_bit(name: str, n: int, cuts: list[int]):
    audio = noise(n)
    blocks = torch.tensor_split(audio, sorted(min(cut, n) for cut in cuts))
    with small_blocks():
        model = MelFrontend(VARIANTS[name])
        assert torch.equal(torch.cat(list(model.stream(blocks)), dim=-1), model(audio))


def test_stream_of_one_large_piece():
    # With a hop of more than half a frame, little is left behind a block that ends near the end of the piece.
    model = MelFrontend(VARIANTS["long hop"])
    with small_blocks():
        for n in range(33, 1200, 7):
            audio = noise(n)
            assert torch.equal(torch.cat(list(model.stream([audio])), dim=-1), model(audio))


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_equal_one_large_transform(preset: str):
    audio = noise(50_001)
    want = naive(PRESETS[preset], audio)
    got = MelFrontend.preset(preset)(audio)
    torch.testing.assert_close(got.double(), want, rtol=2e-5, atol=2e-5 * want.abs().max().item())


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_stream_and_batch_bit_for_bit(preset: str):
    model = MelFrontend.preset(preset)
    audio = noise(2, 1, 170_001)
    mel = model(audio)
    assert mel.shape == (2, 1, model.config.n_mels, model.frames(170_001))
    for signal, single in zip(audio[:, 0], mel[:, 0], strict=True):
        assert torch.equal(model(signal), single)
        assert torch.equal(torch.cat(list(model.stream(signal.split(10_007))), dim=-1), single)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_the_two_halves_make_the_whole(preset: str):
    mel = MelFrontend.preset(preset)
    audio = 0.3 * torch.randn(2, mel.config.sample_rate * 2, generator=torch.Generator().manual_seed(3))
    power = mel.power_spectrogram(audio)
    assert power.shape == (2, mel.config.n_fft // 2 + 1, mel.frames(audio.shape[1]))
    torch.testing.assert_close(mel.from_power(power), mel(audio), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(mel.power_spectrogram(audio[0]), power[0])
    with pytest.raises(EmptyAudio):
        mel.power_spectrogram(audio[:, :0])


def test_bands_between_two_bins_are_zero():
    mel = MelFrontend(replace(SMALL, f_min=10.0, f_max=100.0))(noise(500))
    assert torch.equal(mel, torch.zeros(6, 26))


def test_float32_whatever_the_default():
    audio = noise(500)
    want = MelFrontend(SMALL)(audio)
    torch.set_default_dtype(torch.float64)
    try:
        mel = MelFrontend(SMALL)(audio)
    finally:
        torch.set_default_dtype(torch.float32)
    assert mel.dtype == torch.float32
    assert torch.equal(mel, want)


def test_stream_gives_frames_before_the_end():
    model = MelFrontend.preset("omar-rq-16k")
    taken = 0

    def blocks():
        nonlocal taken
        for block in noise(400_000).split(4000):
            taken += len(block)
            yield block

    next(model.stream(blocks()))
    assert taken < 200_000


def test_longer_clips_keep_the_middle():
    audio = noise(480_101)
    model = MelFrontend.preset("clap")
    assert torch.equal(model(audio), model(audio[50:480_050]))


@pytest.mark.parametrize("preset", PRESETS)
def test_shortest_signal(preset: str):
    model = MelFrontend.preset(preset)
    n = model.min_samples
    assert model(noise(n)).shape[-1] == model.frames(n) >= 1
    if n > 1:
        with pytest.raises(AudioTooShort, match=f"{n - 1} samples; at least {n}"):
            model(noise(n - 1))
        with pytest.raises(AudioTooShort):
            list(model.stream([noise(n - 1)]))
        with pytest.raises(AudioTooShort):
            model.frames(n - 1)


def test_shortest_signal_when_the_last_frame_is_dropped():
    model = MelFrontend(VARIANTS["drop"])
    assert model.frames(model.min_samples) == 1
    assert model(noise(model.min_samples)).shape == (6, 1)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 1000)])
def test_empty(shape: tuple[int, ...]):
    with pytest.raises(EmptyAudio, match=r"^audio: "):
        MelFrontend(SMALL)(torch.zeros(shape))


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("blocks", [[], [torch.zeros(0)]])
def test_empty_stream(name: str, blocks: list[Tensor]):
    with pytest.raises(EmptyAudio):
        list(MelFrontend(VARIANTS[name]).stream(blocks))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", VARIANTS)
def test_non_finite(name: str, bad: float):
    audio = noise(1000)
    audio[777] = bad
    with small_blocks(), pytest.raises(NonFiniteAudio, match=r"audio: .* index 777"):
        MelFrontend(VARIANTS[name])(audio)
    with pytest.raises(NonFiniteAudio, match=r"audio: .* index 777"):
        list(MelFrontend(VARIANTS[name]).stream(audio.split(100)))


def test_finite_samples_may_overflow_their_sum():
    audio = torch.full((1000,), 1e36)
    assert not audio.sum().isfinite()
    assert MelFrontend(VARIANTS["magnitude"])(audio).isfinite().all()


def test_double_precision_beyond_single_is_infinite():
    with pytest.raises(NonFiniteAudio, match="index 0"):
        MelFrontend(SMALL)(torch.full((1000,), 1e39, dtype=torch.float64))


def test_dtypes():
    model = MelFrontend(SMALL)
    audio = noise(500)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        cast = audio.to(dtype)
        assert torch.equal(model(cast), model(cast.float()))
    for wrong in (torch.int16, torch.int64, torch.bool, torch.complex64):
        with pytest.raises(UsageError, match="floating point"):
            model(audio.to(wrong))


@pytest.mark.parametrize("wrong", [np.zeros(500, dtype=np.float32), [0.0] * 500, torch.tensor(0.5)])
def test_not_a_signal(wrong):
    with pytest.raises(UsageError, match="tensor"):
        MelFrontend(SMALL)(wrong)


def test_blocks_have_one_dimension():
    with pytest.raises(UsageError, match=r"\(1, 500\)"):
        list(MelFrontend(SMALL).stream([noise(1, 500)]))


def test_other_device():
    with pytest.raises(UsageError, match="meta"):
        MelFrontend(SMALL)(noise(500).to("meta"))


@pytest.mark.parametrize("name", VARIANTS)
def test_gradient_against_finite_differences(name: str):
    with small_blocks():
        model = MelFrontend(VARIANTS[name])
        audio = noise(2, 400)
        direction = noise(2, 400, seed=1)
        weights = noise(*model(audio).shape, seed=2).double()
        step = 0.005

        def loss(x: Tensor) -> Tensor:
            return (model(x).double() * weights).sum()

        x = audio.clone().requires_grad_()
        torch.testing.assert_close(model(x), model(audio), rtol=0, atol=0)
        loss(x).backward()
        assert x.grad is not None
        slope = (x.grad.double() * direction).sum()
        # Richardson's step on two central differences.
        near, far = (
            (loss(audio + h * direction) - loss(audio - h * direction)) / (2 * h) for h in (step, 2 * step)
        )
        torch.testing.assert_close(slope, (4 * near - far) / 3, rtol=5e-4, atol=0)


def test_gradient_is_zero_at_the_floor():
    for name in ("magnitude", "db", "clips", "peak"):
        silence = torch.zeros(600, requires_grad=True)
        MelFrontend(VARIANTS[name])(silence).sum().backward()
        assert silence.grad is not None
        assert not silence.grad.any(), name


def test_constants_are_not_in_the_state_dict():
    assert not MelFrontend(SMALL).state_dict()


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.to(torch.bfloat16),
        lambda model: model.half(),
        lambda model: model.double(),
        lambda model: model.to("meta").to_empty(device="cpu"),
        copy.deepcopy,
    ],
    ids=["bfloat16", "half", "double", "meta", "copy"],
)
def test_moving_and_casting_leaves_the_numbers_alone(change):
    audio = noise(500)
    want = MelFrontend(SMALL)(audio)
    parent = torch.nn.Sequential(MelFrontend(SMALL))
    assert torch.equal(change(parent)(audio), want)


def test_built_on_the_meta_device():
    with torch.device("meta"):
        model = MelFrontend(SMALL)
    audio = noise(500)
    assert torch.equal(model(audio), MelFrontend(SMALL)(audio))


def test_autocast_leaves_the_numbers_alone():
    model = MelFrontend(SMALL)
    audio = noise(500)
    want = model(audio)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model(audio), want)
        stream = model.stream([audio])
        next(stream)
        # The generator must not leave autocast switched off for its consumer.
        assert torch.is_autocast_enabled("cpu")


def test_short_products_leave_the_numbers_alone():
    weights = MelFrontend.preset("myna").filterbank
    power = noise(weights.shape[1], 64).square()
    exact = (weights.double() @ power.double()).float()
    try:
        torch.set_float32_matmul_precision("medium")
        assert torch.equal(frontend._matmul(weights, power), exact)
    finally:
        torch.set_float32_matmul_precision("highest")


def test_compiles_as_one_graph():
    model = MelFrontend(VARIANTS["clips"])
    audio = noise(2, 600)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(audio), model(audio), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"n_fft": 63},
        {"n_fft": 0},
        {"win_length": 65},
        {"hop_length": 0},
        {"n_mels": -1},
        {"power": 0.0},
        {"f_min": -1.0},
        {"f_max": 4001.0},
        {"f_min": 3000.0, "f_max": 2000.0},
        {"mel_scale": "bark"},
        {"norm": "area"},
        {"pad_mode": "circular"},
        {"log": "log2"},
        {"clip_fill": "loop"},
        {"mean": 1.0},
        {"std": 1.0},
        {"mean": 0.0, "std": 0.0},
        {"clip_samples": 32},
    ],
    ids=str,
)
def test_configurations_out_of_range(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        replace(SMALL, **change)


def test_unknown_preset_lists_all():
    with pytest.raises(ConfigError) as caught:
        MelFrontend.preset("omar")
    assert all(name in str(caught.value) for name in PRESETS)
