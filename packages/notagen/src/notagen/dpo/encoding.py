"""Encoding of generated pieces for preference training (CLaMP-DPO, NotaGen, arXiv 2502.18008).

The text is what the policy wrote, so nothing is added to it but the start and the end patch. A piece that is longer
than the context is cut: its header stays, and its music starts at some line. The original draws that line anew at
every visit (:func:`random_crop`); with a fixed set of crops (:func:`fixed_crops`) the log-probabilities of the
reference need to be computed only once.
"""

from __future__ import annotations

import itertools
import random
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from notagen.codec import BODY_STARTS, END_PATCH, START_PATCH, Patch, bar_units, cut
from notagen.notation.countdown import COUNTDOWN
from pentatonic.errors import FormatError, UsageError

_FOREIGN = re.compile(r"[^\x03-\x7f]")
_SINGLE_BARLINE = re.compile(r"(\|:|::|:\||\[\||\|\||\|\]|\|)")


@dataclass(frozen=True)
class _Piece:
    """Patches of the header, with the start patch, and of each line of music."""

    head: list[Patch]
    lines: list[list[Patch]]

    @property
    def starts(self) -> list[int]:
        """Patches of music before each line, and at the end."""
        starts = [0]
        for line in self.lines:
            starts.append(starts[-1] + len(line))
        return starts

    def crop(self, line: int, patch_length: int) -> list[Patch]:
        """Return the header and the music from a line on, at most ``patch_length`` patches."""
        music = [patch for each in self.lines[line:] for patch in each]
        return [*self.head, *music, list(END_PATCH)][:patch_length]

    def excess(self, patch_length: int) -> int:
        """Return how many patches are too many."""
        return len(self.head) + sum(map(len, self.lines)) + 1 - patch_length


def random_crop(text: str, patch_length: int, rng: random.Random) -> list[Patch]:
    """Encode a piece as the original does, which draws another crop of a long piece at every visit.

    Music starts at the first line with a countdown tag; without any, only the last line counts as music. A line that
    ends on a barline, or has two of them side by side, is lost with all lines after it. A crop of the end may have no
    music at all, where its last line does not fit.

    Args:
        text: Generated text.
        patch_length: Most patches, at least 1.
        rng: Random source; nothing is drawn for a piece that fits.

    Returns:
        Patches of 16 ids.

    Raises:
        FormatError: A character has no id.
    """
    lines = _lines(text)
    start = next((i for i, line in enumerate(lines) if line.startswith(COUNTDOWN)), max(len(lines) - 1, 0))
    piece = _encoded(lines[:start], itertools.takewhile(bool, map(_original_units, lines[start:])))
    if (excess := piece.excess(patch_length)) <= 0:
        return piece.crop(0, patch_length)
    allowed = min(bisect_left(piece.starts, excess) + 1, len(piece.starts))
    where = rng.choice(["head", "tail", "middle"][: min(allowed, 3)])
    if where == "middle":
        return piece.crop(rng.choice(range(1, allowed - 1)), patch_length)
    return piece.crop(0 if where == "head" else allowed - 1, patch_length)


def fixed_crops(text: str, patch_length: int, *, most: int = 3) -> list[list[Patch]]:
    """Encode a piece as a fixed set of crops, each with music.

    Args:
        text: Generated text. Music starts at the first line with a countdown tag or a voice.
        patch_length: Most patches of a crop, at least 1.
        most: Most crops of a piece, at least 1. The first one starts with the music, the last one where the end of the
            piece fits, the others at even distances between.

    Returns:
        Crops of patches of 16 ids; a piece that fits has one, the whole piece.

    Raises:
        FormatError: A character has no id, or the header leaves no room for music.
        UsageError: ``most`` is less than 1.
    """
    if most < 1:
        raise UsageError(f"most must be at least 1, got {most}")
    lines = _lines(text)
    start = next((i for i, line in enumerate(lines) if line.startswith(BODY_STARTS)), len(lines))
    piece = _encoded(lines[:start], map(bar_units, lines[start:]))
    if piece.lines and len(piece.head) >= patch_length:
        raise FormatError(
            f"the header has {len(piece.head)} patches, which leaves no room for music in {patch_length} patches"
        )
    if (excess := piece.excess(patch_length)) <= 0:
        return [piece.crop(0, patch_length)]
    last = min(bisect_left(piece.starts, excess), max(len(piece.lines) - 1, 0))
    count = min(most, last + 1)
    places = {round(i * last / (count - 1)) for i in range(count)} if count > 1 else {0}
    return [piece.crop(place, patch_length) for place in sorted(places)]


def _lines(text: str) -> list[str]:
    """Return the lines that are not empty, each with its newline."""
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if foreign := _FOREIGN.search(line):
            raise FormatError(
                f"the character {foreign[0]!r} has no id; allowed: code points 3 to 127",
                line=number,
                column=foreign.start() + 1,
            )
    return [line + "\n" for line in lines if line]


def _encoded(header: Iterable[str], music: Iterable[Sequence[str]]) -> _Piece:
    """Cut the lines of the header, and the units of each line of music, into patches."""
    head = [list(START_PATCH), *(patch for line in header for patch in cut(line))]
    return _Piece(head, [[patch for unit in units for patch in cut(unit)] for units in music])


def _original_units(line: str) -> list[str]:
    """Split a line as the original does: like :func:`notagen.codec.bar_units`, or not at all where it fails."""
    parts = [part for part in _SINGLE_BARLINE.split(line) if part]
    first = [] if _SINGLE_BARLINE.fullmatch(parts[0]) else [parts.pop(0)]
    if len(parts) % 2:
        return []
    units = first + [barline + text for barline, text in zip(parts[::2], parts[1::2], strict=True)]
    if len(units) > 1 and "V" not in units[-1]:
        units[-2:] = ["".join(units[-2:])]
    return units
