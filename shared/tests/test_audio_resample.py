"""Sample-rate conversion: lengths, streaming, frequency response, gradients."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pentatonic.audio import StreamResampler, resample
from pentatonic.errors import MissingExtra, UsageError

RATES = [
    (44100, 16000),
    (44100, 24000),
    (48000, 44100),
    (16000, 44100),
    (22050, 24000),
    (8000, 48000),
    (96000, 16000),
]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def level_db(frequency: float, method: str, sr_in: int = 44100, sr_out: int = 16000) -> float:
    """Level of a resampled unit sine away from its ends."""
    tone = torch.sin(2 * torch.pi * frequency * torch.arange(2 * sr_in, dtype=torch.float64) / sr_in)
    out = resample(tone, sr_in, sr_out, method=method)[sr_out // 2 : -sr_out // 2]  # type: ignore[arg-type]
    return float(10 * torch.log10(2 * out.square().mean() + 1e-300))


@pytest.mark.parametrize("method", ["soxr", "kaiser", "torchaudio-hann"])
@pytest.mark.parametrize(("sr_in", "sr_out"), RATES)
def test_length_is_the_ceiling(sr_in: int, sr_out: int, method: str) -> None:
    if method == "torchaudio-hann":
        pytest.importorskip("torchaudio")
    for n in (0, 1, 2, 3, 10, 441, 1000, 4411):
        out = resample(noise(2, n), sr_in, sr_out, method=method)  # type: ignore[arg-type]
        assert out.shape == (2, -(-n * sr_out // sr_in)), n
        assert out.dtype == torch.float32


@pytest.mark.parametrize(("sr_in", "sr_out"), RATES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_soxr_is_soxr(sr_in: int, sr_out: int, dtype: torch.dtype) -> None:
    for n in (1, 2, 1000, 20_001):
        samples = noise(n).to(dtype)
        expected = soxr.resample(samples.numpy(), sr_in, sr_out)
        out = resample(samples, sr_in, sr_out)
        assert out.dtype == dtype
        assert 0 <= len(out) - len(expected) <= 1
        assert np.array_equal(out[: len(expected)].numpy(), expected)


def test_last_sample_continues_the_signal() -> None:
    """Where soxr would drop the last sample, it belongs to the signal and is not a padded zero."""
    n = 44100 + 100  # 16036.3 samples at 16 kHz
    tone = torch.cos(2 * torch.pi * 100 * torch.arange(n + 4410, dtype=torch.float64) / 44100)
    whole = resample(tone, 44100, 16000)
    part = resample(tone[:n], 44100, 16000)
    assert len(part) == 16037
    assert abs(whole[16036]) > 0.1
    assert abs(part[16036]) > 0.05


@settings(max_examples=60, deadline=None)
@given(
    rates=st.sampled_from([*RATES, (44101, 16000), (1000, 768), (16000, 16000)]),
    sizes=st.lists(st.integers(0, 3000), max_size=8),
)
def test_stream_equals_one_shot_bit_for_bit(rates: tuple[int, int], sizes: list[int]) -> None:
    samples = noise(sum(sizes))
    resampler = StreamResampler(*rates)
    out = [*(resampler.push(block) for block in samples.split(sizes)), resampler.flush()]
    assert torch.equal(torch.cat(out), resample(samples, *rates))


def test_stream_resampler_ends_at_flush() -> None:
    for rates in ((44100, 16000), (16000, 16000)):
        resampler = StreamResampler(*rates)
        resampler.push(noise(100))
        resampler.flush()
        assert len(resampler.flush()) == 0
        with pytest.raises(UsageError, match="flush"):
            resampler.push(noise(100))


@pytest.mark.parametrize("block", [torch.zeros(2, 10), torch.zeros(10, dtype=torch.float64)])
def test_stream_resampler_refuses_other_blocks(block: torch.Tensor) -> None:
    for rates in ((44100, 16000), (16000, 16000)):
        with pytest.raises(UsageError, match=r"\(n,\) float32"):
            StreamResampler(*rates).push(block)


@pytest.mark.parametrize(
    ("method", "kept", "stopped"),
    [("soxr", (100, 7000, 7250), (8200, 9000, 12000)), ("kaiser", (100, 7000, 7150), (8200, 9000, 12000))],
)
def test_pass_band_is_flat_and_aliases_are_inaudible(
    method: str, kept: tuple[float, ...], stopped: tuple[float, ...]
) -> None:
    for frequency in kept:
        assert abs(level_db(frequency, method)) < 0.02, frequency
    for frequency in stopped:
        assert level_db(frequency, method) < -140, frequency


def test_upsampling_has_no_images() -> None:
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16000, dtype=torch.float64) / 16000)
    exact = torch.sin(2 * torch.pi * 1000 * torch.arange(44100, dtype=torch.float64) / 44100)
    for method in ("soxr", "kaiser"):
        out = resample(tone, 16000, 44100, method=method)
        assert (out - exact)[10_000:-10_000].abs().max() < 1e-6


def test_kaiser_matches_torchaudio() -> None:
    functional = pytest.importorskip("torchaudio.functional")
    samples = noise(3, 5000).double()
    for sr_in, sr_out in RATES:
        expected = functional.resample(
            samples,
            sr_in,
            sr_out,
            lowpass_filter_width=64,
            rolloff=0.9475937167399596,
            resampling_method="sinc_interp_kaiser",
            beta=14.769656459379492,
        )
        torch.testing.assert_close(
            resample(samples, sr_in, sr_out, method="kaiser"), expected, atol=1e-7, rtol=0
        )


def test_torchaudio_hann_is_the_default_of_torchaudio() -> None:
    functional = pytest.importorskip("torchaudio.functional")
    samples = noise(2, 5000)
    out = resample(samples, 44100, 16000, method="torchaudio-hann")
    assert torch.equal(out, functional.resample(samples, 44100, 16000))
    assert level_db(8200, "torchaudio-hann") > -20, "it aliases; that is what models fed with it have seen"


@pytest.mark.parametrize("fault", [None, OSError("undefined symbol"), RuntimeError("CUDA versions differ")])
def test_without_a_working_torchaudio(monkeypatch: pytest.MonkeyPatch, fault: Exception | None) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
        monkeypatch.delitem(sys.modules, name)
    if fault is None:
        monkeypatch.setitem(sys.modules, "torchaudio", None)
    else:

        class Broken:
            def find_spec(self, name: str, *args: object) -> None:
                if name.partition(".")[0] == "torchaudio":
                    raise fault

        monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(MissingExtra, match=r"pentatonic\[torchaudio\]"):
        resample(noise(100), 44100, 16000, method="torchaudio-hann")


@pytest.mark.parametrize(("sr_in", "sr_out"), RATES)
def test_kaiser_gradients(sr_in: int, sr_out: int) -> None:
    """Resampling is linear, R x; so the gradient of (R x) . y is R^T y, and its product with x is (R x) . y again."""
    x = noise(2, 1000).double().requires_grad_()
    out = resample(x, sr_in, sr_out, method="kaiser")
    weights = noise(*out.shape, seed=1).double()
    (gradient,) = torch.autograd.grad((out * weights).sum(), x)
    torch.testing.assert_close((gradient * x).sum(), (out * weights).sum())
    one = torch.zeros(2, 1000).double()
    one[1, 500] = 1
    expected = (resample(one, sr_in, sr_out, method="kaiser") * weights).sum()
    torch.testing.assert_close(gradient[1, 500], expected)


def test_kaiser_ignores_autocast() -> None:
    samples = noise(1000)
    expected = resample(samples, 44100, 16000, method="kaiser")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(resample(samples, 44100, 16000, method="kaiser"), expected)


@pytest.mark.parametrize("method", ["soxr", "kaiser"])
def test_batches_of_any_shape(method: str) -> None:
    samples = noise(2, 3, 1000)
    out = resample(samples, 44100, 16000, method=method)  # type: ignore[arg-type]
    assert out.shape == (2, 3, 363)
    alone = resample(samples[1, 2], 44100, 16000, method=method)  # type: ignore[arg-type]
    torch.testing.assert_close(out[1, 2], alone, atol=1e-6 if method == "kaiser" else 0, rtol=0)
    strided = resample(samples.transpose(0, 1), 44100, 16000, method=method)  # type: ignore[arg-type]
    torch.testing.assert_close(strided, out.transpose(0, 1), atol=1e-6 if method == "kaiser" else 0, rtol=0)


def test_equal_rates_return_the_samples() -> None:
    samples = noise(10)
    for method in ("soxr", "kaiser", "torchaudio-hann"):
        assert resample(samples, 16000, 16000, method=method) is samples


def test_soxr_refuses_gradients() -> None:
    samples = noise(100).requires_grad_()
    with pytest.raises(UsageError, match="kaiser"):
        resample(samples, 44100, 16000)
    with torch.no_grad():
        assert not resample(samples, 44100, 16000).requires_grad
    with pytest.raises(UsageError, match="kaiser"):
        resample(torch.zeros(100, device="meta"), 44100, 16000)


@pytest.mark.parametrize("rate", [0, -1, 44100.0, "44100"])
def test_rates_must_be_positive_integers(rate: object) -> None:
    with pytest.raises(UsageError, match="sample rate"):
        resample(noise(10), rate, 16000)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="sample rate"):
        StreamResampler(16000, rate)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "samples", [torch.zeros(4, dtype=torch.int16), torch.zeros(4).half(), torch.tensor(1.0)]
)
def test_samples_must_be_float(samples: torch.Tensor) -> None:
    with pytest.raises(UsageError, match="float32"):
        resample(samples, 44100, 16000)


def test_unknown_method_and_huge_kernel() -> None:
    with pytest.raises(UsageError, match="'sinc'"):
        resample(noise(10), 44100, 16000, method="sinc")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="method='soxr'"):
        resample(noise(10), 44101, 16000, method="kaiser")


@pytest.mark.gpu
def test_kaiser_on_a_gpu() -> None:
    samples = noise(2, 44100)
    expected = resample(samples.double(), 44100, 16000, method="kaiser")
    out = resample(samples.cuda(), 44100, 16000, method="kaiser")
    assert out.is_cuda
    assert (out.cpu() - expected).abs().max() < 1e-5
