"""Preference data against recorded selections, and what is done better."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notagen.dpo.preferences import Preferences, Sample, select, threshold
from notagen.dpo.rules import RuleSettings, examine, split_instrument
from notagen.evaluation.novelty import KnownMusic
from pentatonic.errors import InputError, UsageError

GOLDENS = Path(__file__).parents[1] / "goldens/clamp2"
RECORDED = json.loads((GOLDENS / "preferences.json").read_text())
GROUPING = json.loads((GOLDENS / "duration_alignment.json").read_text())["grouping"]
TUNE = "%%score 1\nL:1/8\nM:4/4\nK:{key}\nV:1 treble\n{bars}"
MELODY = ["GABc d2e2", "fgag fedc", "d2B2 G2A2", "B2c2 d4", "edcB AGFE", "D2E2 F2G2"]


def _selected(name, **options):
    case = RECORDED[name]
    samples = [Sample(each, f"original/{each}.abc", case["texts"][each]) for each in case["names"]]
    features, references = np.array(case["output_features"]), np.array(case["reference_features"])
    return case, select(samples, features, references, portion=case["portion"], **options)


@pytest.mark.parametrize("case", RECORDED["thresholds"], ids=str)
def test_threshold_as_recorded(case):
    assert threshold(case["n"], case["portion"]) == case["t"]


@pytest.mark.parametrize("case", GROUPING, ids=[case["name"] for case in GROUPING])
def test_grouping_as_recorded(case):
    assert (split_instrument(case["text"]) is None) == case["passes"]


@pytest.mark.parametrize(
    ("name", "compat"),
    [("data", False), ("data", True), ("overlap", True), ("zero_threshold", True)],
)
def test_selection_as_recorded(name, compat):
    case, selection = _selected(name, compat=compat)
    preferences = selection.preferences
    assert [Path(path).stem for path in preferences.chosen] == case["chosen"]
    assert [Path(path).stem for path in preferences.rejected] == case["rejected"]
    assert [report.name for report in selection.reports] == case["ranking"]
    for report in selection.reports:
        assert report.score == pytest.approx(case["scores"][report.name], abs=1e-6)
        similarity = case["max_similarity_to_reference"][report.name]
        assert report.max_similarity == pytest.approx(similarity, abs=1e-6)
    assert selection.average_score == pytest.approx(case["average_clamp2_score"], abs=1e-6)


def test_selection_by_the_nearest_references():
    """Two kinds of references: a piece of one kind is nearer to them than one between the two."""
    samples = [Sample(name, f"{name}.abc", TUNE.format(key="G", bars="")) for name in ("between", "one kind")]
    features, references = np.array([[1.0, 1], [1, 0.1]]), np.array([[1.0, 0], [1, 0.05], [0, 1], [0.05, 1]])
    for nearest, best in ((None, "between"), (2, "one kind"), (4, "between")):
        selection = select(samples, features, references, portion=0.5, nearest=nearest)
        assert selection.reports[0].name == best


def test_no_piece_is_chosen_and_rejected():
    case, selection = _selected("overlap")
    preferences = selection.preferences
    assert not set(preferences.chosen) & set(preferences.rejected)
    assert [Path(path).stem for path in preferences.rejected] == case["rejected"]
    assert selection.notes == ("only 2 of 4 pieces could be chosen: the rules exclude the others",)


def test_too_few_pieces_are_refused():
    with pytest.raises(UsageError, match=r"6 pieces are too few for portion 0\.1; at least 10 are needed"):
        _selected("zero_threshold")


def test_report_says_why_a_piece_was_passed_over(tmp_path):
    case, selection = _selected("data")
    decisions = {report.name: report for report in selection.reports}
    assert decisions["piece03"].decision == "excluded"  # the best score, but a copy of a reference
    assert "similarity" in decisions["piece03"].excluded_by
    assert decisions[case["chosen"][0]].decision == "chosen"
    assert decisions[case["rejected"][0]].decision == "rejected"
    selection.save_report(tmp_path / "report.csv")
    with (tmp_path / "report.csv").open(newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert rows["piece03"]["decision"] == "excluded"
    assert len(rows) == 30


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(30)))
def test_order_of_the_pieces_does_not_matter(order):
    case = RECORDED["data"]
    samples = [Sample(name, name, case["texts"][name]) for name in case["names"]]
    features, references = np.array(case["output_features"]), np.array(case["reference_features"])
    selection = select([samples[i] for i in order], features[order], references, portion=0.2)
    assert list(selection.preferences.chosen) == case["chosen"]
    assert list(selection.preferences.rejected) == case["rejected"]


def _tune(bars, key="G"):
    lines = [f"[V:1]{bar}{'|]' if bar is bars[-1] else '|'}" for bar in bars]
    return TUNE.format(key=key, bars="\n".join(lines) + "\n")


def _transposed(bars):
    return [bar.translate(str.maketrans("CDEFGABcdefgab", "DEFGABcdefgabc")) for bar in bars]


def test_copies_of_known_music_are_excluded_in_any_key():
    known = KnownMusic([_tune(MELODY)])
    moved = _tune(_transposed(MELODY), key="A")
    assert examine(moved, RuleSettings(), known).copied
    assert not examine(moved, RuleSettings()).copied
    turned = [bar[::-1] if bar.isalpha() else bar for bar in reversed(MELODY)]
    assert not examine(_tune(turned), RuleSettings(), known).copied
    # A copied passage in new surroundings is a copy as well.
    longer = ["E4 E4", "F2F2 A4", *_transposed(MELODY), "C4 E4"]
    assert examine(_tune(longer), RuleSettings(), known).known_notes >= 24


def test_rules_of_copies_and_same_bars_decide_who_is_chosen():
    texts = {
        "copy": _tune(MELODY),
        "same": _tune(["C2D2 E2F2"] * 5),
        "good": _tune(["C2E2 G2c2", "B2G2 D2F2", "E2C2 c4", "c8"]),
        "bad": _tune(["C8", "D8"]),
    }
    samples = [Sample(name, name, text) for name, text in texts.items()]
    features = np.array([[1, 0.0], [1, 0.1], [1, 0.5], [-1, 0]])
    options = {"portion": 0.25, "known": KnownMusic([_tune(MELODY)]), "rules": RuleSettings(similarity=1.0)}
    selection = select(samples, features, np.array([[1.0, 0.0]]), **options)
    assert selection.preferences.chosen == ("good",)
    excluded = {report.name: report.excluded_by for report in selection.reports}
    assert excluded["copy"] == ("copy",)
    assert excluded["same"] == ("same bars",)
    assert selection.preferences.metadata["excluded"] == {"copy": 1, "same bars": 1}
    compat = select(samples, features, np.array([[1.0, 0.0]]), compat=True, **options)
    assert compat.preferences.chosen == ("copy",)


def _prompted():
    text = _tune(["C2E2 G2c2", "B2G2 D2F2", "E2C2 c4", "c8"])
    samples = [Sample(f"{p}{i}", f"{p}{i}.abc", text, p, 10 * (i + 1)) for p in "ab" for i in range(4)]
    angles = [0.1, 0.2, 0.3, 0.4, 1.1, 1.2, 1.3, 1.4]
    return samples, np.array([[np.cos(angle), np.sin(angle)] for angle in angles])


def test_groups_by_prompt_have_their_own_references_and_pairs():
    samples, features = _prompted()
    references = np.array([[1.0, 0.0], [0.0, 1.0]])
    rules = RuleSettings(similarity=1.0)
    alone = select(samples, features, references, portion=0.25, rules=rules)
    assert alone.preferences.pairs is None
    grouped = select(
        samples, features, references, portion=0.25, rules=rules, by_prompt=True, reference_prompts=["a", "b"]
    )
    assert grouped.preferences.chosen == ("a0.abc", "b3.abc")
    assert grouped.preferences.rejected == ("a3.abc", "b0.abc")
    assert grouped.preferences.pairs == ((0, 0), (1, 1))


def test_pairs_of_similar_length():
    samples, features = _prompted()
    options = {"portion": 0.5, "rules": RuleSettings(similarity=1.0)}
    selection = select(samples, features, np.array([[1.0, 0.0]]), length_ratio=1.5, **options)
    preferences = selection.preferences
    length = {sample.path: sample.length for sample in samples}
    for i, j in preferences.pairs:
        longer, shorter = sorted((length[preferences.chosen[i]], length[preferences.rejected[j]]))[::-1]
        assert longer <= 1.5 * shorter
    assert 0 < preferences.pair_count < len(preferences.chosen) * len(preferences.rejected)
    with pytest.raises(UsageError, match="length_ratio"):
        select(samples, features, np.array([[1.0, 0.0]]), length_ratio=0.5, **options)


def test_file_comes_back(tmp_path):
    _, selection = _selected("data")
    selection.preferences.save(tmp_path / "preference.json")
    assert Preferences.load(tmp_path / "preference.json") == selection.preferences


def test_file_of_the_original_is_read(tmp_path):
    path = tmp_path / "preference.json"
    path.write_text(json.dumps({"chosen": ["a.abc", "b.abc"], "rejected": ["c.abc"]}, indent=4))
    preferences = Preferences.load(path)
    assert (preferences.chosen, preferences.rejected) == (("a.abc", "b.abc"), ("c.abc",))
    assert [preferences.pair(number) for number in range(preferences.pair_count)] == [(0, 0), (1, 0)]
    with pytest.raises(UsageError, match="there is no pair 2"):
        preferences.pair(2)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{}",
        '{"chosen": [1], "rejected": []}',
        '{"chosen": ["a"], "rejected": ["b"], "pairs": [[0, 1]]}',
        "{",
    ],
)
def test_damaged_files_are_refused(tmp_path, content):
    path = tmp_path / "preference.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"preference\.json"):
        Preferences.load(path)


def test_bad_features_are_named():
    samples = [Sample("one", "one", ""), Sample("two", "two", "")]
    reference = np.ones((1, 2))
    with pytest.raises(InputError, match="feature of two is zero or not finite"):
        select(samples, np.array([[1.0, 1], [0, 0]]), reference, portion=0.5)
    with pytest.raises(InputError, match="have 3 and 2 values"):
        select(samples, np.ones((2, 3)), reference, portion=0.5)
    with pytest.raises(InputError, match="one row for each"):
        select(samples, np.ones((3, 2)), reference, portion=0.5)
    with pytest.raises(InputError, match="same name"):
        select([samples[0], samples[0]], np.ones((2, 2)), reference, portion=0.5)
