"""Joints: a cut or a change of instrument is conspicuous, a joint of equal sound is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pentatonic.errors import UsageError
from rc_audioldm.denoising.windows import plan_windows
from rc_audioldm.knob.joints import joint_times, measure_joints

RATE = 16_000
Play = Callable[..., np.ndarray]


def test_a_change_of_instrument_at_the_joint_is_conspicuous_and_the_same_instrument_is_not(
    play: Play,
) -> None:
    before = np.concatenate([play("cello"), play("cello", 1)])
    at_s = len(before) / RATE
    same = measure_joints(np.concatenate([before, play("cello", 2)]), RATE, [at_s])
    other = measure_joints(np.concatenate([before, play("reed", 2)]), RATE, [at_s])
    assert other.joints[0].is_conspicuous and other.joints[0].change_rank == 1
    assert not same.joints[0].is_conspicuous
    assert other.joints[0].change_db > 2 * other.change_elsewhere_db
    assert other.joints[0].time_s == at_s


def test_a_cut_in_a_held_sound_is_heard_by_its_flux_where_it_is() -> None:
    times = np.arange(6 * RATE) / RATE
    held = 0.3 * np.sin(2 * np.pi * 220.3 * times)
    cut = np.where(times < 3, held, 0.3 * np.sin(2 * np.pi * 220.3 * times + 2.5))
    assert measure_joints(cut, RATE, [3.0]).joints[0].flux_rank == 1
    assert measure_joints(cut, RATE, [3.0]).joints[0].is_conspicuous
    elsewhere = measure_joints(cut, RATE, [1.7])
    assert elsewhere.joints[0].flux_db < measure_joints(cut, RATE, [3.0]).joints[0].flux_db / 5


def test_joints_of_noise_are_like_any_other_place() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 30 * RATE)
    found = measure_joints(noise, RATE, [float(each) for each in range(3, 29, 5)])
    assert len(found.joints) == 6
    assert 0.2 < np.mean([each.change_rank for each in found.joints]) < 0.8
    assert 0.2 < np.mean([each.flux_rank for each in found.joints]) < 0.8
    assert not any(each.is_conspicuous for each in found.joints)


def test_joints_of_windows_are_where_each_begins_to_be_new() -> None:
    windows = plan_windows(500, 250, 64)
    assert joint_times(windows, 0.04) == pytest.approx([10.0, 17.44])
    assert joint_times(windows[:1], 0.04) == []


@pytest.mark.parametrize("times_s", [[], [0.8], [2.3], [-1.0]])
def test_joints_without_sound_around_them_are_refused(times_s: list[float]) -> None:
    with pytest.raises(UsageError, match="before and after"):
        measure_joints(np.ones(3 * RATE), RATE, times_s)


def test_joints_that_leave_nothing_to_compare_with_are_refused() -> None:
    with pytest.raises(UsageError, match="dense"):
        measure_joints(np.ones(3 * RATE), RATE, [1.0, 1.5, 2.0])
