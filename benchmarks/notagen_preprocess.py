"""What preparing training data costs NotaGen on one core, beside the original's way of doing it.

    python benchmarks/notagen_preprocess.py

The material is multi-voice pieces in standard ABC, from the corpus that the music21 package carries: evenly chosen
from all its scores, and from its Bach chorales alone, which are short; taken in turn until there are a thousand. Each
piece is cleaned, cut in voices and bars, and written interleaved and in 15 keys with silent voices left out.

The original's way is written with the same building blocks (its transposition is taken to cost as much as ours, key
by key), but as the original goes about it: the tune is brought back to text for every key and cut in voices and bars
again, and the file of a key is written again, from its first line on, after every bar. Both must write the same text.
Times are CPU seconds of one process, system time included.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path

from machine import markdown_table, write_results

from notagen.files.reading import MUSICXML_SUFFIXES
from notagen.musicxml.reader import musicxml_to_abc
from notagen.notation.bars import read_tune
from notagen.notation.clean import clean
from notagen.notation.keys import MAJOR_KEYS
from notagen.notation.layout import interleaved, standard
from notagen.notation.rests import omit_rests
from notagen.notation.transpose import transpose
from notagen.notation.tunebook import standard_tune
from notagen.training.augment import AUGMENTED, INTERLEAVED, convert_file
from pentatonic.errors import InputError


def material(count: int, folder: str = "") -> list[str]:
    """Standard ABC of up to ``count`` scores with several voices, evenly chosen from a folder of the corpus."""
    from music21 import corpus

    texts: list[str] = []
    paths = [path for path in corpus.getCorePaths() if path.suffix in MUSICXML_SUFFIXES]
    paths = sorted(path for path in paths if folder in path.parts[-2])
    for path in paths[:: -(-len(paths) // count)]:
        try:
            tune = read_tune(clean(standard_tune(musicxml_to_abc(path))))
            if len(tune.voices) > 1 and tune.bar_count:
                texts.append(standard(tune))
        except InputError:
            continue
    return texts


def original_file(file: Path, name: str, out: Path) -> None:
    """Prepare one piece as the original does."""
    tune = read_tune(clean(standard_tune(file.read_text())))
    (out / INTERLEAVED / f"{name}.abc").write_text(interleaved(tune))
    for key in MAJOR_KEYS:
        again = read_tune(standard(transpose(tune, key)))
        lines = omit_rests(again).splitlines()
        start = len(again.header)
        for bars in range(again.bar_count):
            text = "\n".join(lines[: start + bars + 1]) + "\n"
            (out / AUGMENTED / key / f"{name}_{key}.abc").write_text(text)


def our_file(file: Path, name: str, out: Path) -> None:
    """Prepare one piece as `notagen preprocess` does."""
    [tune] = convert_file(file, name, out=out, min_bars=1, timeout_s=600)
    if tune.error:
        raise SystemExit(f"{name}: {tune.error[1]}")


def prepared(work: Callable[[Path, str, Path], None], files: Sequence[Path], out: Path) -> float:
    """Prepare all files; CPU seconds."""
    for folder in (INTERLEAVED, *(f"{AUGMENTED}/{key}" for key in MAJOR_KEYS)):
        (out / folder).mkdir(parents=True)
    start_s = time.process_time()
    for file in files:
        work(file, file.stem, out)
    return time.process_time() - start_s


def measured(name: str, texts: Sequence[str], pieces: int) -> list[dict[str, object]]:
    """Rows for both ways, after checking that they write the same."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        source.mkdir()
        for number, text in enumerate(islice(cycle(texts), pieces)):
            Path(source, f"{number:05}.abc").write_text(text)
        files = sorted(source.iterdir())
        ours_s = prepared(our_file, files, Path(folder, "ours"))
        original_s = prepared(original_file, files, Path(folder, "original"))
        for path in Path(folder, "ours").rglob("*.abc"):
            if (
                path.read_text()
                != Path(folder, "original", path.relative_to(Path(folder, "ours"))).read_text()
            ):
                raise SystemExit(f"{path.name} differs from the original's")
    bars = sum(read_tune(text).bar_count for text in texts) / len(texts)
    return [
        {
            "material": name,
            "way": way,
            "pieces": len(files),
            "bars of a piece": bars,
            "CPU s": seconds,
            "pieces per s": len(files) / seconds,
            "original / this": original_s / seconds,
        }
        for way, seconds in (("ours", ours_s), ("original's", original_s))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pieces", type=int, default=1000)
    parser.add_argument("--scores", type=int, default=200, help="different ones among the pieces")
    arguments = parser.parse_args()
    if find_spec("music21") is None:
        parser.error("this needs the corpus of music21: pip install music21")
    rows = [
        row
        for name, folder in (("whole corpus", ""), ("Bach chorales", "bach"))
        for row in measured(name, material(min(arguments.scores, arguments.pieces), folder), arguments.pieces)
    ]
    print(markdown_table(rows))
    command = (
        f"python benchmarks/notagen_preprocess.py --pieces {arguments.pieces} --scores {arguments.scores}"
    )
    print(f"\nwritten: {write_results('notagen_preprocess', rows, command=command)}")


if __name__ == "__main__":
    main()
