"""The sound of a piece, by a SoundFont, or by a small synthesiser that needs none.

Tones of the synthesiser are sums of harmonics with an envelope, with parameters for each family of instruments; drums
are bursts of noise or of a falling tone. Each pitch of an instrument is computed once, as long as its longest note, and
all its notes are cut from that. The samples are deterministic.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from notagen.sound.midi import midi_bytes
from notagen.sound.performance import Performance, Track, perform, until
from pentatonic.audio.soundfont import render_midi
from pentatonic.errors import UsageError

PEAK = 10 ** (-3 / 20)
"""Largest sample of a piece: 3 dB below full scale."""

MAX_DURATION_S = 3600.0
_SAMPLE_RATES = range(8000, 192_001)
_FADE_S = 0.5  # fade-out of a piece that is cut
_LONGEST_NOTE_S = 30.0
_TIMEOUT_S = 300.0  # of FluidSynth
_DRUM_S = 0.8
_VIBRATO_HZ = 5.3
_LOUDNESS = 1.6  # exponent from velocity to amplitude
_SKINS = frozenset({35, 36, 41, 43, 45, 47, 48, 50})
_METALS = frozenset({42, 44, 46, 49, 51, 52, 53, 54, 55, 57, 59, 81})


@dataclass(frozen=True)
class Timbre:
    """Sound parameters of a family of instruments.

    Args:
        harmonics: Amplitudes of the fundamental and its multiples.
        attack_s: Time to full loudness.
        release_s: Time from the end of a note to silence.
        decay_s: Time in which a held middle C falls to 1/e; 0 for notes that do not decay.
        vibrato_cents: Depth of the vibrato in cents.
    """

    harmonics: tuple[float, ...]
    attack_s: float
    release_s: float
    decay_s: float = 0.0
    vibrato_cents: float = 0.0


_STRUCK = Timbre((1, 0.55, 0.34, 0.24, 0.13, 0.09, 0.05, 0.03), 0.004, 0.14, decay_s=1.1)
_PLUCKED = Timbre((1, 0.62, 0.42, 0.22, 0.2, 0.1, 0.08, 0.05), 0.003, 0.1, decay_s=0.6)
_BELL = Timbre((1, 0.1, 0.4, 0.08, 0.16), 0.002, 0.3, decay_s=0.9)
_ORGAN = Timbre((1, 0.7, 0.3, 0.4, 0.1, 0.18, 0, 0.15), 0.03, 0.09)
_BOWED = Timbre((1, 0.6, 0.45, 0.3, 0.22, 0.15, 0.11, 0.07, 0.05), 0.06, 0.12, vibrato_cents=7)
_VOCAL = Timbre((1, 0.5, 0.32, 0.12, 0.05, 0.03), 0.07, 0.14, vibrato_cents=9)
_BRASS = Timbre((1, 0.85, 0.7, 0.5, 0.34, 0.22, 0.14, 0.08), 0.04, 0.08)
_REED = Timbre((1, 0.35, 0.6, 0.28, 0.3, 0.12, 0.1), 0.035, 0.07)
_CLARINET = Timbre((1, 0.05, 0.5, 0.06, 0.26, 0.04, 0.1), 0.035, 0.07)
_FLUTE = Timbre((1, 0.3, 0.12, 0.03), 0.05, 0.09, vibrato_cents=5)

# First General MIDI programme of each family -> timbre of the family.
_FAMILIES = {
    0: _STRUCK, 6: _PLUCKED, 8: _BELL, 16: _ORGAN, 24: _PLUCKED, 40: _BOWED, 45: _PLUCKED, 47: _STRUCK, 48: _BOWED,
    52: _VOCAL, 55: _BOWED, 56: _BRASS, 64: _REED, 71: _CLARINET, 72: _FLUTE, 80: _ORGAN, 104: _PLUCKED,
    110: _BOWED, 112: _BELL,
}  # fmt: skip


def render_audio(
    piece: str | Performance,
    *,
    sample_rate: int = 44100,
    max_duration_s: float = 600.0,
    soundfont: Path | None = None,
) -> Tensor:
    """Render a piece with the built-in synthesiser, or through a SoundFont.

    Args:
        piece: One tune in ABC, in any layout, or its performance; repeats and endings are played out.
        sample_rate: In Hz, 8000 to 192000, and to 96000 with a SoundFont.
        max_duration_s: Time at which a longer piece is faded out; at most an hour.
        soundfont: From :func:`pentatonic.audio.soundfont.find_soundfont`; None: the synthesiser.

    Returns:
        (1, n) float32 in -1..1, (2, n) with a SoundFont, with a peak of :data:`PEAK`; silence for a piece without
        notes.

    Raises:
        FormatError: The text is not a tune.
        InputError: The piece exceeds a limit of :func:`notagen.sound.performance.perform`, or FluidSynth fails.
        UsageError: An option is out of range.
    """
    if sample_rate not in _SAMPLE_RATES:
        raise UsageError(f"sample_rate: {sample_rate} is not in {_SAMPLE_RATES[0]}..{_SAMPLE_RATES[-1]} Hz")
    if not 0 < max_duration_s <= MAX_DURATION_S:
        raise UsageError(f"max_duration_s: {max_duration_s} is not in 0..{MAX_DURATION_S:g} s")
    performance = perform(piece) if isinstance(piece, str) else piece
    if soundfont is None:
        samples = _mixed(performance, sample_rate, max_duration_s)[None]
    else:
        samples = _sampled(performance, soundfont, sample_rate, max_duration_s)
    peak = float(np.abs(samples).max())
    if peak > 0:
        samples *= PEAK / peak
    return torch.from_numpy(samples)


def timbre_of(programme: int) -> Timbre:
    """Return the timbre for a General MIDI programme, 0..127."""
    return _FAMILIES[max(first for first in _FAMILIES if first <= programme)]


def _mixed(performance: Performance, sample_rate: int, max_duration_s: float) -> np.ndarray:
    tail_s = max((_release_s(track) for track in performance.tracks if track.notes), default=0.0)
    length_s = performance.duration_s + tail_s
    mix = np.zeros(max(1, math.ceil(min(length_s, max_duration_s) * sample_rate)), np.float32)
    for track in performance.tracks:
        _add(mix, track, sample_rate)
    if length_s > max_duration_s:
        _fade_out(mix, sample_rate)
    return mix


def _sampled(
    performance: Performance, soundfont: Path, sample_rate: int, max_duration_s: float
) -> np.ndarray:
    """Return a piece through a SoundFont, (2, n): as long as it is written, and until its last notes have ended."""
    most = math.ceil(max_duration_s * sample_rate)
    least = max(1, min(math.ceil(performance.duration_s * sample_rate), most))
    if not any(track.notes for track in performance.tracks):
        return np.zeros((2, least), np.float32)
    midi = midi_bytes(until(performance, max_duration_s))
    played = render_midi(midi, soundfont, sample_rate, timeout_s=_TIMEOUT_S)
    samples = np.zeros((2, min(max(played.shape[1], least), most)), np.float32)
    kept = min(played.shape[1], samples.shape[1])
    samples[:, :kept] = played[:, :kept]
    if played.shape[1] > most or performance.duration_s > max_duration_s:
        _fade_out(samples, sample_rate)
    return samples


def _fade_out(samples: np.ndarray, sample_rate: int) -> None:
    fade = min(round(_FADE_S * sample_rate), samples.shape[-1])
    samples[..., -fade:] *= np.linspace(1, 0, fade, dtype=np.float32)


def _add(mix: np.ndarray, track: Track, sample_rate: int) -> None:
    """Add a track to the mix."""
    release_s = _release_s(track)
    release = _ramp(round(release_s * sample_rate))[::-1]
    notes = defaultdict(list)
    for note in track.notes:
        start = round(note.onset_s * sample_rate)
        if start < len(mix):
            length = min(round(min(note.duration_s, _LONGEST_NOTE_S) * sample_rate), len(mix) - start)
            notes[note.pitch, note.cents].append((start, length, (note.velocity / 127) ** _LOUDNESS))
    for (pitch, cents), places in notes.items():
        longest = max(length for _, length, _ in places) + len(release)
        sound = (
            _drum(pitch, sample_rate)
            if track.percussion
            else _tone(track.programme, pitch + cents / 100, longest, sample_rate)
        )
        for start, length, gain in places:
            note = sound[: length + len(release)] * np.float32(gain)
            if not track.percussion:
                note[length:] *= release
            note = note[: len(mix) - start]
            mix[start : start + len(note)] += note


def _release_s(track: Track) -> float:
    return _DRUM_S if track.percussion else timbre_of(track.programme).release_s


def _tone(programme: int, pitch: float, samples: int, sample_rate: int) -> np.ndarray:
    """Return a note that is held for the given number of samples."""
    timbre = timbre_of(programme)
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    time_s = np.arange(samples) / sample_rate
    cycles = frequency * time_s
    if timbre.vibrato_cents:
        swing = frequency * (2 ** (timbre.vibrato_cents / 1200) - 1) / (2 * np.pi * _VIBRATO_HZ)
        # The vibrato grows during the note.
        cycles += swing * np.sin(2 * np.pi * _VIBRATO_HZ * time_s) * np.minimum(time_s / 0.4, 1)
    phase = (2 * np.pi * (cycles % 1)).astype(np.float32)
    # High notes and high harmonics decay faster.
    decay_s = timbre.decay_s * 2 ** ((60 - pitch) / 24)
    falling = np.exp(-time_s / decay_s).astype(np.float32) if decay_s else None
    tone = np.zeros(samples, np.float32)
    envelope = np.ones(samples, np.float32) if falling is None else falling
    for number, amplitude in enumerate(timbre.harmonics, 1):
        if number * frequency >= 0.45 * sample_rate:
            break
        if amplitude:
            harmonic = np.sin(np.float32(number) * phase)
            harmonic *= envelope
            harmonic *= np.float32(amplitude)
            tone += harmonic
        if falling is not None:
            envelope = envelope * np.sqrt(falling)
    attack = _ramp(round(timbre.attack_s * sample_rate))[:samples]
    tone[: len(attack)] *= attack
    return tone


def _drum(pitch: int, sample_rate: int) -> np.ndarray:
    samples = round(_DRUM_S * sample_rate)
    time_s = np.arange(samples) / sample_rate
    noise = np.random.default_rng(pitch).standard_normal(samples)
    if pitch in _SKINS:
        base = 55 * 2 ** ((pitch - 36) / 12)
        sound = np.sin(2 * np.pi * base * (time_s + 0.03 * (1 - np.exp(-time_s / 0.03)))) * np.exp(
            -time_s / 0.16
        )
    elif pitch in _METALS:
        sound = 0.3 * np.diff(noise, prepend=0.0) * np.exp(-time_s / (0.05 if pitch in (42, 44) else 0.22))
    else:
        sound = 0.4 * noise * np.exp(-time_s / 0.07)
    sound[: round(0.002 * sample_rate)] *= _ramp(round(0.002 * sample_rate))
    return (sound * _ramp(samples)[::-1]).astype(np.float32)


def _ramp(samples: int) -> np.ndarray:
    """Return a smooth rise from 0 to 1."""
    return (0.5 - 0.5 * np.cos(np.linspace(0, np.pi, samples))).astype(np.float32)
