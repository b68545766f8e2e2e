"""Bars of a voice, and tunes read from text."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notagen.notation.bars import alignment, read_tune, split_segment, split_voice, voice_segments
from notagen.notation.layout import interleaved, standard
from pentatonic.errors import FormatError

GOLDENS = Path(__file__).parent / "goldens"
SPLITS = json.loads((GOLDENS / "split_bars_and_barlines.json").read_text())["cases"]
STANDARD = json.loads((GOLDENS / "deinterleave.json").read_text())["cases"]


@pytest.mark.parametrize("case", SPLITS, ids=[case["voice_text"] for case in SPLITS])
def test_golden_splits(case):
    voice = split_voice(case["voice_text"])
    assert voice.prefix == case["prefix"]
    assert list(voice.bars) == case["bar_texts"]
    assert list(voice.barlines[:-1]) == case["left_barlines"]
    assert list(voice.right_barlines) == case["right_barlines"]


@pytest.mark.parametrize(
    ("text", "bars", "barlines"),
    [
        ('"^a|b" C4 | D4 |]', ('"^a|b" C4', "D4"), ("", "|", "|]")),
        ("[M:C|] C4 | (3::2CDE |", ("[M:C|] C4", "(3::2CDE"), ("", "|", "|")),
        ("C4 :| |: D4 |", ("C4", "D4"), ("", ":||:", "|")),
        ("C4 | || D4 |", ("C4", "D4"), ("", "||", "|")),
        ("C4 |1.D4 :|2. E4 |", ("C4", ".D4", "E4"), ("", "|1", ":|2.", "|")),
        ("C4 |[CEG]4 |", ("C4", "[CEG]4"), ("", "|", "|")),
        ("no barline", (), ("",)),
    ],
)
def test_signs_that_are_no_barline_and_barlines_that_meet(text, bars, barlines):
    voice = split_voice(text)
    assert (voice.bars, voice.barlines) == (bars, barlines)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[K:Amin]|:e|", ("[K:Amin]", "|:", "e", "|")),
        ("C4:|2", ("", "", "C4", ":|2")),
        ("[K:D] z4|", ("", "", "[K:D] z4", "|")),
        ("|1c4", ("", "|1", "c4", "")),
        ("c2|d2|]", ("", "", "c2|d2", "|]")),
        ("|", ("", "", "", "|")),
    ],
)
def test_segment(text, parts):
    segment = split_segment(text)
    assert (segment.prefix, segment.left, segment.text, segment.right) == parts


def test_voice_segments_of_a_line():
    assert voice_segments("[V:1]C4|[V:12]z4|\n") == [("1", "C4|"), ("12", "z4|")]
    assert voice_segments("C4|") == []


@pytest.mark.parametrize("case", STANDARD, ids=[case["name"] for case in STANDARD])
def test_golden_alignment(case):
    found = alignment(read_tune(case["interleaved"]))
    assert [found.barlines, found.counts, found.durations] == case[
        "barlines_equal_counts_equal_durations_equal"
    ]


def test_alignment_of_unequal_counts():
    found = alignment(read_tune("K:C\nV:1\nC4|D4|\nV:2\nC4|\n"), duration=lambda bar: Fraction(4))
    assert (found.barlines, found.counts, found.durations) == (False, False, False)


def test_unequal_counts_are_named():
    with pytest.raises(FormatError, match="V:1 2, V:2 1"):
        _ = read_tune("K:C\nV:1\nC4|D4|\nV:2\nC4|\n").bar_count


def test_body_fields_comments_and_missing_declarations():
    tune = read_tune("M:2/4\nK:C\nV:1 treble\nV:1\nC4|\n% a comment\nK:D\nw: la\nD4|\nV:2 bass\nE:|\nF4|\n")
    assert tune.header == ("M:2/4", "K:C", "V:1 treble", "V:2 bass")
    assert tune.voices["1"].bars == ("C4", "[K:D]D4")
    assert tune.voices["2"].bars == ("E", "F4")


def test_music_without_voices_is_voice_one():
    tune = read_tune("X:1\nM:2/4\nK:C\nCDEF|G4|]\n")
    assert tune.header == ("X:1", "M:2/4", "K:C", "V:1")
    assert tune.voices["1"].bars == ("CDEF", "G4")


@pytest.mark.parametrize(
    "text", ["", "K:C\nV:1 treble\n", "K:C\n[r:0/1]\n", "K:C\nV:1\nC4\n", "K:C\nV:1\nC4|\nV:\nD4|\n"]
)
def test_what_is_no_tune(text):
    with pytest.raises(FormatError):
        read_tune(text)


TEXT = st.text(alphabet='VKLr:[]()|"!12/AbZz^,.-% \n', max_size=120)


@settings(max_examples=300, deadline=None)
@given(TEXT)
def test_any_text_gives_a_tune_or_a_format_error(text):
    try:
        tune = read_tune("K:C\nV:1\n" + text)
    except FormatError:
        return
    assert standard(tune)
    if len({len(voice.bars) for voice in tune.voices.values()}) == 1:
        assert interleaved(tune)


BAR = st.sampled_from(["C4", "z4", '"^a|b"C4', "[CEG]4", ".a2", "(3abc", "[K:D] D4"])
BARLINE = st.sampled_from(["|", "||", "|:", ":|", "::", "|1", ":|2", "|1,2", ":||:", "|]"])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(BAR, BARLINE), min_size=1, max_size=8))
def test_splitting_inverts_joining(pairs):
    voice = split_voice(" ".join(f"{bar} {barline}" for bar, barline in pairs))
    if pairs[0][0].startswith("[K"):
        return
    assert list(zip(voice.bars, voice.right_barlines, strict=True)) == pairs
