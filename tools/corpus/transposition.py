"""Transposes all ABC tunes of the corpus in the music21 package, or scores of one's own, and compares note by note.

    python tools/corpus/transposition.py                          # all ABC tunes of the corpus
    python tools/corpus/transposition.py --every 20               # one file in twenty
    python tools/corpus/transposition.py --scores lieder quartets # MusicXML and ABC files of these folders
    python tools/corpus/transposition.py --record done.jsonl      # a line for each finished file; goes on from there

Each piece is transposed by some semitones (``notagen transpose``) and back again, and to some keys as for training.
Compared with the piece are all notes, in the order of the score:

- pitch: it sounds the interval higher, or as before after the way back; drums stay;
- spelling: it has the same place in the key, unless that would need more than two signs, and the same after the way
  back;
- all else: lengths, ties, tuplets, lyrics, marks, chord symbols (their roots move), barlines.

Prints what differs, with the first pieces of each kind; the exit status is 1 if anything does. With `--record`, a run
that was stopped goes on with the first file that is not in the record, and each run reports all files of the record.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from roundtrip import SCORE_SUFFIXES, tunes

from notagen.abc.duration import Key
from notagen.musicxml.reader import musicxml_to_abc
from notagen.notation.keys import MAJOR_KEYS, pitch_class
from notagen.notation.layout import interleaved
from notagen.notation.transpose import Movable
from notagen.notation.transposed_text import CHORD_SYMBOL, Interval, transpose_text
from notagen.notation.tunebook import prepare_tune
from notagen.score import Score, read_score
from notagen.score.model import Event, Head, Measure, Pitch
from pentatonic.errors import InputError

INTERVALS = (-7, -2, 1, 6, 12)
KEYS = ("Ab", "B")
_FIFTHS = "FCGDAEB"
_ROOT = re.compile("[A-G][#b]?")
_NO_PITCH = Pitch("C", 0, 4)


@dataclass(frozen=True)
class Heard:
    """A note of a score: where it is, its pitch, and its place on the line of fifths, from the tonic of its key on."""

    where: tuple[Any, ...]
    semitones: Fraction | int
    place: Fraction | int
    fifths: int  # of the signature


@dataclass
class Differences:
    """Pieces of a file that differ, by kind."""

    pieces: int = 0
    notes: int = 0
    moves: int = 0
    refused: list[str] = field(default_factory=list)
    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, text: str) -> None:
        """Add a piece that differs."""
        self.found.setdefault(kind, []).append(text)


def heard(score: Score) -> tuple[list[Heard], list[tuple[Any, ...]], list[str]]:
    """Return the notes of a score, all of it but pitches, and the roots of its chord symbols."""
    notes: list[Heard] = []
    others: list[tuple[Any, ...]] = []
    roots: list[str] = []
    for voice in score.voices.values():
        for number, measure in enumerate(voice.measures):
            moves = not voice.percussion and bool(measure.key.tonic)
            others.append((number, measure.left, measure.right, measure.ending, measure.time, measure.clef))
            for layer in measure.layers:
                for event in layer.events:
                    key = _key_at(measure, event.onset)
                    for head in _heads(event):
                        place = _place(head.pitch) - key.fifths
                        notes.append(
                            Heard(
                                (voice.name, number, event.onset, moves),
                                head.pitch.semitones,
                                place,
                                key.fifths,
                            )
                        )
                    others.append((number, _plain(event)))
                    roots += [
                        root
                        for chord in event.marks.chord_symbols
                        if CHORD_SYMBOL.fullmatch(f'"{chord}"')
                        for root in _ROOT.findall(chord)
                    ]
    return notes, others, roots


def _heads(event: Event) -> list[Head]:
    return [*event.heads, *(head for grace in event.marks.grace for head in grace.heads)]


def _plain(event: Event) -> Event:
    """Return an event without its pitches and chord symbols."""
    heads = tuple(replace(head, pitch=_NO_PITCH, accidental="") for head in event.heads)
    grace = tuple(
        replace(each, heads=tuple(replace(head, pitch=_NO_PITCH, accidental="") for head in each.heads))
        for each in event.marks.grace
    )
    chords = tuple(_ROOT.sub("", chord) for chord in event.marks.chord_symbols)
    return replace(event, heads=heads, marks=replace(event.marks, grace=grace, chord_symbols=chords))


def _key_at(measure: Measure, onset: Fraction) -> Key:
    changes = [each.value for each in measure.changes if isinstance(each.value, Key) and each.onset <= onset]
    return changes[-1] if changes else measure.key


def _place(pitch: Pitch) -> Fraction | int:
    return _FIFTHS.index(pitch.step) - 1 + 7 * pitch.alter


def compare(
    name: str, what: str, before: Score, after: Score, semitones: int, differences: Differences
) -> None:
    """Compare a score with one that should sound some semitones higher."""
    (notes, others, roots), (moved, others_after, roots_after) = heard(before), heard(after)
    if len(notes) != len(moved) or others != others_after:
        number = next(
            (i for i, pair in enumerate(zip(others, others_after, strict=False)) if pair[0] != pair[1]), -1
        )
        differences.add("other things", f"{name} {what}: {others[number]} {others_after[number]}")
        return
    differences.notes += len(notes)
    for one, other in zip(notes, moved, strict=True):
        up = semitones if one.where[3] else 0
        if other.semitones != one.semitones + up:
            text = f"{name} {what}: {one.where} {one.semitones} became {other.semitones}"
            differences.add("pitch", text)
            break
    for one, other in zip(notes, moved, strict=True):
        alteration = (one.place + other.fifths + 1) // 7  # that keeps the place
        if one.where[3] and one.place != other.place and abs(alteration) <= 2:
            differences.add("spelling", f"{name} {what}: {one} became {other}")
            break
    classes, after_classes = ([pitch_class(root) for root in each] for each in (roots, roots_after))
    if after_classes != [(each + semitones) % 12 for each in classes]:
        differences.add("chord symbols", f"{name} {what}: {roots[:8]} {roots_after[:8]}")


def try_piece(name: str, text: str, differences: Differences) -> None:
    """Transpose a piece by all intervals and to all keys."""
    try:
        score = read_score(text)
    except InputError as error:
        differences.refused.append(f"{name}: {error}")
        return
    differences.pieces += 1
    for semitones in INTERVALS:
        what = f"by {semitones}"
        try:
            moved = transpose_text(text, Interval(semitones=semitones))
            back = transpose_text(moved, Interval(semitones=-semitones))
            differences.moves += 1
            compare(name, what, score, read_score(moved), semitones, differences)
            compare(name, f"{what} and back", score, read_score(back), 0, differences)
        except InputError as error:
            differences.add("errors", f"{name} {what}: {error}")
    try:
        tune = prepare_tune(text)
        movable, own = Movable(tune), read_score(interleaved(tune))
    except InputError:
        return  # not a tune for training
    if not own.key.tonic:
        return  # counts as C major there
    for key in KEYS:
        try:
            moved = read_score(interleaved(movable.to(key)))
            interval = _nearest(own, moved)
            differences.moves += 1
            compare(name, f"to {key}", own, moved, interval, differences)
        except InputError as error:
            differences.add("errors", f"{name} to {key}: {error}")


def _nearest(before: Score, after: Score) -> int:
    """Return the semitones between two keys by the nearest way, at most six up."""
    steps = after.key.fifths - before.key.fifths
    semitones = 7 * steps % 12
    return semitones if semitones <= 6 else semitones - 12


def _pieces(path: Path) -> Iterator[tuple[str, str]]:
    """Yield name and text of the pieces of a file."""
    if path.suffix == ".abc":
        yield from tunes([path])
    else:
        yield path.name, musicxml_to_abc(path)


def try_file(path: Path) -> Differences:
    """Transpose all pieces of a file."""
    differences = Differences()
    try:
        for name, text in _pieces(path):
            try_piece(name, text, differences)
    except InputError as error:
        differences.refused.append(str(error))
    return differences


def _paths(folders: list[Path] | None) -> list[Path]:
    if folders:
        suffixes = (*SCORE_SUFFIXES, ".abc")
        return sorted(path for folder in folders for path in folder.rglob("*") if path.suffix in suffixes)
    from music21 import corpus

    return [Path(path) for path in sorted(corpus.getCorePaths()) if path.suffix == ".abc"]


def _recorded(record: Path | None) -> dict[str, Differences]:
    """Read a record: file -> its differences. A line that was not finished is cut off."""
    found: dict[str, Differences] = {}
    if record is None or not record.exists():
        return found
    whole = record.read_text(encoding="utf-8").rpartition("\n")[0]
    record.write_text(whole + "\n" if whole else "", encoding="utf-8")
    for line in whole.splitlines():
        values = json.loads(line)
        found[values.pop("file")] = Differences(**values)
    return found


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=1, help="use only every n-th file")
    parser.add_argument(
        "--scores", type=Path, nargs="+", metavar="FOLDER", help="transpose the files of these folders"
    )
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="go on from this record of finished files"
    )
    arguments = parser.parse_args()
    assert set(KEYS) <= set(MAJOR_KEYS)
    paths, done = _paths(arguments.scores)[:: arguments.every], _recorded(arguments.record)
    for path in paths:
        name = "/".join(path.parts[-2:])
        if name in done:
            continue
        done[name] = try_file(path)
        if arguments.record:
            with arguments.record.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"file": name, **asdict(done[name])}) + "\n")
    sys.exit(report(list(done.values())))


def report(files: list[Differences]) -> bool:
    """Print the sums over all files; return whether anything differs."""
    pieces, moves, notes = (
        sum(getattr(each, name) for each in files) for name in ("pieces", "moves", "notes")
    )
    print(f"{len(files)} files, {pieces} pieces, {moves} transpositions, {notes} notes compared")
    refused = [text for each in files for text in each.refused]
    print(f"not read before: {len(refused)}")
    found: dict[str, list[str]] = defaultdict(list)
    for each in files:
        for kind, texts in each.found.items():
            found[kind] += texts
    for kind, texts in found.items():
        print(f"{kind}: {len(texts)}")
        for text in texts[:20]:
            print(f"  {text[:600]}")
    return bool(found)


if __name__ == "__main__":
    main()
