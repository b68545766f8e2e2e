"""The filterbank against its definition, written out in float64."""

from __future__ import annotations

import math

import pytest
import torch

from pentatonic.errors import ConfigError
from pentatonic.mel import mel_filterbank


def hz_from_mel(mel: float, scale: str) -> float:
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)


def mel_from_hz(hz: float, scale: str) -> float:
    if scale == "htk":
        return 2595 * math.log10(1 + hz / 700)
    return hz * 3 / 200 if hz < 1000 else 15 + 27 * math.log(hz / 1000, 6.4)


def naive(rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float, scale: str, norm: str | None):
    low, high = mel_from_hz(f_min, scale), mel_from_hz(f_max, scale)
    edges = [hz_from_mel(low + (high - low) * i / (n_mels + 1), scale) for i in range(n_mels + 2)]
    rows = []
    for a, b, c in zip(edges, edges[1:], edges[2:], strict=False):
        row = []
        for k in range(n_fft // 2 + 1):
            f = k * rate / n_fft
            height = max(0.0, min((f - a) / (b - a), (c - f) / (c - b)))
            row.append(height * 2 / (c - a) if norm == "slaney" else height)
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("norm", ["slaney", None])
@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize(
    ("rate", "n_fft", "n_mels", "f_min", "f_max"),
    [(16000, 512, 40, 0, 8000), (48000, 1024, 64, 50, 14000), (22050, 300, 20, 1200, 11025)],
)
def test_definition(rate, n_fft, n_mels, f_min, f_max, scale, norm):
    got = mel_filterbank(rate, n_fft, n_mels, f_min=f_min, f_max=f_max, mel_scale=scale, norm=norm)
    want = naive(rate, n_fft, n_mels, f_min, f_max, scale, norm)
    assert got.shape == (n_mels, n_fft // 2 + 1)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), want, rtol=0, atol=2e-5 * want.max().item())


def test_upper_end_defaults_to_half_the_sample_rate():
    assert torch.equal(mel_filterbank(16000, 512, 40), mel_filterbank(16000, 512, 40, f_max=8000))


def test_real_numbers_under_the_meta_device():
    with torch.device("meta"):
        weights = mel_filterbank(16000, 512, 40)
    assert torch.equal(weights, mel_filterbank(16000, 512, 40))


@pytest.mark.parametrize("bad", [{"mel_scale": "bark"}, {"norm": "area"}])
def test_unknown_names(bad):
    with pytest.raises(ConfigError, match="allowed"):
        mel_filterbank(16000, 512, 40, **bad)
