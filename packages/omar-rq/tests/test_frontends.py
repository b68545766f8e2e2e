from __future__ import annotations

import dataclasses

import pytest
import torch

from omar_rq.config import CQTConfig, MelFrontendConfig, WaveformConfig
from omar_rq.frontends import CQT, Mel, Waveform, build_frontend, patchify
from pentatonic.errors import AudioTooShort, ConfigError, UsageError

MEL_24K = MelFrontendConfig(
    sample_rate=24000,
    hop_length=320,
    norm_mean=1.860820794608335,
    norm_std=1.2249547514586288,
    patch_size=(96, 3),
)
SMALL_CQT = CQTConfig(
    sample_rate=2000, hop_length=20, bins_per_octave=6, n_bins=24, f_min=40.0, patch_size=(24, 3)
)
CONFIGS = [
    MelFrontendConfig(),
    MEL_24K,
    SMALL_CQT,
    WaveformConfig(),
    WaveformConfig(norm_mean=None, norm_std=None),
]
IDS = ["mel_16k", "mel_24k", "cqt", "waveform", "waveform_raw"]


@pytest.mark.parametrize(("case", "config", "sources"), [
    ("frontend_mel_16k", MelFrontendConfig(), {"a": ("a_16k", 32000), "b": ("b_16k", 31777)}),
    ("frontend_mel_24k", MEL_24K, {"a": ("a_24k", 48000), "b": ("b_24k", 47501)}),
])  # fmt: skip
def test_mel_golden(case, config, sources, golden, signal):
    io, _ = golden(case)
    frontend = build_frontend(config)
    raw = build_frontend(dataclasses.replace(config, norm_mean=None, norm_std=None))
    for row, source in sources.items():
        out = frontend(signal(*source)[None])
        torch.testing.assert_close(out, io[f"logmel_{row}"], atol=5e-6, rtol=0)
    out = raw(signal(*sources["a"])[None])[..., :16]
    torch.testing.assert_close(out, io["logmel_a_unnormalized"], atol=5e-6, rtol=0)


def test_waveform_golden(golden, signal):
    io, _ = golden("frontend_waveform_24k")
    frontend = build_frontend(WaveformConfig())
    out = frontend(torch.stack([signal("a_24k", 9000), signal("b_24k", 9000)]))
    torch.testing.assert_close(out, io["out"], atol=1e-6, rtol=0)
    torch.testing.assert_close(patchify(out, frontend.patch_size), io["patches"], atol=1e-6, rtol=0)


def test_patchify_golden(golden):
    io, meta = golden("patching_2d")
    assert torch.equal(patchify(io["x"], tuple(meta["config"]["patch_size"])), io["patches"])


def test_patchify_of_too_few_frames_is_empty():
    assert patchify(torch.zeros(2, 4, 2), (4, 3)).shape == (2, 0, 12)


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_description_matches_the_configuration(config):
    frontend = build_frontend(config)
    kind = {"mel": Mel, "cqt": CQT, "waveform": Waveform}[config.name]
    assert type(frontend) is kind
    for name in ("sample_rate", "hop_length", "rep_dims", "patch_size"):
        assert getattr(frontend, name) == getattr(config, name)
    assert frontend.config == config
    assert not frontend.state_dict()
    assert not list(frontend.parameters())


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_fewest_samples_give_exactly_one_patch(config):
    frontend = build_frontend(config)
    fewest = frontend.min_samples
    audio = torch.randn(1, fewest)
    assert patchify(frontend(audio), frontend.patch_size).shape[1] == 1
    for short in (audio[:, :-1], audio[:, :0]):
        with pytest.raises(AudioTooShort, match=f"at least {fewest} samples"):
            frontend(short)
        with pytest.raises(AudioTooShort, match=f"{short.shape[1]} samples .* at least {fewest} samples"):
            next(frontend.stream(iter(short[0].split(7) if short.numel() else [])))


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_frames_for_many_lengths(config):
    frontend = build_frontend(config)
    for n_samples in range(frontend.min_samples, frontend.min_samples + 3 * frontend.hop_length + 2, 17):
        out = frontend(torch.zeros(1, n_samples))
        assert out.shape == (1, frontend.rep_dims, frontend.frames(n_samples))
        assert out.dtype == torch.float32


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
@pytest.mark.parametrize("block", [1, 97, 3001, 10**6])
def test_stream_equals_one_shot(config, block):
    frontend = build_frontend(config)
    audio = torch.randn(max(4000, frontend.min_samples), generator=torch.Generator().manual_seed(0))
    streamed = torch.cat(list(frontend.stream(audio.split(block))), dim=-1)
    assert torch.equal(streamed, frontend(audio[None])[0])


@pytest.mark.parametrize("config", [MelFrontendConfig(), WaveformConfig()], ids=["mel", "waveform"])
def test_stream_is_lazy(config):
    frontend = build_frontend(config)
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield torch.zeros(4000)

    assert next(frontend.stream(endless())).shape[0] == frontend.rep_dims
    assert taken < 100


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_numbers_do_not_depend_on_precision_settings(config):
    audio = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    expected = build_frontend(config)(audio)
    frontend = torch.nn.Sequential(build_frontend(config)).to(torch.bfloat16)
    kept = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(frontend(audio), expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(kept)


@pytest.mark.gpu
@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_gpu_agrees_with_cpu_where_lower_precision_is_allowed(config):
    audio = torch.randn(2, 24000, generator=torch.Generator().manual_seed(0))
    frontend = build_frontend(config)
    expected = frontend(audio)
    kept = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        actual = frontend.cuda()(audio.cuda()).cpu()
    finally:
        torch.set_float32_matmul_precision(kept)
    torch.testing.assert_close(actual, expected, atol=1e-3, rtol=0)


def test_half_precision_audio_is_accepted():
    audio = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0)).half()
    frontend = build_frontend(WaveformConfig())
    assert torch.equal(frontend(audio), frontend(audio.float()))


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_filters_are_real_when_the_rest_of_a_model_has_no_storage(config):
    with torch.device("meta"):
        frontend = build_frontend(config)
    assert frontend(torch.zeros(1, 4000)).device.type == "cpu"


@pytest.mark.parametrize("shape", [(4000,), (1, 1, 4000)])
def test_audio_needs_a_batch_axis(shape):
    with pytest.raises(UsageError, match=r"allowed: \(batch, samples\)"):
        build_frontend(WaveformConfig())(torch.zeros(shape))


@pytest.mark.parametrize("patch_size", [(97, 4), (0, 4), (96, 0)])
def test_patches_must_fit_the_frames(patch_size):
    with pytest.raises(ConfigError, match=r"mel\.patch_size"):
        build_frontend(MelFrontendConfig(patch_size=patch_size))
