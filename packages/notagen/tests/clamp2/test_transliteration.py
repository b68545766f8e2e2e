"""Transliteration to the ASCII of the models."""
# ruff: noqa: RUF001

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notagen.clamp2.transliteration import transliterate, untranslatable


@pytest.mark.parametrize(
    ("text", "ascii_text"),
    [
        ("Più “mosso” – ‘dolce’ — «a» …", "Piu \"mosso\" - 'dolce' -- <<a>> ..."),
        ("No°1, №2, ½ ¼ ¾ ⅓ · • × ÷", "Nodeg1, No. 2,  1/2  1/4  3/4  1/3  * * x /"),
        ("B♭ F♯ C♮ ♩ ♪ †‡", "B F# C   +++"),
        (
            "Dvořák; Łódź; Ærø; Straße; Þór; ĳ; ﬁn ﬂ; º ª ²",
            "Dvorak; Lodz; AEro; Strasse; Thor; ij; fin fl; o a 2",
        ),
        ("↑ ¦ ↓ ‿", "| | | _"),
        ("a\xa0b\u2009c\u200bd\u202fe\ufefff\xadg e\u0301", "a b c d efg e"),
        ("\U0001d11e\ue050x\x00\r", "x\x00\r"),
        ("小调", "Xiao Diao "),
    ],
)
def test_marks_of_real_scores(text, ascii_text):
    assert transliterate(text) == ascii_text
    assert untranslatable(text) == ""


def test_characters_without_equivalent_are_left_out_and_named():
    text = "Чай, café, Чайковский \u3042 \N{GREEK SMALL LETTER ALPHA WITH TONOS}"
    assert transliterate(text) == ", cafe,   "
    assert untranslatable(text) == "Чайковсиあά"
    assert untranslatable("plain | text") == ""


@given(st.text())
def test_any_text_becomes_ascii_once(text):
    result = transliterate(text)
    assert result.isascii()
    assert transliterate(result) == result
    # Each character is transliterated alone.
    assert result == "".join(map(transliterate, text))
