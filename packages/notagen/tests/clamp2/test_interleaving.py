"""Standard ABC interleaved, against the text that the original made of it."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notagen.clamp2.interleaving import interleaved_abc
from pentatonic.errors import FormatError

GOLDENS = Path(__file__).parents[1] / "goldens" / "clamp2" / "interleave"
HEADER = "%%score { 1 | 2 }\nL:1/8\nM:4/4\nK:G\nV:1 treble\nV:2 bass\n"
# Where the original garbles or refuses a tune: its last lines here.
BETTER = {
    "no_V1_line": "V:1 treble\n[V:1]G2 A2 B2 c2|\n[V:1]d8|]\n",
    "escaped_quote_and_quoted_barline_on_one_line": '[V:1]"^say hi" G8|[V:2]G,8|\n[V:1]A8|][V:2]D,8|]\n',
    "repeated_barlines_collapse": "[V:1]G8|[V:2]G,8|\n[V:1]A8||[V:2]D,8||\n[V:1]B8|][V:2]E,8|]\n",
}
REFUSED = {
    "all_empty": "every bar is silent",
    "unequal_bar_counts": r"V:1 2, V:2 1",
    "lc6012947": r"V:1 22, V:2 17",
    "no_V1_line": "no line is V:1",
}
CASES = [
    pytest.param(case, id=case["name"])
    for case in json.loads((GOLDENS / "cases.json").read_text(encoding="utf-8"))["cases"]
]


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_tunes_as_recorded(case, compat):
    text, name = case["abc"], case["name"]
    if name in BETTER and not compat:
        assert interleaved_abc(text).endswith(BETTER[name])
    elif case["interleaved"] is None:
        with pytest.raises(FormatError, match=REFUSED[name]):
            interleaved_abc(text, compat=compat)
    else:
        assert interleaved_abc(text, compat=compat) == case["interleaved"]


@pytest.mark.parametrize(
    ("text", "music"),
    [
        (HEADER + "V:1 treble\nG8|A8|]\nV:2 bass\nG,8|D,8|]\n", "[V:1]G8|[V:2]G,8|\n[V:1]A8|][V:2]D,8|]\n"),
        (HEADER + "V:1\nG8|A8|]\nV:2\nZ2|]\n", "[V:1]G8|[V:2]Z|\n[V:1]A8|][V:2]Z|]\n"),
        (HEADER + "V:1\nG8|A8\nV:2\nG,8|D,8", "[V:1]G8|[V:2]G,8|\n[V:1]A8|][V:2]D,8|]\n"),
        ("X:1\nL:1/8\nM:4/4\nK:G\nG8 :| |: A8 | % last | one\nB8", "[V:1]G8::\n[V:1]A8|\n[V:1]B8|]\n"),
        ("X:1\nL:1/8\nM:4/4\nK:G\nV:1\nG8|\nK:D\nw:la|la\nN:no|te\nA8|\n", "[V:1]G8|\n[V:1][K:D]A8|\n"),
        (
            HEADER + "V:1\nG8|\\\nA8|\nV:2\nG,8|\n% rest | here\nD,8|\n",
            "[V:1]G8|[V:2]G,8|\n[V:1]A8|[V:2]D,8|\n",
        ),
    ],
)
def test_forms_that_people_write(text, music):
    assert interleaved_abc(text).endswith("\n" + music)


def test_a_tune_without_key_is_refused():
    with pytest.raises(FormatError, match="no K: line"):
        interleaved_abc("X:1\nT:none\nG8|\n")
    with pytest.raises(FormatError, match="more than the name of a voice"):
        interleaved_abc(HEADER + "V:1\nG8|\nV:2 bass\nG,8|\n", compat=True)


def test_ends_keep_their_barlines():
    text = HEADER + "V:1\n[K:D] |: z8 | G8 |1 z8 :|\nV:2\n|: z8 | x8 |1 z8 :|\n"
    assert interleaved_abc(text).endswith("V:2 bass\n[V:1][K:D]|:G8:|[V:2]|:x8:|\n")
    assert interleaved_abc(text) == interleaved_abc(text, compat=True)


@given(st.text(st.sampled_from('V:12KGabz"|:]%[\\ \n'), max_size=60), st.booleans())
def test_any_text_is_interleaved_or_refused(music, compat):
    try:
        text = interleaved_abc(f"{HEADER}V:1\n{music}", compat=compat)
    except FormatError:
        return
    assert text.startswith("%%score { 1 | 2 }\n")
    assert "[V:1]" in text
