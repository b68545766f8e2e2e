"""Lines of music to tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notagen.abc.lexer import column_of, kind_of, split_tokens

PIECES = st.sampled_from(
    [*"ABcdzxZy^_=',/0123-|:[]().{}!\"%&<>~+\\$ @é", "[K:D]", '"^a|b"', "!mf!", "(3:2", "|:", "[|"]
)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("^c'2-d,/", ["^c'2-", "d,/"]),
        ("__B=c^^F", ["__B", "=c", "^^F"]),
        ("(3abc (ab)", ["(3", "a", "b", "c", " ", "(", "a", "b", ")"]),
        ('"a|[b"!c|d![K:D % x]e', ['"a|[b"', "!c|d!", "[K:D % x]", "e"]),
        ("[CE]2-|[CE]|[1c:|[2d|]", ["[CE]2-", "|", "[CE]", "|[1", "c", ":|[2", "d", "|]"]),
        ("|:c::d:||:e:|]f[|g", ["|:", "c", "::", "d", ":||:", "e", ":|]", "f", "[|", "g"]),
        ("|1,3a|1.b| [2c", ["|1,3", "a", "|1", ".", "b", "| [2", "c"]),
        ("{/gf}.(a>>b) Z4|%4", ["{/gf}", ".(", "a", ">>", "b", ")", " ", "Z4", "|", "%4"]),
        ("c&y$-", ["c", "&", "y", "$", "-"]),
    ],
)
def test_tokens(text, tokens):
    assert split_tokens(text) == tokens


@given(st.lists(PIECES, max_size=60).map("".join))
def test_tokens_join_to_the_text_and_keep_their_kind_alone(text):
    tokens = split_tokens(text)
    assert "".join(tokens) == text
    for token in tokens:
        assert kind_of(token) != "unknown" or len(token) == 1


def test_columns_count_characters():
    assert column_of(split_tokens("^c2 [CE]")[:2], 5) == 9
    assert column_of([]) == 1


@pytest.mark.parametrize("unit", ['{"', "[K:", "[C", '"', "!a", "(3:", "|:[", "{[", "^^_", "+a", " ", "|"])
def test_a_hostile_line_is_split_whole(unit):
    text = unit * (60_000 // len(unit))
    assert "".join(split_tokens(text)) == text
