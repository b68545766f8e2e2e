from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from omar_rq.config import CQTConfig
from omar_rq.frontends import CQT
from omar_rq.frontends.cqt import design_octaves, half_rate_kernel
from pentatonic.errors import ConfigError

CASES = {
    "frontend_cqt_24k": ("a_24k", 48000, CQTConfig(patch_size=(188, 3))),
    "frontend_cqt_16k": (
        "a_16k",
        8000,
        CQTConfig(
            sample_rate=16000,
            hop_length=256,
            n_bins=144,
            norm_mean=5.485648599442211,
            norm_std=1.5939254082533876,
            patch_size=(144, 4),
        ),
    ),
}
SMALL = CQTConfig(
    sample_rate=2000, hop_length=20, bins_per_octave=6, n_bins=24, f_min=40.0, patch_size=(24, 2)
)


def coefficients(frontend: CQT, audio: torch.Tensor) -> torch.Tensor:
    """The complex transform before magnitude and logarithm, (B, n_bins, T), lowest bin first."""
    parts = [torch.complex(*pair) for pair in frontend._octaves(audio)]
    return torch.cat(parts[::-1], dim=-1).mT


# MKL's Fourier transform differs in the last bit between processors of different makers. The original's numbers are
# those of the path that it takes on all of them when it is asked to, before it is loaded.
SAME_ON_ALL_PROCESSORS = {"MKL_CBWR": "COMPATIBLE"}
DESIGN = """
import json, sys
import torch
from safetensors.torch import save_file
from omar_rq.config import CQTConfig
from omar_rq.frontends.cqt import design_octaves
bases = [octave.basis for octave in design_octaves(CQTConfig(**json.loads(sys.argv[1])))]
save_file({str(i): torch.view_as_real(basis).contiguous() for i, basis in enumerate(bases)}, sys.argv[2])
"""


@pytest.mark.parametrize("case", CASES)
def test_design_is_bit_exact(case, golden, tmp_path):
    io, meta = golden(case)
    octaves = design_octaves(CASES[case][2])
    assert [[o.hop_length, o.width] for o in octaves] == meta["forward_params_hop_nfft"]
    file = tmp_path / "bases.safetensors"
    config = json.dumps(dataclasses.asdict(CASES[case][2]))
    command = [sys.executable, "-P", "-c", DESIGN, config, str(file)]
    subprocess.run(command, env=os.environ | SAME_ON_ALL_PROCESSORS, check=True, timeout=100)
    designed = load_file(file)
    for name in (name for name in io if name.startswith("fft_basis")):
        basis = torch.view_as_complex(designed[name.removeprefix("fft_basis_")])
        assert torch.equal(basis, io[name])
    assert torch.equal(half_rate_kernel(), io["resample_kernel"][0, 0])


@pytest.mark.parametrize("case", CASES)
def test_golden(case, golden, signal):
    io, _ = golden(case)
    name, n_samples, config = CASES[case]
    frontend = CQT(config)
    audio = signal(name, n_samples)[None]
    expected = io["complex_vqt_first6"]
    actual = coefficients(frontend, audio)[..., :6]
    assert (actual - expected).abs().max() <= 1e-6 * expected.abs().max()
    error = (frontend(audio) - io["out"]).abs()
    assert error.max() < 2e-3
    assert error.mean() < 5e-5


@pytest.mark.parametrize("n_samples", [47999, 48000, 48003, 48256, 48257, 48319])
def test_released_geometry_has_frames_for_every_residue(n_samples, signal):
    frontend = CQT(CQTConfig())
    assert frontend(signal("b_24k", n_samples)[None]).shape == (1, 188, 1 + n_samples // 320)


def test_frame_count_for_every_length_and_residue():
    frontend = CQT(SMALL)
    assert frontend.min_samples == 20
    for n_samples in (*range(20, 141), *range(981, 1002)):
        out = frontend(torch.randn(1, n_samples))
        assert out.shape == (1, 24, 1 + n_samples // 20) == (1, 24, frontend.frames(n_samples))
        assert out.isfinite().all()


@pytest.mark.parametrize("n_samples", [999, 1000, 1531])
def test_equals_fourier_transform_of_each_octave(n_samples):
    audio = torch.randn(2, n_samples, generator=torch.Generator().manual_seed(0))
    actual = coefficients(CQT(SMALL), audio)
    parts, x = [], audio.double()
    for octave in design_octaves(SMALL):
        window = torch.ones(octave.width, dtype=torch.float64)
        spectrum = torch.stft(
            x, octave.width, octave.hop_length, window=window, pad_mode="constant", return_complex=True
        )
        parts.insert(0, (octave.basis.to(torch.complex128) @ spectrum)[..., : 1 + n_samples // 20])
        if octave.hop_length % 2 == 0:
            padded = torch.nn.functional.pad(x[:, None], (13, 15))
            half = torch.nn.functional.conv1d(padded, half_rate_kernel().double()[None, None], stride=2)
            x = half[:, 0, : math.ceil(x.shape[1] / 2)] / math.sqrt(0.5)
    expected = torch.cat(parts, dim=1)
    assert (actual - expected).abs().max() < 2e-6 * expected.abs().max()


@pytest.mark.parametrize("index", [5, 60, 120, 186])
def test_tone_peaks_in_its_bin(index):
    config = CQTConfig()
    frequency = config.f_min * 2 ** (index / config.bins_per_octave)
    tone = torch.sin(2 * math.pi * frequency * torch.arange(48000) / config.sample_rate)
    middle = coefficients(CQT(config), tone[None])[0, :, 75].abs()
    assert int(middle.argmax()) == index


def test_power_and_logarithm_are_what_the_configuration_says():
    audio = torch.randn(1, 800, generator=torch.Generator().manual_seed(0))
    plain = dataclasses.replace(SMALL, log=False, norm_mean=None, power=1.0)
    magnitude = coefficients(CQT(plain), audio).abs()
    for power, expected in ((1.0, magnitude), (0.5, magnitude), (2.0, magnitude**2), (3.0, magnitude**3)):
        actual = CQT(dataclasses.replace(plain, power=power))(audio)
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    logarithm = CQT(dataclasses.replace(plain, log=True))(audio)
    torch.testing.assert_close(logarithm, torch.log10(1 + 10000 * magnitude), atol=1e-5, rtol=1e-5)


def test_rows_of_a_batch_do_not_mix():
    audio = torch.randn(3, 900, generator=torch.Generator().manual_seed(0))
    frontend = CQT(SMALL)
    torch.testing.assert_close(frontend(audio)[1:2], frontend(audio[1:2]), atol=1e-4, rtol=0)


def test_gradient_reaches_the_audio():
    audio = torch.randn(1, 400, generator=torch.Generator().manual_seed(0), requires_grad=True)
    CQT(SMALL)(audio).sum().backward()
    assert audio.grad is not None
    assert (audio.grad != 0).float().mean() > 0.9


@pytest.mark.parametrize(("change", "key"), [
    ({"n_bins": 1, "patch_size": (1, 1)}, "n_bins"),
    ({"n_bins": 36, "patch_size": (36, 1)}, "half of cqt.sample_rate"),
    ({"magnitude": False}, "magnitude"),
])  # fmt: skip
def test_impossible_settings_are_named(change, key):
    with pytest.raises(ConfigError, match=key):
        CQT(dataclasses.replace(SMALL, **change))
