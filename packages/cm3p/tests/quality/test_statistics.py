"""Rank correlation, mutual information and silhouettes: known answers, and those of scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cm3p.quality.statistics import mutual_information, rank_correlation, ranks, silhouettes


def test_ranks_and_rank_correlation() -> None:
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [2.5, 0, 2.5, 1]
    rising = np.array([0.1, 0.5, 7.0, 9.0])
    assert rank_correlation(rising, rising**3) == pytest.approx(1)
    assert rank_correlation(rising, -rising) == pytest.approx(-1)
    assert math.isnan(rank_correlation(rising, np.ones(4)))


def test_mutual_information_and_silhouettes_of_known_groups() -> None:
    labels = np.array([0, 0, 1, 1])
    assert mutual_information(labels, np.array([5, 5, 2, 2])) == pytest.approx(1)
    assert mutual_information(labels, np.array([0, 1, 0, 1])) == pytest.approx(0)
    far = np.where(labels[:, None] == labels, 0.0, 1.0)
    assert silhouettes(far, labels).tolist() == [1, 1, 1, 1]
    assert silhouettes(far, np.array([0, 0, 0, 1]))[3] == 0


def test_same_as_scikit_learn_and_scipy() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    points, one, other = rng.normal(size=(40, 3)), rng.integers(4, size=40), rng.integers(5, size=40)
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    expected = metrics.silhouette_samples(distances, one, metric="precomputed")
    np.testing.assert_allclose(silhouettes(distances, one), expected)
    assert mutual_information(one, other) == pytest.approx(metrics.normalized_mutual_info_score(one, other))
    assert rank_correlation(one, points[:, 0]) == pytest.approx(stats.spearmanr(one, points[:, 0]).statistic)
