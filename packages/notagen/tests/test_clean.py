"""Cleaning of converter output."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notagen.notation.clean import clean, to_ascii

HEADER = "L:1/8\nK:C\nV:1 treble\nV:1\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Étude à la façon de Dvořák", "Etude a la facon de Dvorak"),
        ("Œuvre, Straße, Łódź, Ængus, Þór, \u017f", "OEuvre, Strasse, Lodz, AEngus, Thor, s"),
        ("in B♭, F♯, C♮", "in B, F#, C"),
        ("l\u2019été — “très” «lent»…", "l'ete - 'tres' 'lent'..."),
        ("¼ ² №ﬁ \uff46", "1/4 2 Nofi f"),
        ("a\tb\x00\x01\x02c\x7f", "a bc"),
        ("Чайковский 音", " "),
    ],
)
def test_transliteration(text, expected):
    assert to_ascii(text) == expected


@given(st.text(max_size=60))
def test_transliteration_is_printable_ascii(text):
    result = to_ascii(text)
    assert all(" " <= character <= "~" for character in result)
    assert to_ascii(result) == result


@pytest.mark.parametrize(
    "line", ["X:2", "T:Title", "C:Anon", "W:words", "w:la la", "Z:me", "%%MIDI program 1", " "]
)
def test_dropped_lines(line):
    assert clean(f"{line}\n{HEADER}{line}\nC4|\n") == HEADER + "C4|\n"


def test_music_that_looks_like_a_field_is_kept():
    assert clean(HEADER + "D4|\nC:|\n") == HEADER + "D4|\nC:|\n"


@pytest.mark.parametrize(
    ("music", "cleaned"),
    [
        ("C4 |] %12", "C4 |]"),
        ("C4 |] %twelve", "C4 |] %twelve"),
        (r"C4 \"D4 |", "C4 D4 |"),
        ('"^a | b" C4 |', " C4 |"),
        ('"" C4 |', " C4 |"),
        ('"Am""^sub.....p" C4 |', '"Am""^sub.p" C4 |'),
        ('"_aa--  b" C4 |', '"_aa- b" C4 |'),
        ('"^' + "a" * 37 + '" C4 |', '"^' + "a" * 37 + '" C4 |'),
        ('"^' + "a" * 38 + '" C4 |', " C4 |"),
        ("(C2 (D2) |", "C2 (D2) |"),
        (".(C2 D2)) |", ".(C2 D2) |"),
        ("{(ga)}C4 ({/g}C2 D2) |", "{ga}C4 ({/g}C2 D2) |"),
        ('"^a (b" !<(! (3CCC [I:a)] C !<)! |', '"^a (b" !<(! (3CCC [I:a)] C !<)! |'),
        ("^/C_/D ^3/2E_3/2F[^1/2FA] |", "=C=D ^E_F[=FA] |"),
        ("|:: C4 ::|: D4 :|:: E4 ::|3 F4 |]", "|: C4 :: D4 :: E4 :|3 F4 |]"),
        ('"^/a ::|" "^/a" !::|! [I:^/a] C4 |', ' "^/a" !::|! [I:^/a] C4 |'),
        ('"C' + "a" * 60 + '" C4 |', '"C' + "a" * 60 + '" C4 |'),
    ],
)
def test_music(music, cleaned):
    assert clean(f"{HEADER}{music}\n") == HEADER + cleaned + "\n"


def test_a_slur_from_one_voice_to_another_is_dropped_and_one_over_a_line_end_kept():
    music = "V:1\n(C4 |\nD4) (E4 |\nV:2\nC4) |\n"
    assert clean("L:1/8\nK:C\nV:1\nV:2\n" + music) == (
        "L:1/8\nK:C\nV:1\nV:2\nV:1\n(C4 |\nD4) E4 |\nV:2\nC4 |\n"
    )


def test_header_strings_are_left_alone():
    header = 'L:1/8\nK:C\nV:1 treble nm="A | B" snm=""\nV:1\n'
    assert clean(header + "C4|\n") == header + "C4|\n"


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet='V1:\n%"^ |é\\aC', max_size=80))
def test_any_text_becomes_ascii_without_blank_lines(text):
    cleaned = clean(HEADER + text)
    assert cleaned.isascii()
    assert all(line.strip() for line in cleaned.splitlines())
