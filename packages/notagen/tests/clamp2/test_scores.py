"""Scores and retrieval against numbers of the original programs."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from notagen.clamp2.scores import clamp2_scores, cosines, group_score, retrieval, true_ranks
from pentatonic.errors import InputError, UsageError

GOLDENS = Path(__file__).parents[1] / "goldens" / "clamp2"


def golden(name):
    expected = json.loads((GOLDENS / name / "expected.json").read_text())
    return expected, load_file(GOLDENS / name / "io.safetensors")


def test_scores_equal_the_original():
    expected, io = golden("preference_data")
    scores = clamp2_scores(io["output_features"], io["reference_features"])
    by_name = expected["scores"]
    wanted = [by_name[name] for name in expected["names"]] if isinstance(by_name, dict) else by_name
    np.testing.assert_allclose(scores, wanted, atol=1e-6)
    assert scores.mean() == pytest.approx(expected["average_clamp2_score"], abs=1e-6)
    assert group_score(io["output_features"], io["reference_features"]) == pytest.approx(
        expected["group_clamp2_score"], abs=1e-6
    )


def test_scores_by_the_nearest_references():
    references = np.array([[1.0, 0], [0, 2], [-3, 0]])
    pieces = np.array([[1.0, 1], [1, 0]])
    root = np.sqrt(0.5)
    np.testing.assert_allclose(clamp2_scores(pieces, references, nearest=1), [root, 1])
    np.testing.assert_allclose(clamp2_scores(pieces, references, nearest=2), [root, 0.5])
    everything = [(2 * root - root) / 3, 0]
    np.testing.assert_allclose(clamp2_scores(pieces, references, nearest=3), everything, atol=1e-15)
    np.testing.assert_allclose(clamp2_scores(pieces, references, nearest=9), everything, atol=1e-15)
    with pytest.raises(UsageError, match="nearest is 0; allowed: at least 1"):
        clamp2_scores(pieces, references, nearest=0)


def test_search_equals_the_original():
    expected, io = golden("semantic_search")
    queries, references = io["query_features"], io["reference_features"]
    found = retrieval(queries, expected["query_names"], references, expected["reference_names"])
    metrics = {key.lower(): value for key, value in expected["metrics_over_common_names"].items()}
    assert {key: found.to_dict()[key] for key in ("mrr", "hit@1", "hit@10", "hit@100")} == metrics
    similarities = cosines(queries[[expected["query_names"].index("k001")]], references)[0]
    best = np.argsort(-similarities)[:5]
    for row, (name, value) in zip(best, expected["top5_for_k001"], strict=True):
        assert expected["reference_names"][row] == name
        assert similarities[row] == pytest.approx(value, abs=1e-6)


def test_ties():
    similarities = np.array([[0.5, 0.5, 0.9], [0.1, 0.7, 0.7], [0.2, 0.2, 0.2]])
    np.testing.assert_array_equal(true_ranks(similarities), [2, 1, 1])
    np.testing.assert_array_equal(true_ranks(similarities, ties="mean"), [2.5, 1.5, 2])
    with pytest.raises(UsageError, match="allowed: best, mean"):
        true_ranks(similarities, ties="worst")


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), "3 and of 4"),
        (np.zeros((1, 3)), np.ones((2, 3)), "feature 0 is zero"),
        (np.array([[1.0, 2], [np.nan, 1]]), np.ones((2, 2)), "feature 1"),
        (np.ones(3), np.ones((2, 3)), "shape"),
    ],
)
def test_features_without_a_direction_are_refused(left, right, message):
    with pytest.raises(InputError, match=message):
        cosines(left, right)


def test_names_decide_what_belongs_together():
    vectors = np.eye(3)
    found = retrieval(vectors, ["a", "b", "c"], vectors[[2, 0]], ["c", "a"])
    assert (found.mrr, found.queries) == (1.0, 2)
    with pytest.raises(InputError, match="no query"):
        retrieval(vectors, ["a", "b", "c"], vectors[:1], ["d"])
    with pytest.raises(InputError, match="twice: a"):
        retrieval(vectors, ["a", "b", "a"], vectors[:1], ["d"])
