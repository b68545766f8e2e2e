"""The copy detector: pieces of a clip are found however they were changed, and other sounds are not called copies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import butter, sosfilt

from pentatonic import audio
from pentatonic.cli import BatchReport
from pentatonic.errors import EmptyAudio
from rc_audioldm.knob.copies import CopyMatch, Searchable, find_copies
from rc_audioldm.knob.sources import clips_of

RATE = 16_000
Play = Callable[..., np.ndarray]


def match(output: np.ndarray, clip: np.ndarray) -> CopyMatch:
    (found,) = find_copies(Searchable("output", output, RATE), [Searchable("clip", clip, RATE)])
    return found


def with_noise(samples: np.ndarray, decibels: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    level = np.sqrt(np.mean(samples**2)) * 10 ** (-decibels / 20)
    return samples + rng.normal(0, level, len(samples))


def filtered(samples: np.ndarray) -> np.ndarray:
    return np.asarray(sosfilt(butter(4, [300, 3000], "bandpass", fs=RATE, output="sos"), samples))


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda samples: samples,
    "much quieter": lambda samples: samples / 20,
    "of the other sign": lambda samples: -samples,
    "with noise": lambda samples: with_noise(samples, 10),
    "filtered": filtered,
    "cut out": lambda samples: samples[5_003:40_000],
    "later": lambda samples: np.concatenate([np.zeros(7_001), samples]),
    "filtered, with noise, later and quieter": lambda samples: with_noise(filtered(samples), 15)[3_001:] / 8,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found(play: Play, change: str) -> None:
    clip = np.concatenate([play("cello"), play("cello", 1, 2)])
    found = match(CHANGES[change](clip), clip)
    assert found.is_copy and found.seconds >= 2


def test_a_piece_is_found_where_it_is(play: Play) -> None:
    clip = np.concatenate([play("cello"), play("cello", 1, 2), play("cello", 2, 5)])
    output = np.concatenate([play("flute", 1), clip[3 * RATE : 6 * RATE], play("flute", 2)])
    found = match(output, clip)
    start = len(play("flute", 1)) / RATE
    assert found.is_copy and 2 <= found.seconds < 4
    assert found.output_s - found.clip_s == pytest.approx(start - 3, abs=0.05)
    assert start - 0.5 < found.output_s < start + 1.5


@pytest.mark.parametrize(("instrument", "melody"), [("cello", 1), ("cello", 2), ("reed", 1), ("flute", 2)])
def test_another_melody_is_no_copy_also_on_the_same_instrument(
    play: Play, instrument: str, melody: int
) -> None:
    found = match(play(instrument, melody), play("cello"))
    assert not found.is_copy and found.seconds == 0 and found.judged == 1


def test_held_tones_and_silence_are_not_judged() -> None:
    times = np.arange(5 * RATE) / RATE
    tone = 0.3 * np.sin(2 * np.pi * 220 * times)
    for sound in (tone, np.zeros(5 * RATE)):
        found = match(sound, sound)
        assert (found.waveform, found.spectrum, found.judged, found.is_copy) == (None, None, 0, False)


def test_correlations_are_those_of_the_definition(play: Play) -> None:
    rng = np.random.default_rng(2)
    clip = np.concatenate([play("cello"), rng.normal(0, 0.1, 4_000)])
    searched = Searchable("clip", clip, RATE)
    width = 60
    window, patch = rng.normal(size=(1, 900)).astype(np.float32), rng.normal(size=(64, width))
    wave = searched.wave.astype(np.float64)
    expected = [
        window[0]
        @ wave[place : place + 900]
        / np.linalg.norm(window)
        / np.linalg.norm(wave[place : place + 900])
        for place in (0, 777, len(wave) - 900)
    ]
    found = searched.waves(900).correlations(window)
    assert len(found) == len(wave) - 899
    assert found[[0, 777, -1]] == pytest.approx(expected, abs=1e-4)
    centred = patch - patch.mean(axis=1, keepdims=True)
    found = searched.patches(width).correlations(centred)
    for place in (0, 50, len(found) - 1):
        part = searched.mel[:, place : place + width]
        part = part - part.mean(axis=1, keepdims=True)
        value = np.sum(centred * part) / np.linalg.norm(centred) / np.linalg.norm(part)
        assert found[place] == pytest.approx(value, abs=1e-6)


def test_clips_are_sorted_and_may_be_shorter_than_a_window(play: Play) -> None:
    output = play("cello")
    clips = {"other": play("reed", 1), "copy": output[: 3 * RATE], "short": play("flute", 2)[:RATE]}
    found = find_copies(
        Searchable("output", output, RATE), [Searchable(name, each, RATE) for name, each in clips.items()]
    )
    assert found[0].clip == "copy" and [each.is_copy for each in found] == [True, False, False]
    short = match(output[: RATE // 2], output)
    assert short.is_copy and short.seconds == pytest.approx(0.5)
    with pytest.raises(EmptyAudio):
        Searchable("nothing", np.zeros(0), RATE)


def test_a_folder_is_searched_and_what_cannot_be_read_is_named(play: Play, tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    audio.save(tmp_path / "inside/cello.wav", play("cello"), RATE)
    audio.save(tmp_path / "reed.wav", play("reed", 1), RATE)
    (tmp_path / "broken.wav").write_bytes(b"nothing")
    report = BatchReport()
    found = find_copies(Searchable("output", play("cello") / 3, RATE), clips_of(tmp_path, report))
    assert [(each.clip, each.is_copy) for each in found] == [("inside/cello.wav", True), ("reed.wav", False)]
    assert report.counts == {"done": 2, "skipped": 0, "failed": 1}
