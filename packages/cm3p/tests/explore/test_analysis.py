"""Places, groups and rounded vectors, compared with direct computations."""

import sys

import numpy as np
import pytest

from cm3p.explore.clusters import all_clusters, cluster_counts
from cm3p.explore.layout import principal_components, umap
from cm3p.explore.rounding import neighbour_agreement, to_int8
from pentatonic.errors import MissingExtra, UsageError


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def groups(count: int, size: int, dimension: int = 32, spread: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    labels = np.repeat(np.arange(count), size + 10 * np.arange(count))  # of different sizes
    centres = random.normal(size=(count, dimension))
    return unit(centres[labels] + spread * random.normal(size=(len(labels), dimension))), labels


@pytest.mark.parametrize("shift", range(8))  # the signs of a solver differ with the order of the columns
def test_principal_components_are_those_of_the_singular_vectors(shift: int) -> None:
    vectors = np.roll(groups(4, 50)[0], shift, axis=1)
    found = principal_components(vectors)
    centred = vectors.astype(np.float64) - vectors.mean(axis=0)
    left, values, right = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(right[np.arange(2), np.abs(right[:2]).argmax(axis=1)])
    places = left[:, :2] * values[:2] * signs
    places -= (places.max(axis=0) + places.min(axis=0)) / 2
    np.testing.assert_allclose(found.positions, places / np.abs(places).max(), atol=1e-5)
    assert np.abs(found.positions).max() == pytest.approx(1, abs=1e-6)
    assert f"{(values[:2] ** 2).sum() / (values**2).sum():.0%}" in found.note


@pytest.mark.parametrize("vectors", [np.ones((1, 4)), np.ones((5, 4)), np.array([[1.0], [-1.0], [1.0]])])
def test_degenerate_vectors_have_finite_places(vectors: np.ndarray) -> None:
    found = principal_components(unit(vectors)).positions
    assert found.shape == (len(vectors), 2)
    assert np.isfinite(found).all() and np.abs(found).max() <= 1


def test_clusters_find_separate_groups() -> None:
    vectors, labels = groups(6, 30)
    found = dict(zip(cluster_counts(len(vectors)), all_clusters(vectors), strict=True))
    assert list(found) == list(range(2, 21))
    # The groups lie apart, the last one is the largest: its label is 0.
    np.testing.assert_array_equal(found[6], 5 - labels)
    for count, each in found.items():
        sizes = np.bincount(each, minlength=count)
        assert len(sizes) == count and (np.diff(sizes) <= 0).all()
    np.testing.assert_array_equal(all_clusters(vectors), np.stack(list(found.values())))


def test_no_cluster_is_empty() -> None:
    # Groups that are much tighter than they are apart: some of many starting points lose all their maps.
    random = np.random.default_rng(7)
    labels = random.integers(8, size=600)
    vectors = unit(random.normal(size=(8, 24))[labels] + 0.4 * random.normal(size=(600, 24)))
    for count, found in zip(cluster_counts(600), all_clusters(vectors), strict=True):
        assert np.bincount(found, minlength=count).all()


def test_clusters_of_few_or_equal_maps() -> None:
    assert all_clusters(unit(np.ones((1, 3)))).tolist() == [[0]]
    assert list(cluster_counts(3)) == [2, 3]
    equal = all_clusters(unit(np.ones((25, 3))))
    assert equal.shape == (19, 25) and not equal.any()


def test_more_iterations_never_raise_the_scatter(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = groups(9, 20, spread=1.5)
    monkeypatch.setattr("cm3p.explore.clusters._SETTLED", -1.0)

    def scatter(iterations: int) -> float:
        monkeypatch.setattr("cm3p.explore.clusters._MAX_ITERATIONS", iterations)
        labels = all_clusters(vectors)[5]
        means = np.stack([vectors[labels == each].mean(axis=0) for each in range(labels.max() + 1)])
        return float(((vectors - means[labels]) ** 2).sum())

    scatters = [scatter(n) for n in (1, 2, 4, 8)]
    assert scatters == sorted(scatters, reverse=True) and scatters[0] > scatters[-1]


def test_rounded_vectors_keep_the_neighbours() -> None:
    vectors, _ = groups(20, 40, dimension=512, spread=0.8)
    rounded = to_int8(vectors)
    assert rounded.dtype == np.int8
    assert (np.abs(rounded.astype(int)).max(axis=1) == 127).all()
    cosines = unit(rounded.astype(np.float64)) @ unit(rounded.astype(np.float64)).T
    assert np.abs(cosines - vectors @ vectors.T).max() < 0.005
    exact, found = vectors @ vectors.T, cosines
    shares = []
    for row in np.random.default_rng(0).choice(len(vectors), 100, replace=False):
        others = np.delete(np.arange(len(vectors)), row)
        ten = [set(others[np.argsort(-scores[row, others])[:10]]) for scores in (exact, found)]
        shares.append(len(ten[0] & ten[1]) / 10)
    assert np.mean(shares) > 0.93
    assert neighbour_agreement(vectors, rounded) == pytest.approx(np.mean(shares), abs=1e-9)


def test_agreement_tells_bad_vectors() -> None:
    vectors, _ = groups(4, 60)
    other = to_int8(np.random.default_rng(1).normal(size=vectors.shape).astype(np.float32))
    assert neighbour_agreement(vectors, other) < 0.3
    assert neighbour_agreement(vectors[:1], to_int8(vectors[:1])) == 1


def test_umap_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = groups(2, 10)
    start = principal_components(vectors)
    with pytest.raises(UsageError, match="at least 3 maps"):
        umap(vectors[:2], start)
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtra, match=r"cm3p\[umap\]"):
        umap(vectors, start)


@pytest.mark.slow
def test_umap_keeps_groups_together() -> None:
    vectors, labels = groups(3, 20)
    first, second = (umap(vectors, principal_components(vectors)) for _ in range(2))
    np.testing.assert_array_equal(first.positions, second.positions)
    assert np.abs(first.positions).max() == pytest.approx(1, abs=1e-6)
    distances = np.linalg.norm(first.positions[:, None] - first.positions[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(axis=1)] == labels).all()
    umap(vectors[:3], principal_components(vectors[:3]))
