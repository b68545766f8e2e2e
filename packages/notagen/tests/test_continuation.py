"""Prompts that go on with a given piece."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from notagen.codec import decode, encode_generate
from notagen.generation.continuation import continuation
from notagen.generation.decoding import Limits, Request, generate
from notagen.model import NotaGen, NotaGenConfig
from notagen.notation.layout import deinterleave
from notagen.notation.rests import complete_rests
from notagen.notation.validation import validate
from pentatonic.errors import FormatError, UsageError

CASES = json.loads((Path(__file__).parent / "goldens" / "preprocess.json").read_text())["cases"]
STANDARD = """\
%abc-2.1
X:1
T:A piece
%%score { 1 | 2 }
L:1/8
M:4/4
K:C
V:1 treble nm="Clavier \u00e0 main"
V:2 bass
V:1
 c8 | "^a | b"d4 e4 |] %2
V:2
 z8 | z4 C,4 |] %2
"""
HEADER = '%%score { 1 | 2 }\nL:1/8\nM:4/4\nK:C\nV:1 treble nm="Clavier a main"\nV:2 bass\n'
BODY = "[r:0/3][V:1]c8|\n[r:1/2][V:1]d4 e4|[V:2]z4 C,4|\n"


def test_standard_layout():
    assert continuation(STANDARD) == HEADER + BODY


def test_number_of_bars_to_write():
    assert continuation(STANDARD, bars=1) == HEADER + BODY.replace("0/3", "0/2").replace("1/2", "1/1")
    assert "[r:0/101]" in continuation(STANDARD, bars=100)
    with pytest.raises(UsageError, match="at least 1, got 0"):
        continuation(STANDARD, bars=0)


PROMPT = "%Baroque\n%Bach, Johann Sebastian\n%Keyboard\n"


@pytest.mark.parametrize(
    "text",
    [
        PROMPT + HEADER + BODY,
        PROMPT + HEADER + BODY.replace("e4|", "e4|]").replace("C,4|", "C,4|]"),
        PROMPT + HEADER + BODY + "[r:2/1][V:1]c8|[V:2]C,",
        PROMPT + HEADER + BODY + "[r:2/1",
        PROMPT + HEADER + BODY.removesuffix("\n"),
        PROMPT + complete_rests(HEADER + BODY).text,
        PROMPT + deinterleave(complete_rests(HEADER + BODY).text),
    ],
)
def test_any_layout_with_its_prompt(text):
    assert continuation(text, bars=2) == PROMPT + HEADER + BODY


def test_a_last_line_without_newline_counts_when_it_is_complete():
    text = HEADER + BODY + "[r:2/0][V:1]c8|]"
    assert continuation(text, bars=1).endswith("[r:1/2][V:1]d4 e4|[V:2]z4 C,4|\n[r:2/1][V:1]c8|\n")


def test_one_voice_without_declarations():
    text = "X:3\nT:Jig\nM:6/8\nK:D\n|: d2e f2g | a3 d3 :|\n"
    header = "%%score 1\nL:1/8\nM:6/8\nK:D\nV:1 treble\n"
    assert continuation(text) == header + "[r:0/3][V:1]|:d2e f2g|\n[r:1/2][V:1]a3 d3:|\n"


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_golden_pieces(case):
    for text in filter(None, [case["interleaved"], *case["augmented"].values()]):
        prompt = continuation(text)
        assert continuation(prompt) == prompt
        kinds = {issue.kind for issue in validate(prompt).issues}
        assert "tag" not in kinds
        assert "|]" not in prompt.splitlines()[-1]
        assert decode(encode_generate(prompt)) == prompt


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no K:"),
        ("K:C\nV:1\n", "no music"),
        ("M:4/4\nK:C\nV:1\nV:2\nV:1\nc4|c4|\nV:2\nc4|\n", "different numbers of bars"),
    ],
)
def test_what_is_no_piece(text, reason):
    with pytest.raises(FormatError, match=reason):
        continuation(text)


@given(st.text() | st.text("[V:12r]|/c4 K\n%", min_size=3).map(lambda text: STANDARD + text))
def test_any_text(text):
    try:
        prompt = continuation(text, bars=1)
    except FormatError:
        return
    assert prompt.isascii()
    assert "/1][V:" in prompt.splitlines()[-1]


def test_a_model_goes_on_with_the_next_bar():
    torch.manual_seed(0)
    config = NotaGenConfig(patch_layers=1, char_layers=1, width=32, heads=2, patch_length=64)
    prompt = continuation(STANDARD)
    [piece] = generate(NotaGen(config).eval(), [Request(prompt, seed=1)], limits=Limits(patches=3))
    assert piece.text.startswith(prompt)
    assert len(piece.text) > len(prompt)
    assert piece.status == "patches"
