"""Rests left out of training text, and put back in generated text."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from notagen.abc.duration import bar_duration
from notagen.notation.bars import read_tune, voice_segments
from notagen.notation.clean import clean
from notagen.notation.keys import global_key, major_key
from notagen.notation.layout import interleaved
from notagen.notation.rests import complete_rests, complete_score_brackets, final_text, omit_rests

GOLDENS = Path(__file__).parent / "goldens"
COMPLETION = json.loads((GOLDENS / "rest_completion.json").read_text())
PREPROCESS = [
    case for case in json.loads((GOLDENS / "preprocess.json").read_text())["cases"] if case["augmented"]
]
COMPLETED = {case["name"]: case for case in COMPLETION["cases"] if case["error"] is None}
HEADER = "%%score ( 1 2 ) 3\nL:1/8\nM:3/4\nK:C\nV:1\nV:2\nV:3\n"


def known_to_the_original(bar):
    return None if "//" in bar or "(2" in bar else bar_duration(bar)


@pytest.mark.parametrize("name", COMPLETED)
def test_golden_completion(name):
    expected = COMPLETED[name]["completed"]
    if (
        name == "anacrusis_C"
    ):  # the original gives restored voices neither the key nor the barline on the left
        expected = expected.replace("[V:2]z1|", "[V:2][K:Amin]|:z1|")
    completion = complete_rests(COMPLETED[name]["input"], duration=known_to_the_original)
    assert completion.text == expected
    assert completion.undeclared == ()


@pytest.mark.parametrize("name", COMPLETED)
def test_golden_final_text(name):
    expected = COMPLETED[name]["gradio_final"]
    expected = expected.replace("[V:2]z1|", "[V:2][K:Amin]|:z1|").replace("\n}L:", "}\nL:")
    assert final_text(COMPLETED[name]["input"], duration=known_to_the_original) == expected


def test_without_score_line_every_rest_is_visible():
    case = next(case for case in COMPLETION["cases"] if case["name"] == "no_score_line")
    grouped = COMPLETED["piano_C"]["completed"].split("\n", 1)[1]
    written = case["input"]
    assert complete_rests(written).text == "".join(
        line.replace("]x8", "]z8") if line.startswith("[V:") else line for line in grouped.splitlines(True)
    )


@pytest.mark.parametrize("case", COMPLETION["complete_brackets"], ids=lambda case: case["input"])
def test_golden_score_brackets(case):
    assert complete_score_brackets(case["input"]) == case["output"]


def test_brackets_come_before_the_line_end():
    assert complete_score_brackets("%%score { ( 1 2 ) [ 3\n") == "%%score { ( 1 2 ) [ 3]}\n"


@pytest.mark.parametrize("case", PREPROCESS, ids=[case["name"] for case in PREPROCESS])
def test_golden_omission(case):
    tune = read_tune(clean(case["input"]))
    expected = case["augmented"][major_key(global_key(case["input"]))]
    assert omit_rests(tune, keep_silent_bars=False) == expected


def test_silent_bars_keep_one_voice():
    tune = read_tune("K:C\nV:1\nV:2\n[V:1]z4|[V:2]x4|\n[V:1]z4|[V:2]!p!z4|\n")
    assert omit_rests(tune).splitlines()[3:] == ["[V:1]z4|", "[V:2]!p!z4|"]
    assert omit_rests(tune, keep_silent_bars=False).splitlines()[3:] == ["", "[V:2]!p!z4|"]


@pytest.mark.parametrize("case", PREPROCESS, ids=[case["name"] for case in PREPROCESS])
def test_completion_inverts_omission(case):
    tune = read_tune(case["interleaved"])
    expected = interleaved(tune).replace("|:z|", "|:z1|")  # a rest comes back with its length
    assert complete_rests(omit_rests(tune)).text == expected


def test_undeclared_voices_are_reported():
    completion = complete_rests(HEADER + "[V:1]C6|[V:9]D6|\n\n[r:1/0][V:8]E6|\n")
    assert completion.undeclared == ((8, "9"), (10, "8"))
    assert completion.text == HEADER + "[V:1]C6|[V:2]x6|[V:3]z6|\n"


@pytest.mark.parametrize(
    ("line", "rest"),
    [
        ("[V:1]C4|[V:2]D4|[V:4]E2|", "z4|"),
        ("[V:1]C4|[V:2]D2|", "z4|"),  # a tie: the first
        ("[V:1]C7/2:|2", "z7/2:|2"),
        ("[V:1]?|", "z6|"),  # unknown: the meter
        ("[V:1]|:C2|", "|:z2|"),
    ],
)
def test_restored_bar(line, rest):
    lengths = {"C4": 4, "D4": 4, "D2": 2, "C2": 2, "C7/2": Fraction(7, 2)}

    def duration(bar):
        return Fraction(lengths[bar]) if bar in lengths else None

    text = complete_rests(f"{HEADER}{line}\n", duration=duration).text
    assert text.splitlines()[-1].endswith(f"[V:3]{rest}")


@pytest.mark.parametrize(
    ("bar", "restored"),
    [
        ("[V:2][K:D]c6|]", "[V:1][K:D]z6|][V:2][K:D]c6|][V:3]z6|]"),  # voice 3 has K:none
        ("[V:3][K:D][M:3/8][L:1/4]c3|", "[V:1][L:1/4][M:3/8]z3|[V:2][L:1/4][M:3/8]z3|[V:3][K:D][M:3/8][L:1/4]c3|"),
        ("[V:1][K:D]|:c6|[V:2]|:c6|", "[V:1][K:D]|:c6|[V:2]|:c6|[V:3]|:z6|"),  # not all other voices have it
        ("[V:1]c6[M:C]|[V:2]c6[M:C]|", "[V:1]c6[M:C]|[V:2]c6[M:C]|[V:3]z6[M:C]|"),
        ("[V:1][K:D clef=bass]c6|", "[V:1][K:D clef=bass]c6|[V:2]z6|[V:3]z6|"),
    ],
)  # fmt: skip
def test_restored_bars_at_the_start_have_the_changes_of_all_others(bar, restored):
    header = "%%score 1 2 3\nL:1/8\nM:3/4\nK:C\nV:1\nV:2\nV:3\nK:none\n"
    assert complete_rests(header + bar + "\n").text == header + restored + "\n"


def test_restored_bars_on_later_lines_have_no_changes():
    text = complete_rests(HEADER + "[V:1]c6|\n[V:1][K:D]c6|]\n").text
    assert text.splitlines()[-1] == "[V:1][K:D]c6|][V:2]x6|][V:3]z6|]"


@pytest.mark.parametrize(
    ("bar", "rest"),
    [("(5CCCCCC3", "z6"), ("Z", "z6"), ("[M:4/4](5CCCCCC6", "z8"), ("[L:1/16][M:3/8]C6", "z6")],
)
def test_restored_bars_are_as_long_as_the_others_in_the_meter_in_force(bar, rest):
    text = complete_rests(f"L:1/8\nM:6/8\nK:C\nV:1\nV:2\n[V:1]C6|\n[V:1]{bar}|\n").text
    assert text.endswith(f"[V:2]{rest}|\n")
    assert text.splitlines()[-2] == "[V:1]C6|[V:2]z6|"


def test_voices_come_in_the_order_of_the_header():
    header = "%%score 1 ( 4 2 ) 3\nL:1/8\nM:3/4\nK:C\nV:1\nV:4\nV:2\nV:3\n"
    text = complete_rests(header + "[V:1]c6|[V:3]c6|\n").text
    assert text.splitlines()[-1] == "[V:1]c6|[V:4]z6|[V:2]x6|[V:3]c6|"


def test_unknown_length_takes_that_of_the_line_before():
    text = complete_rests(
        HEADER + "[V:1]C5|\n[V:1]?|\n", duration=lambda bar: {"C5": Fraction(5)}.get(bar)
    ).text
    assert text.splitlines()[-1] == "[V:1]?|[V:2]x5|[V:3]z5|"


@pytest.mark.parametrize(
    ("meter", "length"), [("C", 8), ("C|", 8), ("6/8", 6), ("none", 8), ("0/4", 8), ("3/0", 8)]
)
def test_length_from_the_meter(meter, length):
    text = complete_rests(f"M:{meter}\nV:1\nV:2\n[V:1]?|\n", duration=lambda bar: None).text
    assert text.endswith(f"[V:2]z{length}|\n")


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='VKr:[]()|"!12/AbZz^,.-% \n', max_size=120))
@example("[V:")  # no voice: it comes back as it is
def test_any_text_is_completed(text):
    completed = complete_rests(HEADER + text).text
    lines = [line for line in completed.splitlines()[7:] if voice_segments(line)]
    assert all(f"[V:{name}]" in line for line in lines for name in "123")
    assert final_text(HEADER + text).startswith("X:1\n%%score")


def test_a_length_that_cannot_be_written_is_not_given_to_a_rest():
    bar = " ".join(f"C/{p}" for p in (97, 89, 83, 79, 73))  # the sum has a denominator of ten digits
    text = complete_rests(f"M:4/4\nL:1/8\nV:1\nV:2\n[V:1]{bar}|\n").text
    assert text.endswith("[V:2]z8|\n")
