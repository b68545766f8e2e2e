"""Compares what notagen plays of MusicXML scores, repeats and jumps played out, with music21's expansion of them.

    python tools/corpus/playback.py --scores lieder quartets

For each score in these folders, music21 says in which order the measures of the file are played: from the barlines,
endings and jumps of its first part (``repeat.Expander``). The notes of these measures, as the file has them, are
compared with those of notagen's own order, after the way through ABC: start in the played piece and pitch, each tied
note by itself, without grace and cue notes. The MIDI file must have all notes of notagen's order that start a tie or
have none. Prints where the two orders part; the exit status is 1 if notes differ.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, tostring

from roundtrip import SCORE_SUFFIXES, part_notes
from symusic.core import ScoreTick

from notagen.musicxml.document import read_document
from notagen.musicxml.reader import musicxml_to_abc
from notagen.score import Score, read_score
from notagen.sound.midi import midi_bytes
from notagen.sound.performance import perform
from notagen.sound.play_order import order_of
from pentatonic.errors import InputError

_MOST_MEASURES = 1 << 16
_JUMPS = frozenset({"dacapo", "dalsegno", "fine", "tocoda", "segno", "coda"})
Notes = Counter[tuple[float, int]]


def expanded_by_music21(measures: Sequence[Element], lengths: Sequence[Fraction]) -> list[int]:
    """Return the indices of the measures in the order in which music21 plays them; empty where it cannot tell.

    Movements, which begin with another measure 1 or a pick-up 0, are expanded one by one.
    """
    starts = [0]
    for index, measure in enumerate(measures[1:], 1):
        number, before = measure.get("number", ""), measures[index - 1].get("number", "")
        if number == "0" or (number == "1" and before != "0"):
            starts.append(index)
    order: list[int] = []
    for start, stop in pairwise([*starts, len(measures)]):
        movement = _expanded(measures[start:stop], lengths[start:stop])
        if not movement:
            return []
        order += [start + index for index in movement]
    return order


def _expanded(measures: Sequence[Element], lengths: Sequence[Fraction], *, jumping: bool = True) -> list[int]:
    from music21 import converter
    from music21.repeat import Expander

    root = Element("score-partwise", {"version": "4.0"})
    SubElement(SubElement(SubElement(root, "part-list"), "score-part", {"id": "P1"}), "part-name")
    part = SubElement(root, "part", {"id": "P1"})
    all_said = {name for measure in measures for name in _jumps(measure)}
    end = " al Coda" if "tocoda" in all_said else " al Fine" if "fine" in all_said else ""
    aims = {"dacapo": f"D.C.{end}", "dalsegno": f"D.S.{end}", "fine": "Fine"}
    for number, (measure, length) in enumerate(zip(measures, lengths, strict=True), 1):
        plain = SubElement(part, "measure", {"number": str(number)})
        divisions = SubElement(SubElement(plain, "attributes"), "divisions")
        divisions.text = str(length.denominator)
        plain.extend(
            [deepcopy(each) for each in measure.findall("barline") if each.get("location") == "left"]
        )
        said = _jumps(measure) if jumping else set()
        _write_signs(plain, said & {"segno", "coda"})
        note = SubElement(plain, "note")
        pitch = SubElement(note, "pitch")
        SubElement(pitch, "step").text, SubElement(pitch, "octave").text = "C", "4"
        SubElement(note, "duration").text = str(length.numerator)
        # Its index, because music21 may number measures anew.
        SubElement(SubElement(note, "lyric"), "text").text = str(number - 1)
        _write_signs(plain, {aims.get(name, name) for name in said - {"segno", "coda"}})
        plain.extend(
            [deepcopy(each) for each in measure.findall("barline") if each.get("location") != "left"]
        )
    stream = converter.parse(tostring(root, encoding="unicode"), format="musicxml").parts[0]
    expander = Expander(stream)
    if expander.isExpandable():
        return [int(note.lyric) for note in expander.process().recurse().notes if note.lyric]
    if jumping:  # a sign that no jump leads to
        return _expanded(measures, lengths, jumping=False)
    repeats = any(measure.find("barline/repeat") is not None for measure in measures)
    return [] if repeats else list(range(len(measures)))


def _jumps(measure: Element) -> set[str]:
    sounds = (sound for direction in measure.findall("direction") for sound in direction.findall("sound"))
    signs = {kind.tag for kind in measure.findall("direction/direction-type/*")} & {"segno", "coda"}
    return signs | {name for sound in sounds for name in sound.attrib if name in _JUMPS}


def _write_signs(measure: Element, names: set[str]) -> None:
    """Write segno, coda, or the words that music21 understands, whatever words the file has."""
    for name in sorted(names):
        kind = SubElement(SubElement(measure, "direction"), "direction-type")
        sign = "coda" if name == "tocoda" else name
        SubElement(kind, sign if sign in ("segno", "coda") else "words").text = sign


def source_notes(path: Path) -> tuple[list[int], list[Fraction], list[list[tuple[Fraction, int]]]]:
    """Return music21's order of the measures of a file, their lengths, and their notes."""
    document = read_document(path)
    parts = [part_notes(measures) for measures in document.parts.values()]
    lengths = [max(length for length, _ in row) for row in zip(*parts, strict=True)]
    notes = [
        [(note.onset, note.pitch) for _, of_part in row for note in of_part]
        for row in zip(*parts, strict=True)
    ]
    return expanded_by_music21(next(iter(document.parts.values())), lengths), lengths, notes


def own_notes(score: Score) -> tuple[list[int], list[Fraction], list[list[tuple[Fraction, int]]]]:
    """Return notagen's order of the measures of a score, their lengths, and their notes; written pitches."""
    rows = list(zip(*(voice.measures for voice in score.voices.values()), strict=True))
    notes = [
        [
            (event.onset * 4, head.pitch.midi)
            for measure in row
            for layer in measure.layers
            for event in layer.events
            for head in event.heads
        ]
        for row in rows
    ]
    lengths = [4 * max(measure.duration for measure in row) for row in rows]
    return order_of(score, limit=_MOST_MEASURES), lengths, notes


def played(
    order: Sequence[int], lengths: Sequence[Fraction], notes: Sequence[list[tuple[Fraction, int]]]
) -> Notes:
    """Return start, in quarters, and pitch of all notes of measures that are played in an order."""
    starts = accumulate((lengths[index] for index in order), initial=Fraction(0))
    return Counter(
        (round(float(start + onset), 2), pitch)
        for start, index in zip(starts, order, strict=False)
        for onset, pitch in notes[index]
    )


def missing_in_midi(text: str, score: Score, order: Sequence[int], lengths: Sequence[Fraction]) -> Notes:
    """Return the notes of the order that the MIDI file lacks; grace notes move theirs, which do not count."""
    data = ScoreTick.from_midi(midi_bytes(perform(text)))
    found = {
        (round(note.time / data.ticks_per_quarter, 2), note.pitch)
        for track in data.tracks
        for note in track.notes
    }
    rows = list(zip(*(voice.measures for voice in score.voices.values()), strict=True))
    struck = [
        [
            (event.onset * 4, head.pitch.midi + measure.transpose)
            for measure, voice in zip(row, score.voices.values(), strict=True)
            if not voice.percussion
            for layer in measure.layers
            for event in layer.events
            if not event.marks.grace
            for head in event.heads
            if not head.tie_stop
        ]
        for row in rows
    ]
    return Counter(
        {note: count for note, count in played(order, lengths, struck).items() if not _near(note, found)}
    )


def _near(note: tuple[float, int], found: set[tuple[float, int]]) -> bool:
    return any((round(note[0] + each, 2), note[1]) in found for each in (0, 0.01, -0.01))


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scores", type=Path, nargs="+", metavar="FOLDER", required=True)
    arguments = parser.parse_args()
    paths = sorted(
        path for folder in arguments.scores for path in folder.rglob("*") if path.suffix in SCORE_SUFFIXES
    )
    differing = total = repeating = unknown = 0
    for path in paths:
        try:
            text = musicxml_to_abc(path)
        except InputError as error:
            print(f"{path.name}: refused: {error}")
            continue
        score = read_score(text)
        order, lengths, notes = source_notes(path)
        own_order, own_lengths, own = own_notes(score)
        repeating += own_order != sorted(own_order) or len(own_order) < score.measure_count
        ours = played(own_order, own_lengths, own)
        total += ours.total()
        if lost := missing_in_midi(text, score, own_order, own_lengths):
            print(f"{path.name}: {lost.total()} notes are not in the MIDI file, the first {min(lost)}")
            differing += 1
        if not order:
            unknown += 1
            print(f"{path.name}: music21 cannot expand it; notagen plays {shown(own_order)}")
            continue
        wanted = played(order, lengths, notes)
        if ours != wanted:
            differing += 1
            count = (ours - wanted).total() + (wanted - ours).total()
            print(
                f"{path.name}: {count} notes differ\n  notagen {shown(own_order)}\n  music21 {shown(order)}"
            )
    print(f"{len(paths)} scores, {repeating} with repeats or jumps, {total} played notes; {differing} differ")
    print(f"music21 expands all but {unknown}")
    sys.exit(bool(differing))


def shown(order: Sequence[int]) -> str:
    """Return an order as runs of measures, counted from 1, such as ``1-8 1-6 9-12``."""
    runs: list[list[int]] = []
    for index in order:
        if runs and runs[-1][1] == index - 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return " ".join(f"{first + 1}-{last + 1}" for first, last in runs)


if __name__ == "__main__":
    main()
