"""Transposition: spelling, chord symbols, keys, and whole tunes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notagen.notation.bars import BarTable, VoiceBars, read_tune
from notagen.notation.clean import clean
from notagen.notation.keys import MAJOR_KEYS, global_key, major_key
from notagen.notation.layout import interleave
from notagen.notation.rests import omit_rests
from notagen.notation.transpose import Move, transpose
from pentatonic.errors import FormatError

GOLDENS = Path(__file__).parent / "goldens"
CASES = json.loads((GOLDENS / "transpose.json").read_text())["cases"]
PREPROCESS = json.loads((GOLDENS / "preprocess.json").read_text())["cases"]
AUGMENTED = [case for case in PREPROCESS if case["augmented"]]
NATURALS = dict(zip("CDEFGAB", (0, 2, 4, 5, 7, 9, 11), strict=True))


def transpose_text(text: str, source: str, target: str) -> str:
    """Transpose the music of one voice."""
    tune = BarTable((f"K:{source}",), {"1": VoiceBars("", (text,), ("", "|"))})
    return transpose(tune, target).voices["1"].bars[0]


def of_kind(kind):
    return [case for case in CASES if case["kind"] == kind]


@pytest.mark.parametrize(
    "case", of_kind("chord_symbol_root"), ids=lambda case: f"{case['note']}-{case['to_key']}"
)
def test_golden_roots(case):
    assert Move(case["from_key"], case["to_key"]).root(case["note"]) == case["result"]


@pytest.mark.parametrize("case", of_kind("note"), ids=lambda case: f"{case['note']}-{case['to_key']}")
def test_golden_notes(case):
    # The golden writes every sign, transposition only those that differ from the key.
    result = transpose_text(case["note"], case["from_key"], case["to_key"])
    assert result.lstrip("^_=") == case["result"].lstrip("^_=")
    assert sounding(result, case["to_key"]) == sounding(case["result"], case["to_key"])
    in_key = sounding(result.lstrip("^_="), case["to_key"]) == sounding(result, case["to_key"])
    assert result == (case["result"].lstrip("^_=") if in_key else case["result"])


@pytest.mark.parametrize("case", of_kind("voice"), ids=lambda case: f"{case['from_key']}-{case['to_key']}")
def test_golden_voices(case):
    assert transpose_text(case["text"], case["from_key"], case["to_key"]) == case["result"]


@pytest.mark.parametrize("case", AUGMENTED, ids=[case["name"] for case in AUGMENTED])
def test_golden_tunes(case):
    tune = read_tune(clean(case["input"]))
    for key, expected in case["augmented"].items():
        assert omit_rests(transpose(tune, key), keep_silent_bars=False) == expected, key


def sounding(text, key, interval=0):
    """Return the semitones of the notes of a text without inline keys."""
    signs = {"": None, "__": -2, "_": -1, "=": 0, "^": 1, "^^": 2}
    count = MAJOR_KEYS.index(major_key(key)) - 7
    order = "FCGDAEB" if count > 0 else "BEADGCF"
    signature = {letter: 1 if count > 0 else -1 for letter in order[: abs(count)]}
    result = []
    for bar in text.split("|"):
        written = {}
        for sign, name, marks in re.findall(
            r"(\^\^|\^|__|_|=|)([A-Ga-g])([,']*)", re.sub('"[^"]*"', "", bar)
        ):
            octave = 5 + name.islower() + marks.count("'") - marks.count(",")
            place = name.upper(), octave
            if signs[sign] is not None:
                written[place] = signs[sign]
            alteration = written.get(place, signature.get(place[0], 0))
            result.append(12 * octave + NATURALS[place[0]] + alteration + interval)
    return tuple(result)


NOTES = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "", "^", "_", "=", "^^", "__"]),
        st.sampled_from("ABCDEFGabcdefg"),
        st.sampled_from(["", "'", ","]),
    ),
)
KEYS = st.sampled_from(MAJOR_KEYS)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(NOTES, st.just("|")), max_size=20), KEYS, KEYS)
def test_every_pitch_moves_by_the_interval_and_back(notes, source, target):
    text = " ".join(notes).replace("',", "")
    there = transpose_text(text, source, target)
    move = Move(source, target)
    assert -5 <= move.interval <= 6
    assert sounding(there, target) == sounding(text, source, move.interval)
    back = transpose_text(there, target, source)
    octave = 12 if Move(target, source).interval != -move.interval else 0  # a tritone goes up both ways
    assert sounding(back, source) == sounding(text, source, octave)


@given(st.text(alphabet="^_=CcZ'\",![]K:|dm#( \n", max_size=60), KEYS)
def test_any_text_is_moved_or_refused(text, key):
    try:
        transpose_text(text, "D", key)
    except FormatError:
        return
    assert transpose_text(text, "D", key).count("|") == text.count("|")


def test_what_is_copied():
    text = '!fermata! "^Cantabile" [M:3/4] {/g}z2 (3CDE "_dolce"'
    assert transpose_text(text, "C", "D") == '!fermata! "^Cantabile" [M:3/4] {/a}z2 (3DEF "_dolce"'


def test_voices_with_keys_of_their_own():
    case = next(case for case in PREPROCESS if case["name"] == "transposing")
    tune = read_tune(clean(case["input"]))
    moved = transpose(tune, "F")
    assert [line for line in moved.header if line.startswith("K:")] == ["K:F", "K:G", "K:C", "K:none"]
    assert moved.voices["3"] == tune.voices["3"]
    assert moved.voices["1"].bars[0] == "G2 ^c2 d2 =c2"
    assert moved.voices["2"].bars[0] == "C4 E4"
    assert moved.voices["4"].bars[1] == '"F/A""Gm7" A4 B4'
    assert transpose(tune, "Eb") == read_tune(case["interleaved"])


def test_key_line_after_the_voices_belongs_to_the_tune():
    tune = transpose(read_tune("V:1 treble\nV:2 bass\nK:D\nV:1\nF4|\nV:2\n^F4|\n"), "C")
    assert tune.header[-1] == "K:C"
    assert [voice.bars for voice in tune.voices.values()] == [("E4",), ("E4",)]


def test_tune_without_key_counts_as_c_major():
    tune = read_tune("K:none\nV:1 treble\nV:1\n^C4|[K:D]C4|\n")
    moved = transpose(tune, "D")
    assert moved.header == ("K:D", "V:1 treble")
    assert moved.voices["1"].bars == ("^D4", "[K:E]D4")


def test_unknown_key_is_refused():
    with pytest.raises(FormatError):
        transpose_text("C [K:H] D", "C", "D")


@pytest.mark.parametrize("case", AUGMENTED, ids=[case["name"] for case in AUGMENTED])
def test_own_key_changes_nothing(case):
    tune = read_tune(clean(case["input"]))
    same = transpose(tune, major_key(global_key(case["input"])))
    assert same == read_tune(interleave(case["interleaved"]))


def test_a_clef_alone_changes_neither_key_nor_accidentals():
    assert transpose_text("^F4 [K:bass]F4", "C", "D") == "^G4 [K:bass]G4"
    assert transpose_text("^F4 [K:clef=tenor]F4|F8", "C", "G") == "^C4 [K:clef=tenor]C4|C8"
    # Under treble-8 the f is the pitch of the F before it, so that the sharp still holds.
    assert transpose_text("^F4 [K:treble-8]f4", "C", "D") == "^G4 [K:treble-8]g4"
    # A line K: of a voice may be only a clef.
    tune = transpose(read_tune("K:C\nV:1 treble\nV:2\nK:bass\nV:1\nF4|\nV:2\nF4|\n"), "D")
    assert [line for line in tune.header if line.startswith("K:")] == ["K:D", "K:bass"]
    assert tune.voices["2"].bars == ("G4",)
