"""Beats from answers that are made up: the cases that users of other trackers report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from omar_rq.annotations.events import Meter
from omar_rq.annotations.lab import read_beat_times
from omar_rq.probing.saved import Prediction
from omar_rq.reading.activations import catmull_rom
from omar_rq.reading.bar_pointer import Tempi
from omar_rq.reading.beat_scores import beat_scores, tempo_scores
from omar_rq.reading.beats import BeatOptions, Beats, parse_bpm_range, parse_meters, read_beats, tempo_curve
from pentatonic.errors import FormatError, InputError, UsageError

from .conftest import beat_answers


def steady(
    bpm: float, beats: int, seconds: float = 20.0, start: float = 0.37
) -> tuple[np.ndarray, np.ndarray]:
    times = np.arange(start, seconds - 0.1, 60 / bpm)
    return times, np.arange(len(times)) % beats + 1


def right_share(found: Beats, times: np.ndarray, positions: np.ndarray) -> float:
    """Share of the known beats that were found within 70 ms with the right place in the bar."""
    known = [(beat.time, beat.position) for beat in found.beats]
    hits = [
        any(abs(time - t) < 0.07 and position == p for t, p in known)
        for time, position in zip(times, positions, strict=True)
    ]
    return float(np.mean(hits))


@pytest.mark.parametrize("rate", [15.625, 25.0])
@pytest.mark.parametrize(("bpm", "beats"), [(70, 4), (97, 3), (180, 4), (170, 6)])
def test_steady_music(rate: float, bpm: float, beats: int) -> None:
    times, positions = steady(bpm, beats)
    found = read_beats(beat_answers(times, positions, seconds=20, rate=rate))
    assert found.meter == {3: Meter(3, 4), 4: Meter(4, 4), 6: Meter(6, 8)}[beats]
    assert found.bpm == pytest.approx(bpm, rel=0.01)
    assert right_share(found, times, positions) == 1 and len(found.beats) == len(times)
    assert found.confidence > 0.8 and found.meter_confidence > 0.4
    assert max(found.double, found.half) < 0.2


def test_times_are_finer_than_tokens() -> None:
    times, positions = steady(100, 4)
    found = read_beats(beat_answers(times, positions, seconds=20, rate=15.625, seed=None))
    error = np.array([beat.time for beat in found.beats]) - times
    assert np.abs(error).max() < 0.025  # a token lasts 64 ms


def test_off_beats_do_not_double_the_tempo() -> None:
    times, positions = steady(100, 4)
    found = read_beats(beat_answers(times, positions, seconds=20, between=times + 0.3))
    assert found.bpm == pytest.approx(100, rel=0.01) and right_share(found, times, positions) == 1
    assert 0.4 < found.double < 0.8, "the doubt about the tempo is reported"


def test_a_known_tempo_decides_where_off_beats_are_as_loud() -> None:
    times, positions = steady(100, 4)
    answers = beat_answers(times, positions, seconds=20, between=times + 0.3, likely_between=0.8)
    found = read_beats(answers)
    assert found.bpm == pytest.approx(200, rel=0.02)
    scores = beat_scores(times, np.array([beat.time for beat in found.beats]))
    assert (scores["acc1"], scores["acc2"]) == (0, 1)
    for tempi in (Tempi(70, 140), Tempi(prior=70)):
        again = read_beats(answers, BeatOptions(tempi))
        assert again.bpm == pytest.approx(100, rel=0.01) and right_share(again, times, positions) == 1


def test_a_tempo_that_doubles_half_way_is_followed() -> None:
    times = np.concatenate((np.arange(0.4, 15, 60 / 80), np.arange(15.4, 30, 60 / 160)))
    positions = np.arange(len(times)) % 4 + 1
    found = read_beats(beat_answers(times, positions, seconds=30))
    assert beat_scores(times, np.array([beat.time for beat in found.beats]))["F"] > 0.97
    curve = {round(beat.time): beat.bpm for beat in found.beats}
    assert curve[5] == pytest.approx(80, rel=0.03) and curve[25] == pytest.approx(160, rel=0.03)


def test_rubato_is_followed() -> None:
    times = 0.3 + np.cumsum(0.5 * np.exp(0.15 * np.sin(np.arange(60) / 5)))
    positions = np.arange(len(times)) % 4 + 1
    found = read_beats(beat_answers(times, positions, seconds=float(times[-1]) + 0.5))
    assert right_share(found, times, positions) > 0.97


def test_six_eight_is_not_four_four() -> None:
    times, positions = steady(190, 6)
    answers = beat_answers(times, positions, seconds=20)
    assert read_beats(answers).meter == Meter(6, 8)
    # Asked for the dotted quarters, it counts two to the bar.
    slow = read_beats(answers, BeatOptions(Tempi(50, 80), (Meter(4, 4), Meter(2, 4), Meter(3, 4))))
    assert slow.meter == Meter(2, 4) and slow.bpm == pytest.approx(190 / 3, rel=0.02)
    forced = read_beats(answers, BeatOptions(meters=(Meter(4, 4),)))
    assert forced.meter == Meter(4, 4) and forced.meter_confidence == 1


def test_a_probe_that_is_never_sure_says_as_much() -> None:
    times, positions = steady(150, 4)
    found = read_beats(beat_answers(times, positions, seconds=20, likely=0.35, unlikely=0.08))
    assert right_share(found, times, positions) == 1
    assert 0.2 < found.confidence < 0.5, "the confidence is the probability that the probe gives"


def test_pickup_and_pause() -> None:
    before, after = np.arange(2, 10, 0.5), np.arange(22.2, 30, 0.5)
    positions = np.concatenate(((np.arange(len(before)) + 3) % 4 + 1, np.arange(len(after)) % 4 + 1))
    times = np.concatenate((before, after))
    found = read_beats(beat_answers(times, positions, seconds=32))
    assert right_share(found, times, positions) == 1
    assert not [beat for beat in found.beats if beat.time < 1.8 or 10 < beat.time < 22]


def test_long_recordings_are_decoded_in_stretches() -> None:
    times, positions = steady(160, 3, seconds=270)
    answers = beat_answers(times, positions, seconds=270)
    found = read_beats(answers, BeatOptions(Tempi(140, 180), (Meter(3, 4), Meter(4, 4))))
    assert right_share(found, times, positions) == 1 and len(found.beats) == len(times)


def test_without_downbeats_the_meter_is_not_known() -> None:
    times, positions = steady(120, 4)
    answers = beat_answers(times, positions, seconds=20)
    only = Prediction("beat", ("beat",), answers.times, answers.values[:, :1], 25.0, "none")
    found = read_beats(only)
    assert len(found.beats) == len(times) and found.meter_confidence == 0


@pytest.mark.parametrize("seconds", [0.04, 0.2, 10])
def test_silence_has_no_beats(seconds: float) -> None:
    found = read_beats(beat_answers([], [], seconds=seconds, seed=None))
    assert not found.beats and found.bpm is None and found.meter is None and found.confidence == 0


def test_nothing_has_no_beats() -> None:
    empty = Prediction("beat", ("beat", "downbeat"), np.zeros(0), np.zeros((0, 2), np.float32), 25.0, "none")
    assert not read_beats(empty).beats


def test_noise_gives_no_confidence() -> None:
    assert read_beats(beat_answers([], [], seconds=20)).confidence < 0.2


@pytest.mark.parametrize(("time", "seconds"), [(2.0, 4.0), (0.1, 0.2)])
def test_one_beat(time: float, seconds: float) -> None:
    found = read_beats(beat_answers([time], [1], seconds=seconds, seed=None))
    (beat,) = found.beats
    assert beat.time == pytest.approx(time, abs=0.03) and beat.position == 1
    assert found.bpm is None and beat.bpm is None


def test_other_probes_are_refused() -> None:
    genres = Prediction("genre", ("rock",), np.zeros(1), np.ones((1, 1), np.float32), 0.0, "mean")
    with pytest.raises(InputError, match="task=beat"):
        read_beats(genres)


def test_words_of_options() -> None:
    assert parse_bpm_range("90:180") == (90, 180)
    assert parse_bpm_range("120") == (120 / 1.04, 120 * 1.04)
    assert parse_meters("3,4,6") == (Meter(3, 4), Meter(4, 4), Meter(6, 8))
    assert parse_meters("6/8, 2/2,6") == (Meter(6, 8), Meter(2, 2))
    for text in ("", "fast", "90-180", "90:180:200", "1e9"):
        with pytest.raises(UsageError, match="bpm-range"):
            parse_bpm_range(text)
    for text in ("", "0", "17", "3/5", "waltz", "3,,4"):
        with pytest.raises(UsageError, match="meter"):
            parse_meters(text)
    with pytest.raises(UsageError, match="bpm-range is 180:90"):
        BeatOptions(Tempi(180, 90))
    with pytest.raises(UsageError, match="prior is 5"):
        BeatOptions(Tempi(prior=5))
    with pytest.raises(UsageError, match="meter is empty"):
        BeatOptions(meters=())


def test_a_single_allowed_tempo_is_kept() -> None:
    times, positions = steady(120, 4)
    found = read_beats(beat_answers(times, positions, seconds=20), BeatOptions(Tempi(*parse_bpm_range("60"))))
    assert found.bpm == pytest.approx(60, rel=0.03)


def test_the_interpolation_goes_through_the_values_and_peaks_between_them() -> None:
    values = np.array([0.0, 1.0, 1.0, 0.0, 0.5])
    assert np.allclose(catmull_rom(values, np.arange(5.0)), values)
    fine = catmull_rom(values, np.linspace(1, 2, 11))
    assert fine.argmax() == 5 and fine[5] == pytest.approx(1.125)
    assert np.allclose(catmull_rom(np.array([2.0]), np.zeros(3)), 2)


def test_tempo_curve_passes_over_pauses() -> None:
    times = np.array([0, 0.5, 1.0, 1.5, 9.0, 9.5, 10.0])
    assert np.allclose(tempo_curve(times), 120)


def test_tempo_scores() -> None:
    for found, expected in (
        (120, (1, 1)),
        (124.5, (1, 1)),
        (126, (0, 0)),
        (60, (0, 1)),
        (360, (0, 1)),
        (0, (0, 0)),
    ):
        assert tuple(tempo_scores(120, found).values()) == expected


def test_beat_scores_of_mir_eval() -> None:
    pytest.importorskip("mir_eval")
    known = np.arange(0.5, 20, 0.5)
    assert beat_scores(known, known) == {"F": 1, "CMLt": 1, "AMLt": 1, "acc1": 1, "acc2": 1}
    assert beat_scores(known, known[::2])["F"] == pytest.approx(2 / 3, abs=0.03)
    assert beat_scores(known, np.zeros(0)) == {"F": 0, "CMLt": 0, "AMLt": 0, "acc1": 0, "acc2": 0}
    with pytest.raises(InputError, match="ascending"):
        beat_scores(np.array([1.0, 1.0, 2.0]), known)


def test_beat_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.beats"
    path.write_text("# time beat\n0.5 1\n1.0\t2\n\n1.5,3\n")
    assert read_beat_times(path) == [0.5, 1.0, 1.5]
    for text in ("one 1\n", "1.0 1\n0.5 2\n", "nan 1\n", "inf 1\n"):
        path.write_text(text)
        with pytest.raises(FormatError, match="ascending"):
            read_beat_times(path)
