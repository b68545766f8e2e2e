"""Varied arrangements of scores, for `render_scores.py audio --rich`: more sounds, drums, soundfonts and effects.

Everything is drawn from a seeded generator. Shapes: n samples of a rendering.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import symusic
from numpy.typing import NDArray

# General MIDI programs, 0-based, beyond the families of the instrument probe.
FAMILIES = {
    "piano": list(range(8)),
    "mallets": list(range(8, 16)),
    "organ": list(range(16, 24)),
    "guitar": list(range(24, 29)),
    "loud guitar": [29, 30],
    "strings": list(range(40, 52)),
    "voices": [52, 53, 54, 85, 91],
    "brass": list(range(56, 64)),
    "reeds": list(range(64, 72)),
    "flutes": list(range(72, 80)),
    "leads": list(range(80, 88)),
    "pads": list(range(88, 104)),
    "plucked": list(range(104, 112)),
}
BASSES = list(range(32, 40))
# Patterns of one bar: beats of the bar, then (beat, General MIDI drum) of each stroke.
DRUMS: tuple[tuple[int, tuple[tuple[float, int], ...]], ...] = (
    (
        4,
        (
            (0, 36),
            (0, 42),
            (0.5, 42),
            (1, 38),
            (1, 42),
            (1.5, 42),
            (2, 36),
            (2, 42),
            (2.5, 36),
            (3, 38),
            (3, 42),
        ),
    ),
    (4, ((0, 36), (0.5, 46), (1, 36), (1.5, 46), (2, 36), (2.5, 46), (3, 36), (3.5, 46), (1, 39), (3, 39))),
    (4, ((0, 36), (0.75, 36), (1, 38), (1.75, 38), (2.5, 36), (3, 38), (0, 51), (1, 51), (2, 51), (3, 51))),
    (4, ((0, 35), (0, 49), (1, 41), (2, 43), (2.5, 43), (3, 45), (3.5, 45))),
    (4, (*((quarter / 4, 70) for quarter in range(16)), (0, 36), (1.5, 37), (3, 37))),
    (3, ((0, 36), (1, 42), (2, 42), (0, 51))),
    (2, ((0, 36), (0.5, 42), (1, 38), (1.5, 42))),
    (2, ((0, 47), (0.5, 47), (1, 47), (1.25, 47), (1.5, 47), (1.75, 47))),
)
Note = tuple[float, float, int]  # start and duration in seconds, pitch


def arrange(midi: Path, rng: random.Random, max_seconds: float) -> tuple[symusic.ScoreSecond, list[str]]:
    """Return an arrangement in seconds and the names of its families.

    Args:
        midi: A score.
        rng: Source of random numbers.
        max_seconds: Its length at most.
    """
    score = symusic.Score(midi).to("second")
    stretch, shift = 2 ** rng.uniform(-0.8, 0.8), rng.randint(-6, 6)
    start = rng.uniform(0, max(0.0, score.end() / stretch - max_seconds))
    parts: list[list[Note]] = []
    for track in score.tracks:
        notes = [
            (note.time / stretch - start, note.duration / stretch, note.pitch + shift) for note in track.notes
        ]
        parts.append([note for note in notes if 0 <= note[0] < max_seconds and 21 <= note[2] <= 108])
    parts = [part for part in parts if part]
    arranged, families = symusic.Score(480).to("second"), []
    if not parts:
        return arranged, families
    same = rng.choice(list(FAMILIES)) if rng.random() < 0.3 else None
    for part in parts:
        families.append(same or rng.choice(list(FAMILIES)))
        arranged.tracks.append(_track(part, rng.choice(FAMILIES[families[-1]]), rng))
    if rng.random() < 0.25:  # one part is doubled, at an octave
        family, octave = rng.choice(list(FAMILIES)), rng.choice((-12, 0, 12))
        doubled = [(begin, length, pitch + octave) for begin, length, pitch in rng.choice(parts)]
        arranged.tracks.append(_track(doubled, rng.choice(FAMILIES[family]), rng))
        families.append(family)
    if rng.random() < 0.4:
        arranged.tracks.append(_track(bass_line(parts, max_seconds), rng.choice(BASSES), rng))
    if rng.random() < 0.5:
        arranged.tracks.append(
            drums(rng, max_seconds, beat_s=0.5 / stretch * rng.choice((1.0, 1.0, 0.5, 2.0)))
        )
    return arranged, sorted(set(families))


def _track(notes: Sequence[Note], program: int, rng: random.Random) -> symusic.core.TrackSecond:
    """One part with a level, a place in the room and a way of playing of its own."""
    track = symusic.Track(program=program, is_drum=False, ttype="second")
    level, length = rng.uniform(50, 110), rng.choice((1.0, 1.0, 1.0, 0.5, 1.3))
    for controller in (91, 93):  # reverb and chorus
        track.controls.append(symusic.ControlChange(0.0, controller, rng.randint(0, 127), ttype="second"))
    for begin, duration, pitch in notes:
        if 21 <= pitch <= 108:
            velocity = max(20, min(127, round(rng.gauss(level, 8))))
            late = abs(rng.gauss(0, 0.008))
            track.notes.append(symusic.Note(begin + late, duration * length, pitch, velocity, ttype="second"))
    return track


def bass_line(parts: Sequence[Sequence[Note]], seconds: float, every_s: float = 0.5) -> list[Note]:
    """Return the lowest note that sounds at each half second, in the octaves of a bass."""
    notes: list[Note] = []
    for step in range(int(seconds / every_s)):
        time = step * every_s
        sounding = [
            pitch for part in parts for begin, length, pitch in part if begin <= time < begin + length
        ]
        if sounding:
            pitch = min(sounding)
            while pitch > 47:
                pitch -= 12
            notes.append((time, every_s, pitch))
    return notes


def drums(rng: random.Random, seconds: float, beat_s: float) -> symusic.core.TrackSecond:
    """Return a pattern that repeats, with some strokes left out and a fill now and then."""
    beats, strokes = rng.choice(DRUMS)
    track = symusic.Track(program=0, is_drum=True, ttype="second")
    level, left_out = rng.randint(50, 110), rng.uniform(0, 0.2)
    for bar in range(int(seconds / (beats * beat_s))):
        fill = bar % 4 == 3 and rng.random() < 0.5
        chosen = (
            [(rng.randrange(beats * 4) / 4, rng.choice((38, 41, 45, 48))) for _ in range(8)]
            if fill
            else strokes
        )
        for beat, drum in chosen:
            if rng.random() >= left_out:
                time = (bar * beats + beat) * beat_s
                velocity = max(20, min(127, level + rng.randint(-12, 12)))
                track.notes.append(symusic.Note(time, 0.1, drum, velocity, ttype="second"))
    return track


def effects(mono: NDArray[np.float64], rate: int, rng: random.Random) -> NDArray[np.float64]:
    """Return a rendering with a room, a change of sound and some drive, each now and then.

    Args:
        mono: ``(n,)``.
        rate: Samples per second.
        rng: Source of random numbers.
    """
    mono = mono / max(1e-6, float(np.abs(mono).max()))
    if rng.random() < 0.4:
        decay_s, wet = rng.uniform(0.2, 2.5), rng.uniform(0.1, 0.6)
        noise = np.random.default_rng(rng.getrandbits(32)).standard_normal(int(decay_s * rate))
        room = noise * np.exp(-6.9 * np.arange(len(noise)) / len(noise))
        size = 1 << (len(mono) + len(room)).bit_length()
        spectrum = np.fft.rfft(mono, size) * np.fft.rfft(room / np.sqrt((room**2).sum()), size)
        mono = (1 - wet) * mono + wet * np.fft.irfft(spectrum, size)[: len(mono)]
    if rng.random() < 0.5:  # a line over the octaves, and a hump or a dip
        spectrum, hertz = np.fft.rfft(mono), np.fft.rfftfreq(len(mono), 1 / rate)
        octaves = np.log2(np.maximum(hertz, 50) / 50)
        change_db = rng.uniform(-1.5, 1.5) * (octaves - 4)
        change_db += rng.uniform(-9, 9) * np.exp(-0.5 * ((octaves - rng.uniform(0, 7)) / 0.7) ** 2)
        mono = np.fft.irfft(spectrum * 10 ** (change_db / 20), len(mono))
    if rng.random() < 0.3:
        drive = rng.uniform(1.5, 8.0)
        mono = np.tanh(drive * mono / max(1e-6, float(np.abs(mono).max())))
    return mono
