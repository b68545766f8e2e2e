"""The two layouts of a tune."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from notagen.abc import parse_tune
from notagen.notation.bars import read_tune
from notagen.notation.clean import clean
from notagen.notation.layout import (
    LINE_CHARACTERS,
    deinterleave,
    interleave,
    is_interleaved,
    one_bar_per_line,
)
from notagen.score import read_score
from pentatonic.errors import FormatError

GOLDENS = Path(__file__).parent / "goldens"
STANDARD = json.loads((GOLDENS / "deinterleave.json").read_text())["cases"]
PREPROCESS = json.loads((GOLDENS / "preprocess.json").read_text())["cases"]


@pytest.mark.parametrize("case", STANDARD, ids=[case["name"] for case in STANDARD])
def test_golden_deinterleave(case):
    assert deinterleave(case["interleaved"]).split() == case["standard"].split()


@pytest.mark.parametrize("case", PREPROCESS, ids=[case["name"] for case in PREPROCESS])
def test_golden_interleave(case):
    if case["interleaved"] is None:
        with pytest.raises(FormatError, match="different numbers of bars"):
            interleave(clean(case["input"]))
    else:
        assert interleave(clean(case["input"])) == case["interleaved"]


@pytest.mark.parametrize("case", STANDARD, ids=[case["name"] for case in STANDARD])
def test_round_trip_is_stable(case):
    tune = interleave(case["interleaved"])
    assert "".join(tune.split()) == "".join(case["interleaved"].split())
    assert interleave(deinterleave(tune)) == tune


def test_lines_are_wrapped():
    tune = "K:C\nV:1\n" + "".join(f"[V:1]{'C' * width}|\n" for width in [*range(1, 60), 150])
    lines = deinterleave(tune).splitlines()[3:]
    assert all(line.startswith(" ") for line in lines)
    assert all(len(line) <= LINE_CHARACTERS for line in lines[:-1])
    assert all(len(a) + len(b.split("|")[0]) + 1 > LINE_CHARACTERS for a, b in pairwise(lines))
    assert lines[-1] == f" {'C' * 150} |"


@pytest.mark.parametrize("line", ["[V:1]D4|", "[V:1]D4|[V:2]E4|[V:2]F4|", "[V:1]D4|[V:3]E4|"])
def test_a_line_without_all_voices_is_named(line):
    with pytest.raises(FormatError) as caught:
        deinterleave(f"K:C\nV:1\nV:2\n[V:1]C4|[V:2]C4|\n{line}\n")
    assert caught.value.line in (4, 5)


def test_voices_come_in_numerical_order():
    names = ["10", "2", "1"]
    tune = "K:C\n" + "".join(f"V:{n}\n" for n in names) + "".join(f"[V:{n}]C4|" for n in names) + "\n"
    assert deinterleave(tune).split()[4:] == ["V:1", "C4", "|", "V:2", "C4", "|", "V:10", "C4", "|"]


def test_comments_at_line_ends_are_no_music():
    text = """%Folk\nT:50% more\nK:C % key\nV:1 nm="5%" % top\nV:1\nC4 "^a%b"| %1\n%2\nK:G % new\nD4|%5\nE4|]\n"""
    assert interleave(text) == (
        '%Folk\nT:50% more\nK:C \nV:1 nm="5%" \n[V:1]C4 "^a%b"|\n[V:1][K:G ]D4|\n[V:1]E4|]\n'
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("X:1\nK:C\nV:1\nV:2\n[V:1]c8|[V:2]C8|\n", True),
        ("X:1\nK:C\nV:1\nV:2\n[r:0/1][V:1]c8|\n[r:1/0][V:2]C8|\n", True),
        ("K:C\nV:1\nV:2\n[V:1]c8|\n[V:2]C8|\n", True),  # a model leaves out X: and voices that rest
        ("X:1\nK:C\n[V:1]c8|\n[V:1]d8|\n", True),
        ("X:1\nK:C\n[V:1]c8|d8|\n[V:1]e8|\n", False),
        ("X:1\nK:C\n[V:1]c8|\n d8|\n", False),
        ("X:1\nK:C\nV:1\nV:2\n[V:1]c8|\n[V:2]C8|\n[V:1]d8|\n[V:2]D8|\n", False),  # two bars of two voices
        ("X:1\nK:C\nV:1\nc8|\nV:2\nC8|\n", False),
        ("% [V:1]c8|[V:2]C8|\nK:C\nc8|\n", False),
        ("", False),
    ],
)
def test_layout_of_a_text(text: str, expected: bool):
    assert is_interleaved(text) is expected


HEAD = "L:1/4\nM:4/4\nK:C\nV:1\nV:2\n"


def test_rests_of_several_bars_are_spelled_out() -> None:
    text = HEAD + 'V:1\nCDEF|GABc|d4|]\nV:2\n[I:x y]"^tacet"Z2|X|]\n'
    assert interleave(text).splitlines()[5:] == [
        '[V:1]CDEF|[V:2][I:x y]"^tacet"Z|',
        "[V:1]GABc|[V:2]Z|",
        "[V:1]d4|][V:2]X|]",
    ]
    assert read_score(text).measure_count == 3
    assert read_tune("X:1\nK:C\nZ4|X2 y|Z1|c4 Z2|]\n").voices["1"].bars == (
        *("Z",) * 4, "X", "X y", "Z1", "c4 Z2",
    )  # fmt: skip
    with pytest.raises(FormatError, match="more than 65536 bars"):
        read_tune("K:C\n" + "Z9999|" * 7 + "\n")


def test_one_bar_per_line() -> None:
    text = f"{HEAD}[r:0/1][V:1]Z2|[V:2]c4|d4|\n[r:1/0][V:1]c4|][V:2]d4|]\n"
    assert one_bar_per_line(text) == (
        f"{HEAD}[r:0/2][V:1]Z|[V:2]c4|\n[r:1/1][V:1]Z|[V:2]d4|\n[r:2/0][V:1]c4|][V:2]d4|]\n"
    )
    assert read_score(text).measure_count == 3
    unequal = text.replace("Z2", "Z3")
    assert one_bar_per_line(unequal) == unequal


@pytest.mark.parametrize("text", ["CDEF| : GABc : |d4|]", "CDEF|:GABc:|d4|]", "CDEF|\t:GABc :\t|d4|]"])
def test_blanks_inside_barlines(text: str) -> None:
    assert read_tune(f"X:1\nK:C\n{text}\n").voices["1"].barlines == ("", "|:", ":|", "|]")
    (line,) = parse_tune(f"X:1\nK:C\n{text}\n").body
    assert [bar.right and bar.right.sign for bar in line.voices[0].bars] == ["|:", ":|", "|]"]
