"""Sound of notes by adding sines: plain, without soundfonts; for tests and for machines without FluidSynth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rc_audioldm.data.midi.notes import Notes

_HARMONICS = 8
_ATTACK_S, _RELEASE_S, _DRUM_S = 0.005, 0.060, 0.12
_DECAYS_PER_S = 1.2
_MOST_VELOCITY = 127.0
_A4_HZ, _A4_PITCH = 440.0, 69
# General MIDI: from these programs on, notes are held and do not decay.
_FIRST_HELD, _FIRST_PLUCKED_AGAIN = 16, 24
_HELD_AGAIN = 40


def render_additive(notes: Notes, sample_rate: int, seconds: float) -> NDArray[np.float32]:
    """Return the sound of notes.

    Args:
        notes: With the fields of :data:`~rc_audioldm.data.midi.notes.NOTE`.
        sample_rate: In Hz.
        seconds: Where to stop.

    Returns:
        ``(n,)`` float32, not normalised: as long as the notes and their releases, ``seconds`` at most.
    """
    ends = notes["start_s"] + notes["duration_s"] + _RELEASE_S
    length = round(min(seconds, float(ends.max(initial=0.0))) * sample_rate)
    sound = np.zeros(length)
    for number, note in enumerate(notes):
        start = round(float(note["start_s"]) * sample_rate)
        if start >= length:
            continue
        tone = _drum(number, sample_rate) if note["is_drum"] else _tone(note, sample_rate)
        tone = tone[: length - start]
        sound[start : start + len(tone)] += tone * (note["velocity"] / _MOST_VELOCITY) ** 2
    return sound.astype(np.float32)


def _tone(note: np.void, sample_rate: int) -> NDArray[np.float64]:
    duration_s = float(note["duration_s"])
    times = np.arange(round((duration_s + _RELEASE_S) * sample_rate)) / sample_rate
    pitch_hz = _A4_HZ * 2 ** ((int(note["pitch"]) - _A4_PITCH) / 12)
    program = int(note["program"])
    held = _FIRST_HELD <= program < _FIRST_PLUCKED_AGAIN or program >= _HELD_AGAIN
    tone = np.zeros(len(times))
    for harmonic in range(1, _HARMONICS + 1):
        frequency = harmonic * pitch_hz
        if frequency < sample_rate / 2:
            decay = 1.0 if held else np.exp(-_DECAYS_PER_S * harmonic * times)
            tone += np.sin(2 * np.pi * frequency * times) * decay / harmonic**1.5
    rising = np.minimum(1.0, times / _ATTACK_S)
    falling = np.clip((duration_s + _RELEASE_S - times) / _RELEASE_S, 0.0, 1.0)
    return tone * rising * falling


def _drum(number: int, sample_rate: int) -> NDArray[np.float64]:
    """A burst of noise; the same for the same place in the list of notes."""
    times = np.arange(round(_DRUM_S * sample_rate)) / sample_rate
    return np.random.default_rng(number).uniform(-1, 1, len(times)) * np.exp(-40 * times)
