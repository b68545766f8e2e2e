"""Round trips of all ABC tunes and MusicXML scores of the corpus in the music21 package, or of scores of one's own.

    python tools/corpus/roundtrip.py                 # all: some 12,000 tunes, 650 scores
    python tools/corpus/roundtrip.py --every 20      # one file in twenty
    python tools/corpus/roundtrip.py --scores lieder quartets   # MusicXML files of these folders, such as OpenScore's

Every piece goes through these steps, each of which gives a result or a typed error:

- ABC tunes: text -> syntax tree -> text -> the same tree; the score that the exporters see; the training layout
  (interleaved); MusicXML.
- MusicXML: ABC; syntax tree -> text -> the same tree; the training layout; the score; MusicXML again, and from it the
  same voices, bars and notes.

With `--scores`, each file goes through ABC and back, and its notes are compared with those of the source, read without
the converter: start, pitch, length with ties, staff and lyrics, apart from grace and cue notes. What the converter says
that it lost is counted. Results: `benchmarks/results/corpus/fidelity.{json,md}`; exit status 1 if any note differs.

Prints the rates and the reasons of the errors, and writes them to `benchmarks/results/corpus/roundtrip.{json,md}`.
Pieces for which a step gave a wrong result, or an error other than `InputError`, are listed by name; the exit status is
1 if there are any.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from notagen.abc import parse_tune, print_tune
from notagen.musicxml import abc_to_musicxml
from notagen.musicxml.document import read_document
from notagen.musicxml.reader import musicxml_to_abc
from notagen.notation.bars import read_tune
from notagen.notation.clean import clean
from notagen.notation.layout import interleaved
from notagen.notation.tunebook import split_tunes, standard_tune
from notagen.score import read_score
from notagen.score.losses import losses
from notagen.sound.performance import perform
from pentatonic.errors import InputError

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "corpus"
SCORE_SUFFIXES = (".mxl", ".xml", ".musicxml")
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_NUMBER = re.compile(r"\d+(?:/\d+)?")


@dataclass
class Step:
    """Results of one step for all pieces.

    Attributes:
        done: Number of pieces with a result.
        refused: Reason of a typed error -> number of pieces.
        examples: Reason of a typed error -> first piece with it.
        wrong: Pieces with an untyped error or a wrong result.
    """

    done: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def attempt(self, name: str, work: Callable[[], Any]) -> Any:
        """Run the step on a piece; return the result, or ``None`` after a failure."""
        try:
            result = work()
        except InputError as error:
            reason = _plain(error)
            self.refused[reason] += 1
            self.examples.setdefault(reason, name)
            return None
        except Exception as error:
            self.wrong.append(f"{name}: {type(error).__name__}: {error}")
            return None
        self.done += 1
        return result

    @property
    def total(self) -> int:
        """Number of pieces that reached this step."""
        return self.done + sum(self.refused.values()) + len(self.wrong)


def _plain(error: InputError) -> str:
    """Return the reason of an error without quoted text, numbers and voices, which differ between pieces."""
    reason = getattr(error, "reason", str(error))
    return _NUMBER.sub("n", _QUOTED.sub("'…'", reason.partition(" (V:")[0]))


def abc_steps(texts: Iterator[tuple[str, str]]) -> dict[str, Step]:
    """Run all steps on ABC tunes, given by name and text."""
    names = ("syntax tree and back", "score", "training layout", "MusicXML")
    steps = {name: Step() for name in names}
    for name, text in texts:
        tree, score, layout, export = steps.values()
        if tree.attempt(name, lambda text=text: _round_trip(text)) is None:
            continue
        score.attempt(name, lambda text=text: read_score(text))
        layout.attempt(name, lambda text=text: _training_layout(text))
        export.attempt(name, lambda text=text: abc_to_musicxml(text))
    return steps


def score_steps(paths: Iterator[Path]) -> dict[str, Step]:
    """Run all steps on MusicXML files."""
    names = ("ABC", "syntax tree and back", "training layout", "score", "MusicXML", "the same notes again")
    steps = {name: Step() for name in names}
    for path in paths:
        name = _name(path)
        text = steps["ABC"].attempt(name, lambda path=path: musicxml_to_abc(path))
        if text is None:
            continue
        steps["syntax tree and back"].attempt(name, lambda text=text: _round_trip(text))
        steps["training layout"].attempt(name, lambda text=text: _training_layout(text))
        steps["score"].attempt(name, lambda text=text: read_score(text))
        exported = steps["MusicXML"].attempt(name, lambda text=text: abc_to_musicxml(text))
        if exported is not None:
            steps["the same notes again"].attempt(
                name, lambda e=exported, text=text: _same_notes(musicxml_to_abc(e), text)
            )
    return steps


def _round_trip(text: str) -> bool:
    tune = parse_tune(text)
    if parse_tune(print_tune(tune)) != tune:
        raise AssertionError("the tree of the printed text differs")
    return True


def _training_layout(text: str) -> str:
    return interleaved(read_tune(clean(standard_tune(text))))


def _same_notes(text: str, expected: str) -> bool:
    """Compare the number of bars and the played notes of each voice; notation of marks may differ."""
    (bars, notes), (expected_bars, expected_notes) = _bars_and_notes(text), _bars_and_notes(expected)
    if bars != expected_bars:
        raise AssertionError(f"{bars} bars instead of {expected_bars}")
    if len(notes) != len(expected_notes):
        raise AssertionError(f"{len(notes)} voices instead of {len(expected_notes)}")
    for number, (ours, wanted) in enumerate(zip(notes, expected_notes, strict=True), 1):
        if ours != wanted:
            position = min(set(ours) ^ set(wanted), default=None)
            raise AssertionError(f"voice {number} differs first at (whole notes, length, pitch) {position}")
    return True


def _bars_and_notes(text: str) -> tuple[int, list[list[tuple[Any, ...]]]]:
    tracks = perform(text).tracks
    notes = [[(note.position, note.length, note.pitch) for note in track.notes] for track in tracks]
    return read_score(text).measure_count, notes


def tunes(paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Yield name and text of all tunes of some books."""
    for path in paths:
        content = path.read_bytes()
        try:
            book = content.decode()
        except UnicodeDecodeError:
            book = content.decode("latin-1")
        for number, text in split_tunes(book):
            yield f"{_name(path)} {number}", text


# --- scores of one's own, note by note

_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_ASPECTS = {
    "start and pitch": (0, 1, 2),
    "length and ties": (0, 1, 2, 3),
    "staff": (0, 1, 2, 4),
    "lyrics": (0, 1, 2, 5),
}


@dataclass
class _HeardNote:
    """A note of a MusicXML file; times in quarter notes, from the start of its measure or of the piece."""

    onset: Fraction
    length: Fraction
    pitch: int
    staff: str
    ties: frozenset[str]
    lyrics: tuple[str, ...]


def heard_notes(source: Path | bytes) -> Counter[tuple[Any, ...]]:
    """Return (part, onset, pitch, length, staff, lyrics) of all notes of a file; tied notes are one.

    Times are rounded to 1/100 of a quarter note, because files round the lengths of tuplets.
    """
    parts = [part_notes(measures) for measures in read_document(source).parts.values()]
    ends = [max(end for end, _ in row) for row in zip(*parts, strict=True)]
    starts = list(accumulate(ends, initial=Fraction(0)))
    heard: Counter[tuple[Any, ...]] = Counter()
    for number, part in enumerate(parts):
        notes = [
            replace(note, onset=start + note.onset)
            for start, (_, of_measure) in zip(starts, part, strict=False)
            for note in of_measure
        ]
        notes.sort(key=lambda note: (note.onset, note.pitch))
        going_on: dict[tuple[int, int], list[_HeardNote]] = {}
        for note in notes:
            if "stop" in note.ties:
                going_on.setdefault((round(note.onset * 64), note.pitch), []).append(note)
        absorbed: set[int] = set()
        for note in notes:
            if id(note) in absorbed:
                continue
            last = note
            while "start" in last.ties:
                after = going_on.get((round((last.onset + last.length) * 64), note.pitch))
                if not after:
                    break
                last = after.pop(0)
                absorbed.add(id(last))
            length = last.onset + last.length - note.onset
            times = round(float(note.onset), 2), round(float(length), 2)
            heard[number, times[0], note.pitch, times[1], note.staff, note.lyrics] += 1
    return heard


def part_notes(measures: Sequence[Element]) -> list[tuple[Fraction, list[_HeardNote]]]:
    """Return the length and the notes of each measure of a part."""
    divisions = Fraction(1)
    found: list[tuple[Fraction, list[_HeardNote]]] = []
    for measure in measures:
        at = end = before = Fraction(0)
        notes: list[_HeardNote] = []
        first = 0
        for element in measure:
            if element.tag == "attributes":
                divisions = Fraction(element.findtext("divisions", str(divisions)))
            length = Fraction(element.findtext("duration", "0")) / divisions
            if element.tag == "backup":
                at -= length
            elif element.tag == "forward":
                at += length
            elif element.tag == "note" and element.find("grace") is None:
                onset = before if element.find("chord") is not None else at
                before, at = (
                    onset,
                    max(at, onset + length) if element.find("chord") is not None else at + length,
                )
                if element.find("cue") is None and (pitch := element.find("pitch")) is not None:
                    notes.append(_heard(element, pitch, onset, length))
                    if element.find("chord") is None:
                        first = len(notes) - 1
                    elif notes[
                        -1
                    ].lyrics:  # a chord has one line of lyrics for each verse, in ABC at its first note
                        notes[first].lyrics = tuple(sorted((*notes[first].lyrics, *notes[-1].lyrics)))
                        notes[-1].lyrics = ()
            end = max(end, at)
        found.append((end, notes))
    return found


def _heard(note: Element, pitch: Element, onset: Fraction, length: Fraction) -> _HeardNote:
    midi = 12 * (int(pitch.findtext("octave", "4")) + 1) + _STEPS[pitch.findtext("step", "C")]
    sung = [
        (
            lyric.get("number", "1"),
            " ".join(" ".join(text.text or "" for text in lyric.findall("text")).split()),
        )
        for lyric in note.findall("lyric")
    ]
    lyrics = tuple(dict.fromkeys(f"{number} {text}" for number, text in sorted(sung) if text))
    ties = frozenset(tie.get("type", "") for tie in note.findall("tie"))
    alter = int(float(pitch.findtext("alter", "0")))
    return _HeardNote(onset, length, midi + alter, note.findtext("staff", "1"), ties, lyrics)


def fidelity(paths: Sequence[Path]) -> dict[str, Any]:
    """Compare scores with what comes back through ABC: files and notes that differ by aspect, and losses by kind."""
    differing: dict[str, list[str]] = {aspect: [] for aspect in _ASPECTS}
    refused: dict[str, str] = {}
    lost: Counter[str] = Counter()
    notes = 0
    for path in paths:
        try:
            with losses() as found:
                again = abc_to_musicxml(musicxml_to_abc(path))
        except InputError as error:
            refused[path.name] = str(error)
            continue
        lost.update(found)
        ours, wanted = heard_notes(again), heard_notes(path)
        notes += wanted.total()
        for aspect, places in _ASPECTS.items():
            one, other = (_projected(each, places) for each in (ours, wanted))
            if count := (other - one).total() + (one - other).total():
                differing[aspect].append(f"{path.name} ({count})")
    return {
        "files": len(paths),
        "notes": notes,
        "refused": refused,
        "differing": differing,
        "losses": dict(lost.most_common()),
    }


def _projected(notes: Counter[tuple[Any, ...]], places: Sequence[int]) -> Counter[tuple[Any, ...]]:
    found: Counter[tuple[Any, ...]] = Counter()
    for note, count in notes.items():
        found[tuple(note[place] for place in places)] += count
    return found


def fidelity_page(result: dict[str, Any], command: str) -> str:
    """Return the comparison as Markdown."""
    lines = [
        "# Scores through ABC and back", "", f"`{command}`", "",
        f"{result['files']} files with {result['notes']} notes; {len(result['refused'])} refused.", "",
        "| compared | files that are equal | files that differ (notes) |", "| --- | --- | --- |",
    ]  # fmt: skip
    read = result["files"] - len(result["refused"])
    for aspect, names in result["differing"].items():
        lines.append(f"| {aspect} | {read - len(names)} | {'; '.join(names)} |")
    lines += ["", "| lost | number |", "| --- | --- |"]
    lines += [f"| {kind} | {count} |" for kind, count in result["losses"].items()]
    return "\n".join(lines) + "\n"


def compare_scores(folders: Sequence[Path], out: Path, every: int) -> bool:
    """Compare all scores of some folders, and write the results; return whether all notes are equal."""
    paths = sorted(path for folder in folders for path in folder.rglob("*") if path.suffix in SCORE_SUFFIXES)[
        ::every
    ]
    result = fidelity(paths)
    command = f"python tools/corpus/roundtrip.py --every {every} --scores {' '.join(f.name for f in folders)}"
    page = fidelity_page(result, command)
    print(page)
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"command": command, **result}, indent=1, ensure_ascii=False)
    (out / "fidelity.json").write_text(text + "\n", encoding="utf-8")
    (out / "fidelity.md").write_text(page, encoding="utf-8")
    return not any(result["differing"].values())


def _name(path: Path) -> str:
    return path.as_posix().rpartition("/corpus/")[2]


def tables(kinds: dict[str, dict[str, Step]]) -> str:
    """Return the rates and reasons as Markdown."""
    lines: list[str] = []
    for kind, steps in kinds.items():
        lines += [
            f"## {kind}",
            "",
            "| step | pieces | done | refused | wrong |",
            "| --- | --- | --- | --- | --- |",
        ]
        for name, step in steps.items():
            share = f"{step.done} ({step.done / max(step.total, 1):.2%})"
            lines.append(
                f"| {name} | {step.total} | {share} | {sum(step.refused.values())} | {len(step.wrong)} |"
            )
        lines += ["", "| step | reason | pieces | the first |", "| --- | --- | --- | --- |"]
        for name, step in steps.items():
            for reason, count in step.refused.most_common():
                shown = reason.replace("|", "\\|").replace("\n", " ")
                lines.append(f"| {name} | {shown} | {count} | {step.examples[reason]} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=1, help="use only every n-th file")
    parser.add_argument("--kind", choices=("abc", "musicxml", "all"), default="all")
    parser.add_argument(
        "--scores", type=Path, nargs="+", metavar="FOLDER", help="compare these scores note by note"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args()
    if arguments.scores:
        sys.exit(not compare_scores(arguments.scores, arguments.out, arguments.every))
    if find_spec("music21") is None:
        parser.error("this needs the corpus of music21: pip install music21")
    from music21 import corpus

    paths = sorted(corpus.getCorePaths())
    books = [path for path in paths if path.suffix == ".abc"][:: arguments.every]
    scores = [path for path in paths if path.suffix in SCORE_SUFFIXES][:: arguments.every]
    kinds: dict[str, dict[str, Step]] = {}
    if arguments.kind != "musicxml":
        kinds["ABC tunes"] = abc_steps(tunes(books))
    if arguments.kind != "abc":
        kinds["MusicXML scores"] = score_steps(iter(scores))
    wrong = {
        f"{kind}, {name}": step.wrong
        for kind, steps in kinds.items()
        for name, step in steps.items()
        if step.wrong
    }
    page = tables(kinds)
    print(page)
    print("\n".join(f"wrong ({where}): {piece}" for where, pieces in wrong.items() for piece in pieces))
    write(arguments.out, kinds, page, command=f"python tools/corpus/roundtrip.py --every {arguments.every}")
    sys.exit(bool(wrong))


def write(out: Path, kinds: dict[str, dict[str, Step]], page: str, *, command: str) -> None:
    """Write the results as JSON and as Markdown."""
    values = {
        kind: {
            name: {"pieces": step.total, "done": step.done, "refused": step.refused, "wrong": step.wrong}
            for name, step in steps.items()
        }
        for kind, steps in kinds.items()
    }
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"command": command, "results": values}, indent=1, ensure_ascii=False)
    (out / "roundtrip.json").write_text(text + "\n", encoding="utf-8")
    (out / "roundtrip.md").write_text(
        f"# Round trips of the music21 corpus\n\n`{command}`\n\n{page}", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
