"""Render notes and phrases of single instruments with captions: training data of the small model of rc-audioldm.

    python tools/phrases/make_phrases.py --out data/phrases

Sound comes from FluidSynth and the General MIDI soundfont FluidR3 (Debian packages `fluidsynth` and
`fluid-soundfont-gm`, MIT licence). Clips last 1.28 s, 16 kHz mono, at one of three levels. `manifest.jsonl` has a row
for each, with what is true of it as labels (instrument, register, kind, speed, direction, loudness, name of a single
note) and captions, each with the labels that it names. The split `heldout` has pitches and phrases that `train` lacks,
`other-preset` the same instruments by presets of the soundfont that `train` never uses.

Everything follows from the seed. Clips that exist are kept, so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import symusic

from pentatonic.audio.soundfont import find_soundfont, render_midi
from pentatonic.checkpoint import atomic_file
from pentatonic.child_process import process_pool
from pentatonic.cli import run_manifest
from rc_audioldm.data.manifest import ManifestRow, write_manifest

SAMPLE_RATE, CLIP_S, PAUSE_S = 16_000, 1.28, 1.3
LICENCE, SOURCE = "MIT", "FluidR3 GM soundfont"
LEVELS_DB = {"soft": -30.0, "medium": -24.0, "loud": -18.0}
VELOCITIES = {"soft": 45, "medium": 80, "loud": 115}
NOTE_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
MAJOR = (0, 2, 4, 5, 7, 9, 11)
_PER_FILE = 210  # clips that one call of FluidSynth renders
_PEAK = 0.95


@dataclass(frozen=True)
class Instrument:
    """An instrument of the soundfont.

    Args:
        names: What captions call it; the first one is its label.
        programs: General MIDI programs, 0-based, of the training and held-out clips; of drums, the kits.
        others: Programs of the split `other-preset`.
        low, high: Lowest and highest MIDI pitch; a third of the way each is a register.
        chords: Whether it plays chords.
    """

    names: tuple[str, ...]
    programs: tuple[int, ...]
    others: tuple[int, ...]
    low: int
    high: int
    chords: bool = False

    @property
    def label(self) -> str:
        """Name in labels."""
        return self.names[0]


INSTRUMENTS = (
    Instrument(("piano", "grand piano", "solo piano"), (0,), (1,), 36, 84, chords=True),
    Instrument(("marimba",), (12,), (), 48, 84),
    Instrument(("organ", "church organ", "pipe organ"), (19,), (20,), 36, 84, chords=True),
    Instrument(("guitar", "acoustic guitar", "classical guitar"), (24,), (25,), 40, 76, chords=True),
    Instrument(("electric guitar", "distorted electric guitar"), (30,), (29,), 40, 76, chords=True),
    Instrument(("bass", "double bass"), (32,), (33,), 28, 52),
    Instrument(("violin", "solo violin"), (40,), (110,), 55, 91),
    Instrument(("cello", "solo cello"), (42,), (), 36, 67),
    Instrument(("harp",), (46,), (), 36, 91, chords=True),
    Instrument(("trumpet",), (56,), (), 55, 82),
    Instrument(("oboe",), (68,), (), 58, 86),
    Instrument(("clarinet",), (71,), (), 50, 86),
    Instrument(("flute",), (73,), (), 60, 96),
    Instrument(("drums", "drum kit", "percussion"), (0,), (8,), 0, 0),
)
DRUMS = "drums"
REGISTERS = ("low", "middle", "high")
WORDS = {
    "low": ("low", "deep"),
    "middle": ("middle", "mid-range"),
    "high": ("high", "high-pitched"),
    "slow": ("slow", "calm"),
    "fast": ("fast", "quick"),
    "rising": ("rising", "ascending"),
    "falling": ("falling", "descending"),
    "soft": ("soft", "quiet", "gentle"),
    "loud": ("loud", "strong"),
    "note": ("note", "sustained note", "tone"),
    "phrase": ("phrase", "melody", "line"),
    "chord": ("chord", "chords"),
    "beat": ("beat", "rhythm", "groove"),
}
Note = tuple[float, float, int]  # start and length in seconds, MIDI pitch


@dataclass(frozen=True)
class Clip:
    """What a clip plays, and what is true of it."""

    name: str
    program: int
    split: str
    notes: tuple[Note, ...]
    labels: tuple[str, ...]  # instrument, kind, then the rest
    loudness: str
    captions: tuple[dict[str, Any], ...]


def draw_clip(instrument: Instrument, program: int, number: int, seed: int) -> Clip:
    """Return the clip of a number, the same for the same seed."""
    rng = random.Random(f"{seed}/{instrument.label}/{program}/{number}")
    loudness = rng.choice(tuple(LEVELS_DB))
    if instrument.label == DRUMS:
        notes, about = _beat(rng)
    else:
        notes, about = _pitched(instrument, rng)
    is_heldout = rng.random() < 0.1
    if about[0] == "note":  # whole pitches are held out, not single clips
        is_heldout = (notes[0][2] + 3 * INSTRUMENTS.index(instrument)) % 8 == 0
    split = "other-preset" if program in instrument.others else "heldout" if is_heldout else "train"
    labels = (instrument.label, *about, *((loudness,) if loudness != "medium" else ()))
    captions = tuple(_caption(instrument, labels, rng) for _ in range(6))
    name = f"{instrument.label.replace(' ', '-')}-{program:03d}-{number:04d}"
    return Clip(name, program, split, tuple(notes), labels, loudness, captions)


def _pitched(instrument: Instrument, rng: random.Random) -> tuple[list[Note], list[str]]:
    """Notes, and the labels of kind, register and so on."""
    index = rng.randrange(3)
    span = (instrument.high - instrument.low) / 3
    low = round(instrument.low + index * span)
    high = max(low + 1, round(instrument.low + (index + 1) * span) - 1)
    register = REGISTERS[index]
    kind = rng.choices(("note", "phrase", "chord"), (3, 6, 1.5 if instrument.chords else 0))[0]
    pitch = rng.randint(low, high)
    if kind == "note":
        return [(0.0, 1.15, pitch)], ["note", register, note_name(pitch)]
    if kind == "chord":
        shape = rng.choice(((0, 4, 7), (0, 3, 7), (0, 5, 9)))
        return [(0.0, 1.15, min(pitch, high - 4) + step) for step in shape], ["chord", register]
    speed, direction = rng.choice(("slow", "fast")), rng.choice(("rising", "falling", ""))
    count = 3 if speed == "slow" else rng.choice((6, 7, 8))
    length = (CLIP_S - 0.06) / count
    pitches = _line(rng, count, direction, low, high)
    notes = [(place * length, length * 0.97, each) for place, each in enumerate(pitches)]
    return notes, ["phrase", register, speed, *([direction] if direction else [])]


def _line(rng: random.Random, count: int, direction: str, low: int, high: int) -> list[int]:
    """Pitches of a major scale that go one way, or to and fro, from somewhere in a register."""
    key = rng.randrange(12)
    scale = [pitch for pitch in range(low - 4, high + 5) if (pitch - key) % 12 in MAJOR]
    if direction:
        count_steps = min(count, len(scale))
        start = rng.randint(0, len(scale) - count_steps)
        line = scale[start : start + count_steps]
        line += [line[-1]] * (count - count_steps)
        return line if direction == "rising" else line[::-1]
    place, line = rng.randrange(len(scale)), []
    for _ in range(count):
        line.append(scale[place])
        place = min(len(scale) - 1, max(0, place + rng.choice((-2, -1, 1, 2))))
    return line


def _beat(rng: random.Random) -> tuple[list[Note], list[str]]:
    """A bar of bass drum, snare and hi-hat."""
    speed = rng.choice(("slow", "fast"))
    beat = (CLIP_S - 0.04) / (2 if speed == "slow" else 4)
    notes: list[Note] = []
    for step in range(round((CLIP_S - 0.04) / beat * 2)):
        start = step * beat / 2
        if rng.random() < 0.9:
            notes.append((start, 0.1, rng.choice((42, 42, 42, 46))))
        if step % 4 == 0 or rng.random() < 0.15:
            notes.append((start, 0.1, 36))
        if step % 4 == 2 or rng.random() < 0.1:
            notes.append((start, 0.1, rng.choice((38, 40))))
    return notes, ["beat", speed]


def _caption(instrument: Instrument, labels: Sequence[str], rng: random.Random) -> dict[str, Any]:
    """A caption that names the instrument and some other labels, and which they are."""
    kind, others = labels[1], labels[2:]
    chosen = [label for label in others if rng.random() < 0.55]
    named = rng.choice(instrument.names)
    note = next((label for label in chosen if label not in WORDS), None)
    words = [rng.choice(WORDS[label]) for label in chosen if label in WORDS]
    rng.shuffle(words)
    says_kind = rng.random() < 0.8
    noun = rng.choice(WORDS[kind])
    adjectives = " ".join(words)
    form = rng.randrange(3)
    if not says_kind:
        text = f"{adjectives} {named}"
    elif form == 0:
        text = f"a {adjectives} {named} {noun}"
    elif form == 1:
        text = f"a {named} playing a {adjectives} {noun}"
    else:
        text = f"{adjectives} {noun} on the {named}"
    text += f", {note}" if note else ""
    mentioned = [instrument.label, *([kind] if says_kind else []), *chosen]
    text = re.sub(r"\ba (?=[aeiou])", "an ", " ".join(text.split()))
    return {"text": text, "labels": mentioned}


def note_name(pitch: int) -> str:
    """Name of a MIDI pitch, such as C4 for 60."""
    return f"{NOTE_NAMES[pitch % 12]}{pitch // 12 - 1}"


def render(job: tuple[list[Clip], Path, Path]) -> int:
    """Render clips of one program, and write a file for each."""
    clips, soundfont, out = job
    step = CLIP_S + PAUSE_S
    is_drum = clips[0].labels[0] == DRUMS
    track = symusic.Track(program=clips[0].program, is_drum=is_drum, ttype="second")
    for number, clip in enumerate(clips):
        for start, length, pitch in clip.notes:
            track.notes.append(
                symusic.Note(number * step + start, length, pitch, VELOCITIES[clip.loudness], ttype="second")
            )
    score = symusic.Score(480, ttype="second")
    score.tracks.append(track)
    stereo = render_midi(
        score.to("tick").dumps_midi(),
        soundfont,
        SAMPLE_RATE,
        gain=0.5,
        polyphony=128,
        effects=False,
        timeout_s=600,
    )
    samples = stereo.mean(axis=0, dtype=np.float64).astype(np.float32)
    size = round(CLIP_S * SAMPLE_RATE)
    for number, clip in enumerate(clips):
        start = round(number * step * SAMPLE_RATE)
        piece = samples[start : start + size].astype(np.float64)
        piece = np.pad(piece, (0, size - len(piece)))
        piece *= 10 ** (LEVELS_DB[clip.loudness] / 20) / max(1e-6, float(np.sqrt(np.mean(piece**2))))
        piece *= min(1.0, _PEAK / float(np.abs(piece).max()))
        with atomic_file(out / "audio" / f"{clip.name}.flac") as file:
            soundfile.write(file, piece, SAMPLE_RATE, format="FLAC")
    return len(clips)


def _groups(clips: Sequence[Clip]) -> Iterator[list[Clip]]:
    for start in range(0, len(clips), _PER_FILE):
        yield list(clips[start : start + _PER_FILE])


def make(out: Path, *, count: int, other_count: int, seed: int, workers: int, soundfont: Path | None) -> None:
    """Render all clips that are missing, and write the manifest."""
    font = find_soundfont(soundfont)
    (out / "audio").mkdir(parents=True, exist_ok=True)
    clips: list[Clip] = []
    jobs = []
    for instrument in INSTRUMENTS:
        for program in (*instrument.programs, *instrument.others):
            wanted = other_count if program in instrument.others else count
            drawn = [draw_clip(instrument, program, number, seed) for number in range(wanted)]
            clips += drawn
            for group in _groups(drawn):
                if not all((out / "audio" / f"{clip.name}.flac").is_file() for clip in group):
                    jobs.append((group, font, out))
    with process_pool(workers) as pool:
        rendered = sum(pool.map(render, jobs))
    rows = [
        ManifestRow(
            id=clip.name,
            path=f"audio/{clip.name}.flac",
            source=SOURCE,
            licence=LICENCE,
            caption=clip.captions[0]["text"],
            labels=clip.labels,
            more={"split": clip.split, "captions": clip.captions, "notes": clip.notes},
        )
        for clip in clips
    ]
    write_manifest(out / "manifest.jsonl", rows)
    about = run_manifest() | {"soundfont": font.name, "seed": seed, "clips": len(clips)}
    (out / "run.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    print(f"{out}: {len(clips)} clips, {rendered} of them rendered now")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=420, help="clips of each instrument")
    parser.add_argument("--other-count", type=int, default=30, help="clips of each other preset")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--soundfont", type=Path)
    args = parser.parse_args()
    make(
        args.out,
        count=args.count,
        other_count=args.other_count,
        seed=args.seed,
        workers=args.workers,
        soundfont=args.soundfont,
    )


if __name__ == "__main__":
    main()
