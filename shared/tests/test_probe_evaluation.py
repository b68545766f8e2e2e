"""Probes on embeddings with known content: what is fitted to which split, selection, intervals, seeds, results."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pytest
import torch

from pentatonic.errors import InputError, UsageError
from pentatonic.probes import (
    Classification,
    KeyDetection,
    ProbeResult,
    ProbeSettings,
    ProbeSplit,
    Regression,
    Tagging,
    Task,
    evaluate_probes,
)
from pentatonic.probes.evaluation import bootstrap
from pentatonic.probes.fit import Probe, fit_probe

FAST = ProbeSettings(batch_size=64, learning_rate=0.01)
MLP = dataclasses.replace(FAST, model="mlp")
GENRES = Classification(("jazz", "rock", "folk"))


def splits(targets_of: Callable[[torch.Tensor], torch.Tensor], *, noise: float = 0.1) -> list[ProbeSplit]:
    """Three splits of 150 tracks with 3 chunks each; targets are a function of (150, 8) hidden values of the tracks."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for name in ("train", "valid", "test"):
        hidden = torch.randn(150, 8, generator=generator)
        chunks = hidden.repeat_interleave(3, dim=0)
        features = 5 + 2 * (chunks + noise * torch.randn(chunks.shape, generator=generator))
        track = torch.arange(150).repeat_interleave(3)
        groups = [f"artist {number // 2}" for number in range(150)]
        made.append(ProbeSplit(name, features, targets_of(hidden), track, groups))
    return made


def genres(hidden: torch.Tensor) -> torch.Tensor:
    return hidden[:, :3].argmax(dim=1)


def evaluate(task: Task, data: list[ProbeSplit], **options) -> ProbeResult:
    options = {"grid": [FAST], "epochs": 30, "resamples": 50} | options
    return evaluate_probes(task, *data, **options)


# --- what probes learn


def test_classes_are_read_from_embeddings() -> None:
    result = evaluate(GENRES, splits(genres), grid=[FAST, MLP])
    assert result.test["accuracy"].value > 0.8
    majority = int(splits(genres)[0].targets.mode().values)
    share = float((splits(genres)[2].targets == majority).double().mean())
    assert result.baselines["majority class"]["accuracy"] == pytest.approx(share)
    assert result.baselines["random"]["accuracy"] < 0.6


def test_keys_are_read_from_embeddings() -> None:
    data = splits(lambda hidden: 2 * hidden[:, :3].argmax(dim=1) + 10)
    result = evaluate(KeyDetection(), data)
    assert result.primary == "weighted_score"
    assert result.test["weighted_score"].value >= result.test["accuracy"].value > 0.8


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1000.0])
def test_numbers_of_any_unit_are_read_from_embeddings(unit: float) -> None:
    data = splits(lambda hidden: unit * (7 + hidden[:, :2] + hidden[:, 2:4]))
    result = evaluate(Regression(("arousal", "valence")), data)
    assert list(result.test) == ["r2", "r2_arousal", "r2_valence"]
    assert min(estimate.value for estimate in result.test.values()) > 0.9
    assert -0.2 < result.baselines["mean"]["r2"] <= 0
    assert result.baselines["random"]["r2"] < -0.3


def test_tags_are_read_from_embeddings() -> None:
    data = splits(lambda hidden: (hidden[:, :4] > 0.3).float())
    result = evaluate(Tagging(("a", "b", "c", "d")), data)
    assert result.test["average_precision"].value > 0.9
    assert result.test["roc_auc"].value > 0.9
    assert result.baselines["mean"]["roc_auc"] == 0.5


def test_an_mlp_reads_what_a_linear_probe_cannot() -> None:
    data = splits(lambda hidden: (hidden[:, 0] * hidden[:, 1] > 0).long(), noise=0.3)
    small = [dataclasses.replace(split, features=split.features[:, :2]) for split in data]
    result = evaluate(Classification(("no", "yes")), small, grid=[FAST, MLP], epochs=60)
    assert result.runs[result.chosen].settings.model == "mlp"
    assert result.test["accuracy"].value > 0.85
    assert result.runs[0].validation["accuracy"] < 0.75


# --- which split does what


def test_standardisation_is_fitted_to_the_training_split() -> None:
    train, *_ = splits(genres)
    probe = Probe(FAST, train, GENRES)
    torch.testing.assert_close(probe.mean, train.features.mean(dim=0))
    torch.testing.assert_close(probe.deviation, train.features.std(dim=0, correction=0))
    raw = Probe(dataclasses.replace(FAST, standardise=False), train, GENRES)
    assert (raw.mean.abs().max(), raw.deviation.min(), raw.deviation.max()) == (0, 1, 1)


def test_a_constant_feature_is_not_blown_up() -> None:
    train, *_ = splits(genres)
    rounding = 1 + 1e-7 * torch.randn(train.features.shape, generator=torch.Generator().manual_seed(0))
    constant = dataclasses.replace(train, features=0.1 * rounding)
    assert constant.features.std() > 0
    assert (Probe(FAST, constant, GENRES).deviation == 1).all()


def test_the_loss_of_numbers_does_not_depend_on_their_units() -> None:
    outputs, targets = torch.randn(2, 20, 2, generator=torch.Generator().manual_seed(0))
    task, scale, units = (
        Regression(("arousal", "valence")),
        torch.tensor([2.0, 3.0]),
        torch.tensor([1e-3, 1e3]),
    )
    torch.testing.assert_close(
        task.loss(outputs * units, targets * units, scale * units), task.loss(outputs, targets, scale)
    )


def test_the_test_split_has_no_influence_on_the_choice() -> None:
    data = splits(genres, noise=1.0)
    slow = dataclasses.replace(FAST, learning_rate=1e-4)
    result = evaluate(GENRES, data, grid=[slow, FAST, MLP])
    scores = [run.validation["accuracy"] for run in result.runs]
    assert result.chosen == int(np.argmax(scores))
    shuffled = dataclasses.replace(data[2], targets=data[2].targets.roll(1))
    other = evaluate(GENRES, [*data[:2], shuffled], grid=[slow, FAST, MLP])
    assert (other.chosen, other.runs) == (result.chosen, result.runs)
    assert other.test != result.test


def test_of_equal_runs_and_epochs_the_first_is_chosen() -> None:
    data = splits(genres, noise=0.0)
    grid = [MLP, dataclasses.replace(MLP, batch_size=65)]
    result = evaluate(GENRES, data, grid=grid, epochs=80)
    assert result.runs[0].validation == result.runs[1].validation
    assert result.chosen == 0
    epoch = result.runs[0].epoch
    assert epoch is not None
    assert epoch < 80
    until_then = evaluate(GENRES, data, grid=grid[:1], epochs=epoch)
    assert until_then.runs[0] == result.runs[0]
    assert until_then.test == result.test  # the weights are those of that epoch


def test_patience_ends_a_run() -> None:
    """Validation targets that do not follow the features: the first epochs are as good as any."""
    train, valid, _ = splits(genres)
    valid = dataclasses.replace(valid, targets=torch.zeros(150, dtype=torch.int64))
    calls: list[int] = []

    class Counting(Classification):
        def metrics(self, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
            calls.append(1)
            return {"accuracy": 0.5}

    fitted = fit_probe(
        FAST, Counting(GENRES.names), train, valid, epochs=50, patience=4, seed=0, device=torch.device("cpu")
    )
    assert fitted is not None
    assert (fitted.epoch, len(calls)) == (1, 5)


def test_settings_without_effect_are_trained_once(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = []

    def counting(settings: ProbeSettings, *args, **options):
        trained.append(settings)
        return fit_probe(settings, *args, **options)

    monkeypatch.setattr("pentatonic.probes.evaluation.fit_probe", counting)
    grid = [dataclasses.replace(FAST, dropout=dropout) for dropout in (0.25, 0.5, 0.75)]
    seen: list[int] = []
    result = evaluate(
        GENRES, splits(genres), grid=grid, epochs=2, on_run=lambda position, run: seen.append(position)
    )
    assert (len(trained), seen) == (1, [0, 1, 2])
    assert [run.settings for run in result.runs] == grid
    assert len({str(run.validation) for run in result.runs}) == 1


# --- seeds, intervals, results


def test_results_depend_on_the_seed_alone() -> None:
    data = splits(genres, noise=1.0)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = evaluate(GENRES, data, grid=[MLP], seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert evaluate(GENRES, data, grid=[MLP], seed=3) == first
    other = evaluate(GENRES, data, grid=[MLP], seed=4)
    assert other.runs != first.runs
    assert other.baselines["random"] != first.baselines["random"]


def test_intervals_resample_groups() -> None:
    """With 4 groups of equal tracks, the mean has the spread of 4 values, not of 400."""
    values = np.repeat([0.0, 0, 1, 1], 100)
    outputs = np.stack([1 - values, values], axis=1)
    targets, task = np.ones(400, dtype=np.int64), Classification(("no", "yes"))
    options = {"resamples": 2000, "confidence": 0.9}
    grouped = bootstrap(
        task, outputs, targets, np.repeat(np.arange(4), 100), rng=np.random.default_rng(0), **options
    )["accuracy"]
    assert (grouped.value, grouped.low, grouped.high) == (0.5, 0.0, 1.0)  # each end has probability 1 / 16
    single = bootstrap(task, outputs, targets, np.arange(400), rng=np.random.default_rng(0), **options)[
        "accuracy"
    ]
    expected = 1.645 * 0.5 / np.sqrt(400)
    assert single.high - single.value == pytest.approx(expected, rel=0.15)
    assert single.value - single.low == pytest.approx(expected, rel=0.15)


def test_resamples_that_do_not_define_a_metric_are_left_out() -> None:
    outputs, targets = np.array([[0.0], [1.0], [1.0]]), np.array([[0.0], [1.0], [1.0]])
    found = bootstrap(
        Tagging(("a",)),
        outputs,
        targets,
        np.arange(3),
        resamples=200,
        confidence=0.9,
        rng=np.random.default_rng(0),
    )
    assert (found["roc_auc"].low, found["roc_auc"].high) == (1, 1)


def test_results_are_a_table_and_json() -> None:
    result = evaluate(GENRES, splits(genres))
    rows = result.rows()
    assert [row["predictor"] for row in rows] == ["linear probe", "majority class", "random"]
    estimate = result.test["accuracy"]
    assert rows[0]["accuracy"] == f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
    text = json.dumps(result.to_json(), allow_nan=False)
    read = json.loads(text)
    assert read["test"]["accuracy"] == dataclasses.asdict(estimate)
    assert read["runs"][0]["settings"]["learning_rate"] == 0.01
    assert (read["tracks"]["test"], read["chunks"]["test"], read["groups"]) == (150, 450, 75)
    undefined = dataclasses.replace(estimate, low=float("nan"))
    assert (
        dataclasses.replace(result, test={"accuracy": undefined}).to_json()["test"]["accuracy"]["low"] is None
    )


# --- what is refused


@pytest.mark.parametrize(
    ("task", "targets_of"), [(GENRES, genres), (Regression(("arousal",)), lambda hidden: hidden[:, :1])]
)
def test_runs_that_diverge_are_recorded_and_never_chosen(task: Task, targets_of: Callable) -> None:
    data = splits(targets_of)
    large = [dataclasses.replace(split, features=split.features * 1e37) for split in data]
    wild = ProbeSettings(standardise=False, learning_rate=10.0)
    result = evaluate(task, large, grid=[wild, FAST], epochs=5)
    assert (result.runs[0].epoch, result.runs[0].validation, result.chosen) == (None, {}, 1)
    with pytest.raises(InputError, match="all runs of the grid diverged"):
        evaluate(task, large, grid=[wild], epochs=5)


def test_wrong_arguments_are_refused() -> None:
    data = splits(genres)
    for options, message in (
        ({"grid": []}, "grid is 0; allowed: 1 and more"),
        ({"epochs": 0}, "epochs is 0"),
        ({"patience": 0}, "patience is 0"),
        ({"resamples": 0}, "resamples is 0"),
        ({"confidence": 1.0}, "confidence is 1.0; allowed: between 0 and 1"),
    ):
        with pytest.raises(UsageError, match=message):
            evaluate(GENRES, data, **options)
    small = [dataclasses.replace(split, features=split.features / 1000) for split in data[:2]]
    huge = dataclasses.replace(data[2], features=torch.full_like(data[2].features, 3e38))
    with pytest.raises(InputError, match="test split: the selected probe has outputs that are not finite"):
        evaluate(GENRES, [*small, huge], epochs=1)
    narrow = dataclasses.replace(data[2], features=data[2].features[:, :5])
    with pytest.raises(InputError, match="test split: has 5 features, and the training split 8"):
        evaluate(GENRES, [*data[:2], narrow])
