"""Durations of bars; meter, note length and key."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notagen.abc import (
    Key,
    Meter,
    bar_duration,
    default_unit_length,
    durations,
    parse_bar,
    parse_key,
    parse_meter,
    parse_tune,
    parse_unit_length,
    total_duration,
)
from notagen.abc.syntax import MusicLine
from pentatonic.errors import FormatError

GOLDENS = Path(__file__).parent / "goldens"
CASES = json.loads((GOLDENS / "bar_duration.json").read_text())["cases"]
# Bars that the original does not understand and this reader does.
FIXED = {
    "[CE-]2 [C2E2]2": "6",
    "[C2E2]": "2",
    "C//": "1/4",
    "(2ab c": "4",
    "(6abcdef": "2",
    "C4 & E4": "4",
}


@pytest.mark.parametrize("case", CASES, ids=[case["bar"] for case in CASES])
def test_golden_durations(case):
    expected = FIXED.get(case["bar"]) if case["duration"] is None else case["duration"]
    found = bar_duration(case["bar"])
    assert (None if found is None else str(found)) == expected


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("(2ab", 3),
        ("(3abc", 2),
        ("(4abcd", 3),
        ("(5abcde", 2),
        ("(7abcdefg", 2),
        ("(8abcdefga", 3),
        ("(9abcdefgab", 2),
        ("(5:4abcde", 4),
        ("(3::2ab", Fraction(4, 3)),
        ("(3:2:2a2b", 2),
        ("(3z[CE]c", 2),
        ("(3{g}a y b!p!c", 2),
        ("(3:2:3a(3:2:3b/c/d/e", Fraction(7, 3)),
        ("(3:2:3a21/64b21/64c21/64", Fraction(21, 32)),
        ("(6:4:6a21/64b21/64c21/64d21/64e21/64f21/64", Fraction(21, 16)),
        ("(3:2:3a32/64b31/64c32/64", 1),
        ("(3:2:3abc/", Fraction(5, 3)),
        ("a>b", 2),
        ("a2>>b", 3),
        ("a<{g} b", 2),
        ("(3abc>d", 3),
        ("[CE]>c z", 3),
        ("[C3/2E]2", 3),
        ("c4 & z2 d2", 4),
        ("y4", 0),
        ("", 0),
        ("[K:D]|: c4", 4),
    ],
)
def test_durations(text, duration):
    assert total_duration(parse_bar(text)) == duration


def test_compound_meter_and_whole_bars():
    assert bar_duration("(5abcde", meter=Meter(6, 8)) == 3
    assert bar_duration("(5abcde", meter=Meter(3, 8)) == 2
    assert bar_duration("Z2", bar_length=Fraction(8)) == 16
    with pytest.raises(FormatError, match="meter is free"):
        total_duration(parse_bar("Z"))


def test_each_element():
    assert durations(parse_bar("a2>b")) == (Fraction(5, 2), 0, Fraction(1, 2))
    assert durations(parse_bar("a<<<b")) == (Fraction(1, 8), 0, Fraction(15, 8))
    assert durations(parse_bar("(3a(3:2:3b/c/d/e")) == (
        *(0, Fraction(2, 3), 0),
        *(Fraction(2, 9), Fraction(2, 9), Fraction(2, 9), 1),
    )
    assert durations(parse_bar("(3abc>d"))[3:] == (Fraction(2, 3) + Fraction(1, 2), 0, Fraction(1, 2))
    assert durations(parse_bar("c & d")) == (1, 0, 0, 0, 1)


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("c (3ab", 7, "has only 2"),
        ("c >", 7, "after it"),
        (">c", 5, "between two notes"),
        ("c>>d><e", 10, "between two notes"),
        ("c>>>>>d", 6, "between two notes"),
        ("c4 & d2", 9, "layer is shorter"),
        ("(3" * 9 + "c" * 9, 21, "deeper than 8"),
    ],
)
def test_errors_say_where(text, column, reason):
    with pytest.raises(FormatError, match=reason) as caught:
        total_duration(parse_bar(text, line=4, column=5))
    assert (caught.value.line, caught.value.column) == (4, column)
    assert bar_duration(text) is None


def test_a_long_bar_of_awkward_lengths():
    text = "".join(f"c1/{divisor}" for divisor in range(8000, 9999))
    assert bar_duration(text) == sum((Fraction(1, divisor) for divisor in range(8000, 9999)), Fraction(0))


@given(st.text('abcz[]()>3:2/{}"&-| 4Z', max_size=24))
def test_any_bar_has_a_duration_or_none(text):
    try:
        bar = parse_bar(text)
    except FormatError:
        assert bar_duration(text) is None
        return
    found = bar_duration(text)
    assert found is None or found >= 0
    try:
        each = durations(bar, bar_length=Fraction(1))
    except FormatError:
        assert found is None
    else:
        assert len(each) == len(bar.elements)


def test_bars_of_a_tune_know_their_place():
    tune = parse_tune("L:1/8\nM:3/4\nK:C\n[V:1]c6|[V:2](3ab|")
    (music,) = tune.body
    assert isinstance(music, MusicLine)
    with pytest.raises(FormatError) as caught:
        total_duration(music.voices[1].bars[0])
    assert (caught.value.line, caught.value.column) == (4, 14)


def test_meters():
    values = {
        "4/4": Meter(4, 4),
        " 6/8": Meter(6, 8),
        "C": Meter(4, 4),
        "C|": Meter(2, 2),
        "2+3/8": Meter(5, 8),
    }
    values |= {"(2+3)/8": Meter(5, 8), "none": None, "": None, "9/8 % note": Meter(9, 8)}
    assert {text: parse_meter(text) for text in values} == values
    assert Meter(6, 8).length == Fraction(3, 4)
    assert default_unit_length(Meter(2, 4)) == Fraction(1, 16)
    assert default_unit_length(Meter(3, 4)) == default_unit_length(None) == Fraction(1, 8)
    for text in ("4", "4/0", "0/4", "4/4/4", "x", "99999/4", "C||", "³/4"):
        with pytest.raises(FormatError) as caught:
            parse_meter(text, line=3, column=2)
        assert (caught.value.line, caught.value.column) == (3, 2)


def test_unit_lengths():
    assert parse_unit_length("1/8") == parse_unit_length(" 1 / 8 % eighths") == Fraction(1, 8)
    assert parse_unit_length("1") == 1
    for text in ("", "1/", "/8", "1/0", "0/8", "x/8", "1/8888", "²/8"):
        with pytest.raises(FormatError):
            parse_unit_length(text)


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("C", Key("C", "maj", 0)),
        ("F#min", Key("F#", "min", 3)),
        ("c#M", Key("C#", "min", 4)),
        ("D dorian", Key("D", "dor", 0)),
        ("Eb Lyd", Key("Eb", "lyd", -2)),
        ("Bphr clef=bass", Key("B", "phr", 1)),
        ("Gmix", Key("G", "mix", 0)),
        ("Bloc", Key("B", "loc", 0)),
        ("Aaeo", Key("A", "aeo", 0)),
        ("Cion treble", Key("C", "ion", 0)),
        ("Cb", Key("Cb", "maj", -7)),
        ("G treble", Key("G", "maj", 1)),
        ("none", Key("", "", 0)),
        ("", Key("", "", 0)),
    ],
)
def test_keys(value, key):
    assert parse_key(value) == key


@pytest.mark.parametrize(("value", "fifths"), [("HP", 0), ("Hp", 2), ("Hp % pipes", 2)])
def test_keys_of_the_pipes(value, fifths):
    assert parse_key(value) == Key("", "", fifths)


@pytest.mark.parametrize("value", ["H", "hp", "Gfoo", "#", "é", "1"])
def test_wrong_keys(value):
    with pytest.raises(FormatError) as caught:
        parse_key(value, line=2, column=3)
    assert (caught.value.line, caught.value.column) == (2, 3)


def test_layers_with_lengths_of_many_digits_disagree_with_a_place():
    primes = [p for p in range(2, 9999) if all(p % q for q in range(2, 100) if q < p)]
    bar = " ".join(f"C/{p}" for p in primes) + "C/8192C/6561" + "(97:96:1" * 3 + "(89:88:1" * 3 + "C/9409"
    with pytest.raises(FormatError, match="than the first one"):
        total_duration(parse_bar(f"{bar}&C"))
    assert bar_duration(f"{bar}&C") is None


@pytest.mark.parametrize(
    ("meter", "unit"),
    [
        ((2, 4), 16), ((5, 8), 16), ((11, 16), 16), ((23, 32), 16), ((3, 4), 8), ((6, 8), 8), ((12, 16), 8),
        ((13, 16), 8), ((4, 4), 8),
    ],
)  # fmt: skip
def test_the_default_note_length_is_an_eighth_from_three_quarters_on(
    meter: tuple[int, int], unit: int
) -> None:
    assert default_unit_length(Meter(*meter)) == Fraction(1, unit)
    assert default_unit_length(None) == Fraction(1, 8)
