"""Lyrics: the lines ``w:`` below the music, cut in syllables, one for each note."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from notagen.score.model import Syllable

#: Verses of a voice; those beyond are left out.
MAX_VERSES = 32

_PIECE = re.compile(r"(?:\\.|[^\s*_|\\-])+|[*_|-]|\s+|\\")
_COMMENT = re.compile(r"(?<!\\)%.*")
_ESCAPED = re.compile(r"\\(.)")
_SPECIAL = re.compile(r"[-_*|~\\%]")


def read_verse(text: str, bars: Sequence[int]) -> list[tuple[int, Syllable]]:
    """Assign the syllables of one ``w:`` line to notes.

    A hyphen ends a syllable inside a word, ``_`` holds the syllable before for one more note, ``*`` skips a note, ``~``
    is a blank inside a syllable, ``|`` goes on to the next bar, and a backslash takes its special meaning from a sign.

    Args:
        text: The value of the field.
        bars: For each note of the music above the line the number of its bar.

    Returns:
        Pairs of the index of a note and its syllable; syllables beyond the last note are left out.
    """
    found: list[tuple[int, Syllable]] = []
    note = 0
    word = hyphen = False  # whether the last piece was a syllable; whether a hyphen came since
    for piece in _PIECE.findall(_COMMENT.sub("", text)):
        if piece.isspace():
            word = False
        elif piece == "-":
            if found:
                found[-1] = (found[-1][0], replace(found[-1][1], after=True))
            note += not word  # a hyphen of its own holds the syllable before
            word, hyphen = False, True
        elif piece == "_":
            if found:
                found[-1] = (found[-1][0], replace(found[-1][1], extended=True))
            note, word = note + 1, False
        elif piece == "*":
            note, word = note + 1, False
        elif piece == "|":
            bar = bars[note - 1] if 0 < note <= len(bars) else -1
            while note < len(bars) and bars[note] <= bar:
                note += 1
            word = False
        elif piece != "\\":
            if note >= len(bars):
                break
            syllable = Syllable(
                _ESCAPED.sub(r"\1", piece.replace("~", " ").replace("\\ ", "~")), before=hyphen
            )
            found.append((note, syllable))
            note, word, hyphen = note + 1, True, False
    return found


def written_verse(syllables: Iterable[Syllable | None]) -> str:
    """Return the value of a ``w:`` line for the syllables of consecutive notes; None for a note without one."""
    pieces: list[str] = []
    held = False
    for syllable in syllables:
        if syllable is None:
            pieces.append("_" if held else "*")
            continue
        text = _SPECIAL.sub(r"\\\g<0>", " ".join(syllable.text.split())).replace(" ", "~")
        pieces.append(text + ("-" if syllable.after else ""))
        held = syllable.extended
    while pieces and pieces[-1] == "*":
        pieces.pop()
    return " ".join(pieces)
