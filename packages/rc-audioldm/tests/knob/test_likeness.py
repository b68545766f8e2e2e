"""Timbre and melody, apart: another key or melody changes one, another instrument the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from pentatonic.errors import EmptyAudio, NonFiniteAudio, SilentAudio, UsageError
from rc_audioldm.knob.likeness import Likeness, Reference, Sound
from rc_audioldm.knob.melody import MelodyLikeness, chroma, melody_likeness
from rc_audioldm.knob.timbre import spectral_envelope, timbre_likeness

RATE = 16_000
INSTRUMENTS = ("cello", "flute", "reed")
Play = Callable[..., np.ndarray]


def timbre(one: np.ndarray, other: np.ndarray) -> float:
    return timbre_likeness(spectral_envelope(one, RATE), spectral_envelope(other, RATE))


def melody(one: np.ndarray, other: np.ndarray) -> MelodyLikeness:
    return melody_likeness(chroma(one, RATE), chroma(other, RATE))


def test_transposing_changes_the_melody_and_not_the_timbre(play: Play) -> None:
    for instrument in INSTRUMENTS:
        base = play(instrument)
        # The nearest of other instruments is less like it than itself in another key.
        others = max(timbre(base, play(other)) for other in INSTRUMENTS if other != instrument)
        for semitones in (3, -5):
            higher = play(instrument, transposition=semitones)
            assert timbre(base, higher) > others + 0.1
            found = melody(base, higher)
            assert found.same_key < 0.5
            assert found.any_key > 0.95 and found.transposition == semitones


def test_another_melody_changes_the_melody_and_not_the_timbre(play: Play) -> None:
    for instrument in INSTRUMENTS:
        for other in (1, 2):
            assert timbre(play(instrument), play(instrument, other)) > 0.8
            found = melody(play(instrument), play(instrument, other))
            assert max(found.same_key, found.any_key) < 0.7


def test_another_instrument_changes_the_timbre_and_not_the_melody(play: Play) -> None:
    for one, other in permutations(INSTRUMENTS, 2):
        assert timbre(play(one), play(other)) < 0.65
        found = melody(play(one), play(other))
        assert found.same_key > 0.9 and found.transposition == 0


def test_neither_level_nor_a_slightly_other_tempo_counts(play: Play) -> None:
    base = play("cello")
    assert timbre(base, base / 8) == pytest.approx(1, abs=1e-6)
    assert melody(base, base / 8).same_key == pytest.approx(1, abs=1e-6)
    assert melody(base, play("cello", note_s=0.44)).same_key > 0.9
    both_channels = np.stack([base, base])
    assert np.array_equal(spectral_envelope(both_channels, RATE), spectral_envelope(base, RATE))


def test_another_rate_is_the_same_sound(play: Play) -> None:
    from pentatonic.audio import resample

    base = play("cello")
    dense = resample(torch.from_numpy(base), RATE, 44_100).numpy()
    assert timbre_likeness(spectral_envelope(base, RATE), spectral_envelope(dense, 44_100)) > 0.97
    assert melody_likeness(chroma(base, RATE), chroma(dense, 44_100)).same_key > 0.99


def test_noise_and_another_tune_have_little_melody_in_common_and_pauses_do(play: Play) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * RATE).astype(np.float32)
    assert melody(play("cello"), noise).any_key < 0.5
    pause = np.zeros(RATE, np.float32)
    with_pause = np.concatenate([play("cello"), pause, play("cello", 1)])
    assert melody(with_pause, with_pause).same_key == pytest.approx(1)
    assert melody(play("cello"), pause).same_key == 0


def by_hand(one: np.ndarray, other: np.ndarray, band: int) -> float:
    """Dynamic time warping, cell by cell."""
    cost = 1 - one @ other.T
    total = np.full((len(one) + 1, len(other) + 1), np.inf)
    total[0, 0] = 0
    for i in range(len(one)):
        for j in range(len(other)):
            if abs(i - j) <= band:
                total[i + 1, j + 1] = min(
                    total[i, j] + 2 * cost[i, j], total[i, j + 1] + cost[i, j], total[i + 1, j] + cost[i, j]
                )
    return 1 - total[-1, -1] / (len(one) + len(other))


@pytest.mark.parametrize("lengths", [(7, 7), (20, 26), (31, 5), (1, 4), (1, 1)])
def test_the_alignment_is_that_of_the_plain_recursion(lengths: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    one, other = (rng.normal(size=(length, 12)) for length in lengths)
    one, other = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (one, other))
    band = 10 + abs(lengths[0] - lengths[1])
    found = melody_likeness(one, other)
    assert found.same_key == pytest.approx(by_hand(one, other, band), abs=1e-12)
    keys = [by_hand(np.roll(one, shift, axis=1), other, band) for shift in range(12)]
    assert found.any_key == pytest.approx(max(keys), abs=1e-12)
    assert found.transposition % 12 == int(np.argmax(keys)) and -5 <= found.transposition <= 6


class FakeClap:
    """Vectors of two dimensions: loud or not, and a text that is loud."""

    def embed_audio(self, samples: Tensor, sample_rate: int) -> Tensor:
        assert sample_rate == RATE and samples.ndim == 1
        loud = float(samples.abs().max())
        return torch.nn.functional.normalize(torch.tensor([[loud, 1 - loud]]), dim=-1)

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([[1.0, 0.0]] * len(texts))


def test_a_reference_of_several_clips_is_their_weighted_mean(play: Play) -> None:
    cello, flute = play("cello"), play("flute", 1)
    output = Sound(play("cello"), RATE)
    alone = [Reference([Sound(each, RATE)]).compare(output) for each in (cello, flute)]
    both = Reference([Sound(cello, RATE, 3), Sound(flute, RATE, 1)]).compare(output)
    for name in ("timbre", "melody", "melody_any_key"):
        first, second = (getattr(each, name) for each in alone)
        assert getattr(both, name) == pytest.approx(0.75 * first + 0.25 * second)
    assert both.clap_reference is None and both.clap_prompt is None


def test_clap_compares_with_reference_and_prompt(play: Play) -> None:
    clip = play("cello")
    reference = Reference([Sound(clip, RATE)], "loud", FakeClap())
    found = reference.compare(Sound(clip, RATE))
    assert found.clap_reference == pytest.approx(1, abs=1e-6)
    assert found.clap_prompt == pytest.approx(np.sqrt(0.5), abs=1e-3)
    assert Reference([Sound(clip, RATE)], None, FakeClap()).compare(Sound(clip, RATE)).clap_prompt is None


def test_silence_has_no_likeness_and_wrong_sounds_are_refused(play: Play) -> None:
    silence = Sound(np.zeros(RATE, np.float32), RATE)
    clip = Sound(play("cello"), RATE)
    assert Reference([clip, silence]).compare(clip).timbre == pytest.approx(1)
    assert Reference([clip]).compare(silence) == Likeness(None, None, None, None, None)
    with pytest.raises(SilentAudio):
        Reference([silence])
    with pytest.raises(UsageError):
        Reference([])
    with pytest.raises(UsageError):
        Reference([Sound(play("cello"), RATE, 0)])
    with pytest.raises(EmptyAudio):
        Reference([Sound(np.zeros(0, np.float32), RATE)])
    with pytest.raises(NonFiniteAudio):
        Reference([clip]).compare(Sound(np.full(RATE, np.nan, np.float32), RATE))
