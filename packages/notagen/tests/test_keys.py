"""Keys, and the choice of one in fine-tuning."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from notagen.notation.keys import (
    MAJOR_KEYS,
    choose_key,
    fifths,
    global_key,
    key_with_fifths,
    major_key,
    move_key,
    pitch_class,
)
from pentatonic.errors import FormatError

CHOICES = json.loads((Path(__file__).parent / "goldens" / "finetune_key_choice.json").read_text())["cases"]
TRANSPOSITIONS = json.loads((Path(__file__).parent / "goldens" / "transpose.json").read_text())["cases"]
MOVES = [case for case in TRANSPOSITIONS if case["kind"] == "key_field"]


@pytest.mark.parametrize(
    "case", CHOICES, ids=lambda case: f"{case['piece_key']}-{case['python_random_seed']}"
)
def test_golden_choice(case):
    rng = random.Random(case["python_random_seed"])
    assert [choose_key(case["piece_key"], rng) for _ in case["chosen"]] == case["chosen"]


@pytest.mark.parametrize(
    ("key", "major"),
    [
        ("C", "C"), ("Amin", "C"), ("Am", "C"), ("Ddor", "C"), ("EPhr", "C"), ("Flyd", "C"), ("Gmix", "C"),
        ("Bloc", "C"), ("Aaeolian", "C"), ("Cmajor", "C"), ("F#min", "A"), ("Bbmin", "Db"), ("Cbmin", "D"),
        ("G#", "Ab"), ("G#min", "B"), ("none", "C"), ("", "C"), ("D clef=bass", "D"), ("Cion", "C"),
    ],
)  # fmt: skip
def test_major_key_with_the_same_signature(key, major):
    assert major_key(key) == major


@pytest.mark.parametrize("key", ["H", "Cfoo", "#"])
def test_what_is_no_key(key):
    with pytest.raises(FormatError):
        major_key(key)


def test_line_of_fifths():
    assert [fifths(key) for key in MAJOR_KEYS] == list(range(-7, 8))
    assert [major_key(key) for key in MAJOR_KEYS] == list(MAJOR_KEYS)
    assert [key_with_fifths(count) for count in (-20, -8, 8, 14)] == ["E", "E", "Ab", "D"]
    assert [pitch_class(name) for name in ("C", "Cb", "B##", "Bbb", "F#")] == [0, 11, 1, 9, 6]


@pytest.mark.parametrize(
    "case", MOVES, ids=lambda case: f"{case['field']}-{case['global_key']}-{case['to_key']}"
)
def test_golden_key_fields(case):
    moved = move_key(case["field"], fifths(case["to_key"]) - fifths(major_key(case["global_key"])))
    assert [moved, major_key(moved)] == case["result"]


def test_the_rest_of_a_key_field_stays():
    assert move_key(" D clef=bass", 1) == "A clef=bass"
    assert move_key("none", 3) == "none"


@pytest.mark.parametrize(
    ("text", "key"), [("L:1/8\nK: Amin \nV:1\nK:D\n", "Amin"), ("K:none\nV:1\n", "C"), ("V:1\n", "C")]
)
def test_global_key(text, key):
    assert global_key(text) == key


@pytest.mark.parametrize(
    ("key", "steps", "moved"),
    [("D Phr ^f", 2, "E Phr ^g"), ("C exp _b^f", -1, "F exp _e=b"), ("C clef=bass", 1, "G clef=bass")],
)
def test_accidentals_of_a_key_move_with_it(key: str, steps: int, moved: str) -> None:
    assert move_key(key, steps) == moved
