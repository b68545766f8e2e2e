"""Encoding for preference training against recorded encodings, and the fixed crops."""

import hashlib
import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notagen.codec import END_PATCH, START_PATCH, decode
from notagen.dpo.encoding import fixed_crops, random_crop
from pentatonic.errors import FormatError, UsageError

RECORDED = json.loads((Path(__file__).parents[1] / "goldens/clamp2/rl_encode.json").read_text())
HEADER = "%%score 1\nL:1/8\nM:4/4\nK:C\nV:1 treble\n"


def _cases():
    return [
        pytest.param(case, id=f"{case['name']}-{case['python_random_seed']}") for case in RECORDED["cases"]
    ]


@pytest.mark.parametrize("case", _cases())
def test_random_crop_as_recorded(case):
    rng = random.Random(case["python_random_seed"])
    patches = random_crop(RECORDED["texts"][case["name"]], RECORDED["patch_length"], rng)
    assert decode(patches) == case["decoded"].replace("\1", "")
    assert len(patches) == case["n_patches"]
    assert hashlib.sha256(np.array(patches, "<i4").tobytes()).hexdigest() == case["digest"]


@pytest.mark.parametrize("name", sorted(RECORDED["texts"]))
def test_fixed_crops_have_music(name):
    text, length = RECORDED["texts"][name], RECORDED["patch_length"]
    if name == "header_longer_than_context":
        with pytest.raises(FormatError, match="leaves no room for music in 64 patches"):
            fixed_crops(text, length)
        return
    crops = fixed_crops(text, length)
    assert crops == fixed_crops(text, length)
    assert len({str(crop) for crop in crops}) == len(crops)
    for crop in crops:
        assert crop[0] == list(START_PATCH)
        assert len(crop) <= length
        assert "V:1]" in decode(crop) or name == "one_header_line_only"


def _piece(bars):
    lines = [f"[r:{i}/{len(bars) - 1 - i}][V:1]{bar}|\n" for i, bar in enumerate(bars)]
    return HEADER + "".join(lines)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text("ABC2 ", min_size=1, max_size=60), min_size=1, max_size=20),
    st.integers(8, 40),
    st.integers(1, 5),
)
def test_fixed_crops_start_at_lines_and_reach_the_end(bars, length, most):
    text = _piece(bars)
    crops = fixed_crops(text, length, most=most)
    assert len(crops) <= most
    body = text.removeprefix(HEADER)
    for crop in crops:
        assert decode(crop).startswith(HEADER)
        music = decode(crop).removeprefix(HEADER)
        assert music
        assert any(body[at:].startswith(music) for at in range(len(body)) if body[at:].startswith("[r:"))
    if most > 1 and any(len(crop) < length or crop[-1] == list(END_PATCH) for crop in crops):
        assert crops[-1][-1] == list(END_PATCH)
    assert body.startswith(decode(crops[0]).removeprefix(HEADER))


def test_long_piece_has_head_middle_and_tail():
    text = _piece([f"C{i}D{i} E4" for i in range(1, 30)])
    crops = fixed_crops(text, 20)
    assert len(crops) == 3
    assert decode(crops[0]).startswith(HEADER + "[r:0/")
    assert decode(crops[2]).endswith("[r:28/0][V:1]C29D29 E4|\n")
    # The tail begins at the first line from which the end fits.
    first = int(decode(crops[2]).split("[r:")[1].split("/")[0])
    longer = fixed_crops(_piece([f"C{i}D{i} E4" for i in range(1, 30)]), 20, most=30)
    assert len(longer) == first + 1


def test_a_piece_without_music_is_encoded_as_it_is():
    assert decode(fixed_crops(HEADER, 64)[0]) == HEADER


def test_bad_input():
    with pytest.raises(FormatError, match="'é' has no id"):
        fixed_crops(HEADER + "[V:1]é|\n", 64)
    with pytest.raises(FormatError, match=r"^2:1: "):
        random_crop("K:C\n€\n", 64, random.Random(0))
    with pytest.raises(UsageError, match="most must be at least 1"):
        fixed_crops(HEADER, 64, most=0)
