"""Changes of crops in training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from myna_rpe.training.augment import FLOOR, AugmentConfig, augment
from pentatonic.errors import ConfigError


def crop() -> torch.Tensor:
    mel = torch.rand(128, 64, generator=torch.Generator().manual_seed(0)) * -60
    return mel - mel.max()


def test_no_change_by_default() -> None:
    assert not AugmentConfig().active
    torch.testing.assert_close(augment(crop(), AugmentConfig(), np.random.default_rng(0)), crop())


def test_equalising_adds_a_line_over_the_bands() -> None:
    config = AugmentConfig(equalise=12)
    for seed in range(20):
        found = augment(crop(), config, np.random.default_rng(seed))
        assert found.max() == 0 and found.min() >= FLOOR
        kept = (found > FLOOR) & (crop() + 12 < 0)
        bands = torch.stack([(found - crop())[band][kept[band]].mean() for band in range(128)])
        steps = bands.diff()
        torch.testing.assert_close(steps, steps.mean().expand_as(steps), atol=1e-3, rtol=0)
        assert abs(float(steps.mean())) * 127 <= 24


def test_the_highest_bands_are_cut_as_often_as_asked() -> None:
    config = AugmentConfig(cut_probability=0.5, cut_bands=40)
    cut = []
    for seed in range(400):
        silent = (augment(crop(), config, np.random.default_rng(seed)) == FLOOR).all(dim=1)
        assert not silent[:88].any() and (silent.int().diff() >= 0).all()
        cut.append(int(silent.sum()))
    assert 150 < sum(number > 0 for number in cut) < 250 and 30 < max(cut) <= 40


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"equalise": -1.0}, "equalise is -1.0"),
        ({"cut_probability": 1.5}, "cut_probability is 1.5"),
        ({"cut_bands": 128}, "cut_bands is 128; allowed: 1 to 127"),
    ],
)
def test_values_out_of_range(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AugmentConfig(**values)


def test_a_front_end_without_decibels_is_refused() -> None:
    AugmentConfig().check("myna")
    AugmentConfig(equalise=3.0).check("myna-rpe")
    with pytest.raises(ConfigError, match="the front end myna has none"):
        AugmentConfig(equalise=3.0).check("myna")
