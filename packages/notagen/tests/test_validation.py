"""The validator of interleaved pieces."""

from __future__ import annotations

import json
from math import isqrt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notagen.notation.rests import complete_rests
from notagen.notation.validation import WARNINGS, validate

CASES = json.loads((Path(__file__).parent / "goldens" / "preprocess.json").read_text())["cases"]
GOOD = """\
%%score { 1 | ( 2 3 ) }
L:1/8
Q:1/4=90
M:4/4
K:C
V:1 treble nm="Piano" snm="Pno."
V:2 bass
V:3 bass
[r:0/6][V:1]c2|:[V:2]z2|:[V:3]x2|:
[r:1/5][V:1]c8|[V:2]C,8|[V:3]x8|
[r:2/4][V:1](3cde f2 [ce]>g a2|[V:3]C,8|
[r:3/3][V:1]c6:|[V:2]C,6:|[V:3]x6:|
[r:4/2][V:1][K:G][M:3/4]c6|[V:2][K:G][M:3/4]C,6|[V:3][K:G][M:3/4]x6|
[r:5/1][V:1]c6|[V:2]C,6|[V:3]x6|
[r:6/0][V:1]c4|][V:2]C,4|][V:3]x4|]
"""


def found(text):
    return [(issue.kind, issue.line, issue.bar, issue.voice) for issue in validate(text).issues]


def altered(old, new):
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def test_good_piece():
    report = validate(GOOD)
    assert report.issues == ()
    assert report.valid
    assert (report.bars, report.unparsable_bars, report.misaligned_bars) == (7, 0, 0)
    assert report.unparsable_rate == report.misaligned_rate == 0.0


@pytest.mark.parametrize("text", [complete_rests(GOOD).text, GOOD.replace("\n", "\r\n"), "%end\n\n" + GOOD])
def test_tags_and_left_out_voices_are_optional(text):
    assert validate(text).issues == ()


def test_one_voice_needs_no_score_line():
    text = "L:1/8\nM:4/4\nK:C\nV:1 treble\n[V:1]c8|]\n"
    assert validate(text).issues == ()
    assert [issue.kind for issue in validate(text.replace("V:1 treble", "V:1\nV:2")).issues] == ["score"]


def test_a_clef_may_change_in_one_voice_but_not_the_key():
    at = GOOD.index("[V:1]", GOOD.index("[r:2/4]")) + len("[V:1]")
    for clef in ("C clef=bass", "bass", "treble", "tenor", "alto", "clef=bass", "treble-8"):
        assert validate(f"{GOOD[:at]}[K:{clef}]{GOOD[at:]}").issues == ()
    assert [issue.kind for issue in validate(f"{GOOD[:at]}[K:D]{GOOD[at:]}").issues] == ["change"]


RULES = [
    ("%%score { 1 | ( 2 3 ) }\n", "", [("score", None, None, None)]),
    ("( 2 3 ) }", "( 2 3 )", [("score-brackets", 1, None, None)]),
    ("( 2 3 ) }", "( 2 3 } )", [("score-brackets", 1, None, None)]),
    ("{ 1 | ( 2 3 ) }", "{ 1 | ( 2 3 ) } ]", [("score-brackets", 1, None, None)]),
    ("( 2 3 )", "( 2 3 4 )", [("score-voices", 1, None, None)]),
    ("( 2 3 )", "( 2 3 3 )", [("score-voices", 1, None, None)]),
    ("( 2 3 )", "3", [("score-voices", 1, None, None)]),
    ("L:1/8\n", "", [("header-field", None, None, None)]),
    ("M:4/4\n", "", [("header-field", None, None, None)]),
    ("K:C\n", "", [("header-field", None, None, None)]),
    ("K:C\n", "K:Q\n", [("header-field", 5, None, None)]),
    ("V:3 bass\n", "V:3 bass\nV:3\n", [("voice-declaration", 9, None, "3")]),
    ("V:3 bass\n", "V:3 bass\nV:\n", [("voice-declaration", 9, None, None)]),
    ("Q:1/4=90\n", "some words\n", [("stray-text", 3, None, None)]),
    ("[r:2/4]", "c4|\n[r:2/4]", [("stray-text", 11, 2, None)]),
    ("[r:2/4]", "[r:2/4]c2", [("stray-text", 11, 3, None)]),
    ("[r:0/6]", "[r:1/5]", [("tag", 9, 1, None), ("tag", 10, 2, None)]),
    ("[r:5/1]", "[r:5/2]", [("tag", 14, 6, None), ("tag", 15, 7, None)]),
    ("[r:5/1]", "", [("tag", 14, 6, None)]),
    ("[V:3]C,8|", "[V:4]C,8|", [("undeclared-voice", 11, 3, "4")]),
    ("[V:3]C,8|", "[V:1]C,8|", [("repeated-voice", 11, 3, "1")]),
    ("[V:3]C,8|", "[V:3]C,8|[V:2]C,8|", [("voice-order", 11, 3, "2")]),
    (
        "(3cde f2 [ce]>g a2|[V:3]C,8|",
        "c8|[V:3]C,8|[V:2]z8|[V:2]z8|",
        [("voice-order", 11, 3, "2"), ("repeated-voice", 11, 3, "2")],
    ),
    (
        "[V:1](3cde f2 [ce]>g a2|[V:3]C,8|",
        "[V:3]C,8|[V:1]c8|[V:2]C,8|",
        [("voice-order", 11, 3, "1"), ("voice-order", 11, 3, "2")],
    ),
    ("[V:3]C,8|", "[V:3]C,8||", [("barline", 11, 3, "3")]),
    ("[V:3]C,8|", "[V:3]|:C,8|", [("barline", 11, 3, "3")]),
    ("[V:3]C,8|", "[V:3]C,4|C,4|", [("unparsable", 11, 3, "3")]),
    ("[V:3]C,8|", "[V:3]C,8/0|", [("unparsable", 11, 3, "3")]),
    ("[V:3]C,8|", "[V:3](3C,8|", [("unparsable", 11, 3, "3")]),
    ("[V:3]C,8|", "[V:3]C,7|", [("duration", 11, 3, "3")]),
    ("[V:3]C,8|", "[V:3]|", [("duration", 11, 3, "3")]),
    # Of two lengths in as many voices the one of the meter is right, also in a later voice.
    ("(3cde f2 [ce]>g a2|[V:3]C,8|", "c7|[V:3]C,8|", [("duration", 11, 3, "1")]),
    ("[V:1]c6|[V:2]C,6|[V:3]x6|", "[V:1]c5|[V:2]C,5|", [("meter", 14, 6, None)]),
    ("[V:1]c6|[V:2]C,6|[V:3]x6|", "[V:1]c7||[V:2]C,7||", [("meter", 14, 6, None)]),
    ("[V:1]c8|[V:2]C,8|[V:3]x8|", "[V:1]c8|:[V:2]C,8|:", [("repeat", 10, 2, None)]),
    ("[V:1]c6|[V:2]C,6|[V:3]x6|", "[V:1]c6:|[V:2]C,6:|", [("repeat", 14, 6, None)]),
    ("c4|][V:2]C,4|][V:3]x4|]", "c4|:", [("ending", 15, 7, None), ("repeat", 15, 7, None)]),
    ("[V:1]c8|[V:2]C,8|[V:3]x8|", "[V:1]^/c8|[V:2]C,8|[V:3]x8|", [("foreign", 10, 2, "1")]),
    (
        "c6:|[V:2]C,6:|[V:3]x6:|",
        "c6::|[V:2]C,6::|[V:3]x6::|",
        [("foreign", 12, 4, "1"), ("foreign", 12, 4, "2"), ("foreign", 12, 4, "3")],
    ),
    ("[V:2][K:G][M:3/4]", "[V:2][M:3/4]", [("change", 13, 5, None)]),
    ("[V:2][K:G][M:3/4]", "[V:2][K:G][M:6/8]", [("change", 13, 5, None)]),
    ("[V:2][K:G][M:3/4]", "[V:2][K:Q][M:3/4]", [("change", 13, 5, "2")]),
    ("c4|][V:2]C,4|][V:3]x4|]", "|:c4:|:", [("ending", 15, 7, None), ("repeat", 15, 7, None)]),
    ("c4|][V:2]C,4|][V:3]x4|]", "c4|", [("ending", 15, 7, None)]),
    ("c4|][V:2]C,4|][V:3]x4|]", "c4", [("barline", 15, 7, "1"), ("ending", 15, 7, None)]),
]


@pytest.mark.parametrize(
    ("old", "new", "issues"), RULES, ids=[f"{i}-{r[2][0][0]}" for i, r in enumerate(RULES)]
)
def test_each_rule(old, new, issues):
    text = altered(old, new)
    assert sorted(found(text), key=str) == sorted(issues, key=str)
    assert validate(text).valid == all(kind in WARNINGS for kind, *_ in issues)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[V:1]c6|[V:2]C,6|[V:3]x6|", "[V:1]c5||"),
        ("[V:1]c6|[V:2]C,6|[V:3]x6|\n[r:6/0][V:1]c4|][V:2]C,4|][V:3]x4|]", "[V:1]|:c6|\n[V:1]c4:|"),
        ("[V:1]c6|[V:2]C,6|[V:3]x6|", "[V:1]|:c5:|"),
        ("[V:1]c6:|[V:2]C,6:|[V:3]x6:|", "[V:1]c6:|:[V:2]C,6:|:\n[V:1]c8:|"),
        ("[V:1]c6:|[V:2]C,6:|[V:3]x6:|", "[V:1]c8|1\n[V:1]c8:|2\n[V:1]c8:|"),
        ("c2|:[V:2]z2|:[V:3]x2|:", "c2|"),
        ("c2|:[V:2]z2|:[V:3]x2|:", "c9|"),
        ("c8|[V:2]C,8|[V:3]x8|", "|:c8|[V:2]|:C,8|"),
        ("[V:1]c6|[V:2]C,6|[V:3]x6|", "[V:1]|:c5|\n[V:1]c6:|"),
        ("[V:1]c6|[V:2]C,6|[V:3]x6|", "[V:1][Q:1/4=60][M:2/4]c4|[V:2][M:2/4]C4|[V:3][M:2/4]x4|"),
        ("V:3 bass\n", "V:3 perc\nK:none\n"),
        ("[V:1]c8|[V:2]C,8|[V:3]x8|", "[V:1]Z|[V:2]z8|[V:3]C8&D8|"),
        ("[V:1]c6|[V:2]C,6|[V:3]x6|", "[V:1]c6[M:2/4]|[V:2]C6[M:2/4]|[V:3]x6[M:2/4]|\n[V:1]c4|"),
    ],
)
def test_what_is_allowed(old, new):
    assert [issue for issue in validate(altered(old, new)).issues if not issue.warning] == []


def test_percussion_needs_no_key_change():
    text = altered("V:3 bass\n", "V:3 perc\nK:none\n").replace("[V:3][K:G]", "[V:3]")
    assert validate(text).issues == ()
    assert not validate(GOOD.replace("[V:3][K:G]", "[V:3]")).valid


def test_a_bad_bar_leaves_the_rest_checked():
    text = altered("[V:1]c8|", "[V:1]c8?|").replace("[V:3]C,8|", "[V:3]C,7|")
    report = validate(text)
    assert [(issue.kind, issue.bar) for issue in report.issues] == [("unparsable", 2), ("duration", 3)]
    assert "column 3" in report.issues[0].message
    assert (report.unparsable_bars, report.misaligned_bars) == (1, 1)
    assert report.unparsable_rate == report.misaligned_rate == 1 / 7


def test_dictionary_is_json():
    report = validate(altered("[r:0/6]", "[r:9/9]").replace("[V:3]C,8|", "[V:3]C,7|"))
    values = json.loads(json.dumps(report.to_dict()))
    assert values["valid"] is False
    assert values["misaligned_bars"] == 1
    assert values["misaligned_rate"] == 1 / 7
    assert values["issues"][0] == {
        "line": 9,
        "bar": 1,
        "voice": None,
        "kind": "tag",
        "message": "[r:9/9] after 0 bars",
        "level": "dialect",
        "warning": True,
    }


# unequal_durations: the last bar of voice 2 is too short, on purpose. anacrusis: its second `:|` has no `|:`.
INVALID = {"unequal_durations": {("duration", 2)}, "anacrusis": {("repeat", 6)}}


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_golden_pieces(case):
    for text in filter(None, [case["interleaved"], *case["augmented"].values()]):
        assert {(issue.kind, issue.bar) for issue in validate(text).issues} == INVALID.get(
            case["name"], set()
        )


@pytest.mark.parametrize("text", ["", "\n \n", "X:1\nK:C\nV:1\nCDEF|\n", "%%score"])
def test_text_without_interleaved_music(text):
    report = validate(text)
    assert not report.valid
    assert report.bars == 0
    assert "no-music" in {issue.kind for issue in report.issues}


MARKS = ("[V:1]", "[V:2]", "[V:", "[r:0/9]", "[r:", "[K:G]", "[M:3/4]", "[M:x]", "[L:1/4]", "[L:0]")
LINES = ("%%score{", "V:1", "V:", "M:", "L:1/8", "K:", "\n", "\r", "\x0b", "\u2028")
MUSIC = (
    "|",
    "|:",
    ":|",
    "::",
    "|1",
    "|]",
    "c",
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


@given(
    st.text()
    | st.lists(FRAGMENTS).map("".join)
    | st.lists(FRAGMENTS).map(lambda parts: GOOD + "".join(parts))
)
def test_any_text_has_a_report(text):
    report = validate(text)
    json.dumps(report.to_dict())
    assert report.valid == all(issue.warning for issue in report.issues)
    assert max(report.unparsable_bars, report.misaligned_bars) <= report.bars


def test_durations_of_many_digits():
    primes = [p for p in range(2, 9999) if all(p % q for q in range(2, isqrt(p) + 1))]
    bar = " ".join(f"C/{p}" for p in primes) + "C/8192C/6561" + "(97:96:1" * 3 + "(89:88:1" * 3 + "C/9409"
    assert validate(altered("[V:3]C,8|", f"[V:3]{bar}|")).misaligned_bars == 1
    assert validate(altered("[V:3]C,8|", f"[V:3]{bar}&C|")).unparsable_bars == 1
