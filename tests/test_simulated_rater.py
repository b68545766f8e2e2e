"""The simulated rater: what it hears, how it rates pairs, and what is said of the pieces."""

import json

import pytest

pytest.importorskip("notagen")
from listener import simulated_rater

from notagen.dpo.ratings import rated_preferences

HEADER = "%%score 1\nL:1/8\nM:4/4\nK:{}\nV:1 treble\n"


def piece(bar: str, key: str = "G") -> str:
    return HEADER.format(key) + f"[V:1]{bar}|]\n"


@pytest.mark.parametrize(
    ("bar", "share"),
    [
        ("GABc defg", 0),
        ("G3A G3A", 0.5),
        ("G>A B>c", 0.5),
        ("G>A B2 c4", 0.25),
        ("(3GAB G6", 0.25),
        ("z8", 0),
    ],
)
def test_dotted_notes(bar: str, share: float) -> None:
    assert simulated_rater.dotted(piece(bar)) == share
    assert simulated_rater.dotted("no music") == 0


def test_minor_keys() -> None:
    keys = {
        "Am": 1,
        "F#min": 1,
        "Bb minor": 1,
        "D Aeolian": 1,
        "A": 0,
        "A Mixolydian": 0,
        "DMix": 0,
        "E Dorian": 0,
    }
    assert {key: simulated_rater.minor(piece("G8", key)) for key in keys} == keys


def test_pairs_are_rated_by_what_is_wanted(tmp_path) -> None:
    values = {f"{number}.abc": number // 2 / 10 for number in range(20)}
    ratings = simulated_rater.rated_pairs(values, 60, seed=1)
    decided = [each for each in ratings if each.better != "neither"]
    assert len(decided) == 60 and len({frozenset((each.first, each.second)) for each in ratings}) == len(
        ratings
    )
    for each in ratings:
        one, other = values[each.first], values[each.second]
        assert each.better == ("neither" if one == other else "first" if one > other else "second")
    assert {each.better for each in decided} == {"first", "second"}
    fewer = simulated_rater.rated_pairs(values, 30, seed=1)
    assert fewer == ratings[: len(fewer)], "the pairs of a shorter run are the first ones of a longer"
    mistaken = simulated_rater.rated_pairs(values, 60, seed=1, wrong=1)
    assert all(
        (values[e.first] > values[e.second]) == (e.better == "second")
        for e in mistaken
        if e.better != "neither"
    )
    for name in values:
        (tmp_path / name).write_text(name)
    (tmp_path / "ratings.jsonl").write_text("".join(each.line() for each in ratings))
    preferences, texts = rated_preferences(tmp_path / "ratings.jsonl")
    assert preferences.pair_count == 60 and set(texts) <= set(values)


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(SystemExit, match="there is nothing to rate"):
        simulated_rater.rated_pairs({"a": 1, "b": 1}, 1)
    with pytest.raises(SystemExit, match="has 1 pairs that can be decided, and 5 are wanted"):
        simulated_rater.rated_pairs({"a": 1, "b": 0}, 5)


def test_the_measures_of_a_run(tmp_path) -> None:
    folder = tmp_path / "iter_01"
    folder.mkdir()
    texts = [piece("G3A G3A"), piece("G8")]
    (folder / "samples.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (folder / "measures.json").write_text(
        json.dumps({"valid": 1.0, "known_notes": 0.25, "copies": 0.0, "length": 80.0, "score": 1})
    )
    row = simulated_rater.measured(tmp_path, 1, simulated_rater.dotted)
    assert row["pieces"] == 2 and row["share"]["value"] == 0.25 and row["pieces with some"]["value"] == 0.5
    assert row["share"]["low"] <= 0.25 <= row["share"]["high"]
    lines = simulated_rater.table({"before": row}, "dotted").splitlines()
    assert lines[0].startswith("| policy | dotted: share") and "| before | 0.250 [" in lines[2]
    assert lines[2].count("|") == lines[0].count("|")
