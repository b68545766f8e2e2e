"""Tune books: cutting, bringing tunes into form, and the recorded preprocessing of the original."""

import json
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notagen.files.reading import read_tunes, tunes_of
from notagen.notation.keys import MAJOR_KEYS
from notagen.notation.layout import interleaved
from notagen.notation.rests import omit_rests
from notagen.notation.transpose import transpose
from notagen.notation.tunebook import prepare_tune, split_tunes, standard_tune
from notagen.notation.validation import validate
from notagen.score import read_score
from pentatonic.errors import FormatError, InputError

GOLDENS = json.loads((Path(__file__).parent / "goldens" / "preprocess.json").read_text())["cases"]
JIG = """X:7
T:A jig
B:Some book, p. 12
% a remark
M:6/8
R:jig
Q:"Lively"
Q: 3/8 = 120
K:Em
B|[M:6/8]E2B B2A|`BAG FED \\
:| [2 E3-E2 % the end
d:|
w:la la
efg "C%" gfe|d2B BAG:|
"""


@pytest.mark.parametrize("case", [c for c in GOLDENS if c["interleaved"]], ids=lambda c: c["name"])
def test_prepared_text_is_that_of_the_original(case):
    tune = prepare_tune(case["input"])
    assert interleaved(tune) == case["interleaved"]
    if case["name"] != "all_rest_bar":  # where the original loses a bar
        assert {key: omit_rests(transpose(tune, key)) for key in case["augmented"]} == case["augmented"]
        assert set(case["augmented"]) in (set(), set(MAJOR_KEYS))


def test_voices_of_unequal_bar_counts_are_refused():
    case = next(c for c in GOLDENS if c["name"] == "unequal_bar_count")
    with pytest.raises(FormatError, match="V:1 3, V:2 2"):
        prepare_tune(case["input"])


def test_a_folk_tune_comes_into_form():
    text = standard_tune(JIG)
    head, music = text.split("V:1\n")
    assert head == "%%score 1\nL:1/8\nQ: 3/8 = 120\nM:6/8\nK:Em\nV:1 treble\n"
    # The second part goes back to its own start, the annotation keeps its sign, remarks and marks of beams are gone.
    assert music.split("\n")[:2] == ["B|[M:6/8]E2B B2A|BAG FED :|2 E3-E2 ", "d::"]
    assert '"C%" gfe|d2B BAG:|\n' in music and "`" not in text and "remark" not in text


def test_repeats_and_the_end_are_made_explicit():
    text = "K:C\nc4 d4 :| e4 f4 || g4 a4 :|2 b4 c4 :|: d8 :|\ne8 f8"
    assert standard_tune(text).endswith("V:1\nc4 d4 :| e4 f4 |: g4 a4 :|2 b4 c4 :: d8 :|\ne8 f8|]\n")
    assert standard_tune("K:C\nc8 :| d8 |]").endswith("c8 :| d8 |]\n")
    assert standard_tune("K:C\nc8 :|\nd8 :|").endswith("c8 ::\nd8 :|\n")
    assert standard_tune("K:C\nc8 :|\n|: d8 :|").endswith("c8 :: d8 :|\n")
    assert standard_tune("K:C\nc8 || d8 :|]").endswith("c8 |: d8 :|]\n")
    assert standard_tune("K:C\nc8 |:|").endswith("c8 |]\n")
    assert standard_tune("K:C\nc8 ::| d8 :|:: e8 ::|").endswith("c8 ::|: d8 :|:: e8 ::|\n")
    report = validate(omit_rests(prepare_tune("M:4/4\nL:1/8\nK:C\nc8 :|\nd8 :| e8 |")))
    assert report.valid


def test_a_tune_needs_a_key():
    with pytest.raises(FormatError, match="no K: line"):
        standard_tune("X:1\nM:4/4\nCDEF|\n")


def test_books_are_cut_at_their_numbers_and_tunes_end_at_a_blank_line():
    book = "% a book\n\nX: 1\nK:C\nC8|]\n\nprose with | bars |\n\nX:12\nK:D\nD8|]\n"
    assert split_tunes(book) == [("1", "X: 1\nK:C\nC8|]\n"), ("12", "X:12\nK:D\nD8|]\n")]
    assert split_tunes("X:3\n\nK:C\nC8|]\n") == [("3", "X:3\n\nK:C\nC8|]\n")]
    assert split_tunes("K:C\nC8|]\n") == [("", "K:C\nC8|]\n")]


def test_files_are_read_in_utf8_and_latin1(tmp_path):
    file = tmp_path / "a.abc"
    for encoding in ("utf-8", "utf-8-sig", "latin-1"):
        file.write_bytes('X:1\nT:Märsch\nK:C\n"^für"C8|]\n'.encode(encoding))
        ((number, text),) = read_tunes(file)
        assert number == "1" and '"^fur"C8|]' in interleaved(prepare_tune(text))
    with pytest.raises(InputError):
        read_tunes(tmp_path / "missing.abc")


@given(st.text(alphabet="XKMLVQ:1/8|]:[\"% \n\\abcdefgz(3>-'`{}!4", max_size=120))
def test_any_text_gives_a_tune_or_a_typed_error(text):
    for _, tune in split_tunes(text):
        with suppress(FormatError):
            assert prepare_tune(tune).bar_count > 0


def test_a_file_header_holds_for_all_tunes() -> None:
    book = "%abc-2.1\nM:3/4\nL:1/4\nC:Anon\n%%MIDI program 40\n\nSome prose.\n\n"
    tunes = "X:1\nT:One\nK:C\nCDE|\n\nX:2\nM:2/4\nK:G\nGA|\n"
    first, second = split_tunes(book + tunes)
    shared = "L:1/4\nC:Anon\n%%MIDI program 40\n"
    assert first == ("1", f"X:1\nM:3/4\n{shared}T:One\nK:C\nCDE|\n")
    assert second == ("2", f"X:2\n{shared}M:2/4\nK:G\nGA|\n")
    assert "\nM:2/4\n" in standard_tune(second[1]) and "\nL:1/4\n" in standard_tune(second[1])
    assert split_tunes("M:3/4\nL:1/4\n\nX:7\nK:C\nCDE|\n") == [("7", "X:7\nM:3/4\nL:1/4\nK:C\nCDE|\n")]
    # Prose is no header, and a key, a title or a voice is not one of all tunes.
    assert split_tunes(f"M:3/4\nTunes of mine:\n\n{tunes}") == split_tunes(tunes)
    assert split_tunes(f"K:D\nT:Book\nV:1\n\n{tunes}") == split_tunes(tunes)


def test_a_file_header_holds_for_an_only_tune() -> None:
    (tune,) = tunes_of(b"M:3/4\nL:1/4\n\nX:1\nK:C\nCDE|\n", ".abc")
    assert next(iter(read_score(tune.text).voices.values())).measures[0].layers[0].events[
        0
    ].duration == Fraction(1, 4)


def test_runs_of_blanks_become_one() -> None:
    tune = standard_tune('X:1\nL:1/8\nM:2/4\nK:C\nCD   EF\t \t| "a  b"G4   |\n')
    assert tune.endswith('V:1\nCD EF | "a  b"G4 |]\n')
    voices = "X:1\nL:1/8\nM:2/4\nK:C\nV:1\nV:1\nCD   EF |]\n"
    assert standard_tune(voices).endswith("CD   EF |]\n")  # as the original leaves it
