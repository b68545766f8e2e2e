r"""Make labelled recordings for `omar-rq probe data.name=labelled`: rendered scores, and the music of Planet Blupi.

    python tools/render_labelled.py scores --out data/labelled --count 200
    python tools/render_labelled.py planetblupi --ogg recordings/planetblupi-music-ogg --midi planetblupi-midi \
        --out data/planetblupi

Both write `OUT/audio/NAME.flac` (16 kHz mono) and `OUT/labels/NAME.json`, the layout of
`omar_rq/probing/data/labelled_folder.py`.

`scores`: scores in the public domain from the corpus of music21 (chorales, dances, quartets, madrigals), played by
FluidSynth in other keys, tempi and instruments, in part with drums on the beats. Repeats are played. Keys, beats,
meter, notes and sections are those of the score; chords follow the rule of `labels_from_notes.py`, where the score has
three parts or more. A key counts where the score gives its mode, or where the last bass note is the tonic of its
signature. Sections are named in the order of their first bars where the score has repeat signs: what begins at the same
bar is the same section. A score, with all its renderings, is in one split, by a hash of its name.

`planetblupi`: recordings that were not made here, with MIDI files of the same music; **for evaluation only**, all of
them are in the split `test`. A pair whose lengths differ by more than 4 s is left out and named. Beats and meter come
from the tempo map of the MIDI file, chords and keys from its notes, which are moved so that the first sounds at once:
then onsets of sound and of notes agree within 0.02 s in all ten. Four recordings repeat one loop ten times; of them
only the first pass is kept (`loop_s` in the labels).
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from labels_from_notes import Note, chords, key_of, pitch_class_times, transposed_key
from render_scores import FAMILIES, RENDERED_RATE, SAMPLE_RATE, SOUNDFONT, synthesise

from pentatonic.checkpoint import atomic_file
from pentatonic.child_process import process_pool

GENRES = {
    "bach": "chorale",
    "ryansMammoth": "dance",
    "haydn": "string quartet",
    "mozart": "string quartet",
    "monteverdi": "madrigal",
    "trecento": "ballata",
    "corelli": "sonata",
    "joplin": "ragtime",
}
PATTERNS = {"bach": "bwv*.mxl", "ryansMammoth": "*.abc", "trecento": "*.xml", "corelli": "**/*.xml"}
PATTERNS |= dict.fromkeys(("haydn", "mozart"), "**/*.mxl") | dict.fromkeys(("monteverdi", "joplin"), "*.mxl")
DRUM_PROGRAM = 128
LOOPS_S = {"music000": 152.2, "music001": 176.3, "music002": 152.2, "music003": 120.4}
LENGTHS_AGREE_S = 4.1  # of one pair they differ by 4.02 s
LONGEST_LEAD_S = 0.1


@dataclass
class ReadScore:
    """What a score says, in quarter notes from its start, with repeats played.

    Args:
        parts: Notes of each part: start, end, MIDI pitch.
        beats: Start and position in the bar of each beat.
        end: Of the music.
        meter: The first time signature.
        keys: Start, tonic and mode of each key; empty where the score does not say it.
        sections: Start and letter of each section; empty without repeat signs.
    """

    parts: list[list[Note]]
    beats: list[tuple[float, int]]
    end: float
    meter: str
    keys: list[tuple[float, int, str]] = field(default_factory=list)
    sections: list[tuple[float, str]] = field(default_factory=list)


def split_of(group: str) -> str:
    """Split of a score by a hash of its name: 65 % train, 15 % valid, 20 % test."""
    share = hashlib.sha256(f"labelled/{group}".encode()).digest()[0] / 256
    return "train" if share < 0.65 else "valid" if share < 0.8 else "test"


def read_score(source: Any) -> ReadScore:
    """Read a score of music21.

    Args:
        source: A path, or a stream of music21.

    Raises:
        ValueError: It has no bars, no time signature or no notes.
    """
    from music21 import converter, stream

    score = converter.parse(source) if isinstance(source, Path) else source
    written = list(score.parts) if isinstance(score, stream.Score) else [score]
    bars = list(written[0].getElementsByClass(stream.Measure))
    if not bars:
        raise ValueError("there are no bars")
    repeated = any(_repeat(bar, side) for bar in bars for side in ("leftBarline", "rightBarline"))
    played = [part.expandRepeats() for part in written] if repeated else written
    lengths = {round(float(part.duration.quarterLength), 6) for part in played}
    if len(lengths) != 1:
        raise ValueError(f"parts are of different length: {sorted(lengths)}")
    parts = [_notes(part) for part in played]
    if not any(parts):
        raise ValueError("there are no notes")
    bars_played = list(played[0].getElementsByClass(stream.Measure))
    beats, meter = _beats(bars_played)
    result = ReadScore([part for part in parts if part], beats, lengths.pop(), meter)
    result.keys = _keys(played, result.parts)
    if repeated:
        result.sections = _sections(bars, bars_played)
    return result


def _repeat(bar: Any, side: str) -> bool:
    from music21 import bar as barlines

    return isinstance(getattr(bar, side), barlines.Repeat)


def _notes(part: Any) -> list[Note]:
    notes = []
    for element in part.stripTies().flatten().notes:
        if element.duration.isGrace:
            continue
        begin = float(element.offset)
        end = begin + float(element.duration.quarterLength)
        notes += [(begin, end, int(pitch.midi)) for pitch in getattr(element, "pitches", ())]
    return sorted(notes)


def _beats(bars: Sequence[Any]) -> tuple[list[tuple[float, int]], str]:
    """Beats of bars, and the first meter."""
    beats: list[tuple[float, int]] = []
    signature, meter, last = None, None, math.inf
    for number, bar in enumerate(bars):
        signature = bar.timeSignature or signature
        if signature is None:
            raise ValueError("there is no time signature")
        meter = meter or signature.ratioString
        beat, whole = float(signature.beatDuration.quarterLength), float(signature.barDuration.quarterLength)
        length = float(bar.duration.quarterLength)
        # A short first bar is a pickup; a short one after a short one completes it, as around a repeat sign.
        completes = last < whole - 1e-6 and abs(last + length - whole) < 1e-6
        missing = max(0.0, whole - length) if number == 0 else last if completes else 0.0
        for index in range(round(whole / beat)):
            place = index * beat - missing
            if -1e-6 <= place < length - 1e-6:
                beats.append((float(bar.offset) + place, index + 1))
        last = length
    return beats, str(meter)


def _keys(parts: Sequence[Any], notes: Sequence[Sequence[Note]]) -> list[tuple[float, int, str]]:
    """Keys of the first part's signatures; none at all where the mode of one is not known."""
    from music21 import key as keys

    found: list[tuple[float, int, str]] = []
    signatures = list(parts[0].flatten().getElementsByClass(keys.KeySignature))
    last_bass = min((note for part in notes for note in part[-1:]), key=lambda note: note[2])[2] % 12
    for signature in signatures:
        major = signature.sharps * 7 % 12
        mode = signature.mode if isinstance(signature, keys.Key) else None
        if mode is None and signature is signatures[-1]:
            mode = {major: "major", (major + 9) % 12: "minor"}.get(last_bass)
        if mode not in ("major", "minor"):
            return []
        tonic = major if mode == "major" else (major + 9) % 12
        if not found or found[-1][1:] != (tonic, mode):
            found.append((float(signature.getOffsetInHierarchy(parts[0])), tonic, mode))
    return found


def _sections(written: Sequence[Any], played: Sequence[Any]) -> list[tuple[float, str]]:
    """Sections by repeat signs: a new one starts where the music goes back, and at a sign on the way."""
    starts = {
        later.number
        for former, later in itertools.pairwise(written)
        if _repeat(later, "leftBarline") or _repeat(former, "rightBarline")
    }
    letters: dict[int, str] = {}
    sections: list[tuple[float, str]] = []
    former = None
    for bar in played:
        on_the_way = former is not None and bar.number == former + 1 and bar.number in starts
        if former is None or bar.number <= former or on_the_way:
            letter = letters.setdefault(bar.number, chr(ord("A") + min(25, len(letters))))
            sections.append((float(bar.offset), letter))
        former = bar.number
    return sections


def labels_of(
    score: ReadScore, group: str, rng: random.Random, max_seconds: float
) -> tuple[dict[str, Any], list[list[float]]]:
    """Draw a rendering: its labels, and the strokes of its drums as [start, end, MIDI drum, 128].

    Args:
        score: What is played.
        group: Name of the score; the first part, up to two underscores, is the collection.
        rng: Source of random numbers.
        max_seconds: Later notes are left out.
    """
    collection = group.split("__", maxsplit=1)[0]
    shift = rng.randint(-5, 6)
    quarter_s = 60 / rng.uniform(66, 144)
    end = min(score.end * quarter_s, max_seconds)
    one = rng.random() < 0.5
    families = [rng.choice(list(FAMILIES))] * len(score.parts)
    if not one:
        families = [rng.choice(list(FAMILIES)) for _ in score.parts]
    notes: list[list[float]] = []
    for family, part in zip(families, score.parts, strict=True):
        program = rng.choice(FAMILIES[family])
        for begin, stop, pitch in part:
            if begin * quarter_s < end and 21 <= pitch + shift <= 108:
                times = round(begin * quarter_s, 4), round(min(stop * quarter_s, end), 4)
                notes.append([*times, pitch + shift, program])
    beats = [
        (round(time * quarter_s, 4), position) for time, position in score.beats if time * quarter_s < end
    ]
    drums = _drums(beats, rng) if rng.random() < 0.35 else []
    labels: dict[str, Any] = {
        "split": split_of(group),
        "group": group,
        "genre": GENRES[collection],
        "tags": sorted({"one timbre" if one else "mixed", "drums" if drums else "no drums", *families}),
        "meter": score.meter,
        "tempo": round(60 / quarter_s, 3),
        "beats": [list(beat) for beat in beats],
        "instruments": sorted(set(families) | ({"drums"} if drums else set())),
        "notes": sorted(notes) + drums,
    }
    if score.keys:
        labels["key"] = transposed_key(*score.keys[0][1:], shift)
        names = [(start, transposed_key(tonic, mode, shift)) for start, tonic, mode in score.keys]
        labels["keys"] = _spans(names, quarter_s, end)
    if len(score.parts) >= 3:
        sounding = [(note[0], note[1], int(note[2])) for note in notes]
        labels["chords"] = [list(span) for span in chords(sounding, [time for time, _ in beats], end)]
    if score.sections:
        labels["sections"] = _spans(score.sections, quarter_s, end)
    return labels, drums


def _spans(starts: Sequence[tuple[float, str]], quarter_s: float, end: float) -> list[list[Any]]:
    times = [start * quarter_s for start, _ in starts] + [end]
    return [
        [round(times[n], 4), round(min(times[n + 1], end), 4), name]
        for n, (_, name) in enumerate(starts)
        if times[n] < end
    ]


def _drums(beats: Sequence[tuple[float, int]], rng: random.Random) -> list[list[float]]:
    """A bass drum on the first beat of a bar, a snare on even ones, a closed hat on each beat and between."""
    bass, snare, hat = rng.choice((35, 36)), rng.choice((37, 38, 40)), rng.choice((42, 44, 51))
    strokes: list[list[float]] = []
    for number, (time, position) in enumerate(beats):
        chosen = [hat, bass] if position % 2 else [hat, snare]
        strokes += [[time, time + 0.1, drum, DRUM_PROGRAM] for drum in chosen]
        if number + 1 < len(beats):
            between = round((time + beats[number + 1][0]) / 2, 4)
            strokes.append([between, between + 0.1, hat, DRUM_PROGRAM])
    return strokes


def sound_of(labels: dict[str, Any], rng: random.Random, soundfont: Path = SOUNDFONT) -> np.ndarray:
    """Play the notes of labels: ``(n,)`` float64 at ``SAMPLE_RATE``."""
    import soxr
    import symusic

    score = symusic.Score(480).to("second")
    for program in sorted({note[3] for note in labels["notes"]}):
        drums = program == DRUM_PROGRAM
        track = symusic.Track(program=0 if drums else program, is_drum=drums, ttype="second")
        for start, end, pitch, other in labels["notes"]:
            if other == program:
                velocity = max(30, min(127, round(rng.gauss(70 if drums else 90, 8))))
                track.notes.append(
                    symusic.Note(start, max(0.03, end - start), int(pitch), velocity, ttype="second")
                )
        score.tracks.append(track)
    mono = soxr.resample(synthesise(score.to("tick").dumps_midi(), soundfont), RENDERED_RATE, SAMPLE_RATE)
    return mono * (rng.uniform(0.3, 0.9) / max(1e-4, float(np.abs(mono).max())))


def write(out: Path, name: str, mono: np.ndarray, labels: dict[str, Any]) -> None:
    """Write one recording, its labels last."""
    import soundfile

    for folder in ("audio", "labels"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    soundfile.write(out / "audio" / f"{name}.flac", mono, SAMPLE_RATE)
    with atomic_file(out / "labels" / f"{name}.json", "w") as file:
        file.write(json.dumps(labels))


def render(job: tuple[Path, str, Path, int, str, float]) -> str | None:
    """Render one score so many times; return why not, where it cannot be read."""
    from music21.exceptions21 import Music21Exception

    source, group, out, renderings, seed, max_seconds = job
    names = [f"{group}-{number}" for number in range(renderings)]
    if all((out / "labels" / f"{name}.json").exists() for name in names):
        return None
    try:
        score = read_score(source)
    except (Music21Exception, ValueError, AttributeError, KeyError, TypeError, IndexError) as error:
        return f"{group}: {type(error).__name__}: {error}"  # music21 raises errors of many kinds
    for name in names:
        rng = random.Random(f"{seed}/{name}")
        labels, _ = labels_of(score, group, rng, max_seconds)
        mono = sound_of(labels, rng)[: int(max_seconds * SAMPLE_RATE)]
        write(out, name, mono, labels)
    return None


def choose_scores(count: int, seed: str) -> list[tuple[Path, str]]:
    """Draw scores, of each collection about as many."""
    import importlib.util

    found = importlib.util.find_spec("music21")  # not imported: that takes seconds
    if found is None or found.origin is None:
        raise SystemExit("the package music21 is not installed, whose corpus has the scores")
    root = Path(found.origin).parent / "corpus"
    rng, piles = random.Random(seed), []
    for collection, pattern in PATTERNS.items():
        pile = sorted((root / collection).glob(pattern))
        rng.shuffle(pile)
        piles.append(
            [
                (path, f"{collection}__{'_'.join(path.relative_to(root / collection).with_suffix('').parts)}")
                for path in pile
            ]
        )
    chosen = []
    while len(chosen) < count and any(piles):
        # Chorales and dances are short and have all labels, so they are taken four times as often.
        for pile in (*piles[:2] * 4, *piles[2:]):
            if pile and len(chosen) < count:
                chosen.append(pile.pop())
    return chosen


def midi_labels(midi: Path, seconds: float) -> dict[str, Any]:
    """Labels of a MIDI file up to a time.

    Args:
        midi: The file.
        seconds: Where the labels end.
    """
    import pretty_midi

    music = pretty_midi.PrettyMIDI(str(midi))
    # Six of the files begin with 20 ticks of rest, which their recordings lack: what is on a beat sounds on the beat.
    first = min((note.start for part in music.instruments for note in part.notes), default=0.0)
    late = float(first) if first < LONGEST_LEAD_S else 0.0
    notes = sorted(
        [
            round(float(note.start) - late, 4),
            round(float(min(note.end - late, seconds)), 4),
            int(note.pitch),
            DRUM_PROGRAM if part.is_drum else int(part.program),
        ]
        for part in music.instruments
        for note in part.notes
        if note.start - late < seconds
    )
    pitched = [(note[0], note[1], note[2]) for note in notes if note[3] != DRUM_PROGRAM]
    downbeats, beats = music.get_downbeats(), []
    for time in music.get_beats():
        if time < seconds:
            after = np.searchsorted(downbeats, time + 1e-6)
            first = beats and not any(abs(downbeats[after - 1 : after] - time) < 1e-6)
            beats.append([round(float(time), 4), beats[-1][1] + 1 if first else 1])
    changes, tempi = music.get_tempo_changes()
    signature = next(iter(music.time_signature_changes), None)
    families = {pretty_midi.program_to_instrument_class(note[3]) for note in notes if note[3] != DRUM_PROGRAM}
    labels: dict[str, Any] = {
        "beats": beats,
        "notes": notes,
        "chords": [list(span) for span in chords(pitched, [beat[0] for beat in beats], seconds)],
        "instruments": sorted(
            families | ({"drums"} if any(note[3] == DRUM_PROGRAM for note in notes) else set())
        ),
        "tempo": round(float(tempi[0]), 3) if len(changes) else 120.0,
    }
    if signature is not None:
        labels["meter"] = f"{signature.numerator}/{signature.denominator}"
    if key := key_of(pitch_class_times(pitched, 0.0, seconds)):
        labels["key"] = key
    return labels


def collect_planetblupi(ogg: Path, midi: Path, out: Path) -> None:
    """Write the pairs of Planet Blupi whose lengths agree."""
    from pentatonic.audio import load

    pairs = {path.stem: path for path in sorted(midi.rglob("*.mid*"))}
    recordings = sorted(ogg.rglob("*.ogg"))
    if not recordings or not pairs:
        raise SystemExit(f"no recordings in {ogg}, or no MIDI files in {midi}")
    import pretty_midi

    for path in recordings:
        if (score := pairs.get(path.stem)) is None:
            print(f"{path.stem}: no MIDI file", file=sys.stderr)
            continue
        mono = load(path, sample_rate=SAMPLE_RATE).samples.mean(dim=0).numpy()
        seconds, written = len(mono) / SAMPLE_RATE, pretty_midi.PrettyMIDI(str(score)).get_end_time()
        if abs(seconds - written) > LENGTHS_AGREE_S:
            print(
                f"{path.stem}: left out, {seconds:.1f} s of sound and {written:.1f} s of MIDI",
                file=sys.stderr,
            )
            continue
        kept = min(LOOPS_S.get(path.stem, seconds), seconds)
        labels = {"split": "test", "group": path.stem, "genre": "game"} | midi_labels(score, kept)
        if path.stem in LOOPS_S:
            labels["loop_s"] = LOOPS_S[path.stem]
        write(out, path.stem, mono[: int(kept * SAMPLE_RATE)], labels)
        print(f"{path.stem}: {kept:.1f} s of {seconds:.1f} s, MIDI {written:.1f} s")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    scores = verbs.add_parser("scores", help="rendered scores with all labels")
    blupi = verbs.add_parser("planetblupi", help="recordings with MIDI files; for evaluation only")
    for verb in (scores, blupi):
        verb.add_argument("--out", type=Path, required=True)
    scores.add_argument("--count", type=int, default=200, help="scores")
    scores.add_argument("--renderings", type=int, default=1, help="of each score")
    scores.add_argument("--max-seconds", type=float, default=60.0)
    scores.add_argument("--seed", default="0")
    scores.add_argument("--workers", type=int, default=2)
    blupi.add_argument("--ogg", type=Path, required=True, help="folder with the recordings")
    blupi.add_argument("--midi", type=Path, required=True, help="folder with the MIDI files")
    args = parser.parse_args()
    if args.verb == "planetblupi":
        collect_planetblupi(args.ogg, args.midi, args.out)
        return
    args.out.mkdir(parents=True, exist_ok=True)
    jobs = [
        (source, group, args.out, args.renderings, args.seed, args.max_seconds)
        for source, group in choose_scores(args.count, args.seed)
    ]
    with process_pool(args.workers) as pool:
        failures = [reason for reason in pool.map(render, jobs) if reason]
    print(
        f"{args.out}: {len(jobs) - len(failures)} scores, {len(failures)} cannot be used",
        *failures,
        sep="\n  ",
    )


if __name__ == "__main__":
    main()
