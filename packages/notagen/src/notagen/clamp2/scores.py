"""Scores by features: how close pieces are to references, and how well one set of features finds another.

Shapes: n, m pieces, D width of a feature. Features are compared by their cosine and need not be normalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pentatonic.errors import InputError, UsageError

Ties = Literal["best", "mean"]
"""What rank a true match has among others as similar: the best one, as in the original, or the mean of their ranks."""
_HITS = (1, 10, 100)


def cosines(left: ArrayLike, right: ArrayLike) -> NDArray[np.float64]:
    """Cosine of each row of ``(n, D)`` with each row of ``(m, D)``: ``(n, m)``.

    Raises:
        InputError: The widths differ, or a row is zero or not finite.
    """
    first, second = _unit(left), _unit(right)
    if first.shape[1] != second.shape[1]:
        raise InputError(f"features of {first.shape[1]} and of {second.shape[1]} numbers cannot be compared")
    return first @ second.T


def clamp2_scores(
    features: ArrayLike, references: ArrayLike, *, nearest: int | None = None
) -> NDArray[np.float64]:
    """CLaMP 2 score of each piece: cosine of its feature with the mean of the references' features.

    Args:
        features: ``(n, D)``.
        references: ``(m, D)``; their mean is taken before anything is normalised.
        nearest: In place of that, the mean of the cosines with so many references, those that are nearest to the piece;
            with all where there are fewer.

    Returns:
        ``(n,)``; the mean of these is the average CLaMP 2 score of a model.

    Raises:
        InputError: As for :func:`cosines`.
        UsageError: ``nearest`` is below 1.
    """
    if nearest is None:
        return cosines(features, np.asarray(references, dtype=np.float64).mean(0, keepdims=True))[:, 0]
    if nearest < 1:
        raise UsageError(f"nearest is {nearest}; allowed: at least 1")
    return np.sort(cosines(features, references), axis=1)[:, -nearest:].mean(1)


def group_score(features: ArrayLike, references: ArrayLike) -> float:
    """Cosine of the mean features of two sets, ``(n, D)`` and ``(m, D)``: another number than the average score."""
    means = [np.asarray(rows, dtype=np.float64).mean(0, keepdims=True) for rows in (features, references)]
    return float(cosines(*means)[0, 0])


@dataclass(frozen=True)
class Retrieval:
    """How well queries find what belongs to them.

    Args:
        mrr: Mean of 1 / rank of the true match.
        hits: k to the share of queries whose true match is among the k nearest, for k of 1, 10 and 100.
        queries: Number of queries.
        candidates: Among how many they searched.
    """

    mrr: float
    hits: dict[int, float]
    queries: int
    candidates: int

    def to_dict(self) -> dict[str, Any]:
        """Return the values as plain JSON types, rounded to 4 decimals."""
        hits = {f"hit@{k}": round(share, 4) for k, share in self.hits.items()}
        return {"mrr": round(self.mrr, 4), **hits, "queries": self.queries, "candidates": self.candidates}


def retrieval(
    queries: ArrayLike,
    query_names: Sequence[str],
    references: ArrayLike,
    reference_names: Sequence[str],
    *,
    ties: Ties = "best",
) -> Retrieval:
    """Rank, for each query, the reference of the same name among all references that have a query.

    Args:
        queries: ``(n, D)``.
        query_names: n names, each once.
        references: ``(m, D)``.
        reference_names: m names, each once.
        ties: Rank among equals.

    Raises:
        InputError: No name is common to both, or a name occurs twice.
    """
    for what, names in (("queries", query_names), ("references", reference_names)):
        if len(set(names)) != len(names):
            raise InputError(
                f"names of {what} occur twice: {min(n for n in names if list(names).count(n) > 1)}"
            )
    places = {name: place for place, name in enumerate(reference_names)}
    common = [name for name in query_names if name in places]
    if not common:
        raise InputError("no query has the name of a reference")
    rows = {name: row for row, name in enumerate(query_names)}
    asked = np.asarray(queries)[[rows[name] for name in common]]
    found = np.asarray(references)[[places[name] for name in common]]
    ranks = true_ranks(cosines(asked, found), ties=ties)
    return Retrieval(
        mrr=float((1 / ranks).mean()),
        hits={k: float((ranks <= k).mean()) for k in _HITS},
        queries=len(common),
        candidates=len(common),
    )


def true_ranks(similarities: NDArray[np.float64], *, ties: Ties = "best") -> NDArray[np.float64]:
    """Rank, from 1, of the diagonal in each row of ``(n, n)``: ``(n,)``.

    Raises:
        UsageError: ``ties`` is unknown.
    """
    if ties not in ("best", "mean"):
        raise UsageError(f"ties is {ties!r}; allowed: best, mean")
    true = similarities.diagonal()[:, None]
    above = (similarities > true).sum(1)
    equal = (similarities == true).sum(1) - 1
    return 1.0 + above + (equal / 2 if ties == "mean" else 0)


def _unit(rows: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(rows, dtype=np.float64)
    if values.ndim != 2:
        raise InputError(f"features have the shape {values.shape}; allowed: (pieces, width)")
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    if not (np.isfinite(norms).all() and (norms > 0).all()):
        place = int(np.flatnonzero(~(np.isfinite(norms[:, 0]) & (norms[:, 0] > 0)))[0])
        raise InputError(f"feature {place} is zero or not finite, and so has no direction")
    return values / norms
