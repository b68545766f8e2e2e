"""Order in which the measures of a piece are played, by repeats, endings, part orders and jumps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest

from notagen.score import Measure, Score
from notagen.sound.jumps import with_jumps, words_of
from pentatonic.errors import InputError


@dataclass(frozen=True, slots=True)
class Signs:
    """Repeat and ending signs of one measure.

    Args:
        starts: Whether a repeat starts with it.
        stops: Whether a repeat ends with it.
        ending: Numbers of its ending; empty outside of endings.
        ending_stops: Whether it is the last measure of its ending.
        times: How often the repeat that ends with it is played at least; the numbers of endings may say more.
        final: Whether a final barline without repeat sign ends it.
    """

    starts: bool = False
    stops: bool = False
    ending: tuple[int, ...] = ()
    ending_stops: bool = False
    times: int = 2
    final: bool = False


def order_of(score: Score, *, limit: int) -> list[int]:
    """Return the indices of the measures of a piece in the order in which they are played.

    With a part order, such as ``P:AAB`` in the header, its sections are played in that order, each with its repeats. A
    section starts with the measure that has its label and ends before the next label; measures before the first label
    are played first. Labels that the piece does not have are passed over; without any of them the order has no effect.
    Jumps such as ``D.S.alfine`` are followed where there is no part order, see :mod:`notagen.sound.jumps`.

    Args:
        score: The piece.
        limit: Greatest number of played measures.

    Raises:
        InputError: More measures than ``limit`` would be played.
    """
    signs = signs_of(score)
    sections = _sections(score)
    if not sections.keys() & set(score.part_order):
        return _with_jumps(play_order(signs, limit=limit), score, signs, limit=limit)
    before = min(section.start for section in sections.values())
    order = play_order(signs[:before], limit=limit)
    for label in score.part_order:
        if label in sections:
            section = sections[label]
            inside = play_order(signs[section.start : section.stop], limit=limit)
            order += [section.start + index for index in inside]
            if len(order) > limit:
                raise InputError(f"with its repeats, the piece has more than {limit} bars")
    return order


def _with_jumps(order: list[int], score: Score, signs: Sequence[Signs], *, limit: int) -> list[int]:
    passes = _passes(signs)

    def straight(start: int, stop: int) -> list[int]:
        return [i for i in range(start, stop) if not signs[i].ending or passes[i] in signs[i].ending]

    def repeated(start: int, stop: int) -> list[int]:
        return [start + index for index in play_order(signs[start:stop], limit=limit)]

    order = with_jumps(order, words_of(score), straight=straight, repeated=repeated)
    if len(order) > limit:
        raise InputError(f"with its repeats, the piece has more than {limit} bars")
    return order


def _sections(score: Score) -> dict[str, range]:
    """Return the measures of each section: from the measure with its label to the one before the next label."""
    starts: dict[int, str] = {}
    for voice in score.voices.values():
        for index, measure in enumerate(voice.measures):
            for change in measure.changes:
                if isinstance(change.value, str) and not change.onset:
                    starts.setdefault(index, change.value.strip())
    cuts = sorted(starts)
    sections: dict[str, range] = {}
    for start, end in pairwise([*cuts, score.measure_count]):
        sections.setdefault(starts[start], range(start, end))
    return sections


def signs_of(score: Score) -> list[Signs]:
    """Return the signs of all measures of a piece; a sign in one voice counts for all."""
    voices = [voice.measures for voice in score.voices.values()]
    return [_joined(row) for row in zip_longest(*voices)]


def _joined(row: Sequence[Measure | None]) -> Signs:
    measures = [measure for measure in row if measure is not None]
    in_ending = next((measure for measure in measures if measure.ending), measures[0])
    return Signs(
        any(measure.repeat_starts for measure in measures),
        any(measure.repeat_stops for measure in measures),
        in_ending.ending,
        in_ending.ending_stops,
        max(measure.repeat_times for measure in measures),
        any("|]" in measure.right for measure in measures) and not any(m.repeat_stops for m in measures),
    )


def play_order(signs: Sequence[Signs], *, limit: int) -> list[int]:
    """Return the indices of the measures in the order in which they are played.

    A repeat goes back to the last ``|:``. Without one since the last repeat, it goes back to the end of that repeat, to
    the last final barline, with which a movement ends, or to the start. Music is played twice, or as often as the sign
    at its end or the numbers of its endings say; an ending is played in the passes that it names. If signs contradict
    each other, such as a second ending without a first one, the first pass plays everything.

    Args:
        signs: Signs of every measure.
        limit: Greatest number of played measures.

    Raises:
        InputError: More measures than ``limit`` would be played.
    """
    passes = _passes(signs)
    order: list[int] = []
    start, turn, index, opened = 0, 1, 0, False
    while index < len(signs):
        sign = signs[index]
        if sign.starts and index != start:
            start, turn = index, 1
        opened = opened or sign.starts
        if turn > 1 and sign.ending and turn not in sign.ending:
            index = _after_ending(signs, index)
            continue
        order.append(index)
        if len(order) > limit:
            raise InputError(f"with its repeats, the piece has more than {limit} bars")
        if sign.stops and turn < max(passes[index], sign.times):
            index, turn = start, turn + 1
            continue
        index += 1
        if sign.stops or (sign.ending_stops and turn > 1) or (sign.final and not opened):
            start, turn, opened = index, 1, False
    return order


def _passes(signs: Sequence[Signs]) -> list[int]:
    """Return how often the music before each measure is played, by the numbers of the endings from there on."""
    passes = [2] * (len(signs) + 1)
    for index in range(len(signs) - 1, -1, -1):
        if signs[index].ending:
            passes[index] = max(*signs[index].ending, passes[index + 1])
    return passes


def _after_ending(signs: Sequence[Signs], index: int) -> int:
    index += 1
    while index < len(signs) and signs[index].ending and not signs[index - 1].ending_stops:
        index += 1
    return index
