"""Pieces with their bars in another order."""

import random

import pytest

from notagen.notation.bars import split_segment, voice_segments
from notagen.notation.shuffling import movable_lines, shuffled_bars
from notagen.notation.validation import validate

TUNE = (
    "%%score 1 2\nL:1/8\nM:2/4\nK:C\nV:1 treble\nV:2 bass\n"
    "[V:1]G|[V:2]z|\n"  # a pick-up
    "[V:1]CDEF|[V:2]C,4|\n"
    "[V:1]GABc|[V:2]D,4|\n"
    "[V:1]c2 B2-|:[V:2]E,4|:\n"  # tied to the next one
    "[V:1]B2 A2|[V:2]F,4|\n"
    "[V:1]FEDC|[V:2]G,4|\n"
    "[V:1]E2 G2|[V:2]A,4|\n"
    "[V:1]DEFG|[V:2]B,4|\n"
    "[V:1]C3:|[V:2]C3:|\n"  # the rest of the pick-up
)
MOVABLE = [7, 8, 11, 12, 13]


def contents(text):
    """Content of each voice in each bar that can be moved."""
    lines = [voice_segments(text.split("\n")[number]) for number in MOVABLE]
    return [[split_segment(segment).text for _, segment in line] for line in lines]


def test_only_full_bars_that_nothing_ties_can_be_moved():
    assert movable_lines(TUNE) == MOVABLE


@pytest.mark.parametrize("apart", [False, True])
def test_bars_change_places_and_all_else_stays(apart):
    shuffled = shuffled_bars(TUNE, random.Random(1), apart=apart)
    assert shuffled != TUNE
    before, after = TUNE.split("\n"), shuffled.split("\n")
    assert {n for n in range(len(before)) if before[n] != after[n]} <= set(MOVABLE)
    was, became = contents(TUNE), contents(shuffled)
    for voice in range(2):
        assert sorted(bar[voice] for bar in was) == sorted(bar[voice] for bar in became)
    assert (sorted(was) == sorted(became)) is not apart  # bars that sounded together still do, or not
    assert {issue.code for issue in validate(shuffled).issues} == {
        issue.code for issue in validate(TUNE).issues
    }


def test_a_share_of_the_bars():
    shuffled = shuffled_bars(TUNE, random.Random(2), share=0.1)
    changed = [n for n, line in enumerate(shuffled.split("\n")) if line != TUNE.split("\n")[n]]
    assert len(changed) == 2 and set(changed) <= set(MOVABLE)


def test_known_places_give_the_same_order():
    for share in (0.5, 1):
        given = shuffled_bars(TUNE, random.Random(3), share=share, places=MOVABLE)
        assert given == shuffled_bars(TUNE, random.Random(3), share=share)


def test_what_has_no_other_order_stays_as_it_is():
    same = "L:1/8\nM:2/4\nK:C\n" + "[V:1]CDEF|\n" * 4
    assert shuffled_bars(same, random.Random(0)) == same
    assert shuffled_bars("K:C\n[V:1]CDEF|\n", random.Random(0)) == "K:C\n[V:1]CDEF|\n"
    assert shuffled_bars("", random.Random(0), apart=True) == ""
