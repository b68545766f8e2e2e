"""Distances between two sets of vectors, such as embeddings: of Gaussians with their means and covariances, and MMD.

The Fréchet distance of Gaussians with means m and covariances C is ``|m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2)``
(Dowson and Landau, 1982). The last trace is the sum of the roots of the eigenvalues of ``C1 C2``, which are the
singular values of ``A1 A2^T`` where ``C = A^T A``: no root of a matrix is taken, sets with fewer vectors than
dimensions are no special case, and what is not negative by its definition is not negative here. All is in float64.

The estimate is too large for few vectors, the more so the fewer there are (Chong and Forsyth, 2020): two halves of one
set have a distance above 0. So it comes with an extrapolation to infinitely many vectors. The kernel distance has no
such bias.

Shape legend: n, m vectors, D dimensions, R rows of a root.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from pentatonic.errors import InputError

_SUBSETS = 15  # sizes from which the distance is extrapolated
_REPEATS = 5  # subsets of each size
_SMALLEST_SHARE = 0.5
_FEWEST = 2
_BLOCK = 1024  # rows of a kernel matrix at a time


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution.

    Args:
        mean: (D,) float64.
        root: (R, D) float64, with ``root.T @ root`` the covariance.
        count: Vectors that it was estimated from.
    """

    mean: np.ndarray
    root: np.ndarray
    count: int

    @classmethod
    def of(cls, vectors: np.ndarray, *, ridge: float = 0.0, shrink: bool = False) -> Self:
        """Estimate mean and unbiased covariance.

        Args:
            vectors: (n, D); of a single one the covariance is 0.
            ridge: Added to the diagonal of the covariance.
            shrink: Move the covariance towards a multiple of the identity, by the share of Ledoit and Wolf (2004),
                which matters where n is not much larger than D.

        Raises:
            InputError: There are no vectors, or some numbers are not finite.
        """
        if vectors.ndim != 2 or not vectors.size or not np.isfinite(vectors).all():
            raise InputError(
                f"vectors of the shape {vectors.shape}; allowed: (vectors, dimensions) of finite numbers, at least one"
            )
        centred = vectors.astype(np.float64)
        mean = centred.mean(0)
        centred = centred - mean
        root = _root(centred)
        if shrink:
            share, level = _shrinkage(centred)
            ridge += share * level
            root = np.sqrt(1 - share) * root
        if ridge:
            root = np.concatenate((root, np.sqrt(ridge) * np.eye(len(mean))))
        return cls(mean, root, len(vectors))


def gaussian_distance(first: Gaussian, second: Gaussian) -> float:
    """Return the Fréchet distance of two Gaussians: 0 or more, in squared units of the vectors.

    Raises:
        InputError: The dimensions differ.
    """
    if first.mean.shape != second.mean.shape:
        raise InputError(
            f"a Fréchet distance of vectors of {len(first.mean)} and of {len(second.mean)} dimensions; allowed: the "
            "same number"
        )
    traces = float((first.root**2).sum()) + float((second.root**2).sum())
    common = float(np.linalg.svd(first.root @ second.root.T, compute_uv=False).sum())
    return max(0.0, float(((first.mean - second.mean) ** 2).sum()) + traces - 2 * common)


def frechet_distance(
    first: np.ndarray, second: np.ndarray, *, ridge: float = 0.0, shrink: bool = False
) -> float:
    """Return the Fréchet distance of two sets of vectors.

    Args:
        first: (n, D), at least two.
        second: (m, D), at least two.
        ridge: As in :meth:`Gaussian.of`.
        shrink: As there.

    Returns:
        0 or more, in squared units of the vectors.

    Raises:
        InputError: There are fewer than two vectors, the dimensions differ, or a number is not finite.
    """
    _check(first, second)
    one, other = (Gaussian.of(each, ridge=ridge, shrink=shrink) for each in (first, second))
    return gaussian_distance(one, other)


def extrapolated_distance(
    first: np.ndarray, second: np.ndarray, rng: np.random.Generator, *, shrink: bool = False
) -> float:
    """Return the Fréchet distance that infinitely many vectors would have.

    It is the intercept of a straight line through the distances of random subsets of both sets, over the sum of one
    divided by their sizes (Chong and Forsyth, 2020, for two finite sets).

    Args:
        first: (n, D), at least two.
        second: (m, D), at least two.
        rng: Draws the subsets.
        shrink: As in :meth:`Gaussian.of`.

    Returns:
        May be a little below 0; NaN where all subsets have one size.

    Raises:
        InputError: As :func:`frechet_distance`.
    """
    _check(first, second)
    inverse, distances = [], []
    for share in np.linspace(_SMALLEST_SHARE, 1, _SUBSETS):
        sizes = [max(_FEWEST, round(share * len(each))) for each in (first, second)]
        for _ in range(_REPEATS):
            parts = [
                each[rng.choice(len(each), size, replace=False)]
                for each, size in zip((first, second), sizes, strict=True)
            ]
            inverse.append(1 / sizes[0] + 1 / sizes[1])
            distances.append(frechet_distance(*parts, shrink=shrink))
    if min(inverse) == max(inverse):
        return float("nan")
    return float(np.polyfit(inverse, distances, 1)[1])


def kernel_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the squared maximum mean discrepancy of two sets, with the kernel ``(x.y / D + 1)^3``.

    This is the kernel distance (KID) of Bińkowski et al. (2018), over all vectors at once. Its expectation does not
    depend on the numbers of vectors, so that it suits small sets.

    Args:
        first: (n, D), at least two.
        second: (m, D), at least two.

    Returns:
        Unbiased, and so a little below 0 for about half of all pairs of equal distributions.

    Raises:
        InputError: As :func:`frechet_distance`.
    """
    _check(first, second)
    one, other = (each.astype(np.float64) for each in (first, second))
    within = [(_kernel_sum(each, each) - _kernel_diagonal(each)) / _pairs(each) for each in (one, other)]
    return within[0] + within[1] - 2 * _kernel_sum(one, other) / (len(one) * len(other))


def _check(first: np.ndarray, second: np.ndarray) -> None:
    if min(len(first), len(second)) < _FEWEST or first.shape[1:] != second.shape[1:]:
        raise InputError(
            f"a distance of vectors of the shapes {first.shape} and {second.shape}; allowed: two vectors or more "
            "each, of one length"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InputError("a distance of vectors with numbers that are not finite; allowed: finite numbers")


def _root(centred: np.ndarray) -> np.ndarray:
    """A of at most D rows with ``A^T A`` the unbiased covariance."""
    scaled = centred / np.sqrt(max(1, len(centred) - 1))
    if len(scaled) <= scaled.shape[1]:
        return scaled
    root: Any = np.linalg.qr(scaled, mode="r")
    return root


def _shrinkage(centred: np.ndarray) -> tuple[float, float]:
    """Share of the identity by Ledoit and Wolf (2004), and the mean of the diagonal that it is multiplied with."""
    n, dimensions = centred.shape
    if n < _FEWEST:
        return 0.0, 0.0
    gram = centred @ centred.T if n < dimensions else centred.T @ centred
    squares = float((gram**2).sum()) / n**2  # of the biased covariance
    level = float((centred**2).sum()) / (n * dimensions)
    spread = squares - dimensions * level**2
    noise = float(((centred**2).sum(1) ** 2).sum()) / n**2 - squares / n
    share = min(1.0, noise / spread) if spread > 0 else 0.0
    return share, level * n / (n - 1)


def _kernel_sum(one: np.ndarray, other: np.ndarray) -> float:
    dimensions = one.shape[1]
    blocks = (one[start : start + _BLOCK] for start in range(0, len(one), _BLOCK))
    return float(sum((((block @ other.T) / dimensions + 1) ** 3).sum() for block in blocks))


def _kernel_diagonal(vectors: np.ndarray) -> float:
    return float((((vectors**2).sum(1) / vectors.shape[1] + 1) ** 3).sum())


def _pairs(vectors: np.ndarray) -> int:
    return len(vectors) * (len(vectors) - 1)
