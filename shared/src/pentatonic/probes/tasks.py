"""What is read from embeddings: the loss, the metrics, the one that selects, and the trivial baselines.

Shape legend: T tracks, K outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pentatonic.errors import InputError
from pentatonic.probes import metrics
from pentatonic.probes.splits import ProbeSplit


@dataclass(frozen=True)
class Task(ABC):
    """A kind of target.

    Args:
        names: One name per output, such as genres, tags or dimensions of emotion.

    Attributes:
        primary: Name of the metric that selects; larger is better.
    """

    names: tuple[str, ...]
    primary: ClassVar[str]

    @abstractmethod
    def check(self, split: ProbeSplit) -> None:
        """Refuse targets of another kind, and those with which the primary metric is undefined.

        Raises:
            InputError: Names the split and what is allowed.
        """

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor, scale: Tensor) -> Tensor:
        """Mean loss of the raw outputs (n, K) of chunks; ``scale`` (K,) as in :meth:`output_scale`."""

    @abstractmethod
    def metrics(self, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Metrics of the mean raw outputs (T, K) of tracks; NaN where one is undefined."""

    @abstractmethod
    def baselines(
        self, train_targets: np.ndarray, n_tracks: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Outputs (n_tracks, K) of predictors that know the training targets but no embedding."""

    def output_scale(self, train_targets: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and scale (K,) between the outputs of the network and the raw outputs; none by default."""
        return torch.zeros(len(self.names)), torch.ones(len(self.names))


@dataclass(frozen=True)
class Classification(Task):
    """One class per track: cross entropy; accuracy selects. Targets: (T,) int64."""

    primary: ClassVar[str] = "accuracy"

    def check(self, split: ProbeSplit) -> None:
        """See :meth:`Task.check`."""
        targets, count = split.targets, len(self.names)
        if targets.dtype != torch.int64 or targets.ndim != 1:
            raise InputError(f"{split.name} split: targets must be (tracks,) int64 classes")
        if targets.min() < 0 or targets.max() >= count:
            raise InputError(f"{split.name} split: a class is outside [0, {count}), the number of names")

    def loss(self, outputs: Tensor, targets: Tensor, scale: Tensor) -> Tensor:
        """See :meth:`Task.loss`."""
        return F.cross_entropy(outputs, targets)

    def metrics(self, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """See :meth:`Task.metrics`."""
        values = {"accuracy": metrics.top_k_accuracy(outputs, targets)}
        if len(self.names) > 5:
            values["top_5_accuracy"] = metrics.top_k_accuracy(outputs, targets, 5)
        return values

    def baselines(
        self, train_targets: np.ndarray, n_tracks: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Classes by their frequency in training, so that the majority class comes first; and random scores."""
        frequency = np.bincount(train_targets, minlength=len(self.names)).astype(float)
        return {
            "majority class": np.tile(frequency, (n_tracks, 1)),
            "random": rng.random((n_tracks, len(self.names))),
        }


@dataclass(frozen=True)
class KeyDetection(Classification):
    """One of 24 keys per track; the mean MIREX-weighted score selects. Targets as :data:`KEY_NAMES`."""

    names: tuple[str, ...] = metrics.KEY_NAMES
    primary: ClassVar[str] = "weighted_score"

    def metrics(self, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """See :meth:`Task.metrics`."""
        return {
            "weighted_score": metrics.weighted_key_score(outputs, targets),
            **super().metrics(outputs, targets),
        }


@dataclass(frozen=True)
class Regression(Task):
    """Numbers per track, such as arousal and valence: mean squared error; the mean R² selects. Targets: (T, K).

    In training, targets are shifted and scaled to mean 0 and deviation 1 over the training split, so that the result
    does not depend on their unit; outputs are in the unit of the targets.
    """

    primary: ClassVar[str] = "r2"

    def check(self, split: ProbeSplit) -> None:
        """See :meth:`Task.check`."""
        _check_matrix(split, len(self.names))
        constant = split.targets.double().std(dim=0, correction=0) == 0
        if constant.any():
            name = self.names[int(constant.long().argmax())]
            raise InputError(f"{split.name} split: all targets of {name!r} are equal, so R² is undefined")

    def output_scale(self, train_targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation (K,) of the training targets."""
        return train_targets.mean(dim=0), train_targets.std(dim=0, correction=0)

    def loss(self, outputs: Tensor, targets: Tensor, scale: Tensor) -> Tensor:
        """See :meth:`Task.loss`."""
        return F.mse_loss(outputs / scale, targets / scale)

    def metrics(self, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """See :meth:`Task.metrics`."""
        each = metrics.r_squared(outputs, targets)
        named = {f"r2_{name}": float(value) for name, value in zip(self.names, each, strict=True)}
        return {"r2": float(each.mean()), **(named if len(named) > 1 else {})}

    def baselines(
        self, train_targets: np.ndarray, n_tracks: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """The mean of the training targets, and targets of random training tracks."""
        return {
            "mean": np.tile(train_targets.mean(axis=0), (n_tracks, 1)),
            "random": train_targets[rng.integers(len(train_targets), size=n_tracks)],
        }


@dataclass(frozen=True)
class Tagging(Task):
    """Any number of tags per track: binary cross entropy; mean average precision selects. Targets: (T, K), 0 or 1.

    Macro metrics are means over the tags that some tracks of the split have and others lack.
    """

    primary: ClassVar[str] = "average_precision"

    def check(self, split: ProbeSplit) -> None:
        """See :meth:`Task.check`."""
        _check_matrix(split, len(self.names))
        if not ((split.targets == 0) | (split.targets == 1)).all():
            raise InputError(f"{split.name} split: a target is neither 0 nor 1")
        means = split.targets.double().mean(dim=0)
        if not ((means > 0) & (means < 1)).any():
            raise InputError(f"{split.name} split: needs a tag that some tracks have and others lack")

    def loss(self, outputs: Tensor, targets: Tensor, scale: Tensor) -> Tensor:
        """See :meth:`Task.loss`."""
        return F.binary_cross_entropy_with_logits(outputs, targets)

    def metrics(self, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """See :meth:`Task.metrics`."""
        return {
            "average_precision": _mean_of_defined(metrics.average_precision(outputs, targets)),
            "roc_auc": _mean_of_defined(metrics.roc_auc(outputs, targets)),
        }

    def baselines(
        self, train_targets: np.ndarray, n_tracks: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """The frequency of each tag in training, and random scores."""
        return {
            "mean": np.tile(train_targets.mean(axis=0), (n_tracks, 1)),
            "random": rng.random((n_tracks, len(self.names))),
        }


def _check_matrix(split: ProbeSplit, count: int) -> None:
    targets = split.targets
    if targets.ndim != 2 or targets.shape[1] != count or not targets.is_floating_point():
        raise InputError(f"{split.name} split: targets must be floats of the shape (tracks, {count})")
    if not torch.isfinite(targets).all():
        raise InputError(f"{split.name} split: a target is not finite")


def _mean_of_defined(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")
