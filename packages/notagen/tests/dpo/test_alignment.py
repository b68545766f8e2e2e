"""The first exclusion rule against recorded results, and its strict mode."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notagen.dpo.alignment import check_alignment, standard_layout
from notagen.dpo.bar_lengths import counted_length
from pentatonic.errors import FormatError

RECORDED = json.loads((Path(__file__).parents[1] / "goldens/clamp2/duration_alignment.json").read_text())
HEADER = "%%score { 1 | 2 }\nL:1/8\nM:4/4\nK:C\nV:1 treble\nV:2 bass\n"


def _named(cases):
    return [pytest.param(case, id=case.get("name") or case.get("bar") or "empty") for case in cases]


@pytest.mark.parametrize("case", _named(RECORDED["alignment"]))
def test_alignment_as_recorded(case):
    report = check_alignment(case["text"])
    flags = (report.barlines_equal, report.bar_counts_equal, report.durations_equal)
    names = ("barlines_equal", "bar_counts_equal", "durations_equal")
    assert flags == tuple(None if "raises" in case else case[name] for name in names)
    assert report.passes == case["passes"] == (not report.problems)


@pytest.mark.parametrize("case", _named(case for case in RECORDED["alignment"] if "unrotated" in case))
def test_standard_layout_as_recorded(case):
    assert standard_layout(case["text"]) == case["unrotated"]


@pytest.mark.parametrize("case", _named(RECORDED["durations"]))
def test_length_as_recorded(case):
    if "raises" in case:
        with pytest.raises(FormatError, match="is no chord"):
            counted_length(case["bar"])
        return
    length = counted_length(case["bar"])
    assert (None if length is None else str(length)) == case["duration"]


def test_report_says_which_bar_of_which_voice():
    report = check_alignment(HEADER + "[V:1]C8|[V:2]C,8|\n[V:1]D8|[V:2]D,6||\n[V:1]E8|][V:2]E,8|]\n")
    found = {(each.kind, each.bar, each.voice, each.expected, each.found) for each in report.problems}
    assert ("duration", 2, "2", "8", "6") in found
    assert ("barline", 2, "2", "'|'", "'||'") in found
    assert str(next(each for each in report.problems if each.kind == "duration")) == (
        "bar 2 voice 2 duration: 6, expected 8"
    )


def test_strict_mode_knows_the_meter():
    text = HEADER + "[V:1]C8|[V:2]C,8|\n[V:1]D6|[V:2]D,6|\n[V:1]E8|][V:2]E,8|]\n"
    assert check_alignment(text).passes
    report = check_alignment(text, strict=True)
    assert not report.passes
    assert [(each.kind, each.bar) for each in report.problems] == [("duration", 2)]


def test_strict_mode_reads_barlines_in_quoted_text_as_text():
    text = HEADER + '[V:1]"^a|b"C8|[V:2]C,8|\n[V:1]G8|][V:2]C,8|]\n'
    assert not check_alignment(text).passes
    assert check_alignment(text, strict=True).passes


def test_strict_mode_judges_a_text_without_music():
    report = check_alignment("%%score 1\nK:C\n", strict=True)
    assert not report.passes
    assert report.durations_equal is None


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["[V:1]", "[V:2]", "|", ":|", "|1", "C8", "(3", "[CE]", ">", "\n", "z", '"', " ", "4"]
        )
    )
)
def test_any_text_gets_a_report(pieces):
    for strict in (False, True):
        report = check_alignment(HEADER + "".join(pieces), strict=strict)
        assert report.passes == (not report.problems)


def test_deep_nesting_and_long_numbers_have_no_length():
    assert counted_length("(3" * 5000 + "CDE") is None
    assert counted_length("C" + "9" * 5000) is None
