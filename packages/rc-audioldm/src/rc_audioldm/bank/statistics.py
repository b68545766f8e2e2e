"""How near the neighbours of queries are, how evenly a style is made of them, and how near it is to its query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pentatonic.errors import InputError
from rc_audioldm.bank.neighbours import QueryNeighbours
from rc_audioldm.style.vectors import softmax_weights

_QUANTILES = (10, 50, 90)


def query_statistics(
    neighbours: Sequence[QueryNeighbours], temperature: float = 0.08
) -> list[dict[str, Any]]:
    """Return for each query its mean and largest similarity, and the entropy of its neighbours' weights in nats."""
    import torch

    rows = []
    for number, each in enumerate(neighbours):
        similarities = torch.tensor([n.similarity for n in each.neighbours], dtype=torch.float64)
        weights = softmax_weights(similarities, temperature)
        entropy = float(-(weights * weights.clamp_min(1e-300).log()).sum())
        row = {
            "query": number,
            "name": each.query,
            "bank": each.bank,
            "mean_similarity": each.mean_similarity,
        }
        rows.append({**row, "max_similarity": each.neighbours[0].similarity, "weight_entropy": entropy})
    return rows


def summary(
    rows: Sequence[Mapping[str, Any]], groups: Sequence[str] | None = None
) -> dict[str, dict[str, float]]:
    """Summarise :func:`query_statistics`: all queries, and those of each group.

    Args:
        rows: Of the queries.
        groups: The group of each query, such as its data set.

    Raises:
        InputError: There is not one group for each query.
    """
    if groups is not None and len(groups) != len(rows):
        raise InputError(f"{len(groups)} groups for {len(rows)} queries; needed: one each")
    parts: dict[str, list[Mapping[str, Any]]] = {"overall": list(rows)}
    for row, group in zip(rows, groups or [], strict=False):
        parts.setdefault(group, []).append(row)
    return {name: _summarised(part) for name, part in parts.items()}


def _summarised(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    result: dict[str, float] = {"n": len(rows)}
    if not rows:
        return result
    for key, prefix in (("mean_similarity", ""), ("max_similarity", "max_"), ("weight_entropy", "entropy_")):
        values = np.array([row[key] for row in rows])
        result[f"{prefix}mean"] = float(values.mean())
        for quantile in _QUANTILES:
            result[f"{prefix}p{quantile}"] = float(np.percentile(values, quantile))
    return result


def query_to_style(queries: np.ndarray, styles: np.ndarray) -> dict[str, float]:
    """Summarise the cosines of queries (Q, D) and their styles; rows without a direction are counted, and left out.

    Raises:
        InputError: The shapes differ.
    """
    if queries.shape != styles.shape:
        raise InputError(f"queries have the shape {queries.shape} and styles {styles.shape}; they must agree")
    lengths = np.linalg.norm(queries, axis=1) * np.linalg.norm(styles, axis=1)
    usable = np.isfinite(lengths) & (lengths > 0)
    cosines = (queries[usable] * styles[usable]).sum(axis=1) / lengths[usable]
    result: dict[str, float] = {"n": int(usable.sum()), "left_out": int((~usable).sum())}
    if len(cosines):
        quantiles = {f"p{q}": float(np.percentile(cosines, q)) for q in _QUANTILES}
        result |= {"mean": float(cosines.mean()), **quantiles}
    return result
