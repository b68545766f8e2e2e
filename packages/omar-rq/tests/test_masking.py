from __future__ import annotations

import dataclasses

import pytest
import torch

from omar_rq.config import CQTConfig, MaskingConfig, MelFrontendConfig, WaveformConfig
from omar_rq.training.masking import mask_patches, mask_window_tokens

FRONTENDS = {
    "mel": MelFrontendConfig(),
    "wav25": WaveformConfig(),
    "wav18_shuffled": WaveformConfig(patch_size=(1, 1280)),
}


@pytest.mark.parametrize("tag", FRONTENDS)
@pytest.mark.parametrize("private", [False, True], ids=["global", "private"])
def test_windows_golden(tag, private, golden):
    io, meta = golden("masking_seeded")
    about = meta["config"][tag]
    config = MaskingConfig(
        seconds=about["mask_seconds"],
        prob=about["mask_prob"],
        noise="shuffled_input" if "shuffled" in tag else "random_normal",
    )
    window = mask_window_tokens(config, FRONTENDS[tag])
    assert window == about["window_tokens"]
    if private:
        before = torch.get_rng_state()
        generator = torch.Generator().manual_seed(about["seed"])
        masked, mask = mask_patches(io[f"{tag}.x"], config, window=window, generator=generator)
        assert torch.equal(torch.get_rng_state(), before)
    else:
        torch.manual_seed(about["seed"])
        masked, mask = mask_patches(io[f"{tag}.x"], config, window=window)
    assert torch.equal(mask, io[f"{tag}.mask"])
    assert torch.equal(masked, io[f"{tag}.masked"])


def test_tokens_golden(golden):
    io, meta = golden("masking_seeded")
    torch.manual_seed(meta["simple"]["seed"])
    config = MaskingConfig(prob=meta["simple"]["mask_prob"], mode="tokens")
    masked, mask = mask_patches(io["simple.x"], config, window=1)
    assert torch.equal(mask, io["simple.mask"])
    assert torch.equal(masked, io["simple.masked"])
    assert (mask.sum(1) == 30).all()


@pytest.mark.parametrize("noise", ["random_normal", "shuffled_input"])
@pytest.mark.parametrize("mode", ["windows", "tokens"])
def test_only_masked_patches_change(noise, mode):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 40, 5, generator=generator, dtype=torch.float64)
    masked, mask = mask_patches(x, MaskingConfig(noise=noise, mode=mode), window=3, generator=generator)
    assert masked.dtype == x.dtype
    assert 0 < mask.sum() < mask.numel()
    assert torch.equal(masked[~mask], x[~mask])
    if noise == "shuffled_input":
        assert all(
            (row == patch).all(1).any() for row, m, b in zip(x, mask, masked, strict=True) for patch in b[m]
        )
    else:
        assert 0.05 < masked[mask].std() < 0.15


def test_windows_are_aligned_and_cover_the_expected_share():
    generator = torch.Generator().manual_seed(0)
    _, mask = mask_patches(torch.zeros(300, 131, 1), MaskingConfig(), window=7, generator=generator)
    windows = mask[:, :126].reshape(300, 18, 7)
    assert torch.equal(windows.any(-1), windows.all(-1))
    assert abs(mask.float().mean() - 0.6) < 0.02


def test_probability_zero_and_one():
    x = torch.ones(2, 9, 1)
    for prob in (0.0, 1.0):
        for mode in ("windows", "tokens"):
            _, mask = mask_patches(x, MaskingConfig(prob=prob, mode=mode), window=4)
            assert (mask == bool(prob)).all()


def test_window_is_at_least_one_token():
    short = dataclasses.replace(MaskingConfig(), seconds=0.01)
    assert mask_window_tokens(short, WaveformConfig()) == 1


def test_window_counts_patch_rows():
    config = CQTConfig(patch_size=(47, 4))  # 30 frames in 0.4 s: 7 patches of 4 frames, 4 rows
    assert mask_window_tokens(MaskingConfig(), config) == 28
