"""A grid of probes: all trained on one split, one selected on another, and that one tested once on a third."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch

from pentatonic.errors import InputError, UsageError
from pentatonic.probes.fit import FittedProbe, fit_probe, track_outputs
from pentatonic.probes.grid import ProbeSettings, quick_grid
from pentatonic.probes.results import ProbeResult, ProbeRun
from pentatonic.probes.splits import ProbeSplit
from pentatonic.probes.tasks import Task
from pentatonic.statistics import Estimate


def evaluate_probes(
    task: Task,
    train: ProbeSplit,
    valid: ProbeSplit,
    test: ProbeSplit,
    *,
    grid: Sequence[ProbeSettings] | None = None,
    epochs: int = 100,
    patience: int | None = None,
    seed: int = 0,
    resamples: int = 1000,
    confidence: float = 0.95,
    device: str | torch.device = "cpu",
    on_run: Callable[[int, ProbeRun], None] | None = None,
) -> ProbeResult:
    """Find out how well a task can be read from frozen embeddings.

    Everything is fitted to ``train``. ``valid`` selects the epoch of each run and the run of the grid; a later one
    replaces an earlier one only if it is strictly better. ``test`` is used once, by the selected probe. The result is
    a function of the arguments: on one machine with one number of threads, it is the same every time.

    Args:
        task: What is read, such as :class:`Classification`.
        train: Training split.
        valid: Validation split.
        test: Test split, with the groups that the intervals resample.
        grid: Settings to try; :func:`quick_grid` by default. Settings that differ by nothing that has an effect are
            trained once.
        epochs: Epochs of each run at most.
        patience: Epochs without improvement after which a run ends; never by default.
        seed: Of the initial weights, the orders, the dropouts, the resamples and the random baseline.
        resamples: Bootstrap resamples of the groups of test tracks.
        confidence: Of the percentile intervals.
        device: Where the probes are trained.
        on_run: Called after each setting with its position and its run, for progress.

    Returns:
        The selected probe's test metrics with intervals, all runs, and the baselines.

    Raises:
        InputError: A split has wrong or unusable targets or another width, all runs diverged, or the selected probe
            overflows on the test split.
        UsageError: An argument is out of its range.
    """
    grid = quick_grid() if grid is None else tuple(grid)
    counts = {"grid": len(grid), "epochs": epochs, "resamples": resamples}
    counts |= {} if patience is None else {"patience": patience}
    for name, count in counts.items():
        if count < 1:
            raise UsageError(f"{name} is {count}; allowed: 1 and more")
    if not 0 < confidence < 1:
        raise UsageError(f"confidence is {confidence}; allowed: between 0 and 1")
    for split in (train, valid, test):
        task.check(split)
        if split.features.shape[1] != train.features.shape[1]:
            widths = f"{split.features.shape[1]} features, and the training split {train.features.shape[1]}"
            raise InputError(f"{split.name} split: has {widths}")
    device = torch.device(device)
    on_device = [dataclasses.replace(split, features=split.features.to(device)) for split in (train, valid)]
    done: dict[ProbeSettings, ProbeRun] = {}
    runs: list[ProbeRun] = []
    best: FittedProbe | None = None
    chosen = 0
    for position, settings in enumerate(grid):
        key = settings.effective()
        if key not in done:
            fitted = fit_probe(
                settings, task, *on_device, epochs=epochs, patience=patience, seed=seed, device=device
            )
            done[key] = ProbeRun(key, fitted and fitted.epoch, fitted.validation if fitted else {})
            if fitted and (best is None or fitted.validation[task.primary] > best.validation[task.primary]):
                best, chosen = fitted, position
        runs.append(dataclasses.replace(done[key], settings=settings))
        if on_run:
            on_run(position, runs[-1])
    if best is None:
        raise InputError(
            "all runs of the grid diverged: no probe has finite outputs; try lower learning rates"
        )
    outputs = track_outputs(best.probe, dataclasses.replace(test, features=test.features.to(device)))
    if not np.isfinite(outputs).all():
        raise InputError(
            "test split: the selected probe has outputs that are not finite; are its features as in training?"
        )
    targets, groups = test.targets.numpy(), _group_numbers(test)
    rng = np.random.default_rng(seed)
    baselines = task.baselines(train.targets.numpy(), test.n_tracks, rng)
    splits = {"train": train, "valid": valid, "test": test}
    return ProbeResult(
        task=type(task).__name__,
        primary=task.primary,
        runs=tuple(runs),
        chosen=chosen,
        test=bootstrap(task, outputs, targets, groups, resamples=resamples, confidence=confidence, rng=rng),
        baselines={name: task.metrics(guess, targets) for name, guess in baselines.items()},
        tracks={name: split.n_tracks for name, split in splits.items()},
        chunks={name: len(split.features) for name, split in splits.items()},
        groups=int(groups.max()) + 1,
        confidence=confidence,
        epochs=epochs,
        patience=patience,
        seed=seed,
    )


def bootstrap(
    task: Task,
    outputs: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray,
    *,
    resamples: int,
    confidence: float,
    rng: np.random.Generator,
) -> dict[str, Estimate]:
    """Metrics with percentile intervals from resampling whole groups of tracks with replacement.

    Args:
        task: Gives the metrics.
        outputs: (T, K) raw outputs.
        targets: Of the T tracks.
        groups: (T,) number of each track's group, from 0 without gaps.
        resamples: Number of resamples; those with which a metric is undefined do not count for it.
        confidence: Share of the resamples inside an interval.
        rng: Draws the groups.

    Returns:
        Metric -> value on all tracks, and the interval.
    """
    members = np.split(np.argsort(groups, kind="stable"), np.cumsum(np.bincount(groups))[:-1])
    values = task.metrics(outputs, targets)
    drawn: dict[str, list[float]] = {name: [] for name in values}
    for _ in range(resamples):
        tracks = np.concatenate([members[group] for group in rng.integers(len(members), size=len(members))])
        for name, value in task.metrics(outputs[tracks], targets[tracks]).items():
            if not np.isnan(value):
                drawn[name].append(value)
    tail = (1 - confidence) / 2
    ends = {
        name: np.quantile(found, (tail, 1 - tail)) if found else (np.nan, np.nan)
        for name, found in drawn.items()
    }
    return {name: Estimate(value, *map(float, ends[name])) for name, value in values.items()}


def _group_numbers(split: ProbeSplit) -> np.ndarray:
    names = range(split.n_tracks) if split.groups is None else split.groups
    return np.unique(np.asarray(list(names)), return_inverse=True)[1]
