"""Jumps of a piece: da capo, dal segno, fine and coda.

A jump happens after its measure, at the last time that the repeats play it. From there on nothing is repeated, and of
endings the last one is played. ``fine`` and the sign that leads to the coda hold after their measure; ``segno`` and
``coda`` stand before theirs. Where ``dacoda`` is missing, the first of several ``coda`` leads to the last one.

Each movement of a work may have a jump. Movements end at a final barline, and at a jump back to a ``fine``, since
nothing would play what comes after it. A da capo goes to the start of what has the nearest ``fine`` or way to the coda:
of a movement, for a minuet may have a final barline before its trio; or of a part that begins with another meter after
a double bar or repeat sign, for works often have no final barline between movements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise, zip_longest

from notagen.score import Measure, Score

#: What a measure says, by the names of decorations; and its final barline.
Words = frozenset[str]

_DA_CAPO = frozenset({"D.C.", "dacapo", "D.C.alfine", "D.C.alcoda"})
_DAL_SEGNO = frozenset({"D.S.", "D.S.alfine", "D.S.alcoda"})
_JUMPS = _DA_CAPO | _DAL_SEGNO
_AL_FINE = frozenset({"D.C.alfine", "D.S.alfine"})
_AL_CODA = frozenset({"D.C.alcoda", "D.S.alcoda"})
_END, _DOUBLE_BAR = "|]", "||"
_KNOWN = _JUMPS | {"fine", "segno", "coda", "dacoda", _END, _DOUBLE_BAR}


def words_of(score: Score) -> list[Words]:
    """Return the words and signs of jumps in each measure of a piece; those of one voice count for all.

    A double bar is only noted before another meter, and stands for a repeat sign there, too.
    """
    voices = [voice.measures for voice in score.voices.values()]
    rows = [[measure for measure in row if measure is not None] for row in zip_longest(*voices)]
    words = [_KNOWN & {name for measure in row for name in _names(measure)} for row in rows]
    for index, (row, following) in enumerate(pairwise(rows)):
        closed = _DOUBLE_BAR in words[index] or any(measure.repeat_stops for measure in row)
        words[index] -= {_DOUBLE_BAR}
        if closed and row[0].time != following[0].time:
            words[index] |= {_DOUBLE_BAR}
    return words


def _names(measure: Measure) -> list[str]:
    marks = [event.marks for layer in measure.layers for event in layer.events]
    marks += [layer.trailing for layer in measure.layers]
    barlines = [sign for sign in (_END, _DOUBLE_BAR) if sign in measure.right]
    return [*barlines, *(name for each in marks for name in each.decorations)]


def with_jumps(
    order: Sequence[int],
    words: Sequence[Words],
    *,
    straight: Callable[[int, int], list[int]],
    repeated: Callable[[int, int], list[int]],
) -> list[int]:
    """Return the order of measures with the jumps of a piece, the first one of each movement.

    A dal segno without a segno is no jump, and a da capo al fine without a fine goes on to the end of the movement. In
    a piece of several movements a da capo without a fine or coda is not followed, for its aim is not known.

    Args:
        order: Indices of the measures as repeats and endings say.
        words: What each measure says.
        straight: Gives the measures from one index up to another one, without repeats.
        repeated: Gives the same with repeats.
    """
    result = list(order)
    starts = _starts(words)
    for start, end in reversed(list(pairwise([*starts, len(words)]))):
        jump = next((index for index in range(start, end) if words[index] & _JUMPS), None)
        if jump is None or jump not in result:
            continue
        way = _way(words, jump, starts, end)
        if way is None:
            continue
        (aim, leave), coda = way
        after = len(result) - result[::-1].index(jump)
        rest = next((place for place in range(after, len(result)) if result[place] >= end), len(result))
        result[after:rest] = straight(aim, leave) + (repeated(coda, end) if coda is not None else [])
    return result


def _starts(words: Sequence[Words]) -> list[int]:
    """Return the first measure of each movement."""
    starts, fine = [0], False
    for index, said in enumerate(words[:-1]):
        fine = fine or "fine" in said
        jumps = bool(said & _JUMPS)
        if _END in said or (fine and jumps and not said & _AL_CODA):
            starts.append(index + 1)
        fine = fine and not jumps
    return starts


def _way(
    words: Sequence[Words], jump: int, starts: Sequence[int], end: int
) -> tuple[tuple[int, int], int | None] | None:
    """Return the first measure after a jump and the end of what is played from there, and the coda after it."""
    said, start = words[jump], max(each for each in starts if each <= jump)
    if said & _DA_CAPO:
        parts = [*starts, *(index + 1 for index in range(jump) if _DOUBLE_BAR in words[index])]
        before = next((index for index in range(jump - 1, -1, -1) if words[index] & _JUMPS), -1)
        ways = [
            index for name in ("fine", "dacoda") for index in range(jump, before, -1) if name in words[index]
        ]
        aim = max(part for part in parts if part <= ways[0]) if ways else start
    else:
        aim = next((index for index in range(jump, -1, -1) if "segno" in words[index]), None)
        if aim is None:
            return None
    fine = next((index for index in range(aim, end) if "fine" in words[index]), None)
    if fine is not None and not said & _AL_CODA:
        return (aim, fine + 1), None
    signs = [index for index in range(aim, end) if "coda" in words[index]]
    leave = next((index for index in range(aim, end) if "dacoda" in words[index]), None)
    if leave is None and len(signs) > 1:
        leave = signs[0]
    if leave is not None and signs and signs[-1] > leave and not said & _AL_FINE:
        return (aim, leave + 1), signs[-1]
    if len(starts) > 1 and not said & _DAL_SEGNO:
        return None
    return (aim, end), None
