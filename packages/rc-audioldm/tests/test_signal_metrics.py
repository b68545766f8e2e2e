"""Metrics of one signal: the original's numbers, and what the correct ones promise."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import soundfile

from pentatonic.errors import EmptyAudio, NonFiniteAudio, UsageError
from rc_audioldm.evaluation.loudness import true_peak
from rc_audioldm.evaluation.signal import signal_metrics, without_silent_ends
from rc_audioldm.legacy.signal import generation_metrics, suite_metrics

RATE = 48_000
TOLERANCE = 1e-5


def sine(frequency_hz: float, seconds: float = 1.0, amplitude: float = 1.0, phase: float = 0.0) -> np.ndarray:
    times = np.arange(round(seconds * RATE)) / RATE
    return amplitude * np.sin(2 * np.pi * frequency_hz * times + phase)


@pytest.fixture
def case(golden: Any) -> tuple[Any, np.ndarray, int]:
    folder = golden("audio_metrics").folder
    samples, rate = soundfile.read(folder / "clip.wav", dtype="float32")
    return json.loads((folder / "io.json").read_text()), samples, rate


def test_the_metrics_of_the_original(case: Any) -> None:
    io, samples, rate = case
    found = generation_metrics(samples, rate)
    for name, expected in {**io["exp1"], **io["exp2"]}.items():
        assert found[name] == pytest.approx(expected, rel=TOLERANCE), name
    names = {"peak": "max_amp", "zcr": "zero_crossing_rate"}
    for name, expected in io["aldm2_augment"].items():
        assert found[names.get(name, name)] == pytest.approx(expected, rel=TOLERANCE), name
    suite = suite_metrics(samples, rate)
    assert suite.keys() == io["multi_eval"].keys()
    for name, expected in io["multi_eval"].items():
        assert suite[name] == pytest.approx(expected, rel=TOLERANCE), name


def test_silence_in_the_original(case: Any) -> None:
    io, _, _ = case
    found = generation_metrics(np.zeros(1000), 16_000)
    for name, expected in io["silence"]["exp1"].items():
        assert found[name] == pytest.approx(expected, rel=TOLERANCE), name
    assert suite_metrics(np.zeros(1000), 16_000)["rms_db"] == pytest.approx(io["silence"]["rms_db"])
    for metrics in (generation_metrics, suite_metrics):
        with pytest.raises(EmptyAudio):
            metrics(np.zeros(0), 16_000)


def test_a_sine_has_the_metrics_that_it_must_have() -> None:
    found = signal_metrics(sine(1000, amplitude=0.5), RATE, loudness=False)
    assert found.rms_dbfs == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.01)
    assert found.peak_dbfs == pytest.approx(20 * np.log10(0.5), abs=0.01)
    assert found.crest_db == pytest.approx(3.01, abs=0.01)
    assert found.dynamic_range_db == pytest.approx(0, abs=0.05)
    assert found.centroid_hz == pytest.approx(1000, abs=5)
    assert found.rolloff_hz == pytest.approx(1000, abs=30)
    assert found.bandwidth_hz < 60
    assert found.flatness < 1e-3
    assert found.zero_crossing_rate == pytest.approx(2 * 1000 / RATE, rel=0.01)
    assert (found.clipped_samples, found.loudness_lufs, found.duration_s) == (0, None, 1.0)


def test_noise_is_flat_and_in_the_middle_of_the_spectrum() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE)
    found = signal_metrics(noise, RATE, loudness=False)
    assert found.flatness > 0.9
    assert found.centroid_hz == pytest.approx(RATE / 4, rel=0.02)
    assert found.rolloff_hz == pytest.approx(0.85 * RATE / 2, rel=0.02)
    assert found.zero_crossing_rate == pytest.approx(0.5, abs=0.01)


def test_a_change_of_level_is_the_dynamic_range() -> None:
    both = np.concatenate([sine(440, 2, 0.5), sine(440, 2, 0.05)])
    assert signal_metrics(both, RATE, loudness=False).dynamic_range_db == pytest.approx(20, abs=0.2)


def test_silence_at_both_ends_changes_only_duration_and_share_of_silence() -> None:
    sound = np.random.default_rng(1).normal(0, 0.1, (2, RATE))
    padded = np.pad(sound, ((0, 0), (RATE // 2, 3 * RATE)))
    before, after = (asdict(signal_metrics(x, RATE)) for x in (sound, padded))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"duration_s", "silence_ratio"}
    assert after["duration_s"] == 4.5
    assert after["silence_ratio"] == pytest.approx(3.5 / 4.5, abs=0.01)
    assert np.array_equal(without_silent_ends(padded), without_silent_ends(sound))
    assert np.shares_memory(without_silent_ends(padded), padded)


def test_loudness_is_that_of_the_standard() -> None:
    # BS.1770: a sine of 997 Hz at full scale in one channel measures -3.01 LUFS, in two channels 3 dB more.
    tone = sine(997, 3)
    assert signal_metrics(tone, RATE).loudness_lufs == pytest.approx(-3.01, abs=0.05)
    assert signal_metrics(np.stack([tone, tone]), RATE).loudness_lufs == pytest.approx(0, abs=0.05)
    assert signal_metrics(tone[: RATE // 4], RATE).loudness_lufs is None
    assert signal_metrics(0.002 * sine(20, 2, 0.5), RATE).loudness_lufs is None  # below the gate


def test_the_true_peak_lies_between_samples() -> None:
    tone = sine(RATE / 4, phase=np.pi / 4)  # every sample is at 0.707 of the peak
    assert np.abs(tone).max() == pytest.approx(np.sqrt(0.5))
    middle = np.hanning(len(tone)) * tone
    assert true_peak(middle, RATE) == pytest.approx(1, abs=0.02)
    assert true_peak(np.stack([middle, 0 * middle]), RATE) == true_peak(middle, RATE)
    assert true_peak(middle, 4 * RATE) == np.abs(middle).max()


def test_clipped_samples_are_counted_in_all_channels() -> None:
    square = np.sign(sine(100, phase=0.001))  # every sample is at full scale
    found = signal_metrics(np.stack([sine(100, amplitude=0.9), square]), RATE)
    assert found.clipped_samples == RATE
    assert signal_metrics(0.99 * square, RATE).clipped_samples == 0


def test_silence_has_metrics_without_errors() -> None:
    with np.errstate(all="raise"):
        found = signal_metrics(np.zeros(RATE), RATE)
    assert found.silence_ratio == 1
    assert (found.rms_dbfs, found.peak_dbfs, found.true_peak_dbtp) == (-120, -120, -120)
    assert (found.crest_db, found.dynamic_range_db, found.centroid_hz, found.flatness) == (0, 0, 0, 0)
    assert found.loudness_lufs is None


def test_signals_that_are_none() -> None:
    for samples in (np.zeros(0), np.zeros((2, 0)), np.zeros((1, 2, 3))):
        with pytest.raises(EmptyAudio, match="allowed"):
            signal_metrics(samples, RATE)
    with pytest.raises(UsageError, match="sample_rate is 0"):
        signal_metrics(np.zeros(10), 0)
    with pytest.raises(NonFiniteAudio):
        signal_metrics(np.array([0, np.nan]), RATE)
