"""Files of ratings, and the pairs in them."""

import json

import pytest

from notagen.dpo.ratings import Rating, contradictions, rated_preferences, read_ratings
from pentatonic.errors import FormatError, InputError


def _write(folder, *ratings):
    for name in "abc":
        (folder / f"{name}.abc").write_text(f"%{name}\n")
    path = folder / "ratings.jsonl"
    path.write_text("".join(Rating(f"{x}.abc", f"{y}.abc", better).line() for x, y, better in ratings))
    return path


def test_pairs_of_ratings(tmp_path):
    path = _write(
        tmp_path, ("a", "b", "first"), ("a", "c", "second"), ("b", "c", "neither"), ("b", "a", "first")
    )
    assert len(read_ratings(path)) == 4
    preferences, texts = rated_preferences(path)
    assert preferences.chosen == ("a.abc", "c.abc", "b.abc") and preferences.rejected == ("b.abc", "a.abc")
    assert [preferences.pair(i) for i in range(preferences.pair_count)] == [(0, 0), (1, 1), (2, 1)]
    assert preferences.metadata == {"ratings": 4, "undecided": 1}
    assert texts == {f"{name}.abc": f"%{name}\n" for name in "abc"}
    assert contradictions(read_ratings(path)) == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[]", "the keys must be first, second and better"),
        (json.dumps({"first": "a", "second": "b", "better": "third"}), "better is 'third'; allowed: first"),
        (json.dumps({"first": "a", "second": "a", "better": "first"}), "the same piece"),
        (json.dumps({"first": 1, "second": "a", "better": "first"}), "all values must be text"),
        ("{", "not a rating"),
    ],
)
def test_lines_that_are_no_ratings(tmp_path, line, reason):
    path = _write(tmp_path, ("a", "b", "first"))
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(FormatError, match=reason) as error:
        read_ratings(path)
    assert error.value.line == 2


def test_nothing_to_learn_from(tmp_path):
    with pytest.raises(InputError, match="nothing to learn from"):
        rated_preferences(_write(tmp_path, ("a", "b", "neither")))
    path = _write(tmp_path, ("a", "x", "first"))
    with pytest.raises(InputError, match=r"x.abc: cannot be read \(No such file"):
        rated_preferences(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_ratings(tmp_path / "missing.jsonl")
