"""The synthesiser plays the right pitches at the right time, without clicks and never beyond full scale."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from notagen.sound.synth import PEAK, render_audio, timbre_of
from pentatonic.errors import FormatError, UsageError

RATE = 16000


def tune(music: str, header: str = "") -> str:
    return f"X:1\nL:1/4\nQ:1/4=60\nM:4/4\nK:C\n{header}{music}\n"


def render(music: str, header: str = "", **options: float) -> np.ndarray:
    samples = render_audio(tune(music, header), sample_rate=RATE, **options)
    assert samples.dtype == torch.float32
    assert samples.shape[0] == 1
    return samples[0].numpy()


def fundamental(samples: np.ndarray) -> float:
    """Frequency of the lowest strong partial, in Hz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 1 << 17))
    strong = np.flatnonzero(spectrum > 0.4 * spectrum.max())
    return float(strong[np.argmax(spectrum[strong[strong < strong[0] * 1.2]])]) * RATE / (1 << 17)


@pytest.mark.parametrize(
    "name", ["Piano", "Violin", "Flute", "Clarinet", "Trumpet", "Organ", "Harpsichord", "Choir"]
)
@pytest.mark.parametrize(("note", "pitch"), [("A,", 57), ("c", 72), ("a'", 93)])
def test_every_instrument_plays_the_pitch(name: str, note: str, pitch: int) -> None:
    header = f'V:1 nm="{name}"\n'
    samples = render(f"[V:1]{note}2z2|", header)
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    assert 1200 * abs(math.log2(fundamental(samples[2000:30000]) / frequency)) < 25  # cents


def test_notes_sound_when_they_are_due_and_stop() -> None:
    loudness = (
        np.abs(render("z c z c|", 'V:1 nm="Flute"\n')).reshape(-1)[: 4 * RATE].reshape(40, -1).max(axis=1)
    )
    assert loudness[:10].max() == 0  # a second of silence
    assert loudness[11:20].min() > 0.3
    assert loudness[22:30].max() == 0
    assert loudness[31:].min() > 0.3


def test_peak_is_three_decibels_below_full_scale() -> None:
    for music in ("c4|", "[C,,E,,G,,CEGceg]4|", "!pppp!c/4z15/4|"):
        assert np.abs(render(music)).max() == pytest.approx(PEAK, abs=1e-6)
    assert pytest.approx(0.70795, abs=1e-5) == PEAK


def test_loud_notes_are_louder() -> None:
    samples = render("!p!c2 !f!c2|", 'V:1 nm="Flute"\n')
    assert 1.5 * np.abs(samples[: 2 * RATE]).max() < np.abs(samples[2 * RATE :]).max()


@pytest.mark.parametrize("name", ["Piano", "Violin", "Harpsichord", "Snare"])
def test_there_are_no_clicks(name: str) -> None:
    """A note starts and ends at silence, and no step between samples is larger than the sound itself has."""
    clef = "perc" if name == "Snare" else "treble"
    samples = render("[V:1]C C C C|", f'V:1 {clef} nm="{name}"\n')
    assert abs(samples[0]) < 1e-3
    assert abs(samples[-1]) < 1e-3
    if name != "Snare":
        assert np.abs(np.diff(samples)).max() < 0.35


@pytest.mark.parametrize("name", ["Violin", "Flute", "Trumpet", "Organ", "Choir"])
def test_sustained_notes_swell(name: str) -> None:
    loudness = np.abs(render("[V:1]c4|", f'V:1 nm="{name}"\n'))
    assert loudness[: RATE // 200].max() < 0.2 * loudness.max()


def test_no_harmonic_is_mirrored_into_the_audible_range() -> None:
    spectrum = np.abs(np.fft.rfft(render("[V:1]c'''4|", 'V:1 nm="Trumpet"\n')[:32000] * np.hanning(32000)))
    peak = int(spectrum.argmax())
    assert peak == pytest.approx(4186 * 2, abs=2)  # bins of half a hertz
    spectrum[peak - 40 : peak + 41] = 0
    assert spectrum.max() < 1e-2 * 32000 * 0.5 * PEAK / 2


def test_the_longest_notes_end_before_they_are_due() -> None:
    samples = render("c40|c|", 'M:none\nV:1 nm="Organ"\n', max_duration_s=40)
    assert np.abs(samples[29 * RATE : 30 * RATE]).max() > 0.3
    assert np.abs(samples[31 * RATE : 39 * RATE]).max() == 0


def test_length_is_that_of_the_piece_and_its_last_sound() -> None:
    assert len(render("c4|c2|")) == math.ceil((6 + timbre_of(0).release_s) * RATE)
    assert np.array_equal(render("z4|"), np.zeros(4 * RATE, np.float32))


def test_a_long_piece_is_faded_out() -> None:
    samples = render("c4|c4|", 'V:1 nm="Flute"\n', max_duration_s=3)
    assert len(samples) == 3 * RATE
    assert abs(samples[-1]) < 1e-4
    assert np.abs(samples[-RATE // 4 : -RATE // 8]).max() < 0.6 * np.abs(samples[:RATE]).max()


def test_the_same_piece_gives_the_same_samples() -> None:
    text = "[V:1]c d [ce] z|[V:2]C D E F|"
    header = 'V:1 nm="Violin"\nV:2 perc nm="Drums"\n'
    assert np.array_equal(render(text, header), render(text, header))


@pytest.mark.parametrize("programme", range(128))
def test_every_programme_has_a_timbre(programme: int) -> None:
    timbre = timbre_of(programme)
    assert timbre.attack_s > 0
    assert timbre.release_s > 0


@pytest.mark.parametrize(
    "options",
    [
        {"sample_rate": 0},
        {"sample_rate": 1_000_000},
        {"sample_rate": 44100.5},
        {"max_duration_s": 0},
        {"max_duration_s": math.nan},
        {"max_duration_s": 1e9},
    ],
)
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        render_audio(tune("c4|"), **options)


def test_what_is_no_piece_is_refused() -> None:
    with pytest.raises(FormatError):
        render_audio("")
