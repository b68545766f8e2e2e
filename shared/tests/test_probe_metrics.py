"""Grid, chunks, track means and metrics of probes against the goldens of Myna's evaluation and scikit-learn."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pentatonic.errors import ConfigError, InputError, UsageError
from pentatonic.probes import (
    KEY_NAMES,
    Classification,
    KeyDetection,
    ProbeSettings,
    ProbeSplit,
    Regression,
    Tagging,
    Task,
    average_precision,
    chunk_starts,
    full_grid,
    key_scores,
    quick_grid,
    r_squared,
    roc_auc,
    top_k_accuracy,
)

GOLDENS = Path(__file__).parent / "goldens"
GRID = json.loads((GOLDENS / "probe_grid.json").read_text())
KEYS = json.loads((GOLDENS / "key_score.json").read_text())
METRICS = json.loads((GOLDENS / "probe_metrics.json").read_text())


def settings_of(golden: dict) -> ProbeSettings:
    values = {name: value for name, value in golden.items() if name not in ("position", "standardize")}
    return ProbeSettings(**values, standardise=golden["standardize"] == "on")


# --- grid


def test_the_full_grid_is_in_the_order_of_the_original() -> None:
    grid = full_grid()
    assert len(grid) == len(set(grid)) == GRID["n"]
    assert list(grid[: len(GRID["first"])]) == [settings_of(golden) for golden in GRID["first"]]
    assert list(grid[-len(GRID["last"]) :]) == [settings_of(golden) for golden in GRID["last"]]
    for golden in GRID["quick"]:
        assert grid[golden["position"] - 1] == settings_of(golden)


def test_the_quick_grid_has_17_distinct_settings_that_standardise() -> None:
    grid = quick_grid()
    assert len(grid) == len({settings.effective() for settings in grid}) == 17
    assert all(settings.standardise for settings in grid)
    assert [settings.model for settings in grid] == ["linear"] * 9 + ["mlp"] * 8
    expected = [dataclasses.replace(settings_of(golden), standardise=True) for golden in GRID["quick"]]
    assert {settings.effective() for settings in expected} == set(grid)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"probe\.dropout is 1"):
        ProbeSettings(dropout=1.0)


# --- chunks and track means


@pytest.mark.parametrize("golden", METRICS["hops"])
def test_chunks_start_where_those_of_the_original_do(golden: dict) -> None:
    size = golden["frame_size"]
    starts = chunk_starts(
        golden["total_frames"], size, golden["hop_frames"] if golden["split"] == "train" else size
    )
    assert list(starts) == golden["starts"]
    assert max(starts[-1] + size - golden["total_frames"], 0) == golden["zero_frames_at_end"]


def test_chunks_of_no_frames_are_wrong_usage() -> None:
    for numbers in ((0, 1, 1), (1, 0, 1), (1, 1, 0)):
        with pytest.raises(UsageError, match="allowed: 1 and more"):
            chunk_starts(*numbers)


def task_of(golden: dict) -> Task:
    count = len(golden["chunk_outputs"][0])
    names = tuple(f"dim_{number}" for number in range(count))
    if golden["key_detection"]:
        return KeyDetection()
    return {"multiclass": Classification, "binary": Tagging, "regression": Regression}[golden["task"]](names)


@pytest.mark.parametrize("golden", METRICS["metrics"], ids=lambda golden: golden["task"])
def test_metrics_of_mean_outputs_are_those_of_the_original(golden: dict) -> None:
    task = task_of(golden)
    outputs = torch.tensor(golden["chunk_outputs"], dtype=torch.float64)
    split = ProbeSplit("test", outputs, torch.tensor(golden["labels"]), torch.tensor(golden["chunk_track"]))
    task.check(split)
    values = task.metrics(
        split.track_means(split.features),
        split.targets.double().numpy() if golden["task"] != "multiclass" else split.targets.numpy(),
    )
    names = {
        "top_1_accuracy": "accuracy",
        "weighted_accuracy": "weighted_score",
        "auroc": "roc_auc",
        "auprc": "average_precision",
    }
    expected = {names.get(name, name): value for name, value in golden["metrics"].items()}
    assert values == pytest.approx(expected, abs=METRICS["tolerance"])
    assert values[task.primary] == pytest.approx(golden["primary"], abs=METRICS["tolerance"])


# --- metrics


@pytest.mark.parametrize(("target", "predicted", "score"), KEYS["rows"])
def test_key_scores_are_those_that_the_original_got_of_mir_eval(
    target: int, predicted: int, score: float
) -> None:
    assert key_scores()[target, predicted] == pytest.approx(score, abs=KEYS["tolerance"])


def test_key_classes_are_named_in_chromatic_order() -> None:
    assert (len(KEY_NAMES), KEY_NAMES[0], KEY_NAMES[3], KEY_NAMES[23]) == (
        24,
        "C major",
        "Db minor",
        "B minor",
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("levels", [3, 1000])
def test_tag_metrics_are_those_of_scikit_learn(seed: int, levels: int) -> None:
    """With few levels most scores are tied."""
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    scores = rng.integers(levels, size=(50, 6)) / levels
    labels = (rng.random((50, 6)) < 0.3).astype(float)
    np.testing.assert_allclose(roc_auc(scores, labels), sklearn.roc_auc_score(labels, scores, average=None))
    expected = sklearn.average_precision_score(labels, scores, average=None)
    np.testing.assert_allclose(average_precision(scores, labels), expected)


def test_known_tag_metrics() -> None:
    labels = np.array([[1.0], [0], [1], [0]])
    perfect, reversed_ = np.array([[4.0], [2], [3], [1]]), np.array([[1.0], [3], [2], [4]])
    assert (roc_auc(perfect, labels)[0], average_precision(perfect, labels)[0]) == (1, 1)
    assert (roc_auc(reversed_, labels)[0], average_precision(reversed_, labels)[0]) == (
        0,
        (1 / 3 + 2 / 4) / 2,
    )
    assert (roc_auc(0 * perfect, labels)[0], average_precision(0 * perfect, labels)[0]) == (0.5, 0.5)


def test_tags_that_all_or_no_tracks_have_do_not_count() -> None:
    labels = np.array([[1.0, 0, 1], [1, 0, 0], [1, 0, 1]])
    scores = np.array([[3.0, 1, 3], [2, 2, 1], [1, 3, 2]])
    assert np.isnan(roc_auc(scores, labels)).tolist() == [True, True, False]
    assert np.isnan(average_precision(scores, labels)).tolist() == [True, True, False]
    assert Tagging(("a", "b", "c")).metrics(scores, labels) == {"average_precision": 1, "roc_auc": 1}
    undefined = Tagging(("a", "b")).metrics(scores[:, :2], labels[:, :2])
    assert np.isnan(list(undefined.values())).all()


def test_known_r_squared() -> None:
    targets = np.array([[1.0, 5], [2, 5], [3, 5]])
    values = r_squared(np.array([[1.0, 5], [2, 5], [4, 5]]), targets)
    assert values[0] == 0.5
    assert np.isnan(values[1])


def test_equal_outputs_count_for_the_lower_class() -> None:
    outputs = np.zeros((3, 4))
    assert top_k_accuracy(outputs, np.array([0, 1, 3])) == pytest.approx(1 / 3)
    assert top_k_accuracy(outputs, np.array([0, 1, 3]), k=2) == pytest.approx(2 / 3)


# --- what is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": torch.ones(4)}, r"valid split: features have the shape \(4,\)"),
        (
            {"features": torch.tensor([[1.0], [2], [float("nan")], [4]])},
            "the features of chunk 2 are not finite",
        ),
        ({"track": torch.tensor([0, 0, 1])}, "track needs one int64 number per chunk"),
        ({"track": torch.tensor([0, 0, 1, 3])}, r"a track outside \[0, 3\)"),
        ({"track": torch.tensor([0, 0, 2, 2])}, "track 1 has no chunk"),
        ({"groups": ["a", "b"]}, "there are 2 groups for 3 tracks"),
    ],
)
def test_splits_that_do_not_match_are_refused(changes: dict, message: str) -> None:
    good = {
        "features": torch.ones(4, 1),
        "targets": torch.tensor([0, 1, 1]),
        "track": torch.tensor([0, 0, 1, 2]),
        "groups": ["a", "a", "b"],
    }
    ProbeSplit("valid", **good)
    with pytest.raises(InputError, match=message):
        ProbeSplit("valid", **good | changes)


@pytest.mark.parametrize(
    ("task", "targets", "message"),
    [
        (Classification(("a", "b")), torch.tensor([0, 2]), r"a class is outside \[0, 2\)"),
        (Classification(("a", "b")), torch.tensor([0.0, 1.0]), "int64 classes"),
        (Regression(("arousal",)), torch.tensor([[1.0], [1.0]]), "all targets of 'arousal' are equal"),
        (Regression(("arousal",)), torch.tensor([1.0, 2.0]), r"floats of the shape \(tracks, 1\)"),
        (Regression(("arousal",)), torch.tensor([[1.0], [float("inf")]]), "a target is not finite"),
        (Tagging(("a", "b")), torch.tensor([[0.0, 1], [0.5, 0]]), "a target is neither 0 nor 1"),
        (Tagging(("a", "b")), torch.tensor([[0.0, 1], [0, 1]]), "needs a tag that some tracks have"),
    ],
)
def test_targets_of_another_kind_are_refused(task: Task, targets: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=f"train split: .*{message}"):
        task.check(ProbeSplit("train", torch.ones(2, 3), targets))
