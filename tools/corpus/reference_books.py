"""Make the tune books that notagen carries as references, from the pieces that tools/tiny_scores.py collects.

    python tools/tiny_scores.py --out data/tunes
    python tools/corpus/reference_books.py --tunes data/tunes --out packages/notagen/src/notagen/references

Two styles that a judge should tell apart: chorales of J. S. Bach in four voices, one of each work, and tunes of Ryan's
Mammoth Collection (Boston 1883). Both are out of copyright. Pieces are taken evenly from the list of their names.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

from notagen.clamp2.reading import read_music
from notagen.dpo.rules import sounding_bars
from notagen.notation.validation import validate

_KEPT = re.compile(r"^(?![XT]:).*\n?", re.MULTILINE)


@dataclass(frozen=True)
class Book:
    """One book.

    Args:
        folder: Where its pieces are.
        about: Its first lines, comments.
        voices: Voices of each piece.
        bars: Fewest and most bars of a piece.
        count: Number of pieces.
        group: What a name begins with; one piece of each group is taken.
    """

    folder: str
    about: str
    voices: int
    bars: tuple[int, int]
    count: int
    group: str


BOOKS = {
    "chorales": Book(
        "bach",
        "% J. S. Bach: chorales. Encoded by Margaret Greentree; from the corpus that music21 carries with permission\n",
        voices=4,
        bars=(8, 20),
        count=48,
        group=r"[^.]+",
    ),
    "fiddle-tunes": Book(
        "ryansMammoth",
        "% Ryan's Mammoth Collection (Boston 1883), a selection. Encoded for the abc community; from the corpus that\n"
        "% music21 carries with permission\n",
        voices=1,
        bars=(16, 40),
        count=32,
        group=r".+",
    ),
}


def book_text(book: Book, tunes: Path) -> str:
    """Return a book of the pieces in ``tunes``, tune after tune."""
    found: dict[str, Path] = {}
    for path in sorted((tunes / book.folder).glob("*.abc")):
        (piece,) = read_music(path, preparation="notagen")
        text = piece.text
        voices = sum(line.startswith("V:") for line in text.splitlines())
        fits = piece.error is None and voices == book.voices and validate(text).valid
        match = re.match(book.group, path.stem)
        if fits and match and book.bars[0] <= len(sounding_bars(text)) <= book.bars[1]:
            found.setdefault(match[0], path)
    paths = list(found.values())
    if len(paths) < book.count:
        raise SystemExit(
            f"{tunes / book.folder} has {len(paths)} suitable pieces, and {book.count} are needed"
        )
    chosen = [paths[i * len(paths) // book.count] for i in range(book.count)]
    parts = [book.about]
    for number, path in enumerate(chosen, 1):
        music = "".join(_KEPT.findall(path.read_text(encoding="utf-8"))).strip("\n")
        parts.append(f"X:{number}\nT:{path.stem}\n{music}\n")
    return "\n".join(parts)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tunes", type=Path, required=True, help="what tools/tiny_scores.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder of the books")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, book in BOOKS.items():
        (args.out / f"{name}.abc").write_text(book_text(book, args.tunes), encoding="utf-8")
        print(args.out / f"{name}.abc", book.count)


if __name__ == "__main__":
    main()
