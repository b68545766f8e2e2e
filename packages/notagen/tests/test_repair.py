"""Repair of pieces: what it changes, that the result is valid, and that it is stable."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notagen.abc import Meter, parse_bar, print_elements
from notagen.abc.duration import uncut_runs
from notagen.notation.bars import read_tune
from notagen.notation.layout import deinterleave, interleave
from notagen.notation.repair import repair
from notagen.notation.repair.fitting import fit, silence
from notagen.notation.repeats import unbalanced_repeats
from notagen.notation.rests import complete_rests
from notagen.notation.validation import validate
from pentatonic.errors import FormatError

CASES = json.loads((Path(__file__).parent / "goldens" / "preprocess.json").read_text())["cases"]
PIECES = [text for case in CASES for text in (case["interleaved"], case["augmented"].get("C")) if text]
GOOD = """\
%Baroque
%%score { 1 | ( 2 3 ) }
L:1/8
M:4/4
K:C
V:1 treble nm="Piano"
V:2 bass
V:3 bass
[r:0/6][V:1]c2|:[V:2]z2|:[V:3]x2|:
[r:1/5][V:1]c8|[V:2]C,8|[V:3]x8|
[r:2/4][V:1](3cde f2 [ce]>g a2|[V:2]z8|[V:3]C,8|
[r:3/3][V:1]c6:|[V:2]C,6:|[V:3]x6:|
[r:4/2][V:1][K:G][M:3/4]c6|[V:2][K:G][M:3/4]C,6|[V:3][K:G][M:3/4]x6|
[r:5/1][V:1]c6|[V:2]C,6|[V:3]x6|
[r:6/0][V:1]c4|][V:2]C,4|][V:3]x4|]
"""


def altered(*changes):
    text = GOOD
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def check(text):
    """Repair a text, and return the result after looking at what holds for all."""
    result = repair(text)
    assert [issue for issue in validate(result.text).issues] == []
    again = repair(result.text)
    assert (again.text, again.changes) == (result.text, ())
    return result


def test_valid_piece_is_unchanged():
    assert check(GOOD).text == GOOD
    assert check(GOOD).changes == ()


@pytest.mark.parametrize(
    "text", [GOOD.replace("[V:2]z8|", "").replace("[V:3]x8|", ""), GOOD.replace("\n", "\r\n")]
)
def test_silent_voices_come_back(text):
    assert check(text).text == GOOD
    assert check(text).changes == ()


def test_text_without_tags_stays_without():
    text = complete_rests(GOOD).text
    assert check(text).text == text


def test_an_old_line_break_in_an_empty_bar_is_dropped():
    result = check(GOOD.replace("[V:1]c8|", "[V:1]!|"))
    assert "lone '!'" in "".join(result.changes)


REPAIRS = [
    # header
    ("%%score { 1 | ( 2 3 ) }\n", "", "%%score 1 2 3\nL:1/8", "no %%score; added"),
    ("( 2 3 ) }", "( 2 3", "%%score { 1 | ( 2 3 ) }\n", "line 2: %%score: no closing ) }"),
    (
        "( 2 3 ) }",
        "( 2 3 } )",
        "%%score { 1 | ( 2 3 ) }\n",
        "line 2: %%score: '}' closes nothing; no closing }",
    ),
    (
        "( 2 3 )",
        "( 2 4 ) ( 5 )",
        "%%score { 1 | ( 2 ) 3 }\n".replace(" 3 }", " } 3"),
        "line 2: %%score: 4 without a V: line; 5 without a V: line; no voice 3",
    ),
    ("( 2 3 )", "( 2 3 2 )", "%%score { 1 | ( 2 3 ) }\n", "line 2: %%score: 2 twice"),
    ("L:1/8\n", "", "\nL:1/8\nM:4/4", "no L: in the header; added L:1/8"),
    (
        "M:4/4\n",
        "M:4\n",
        "M:none\nK:C",
        "line 4: dropped a line of the header: meter '4' is not n/d, C, C| or none",
    ),
    ("K:C\n", "", "M:4/4\nK:none\nV:1", "no K: in the header; added K:none"),
    (
        "V:2 bass\n",
        "V:2 bass\nV:2\nV:\nwords\n",
        "V:2 bass\nV:3",
        "line 8: dropped a line of the header: voice 2 is declared already",
    ),
    # lines
    ("[r:2/4]", "c4|\n%x\n[r:2/4]", "x8|\n[r:2/4]", "line 11: dropped a line without any [V:n]"),
    ("[r:2/4]", "[r:2/4]c", "[r:2/4][V:1]", "line 11, bar 3: dropped text before the first [V:n]"),
    ("[r:5/1]", "[r:7/7]", "[r:5/1]", None),
    ("[V:3]x8|\n", "[V:3]x8| % two\n", "[V:3]x8|\n", "line 10, bar 2, voice 3: dropped a comment"),
    ("[V:3]C,8|", "[V:4]C,8|", "[V:3]x8|", "line 11, bar 3, voice 4: dropped a voice that is not declared"),
    (
        "[V:3]C,8|",
        "[V:1]C,8|",
        "[V:3]x8|",
        "line 11, bar 3, voice 1: dropped a voice that is on the line already",
    ),
    (
        "[V:2]z8|[V:3]C,8|",
        "[V:3]C,8|[V:2]z8|",
        "[V:2]z8|[V:3]C,8|",
        "line 11, bar 3: order of voices changed to 1 2 3",
    ),
    (
        "[V:1]c6|[V:2]C,6|[V:3]x6|",
        "[V:8]c6|",
        "[r:5/0][V:1]c4|]",
        "line 14: dropped a line without any declared voice",
    ),
    # bars
    ("[V:3]C,8|", "[V:3]C,7|", "[V:3]C,7 x1|", "line 11, bar 3, voice 3: the bar was filled with rests"),
    ("[V:3]C,8|", "[V:3]C,4 D,5/2 E,8|", "[V:3]C,4 D,5/2 E,3/2|", "line 11, bar 3, voice 3: the bar was cut"),
    ("[V:3]C,8|", "[V:3]C,7 (3C,D,E,|", "[V:3]C,7 x1|", "line 11, bar 3, voice 3: the bar was cut"),
    (
        "[V:3]C,8|",
        "[V:3]C,8/0|",
        "[V:3]x8|",
        "line 11, bar 3, voice 3: rests instead of a bar that cannot be parsed: length '8/0' divides by zero",
    ),
    ("[V:3]C,8|", "[V:3]!p!|", "[V:3]x8|", "line 11, bar 3, voice 3: rests in an empty bar"),
    (
        "[V:1]c6|[V:2]C,6|[V:3]x6|",
        "[V:1]c5|[V:2]C,5|",
        "[V:1]c5 z1|[V:2]C,5 z1|[V:3]x6|",
        "line 14, bar 6: the bar was made to fill the meter",
    ),
    (
        "[V:1]c8|[V:2]C,8|",
        "[V:1]c8?|[V:2]C,8?|",
        "[V:1]z8|[V:2]z8|",
        "line 10, bar 2, voice 1: rests instead of a bar that cannot be parsed: '?' has no meaning here",
    ),
    # barlines
    (
        "[V:3]C,8|",
        "[V:3]C,8||",
        "[V:3]C,8|\n",
        "line 11, bar 3, voice 3: barlines '' and '||' became '' and '|'",
    ),
    (
        "[V:1]c8|[V:2]C,8|[V:3]x8|",
        "[V:1]c8|:[V:2]C,8|:",
        "[V:1]c8|[V:2]C,8|[V:3]x8|",
        "line 10, bar 2: dropped a |: without its partner",
    ),
    (
        "[V:1]c6|[V:2]C,6|[V:3]x6|",
        "[V:1]c6:|2[V:2]C,6:|2",
        "[V:1]c6|2[V:2]C,6|2",
        "line 14, bar 6: dropped a :| without its partner",
    ),
    (
        "[V:1]c6|[V:2]C,6|[V:3]x6|",
        "[V:1][1c6|[V:2]C,6|",
        "[V:1][1c6|[V:2][1C,6|[V:3][1x6|",
        "line 14, bar 6, voice 2: barlines '' and '|' became '[1' and '|'",
    ),
    (
        "c4|][V:2]C,4|][V:3]x4|]",
        "c4|1[V:2]C,4|1",
        "[V:1]c4|][V:2]C,4|][V:3]x4|]",
        "line 15, bar 7: the last barline '|1' became '|]'",
    ),
    (
        "c4|][V:2]C,4|][V:3]x4|]",
        "c4",
        "[V:1]c4|][V:2]z4|][V:3]x4|]",
        "line 15, bar 7, voice 1: barlines '' and '' became '' and '|'",
    ),
    # changes
    (
        "[V:2][K:G][M:3/4]",
        "[V:2][M:3/4]",
        "[V:2][K:G][M:3/4]",
        "line 13, bar 5, voice 2: K: became that of the first voice with one",
    ),
    (
        "[V:2][K:G][M:3/4]",
        "[V:2][K:G][M:6/8]",
        "[V:2][M:3/4][K:G]",
        "line 13, bar 5, voice 2: M: became that of the first voice with one",
    ),
    ("[V:3][K:G][M:3/4]x6|", "", "[V:3][K:G][M:3/4]x6|", None),
    (
        "[V:1]c8|[V:2]C,8|[V:3]x8|",
        "[V:1]^3/2c8|[V:2]C,8|[V:3]x8|",
        "[V:1]^c8|[V:2]C,8|[V:3]x8|",
        "line 10: left out what the dialect does not have: quarter tone",
    ),
    (
        "[V:1]c6:|[V:2]C,6:|[V:3]x6:|",
        "[V:1]c6::|[V:2]C,6::|[V:3]x6:|",
        "[V:1]c6:|[V:2]C,6:|[V:3]x6:|",
        "line 12: left out what the dialect does not have: number of times of a repeat",
    ),
    (
        "[V:2][K:G][M:3/4]",
        "[V:2][K:Q][K:G][M:3/4]",
        "[V:2][K:G][M:3/4]",
        "line 13, bar 5, voice 2: dropped [K:Q]: key 'Q' does not start with A to G or none",
    ),
]


@pytest.mark.parametrize(("old", "new", "expected", "change"), REPAIRS, ids=range(len(REPAIRS)))
def test_each_repair(old, new, expected, change):
    result = check(altered((old, new)))
    assert expected in result.text
    assert (change in result.changes) if change else result.changes == ()


@pytest.mark.parametrize("cut", range(1, len("[r:6/0][V:1]c4|][V:2]C,4|][V:3]x4|]\n")))
def test_a_broken_off_piece_keeps_its_complete_bars(cut):
    result = check(GOOD[:-cut])
    ends = "[V:1]c4|]" in result.text
    assert result.text.count("[V:1]") == 6 + ends
    assert result.text.endswith("|]\n")
    if not ends:
        assert "[r:5/0][V:1]c6|][V:2]C,6|][V:3]x6|]" in result.text


def test_a_repeated_sign_at_both_sides_goes_as_one():
    text = altered(
        ("x8|\n[r:2/4][V:1]", "x8|:\n[r:2/4][V:1]|:"), ("[V:1]c8|[V:2]C,8|", "[V:1]c8|:[V:2]C,8|:")
    )
    text = text.replace("[V:2]z8|[V:3]C,8|", "[V:2]|:z8|[V:3]|:C,8|")
    result = check(text)
    assert result.changes == ("line 10, bar 2: dropped a |: without its partner",)
    assert "[V:3]x8|\n[r:2/4][V:1]|(3cde" in result.text


def test_voices_that_no_header_declares_are_declared():
    result = check("L:1/8\nM:4/4\nK:C\n[V:2]C8|\n[V:1]c8|]\n")
    assert result.text == "%%score 1 2\nL:1/8\nM:4/4\nK:C\nV:1\nV:2\n[V:1]z8|[V:2]C8|\n[V:1]c8|][V:2]z8|]\n"
    assert result.changes == ("no V: lines; declared 1 2", "no %%score; added")


def test_change_of_meter_at_the_end_of_a_bar_holds_after_it():
    text = GOOD.replace("[V:1]c6|[V:2]C,6|[V:3]x6|", "[V:1]c6[M:2/4]|\n[V:1]c4|")
    result = check(text)
    assert "[V:1]c6[M:2/4]|[V:2]z6[M:2/4]|[V:3]x6[M:2/4]|\n" in result.text
    assert "[V:1]c4|[V:2]z4|[V:3]x4|\n" in result.text


@pytest.mark.parametrize("length", [2, 9])
def test_the_first_bar_may_have_any_length(length):
    text = altered(("c2|:[V:2]z2|:[V:3]x2|:", f"c{length}|[V:2]z{length}|[V:3]x{length}|"))
    assert check(text).text == text


def test_of_two_lengths_the_one_of_the_meter_holds():
    result = check(altered(("c2|:[V:2]z2|:[V:3]x2|:", "c7|:[V:2]C8|:")))
    assert "[V:1]c7 z1|:[V:2]C8|:[V:3]x8|:" in result.text


def test_barlines_of_what_is_no_abc_stay():
    result = check(altered(("[V:1]c6:|[V:2]C,6:|[V:3]x6:|", "[V:1]c6?:|[V:2]|C,6?:|")))
    assert "[V:1]z8:|[V:2]z8:|[V:3]x8:|" in result.text


def test_a_sign_before_a_bar_that_has_no_partner():
    result = check(altered(("[V:1]c6|[V:2]C,6|[V:3]x6|", "[V:1]|:c6|[V:2]|:C,6|")))
    assert "[V:1]|c6|[V:2]|C,6|[V:3]|x6|" in result.text
    assert result.changes == ("line 14, bar 6: dropped a |: without its partner",)


def test_lengths_in_free_meter():
    text = "%%score 1\nL:1/4\nM:none\nK:C\nV:1\n[V:1]?|\n[V:1]c3|\n[V:1]?|]\n"
    assert check(text).text.endswith("[V:1]z4|\n[V:1]c3|\n[V:1]z3|]\n")


def test_the_note_length_that_a_meter_implies_is_written():
    assert "L:1/16\nM:2/4\n" in check("M:2/4\nK:C\nV:1\n[V:1]c8|]\n").text


def test_percussion_gets_no_key():
    text = altered(("V:3 bass\n", "V:3 perc\nK:none\n"), ("[V:3][K:G][M:3/4]x6|", ""))
    assert "[V:3][M:3/4]x6|" in check(text).text


@pytest.mark.parametrize(
    "text",
    [GOOD.partition("[r:0")[0], "K:C\nV:1\n[V:1]c4", "K:C\nV:1\n[V:2]c4|\n"],
)
def test_without_music_there_is_nothing_to_save(text):
    with pytest.raises(FormatError, match="no music"):
        repair(text)


@pytest.mark.parametrize("text", ["", "\n", "hello\n", "C4|D4|\n"])
def test_standard_layout_needs_a_key(text):
    with pytest.raises(FormatError, match="no K: line"):
        repair(text)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case["interleaved"]], ids=lambda case: case["name"]
)
def test_standard_layout_is_repaired_as_interleaved(case):
    standard = deinterleave(complete_rests(case["interleaved"]).text)
    assert read_tune(check(standard).text).voices == read_tune(check(interleave(standard)).text).voices


def test_a_tune_of_a_book():
    result = check("%Folk\nX:7\nT:Café\nM:4/4\nL:1/4\nK:D\nDEFG|A2|B4:| %3\n")
    assert result.text == (
        "%Folk\nX:7\nT:Café\n%%score 1\nL:1/4\nM:4/4\nK:D\nV:1 treble\n[V:1]DEFG|\n[V:1]A2 z2|\n[V:1]B4:|\n"
    )
    assert result.changes == (
        "line 10, bar 2: the bar was made to fill the meter",
        "line 10, bar 2, voice 1: the bar was filled with rests",
    )


def test_too_many_voices_and_bars():
    header = "".join(f"V:{number}\n" for number in range(3000))
    with pytest.raises(FormatError, match="3000 voices with 3000 bars"):
        repair(header + "[V:1]c|\n" * 3000)


@pytest.mark.parametrize("text", PIECES)
def test_golden_pieces_change_only_where_they_are_wrong(text):
    result = check(text)
    assert bool(result.changes) != validate(text).valid
    assert interleave(deinterleave(result.text)) == result.text


def fitted(content, length, meter=None):
    return print_elements(
        fit(parse_bar(content), "z", Fraction(length), meter=meter, bar_length=meter and meter.length * 8)
    )


@pytest.mark.parametrize(
    ("content", "length", "expected"),
    [
        ("c2 d2", 8, "c2 d2 z4"),
        ("c2 d2 ", 5, "c2 d2 z1"),
        ("c2>d2 e4", 4, "c2>d2"),
        ("c2>d2 e4", 3, "z3"),
        ("c2 > !p! {g}d2 e4", 5, "c2 > !p! {g}d2 e1"),
        ("c2 > d2 e4", 3, "z3"),
        ("c2", 200, "c2 z198"),
        ("(3cde>f g2", 4, "(3cde>f g1"),
        ("(3cde>f g2", 2, "z2"),
        ("c4 (3:2:4d2e2f2g2", 5, "c4 z1"),
        ("[ce]8 d2", 5, "[ce]5"),
        ("[c2e]4 d2", 5, "[c2e]5/2"),
        ("c2&d3", 4, "c2 z2"),
        ("c4 [K:D] d4 [M:3/4]", 4, "c4 [K:D][M:3/4]"),
        ("Z2", 9, "z9"),
        ("c0 d4", 2, "c0 d2"),
        ("C/9999", 5, "z5"),
        ("(5cdefg a3", 4, "(5cdefg a1"),
    ],
)
def test_fitting(content, length, expected):
    meter = Meter(6, 8) if "(5" in content or "Z" in content else None
    assert fitted(content, length, meter) == expected


def test_silence_keeps_changes_in_their_places():
    bar = parse_bar("!p![K:D]c2 [Q:1/4=60]d2 [M:3/4]")
    assert print_elements(silence(bar.elements, "x", Fraction(4), None)) == "[K:D]x4[M:3/4]"
    assert print_elements(silence((), "z", Fraction(20000), Fraction(20000))) == "Z"


@pytest.mark.parametrize(
    ("content", "runs"),
    [
        ("c2 d", [(1, 2), (2, 0), (3, 1)]),
        ("c2>d2 e", [(3, 4), (4, 0), (5, 1)]),
        ("c>d>e", [(5, 3)]),
        ("(3cde f", [(4, 2), (5, 0), (6, 1)]),
        ("(3cd>e f", [(5, 2), (6, 0), (7, 1)]),
        ("c &d2", [(1, 1), (2, 0)]),
    ],
)
def test_uncut_runs(content, runs):
    assert list(uncut_runs(parse_bar(content))) == runs


@pytest.mark.parametrize(
    ("barlines", "signs"),
    [
        ("| :| |", []),
        ("|: :| |: :|", []),
        ("|1 :|2 :|", []),
        (":| :|", [(1, True)]),
        ("|: |: :|", [(1, False)]),
        ("|: | |", [(0, False)]),
        (":: :| ::", [(2, True), (2, False)]),
    ],
)
def test_unbalanced_repeats(barlines, signs):
    pairs = [("", right) for right in barlines.split()]
    assert [(sign.bar, sign.end) for sign in unbalanced_repeats(pairs)] == signs


MARKS = (
    "[V:1]",
    "[V:2]",
    "[V:",
    "[r:0/9]",
    "[r:",
    "[K:G]",
    "[M:3/4]",
    "[M:x]",
    "[L:1/4]",
    "[L:0]",
    "[1",
    "[M:C|]",
)
LINES = (
    "%%score{",
    "%%score 1 ( 2",
    "V:1",
    "V:2\n",
    "V:",
    "M:",
    "L:1/8",
    "K:",
    "K:none\n",
    "\n",
    "\r",
    "\x0b",
    "\u2028",
    "%",
)
MUSIC = (
    "|",
    "|:",
    ":|",
    "::",
    "|1",
    ":|2",
    "|]",
    "||",
    "c",
    "d2",
    "(3",
    "(99:1:9",
    ">",
    "&",
    "Z4",
    "z",
    "9999",
    "/7",
    *' "!{}[]/',
)
FRAGMENTS = st.sampled_from((*MARKS, *LINES, *MUSIC))


@given(st.lists(FRAGMENTS, max_size=60).map("".join) | st.text())
def test_any_text_is_repaired_or_refused(text):
    try:
        check(text)
    except FormatError:
        assert not validate(text).valid


@given(
    st.sampled_from([GOOD, *PIECES]),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), FRAGMENTS), max_size=6),
)
def test_damaged_pieces_are_repaired(text, damages):
    start = text.index("[V:1]")
    for place, removed, added in damages:
        at = start + int(place * (len(text) - start))
        text = text[:at] + added + text[at + removed :]
    if "[V:1]" in text[:-1]:
        try:
            check(text)
        except FormatError as error:
            assert "no music" in str(error)
