"""Neighbours of queries in a bank, with a second bank where the first has nothing near, and the styles they make.

Shapes: Q queries, N rows, K neighbours, M of them in a style, D dimensions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from pentatonic.checkpoint import atomic_file
from pentatonic.errors import FormatError, InputError, UsageError
from pentatonic.search import Neighbours
from rc_audioldm.bank.index import SearchIndex
from rc_audioldm.bank.style_bank import StyleBank
from rc_audioldm.json_lines import read_json_lines
from rc_audioldm.style.vectors import Weighting, style_from, weights_of

Which = Literal["primary", "aux"]

TOP_K = 50
FALLBACK_BELOW = 0.30
STYLE_OF = 8
TEMPERATURE = 0.08


@dataclass(frozen=True)
class Neighbour:
    """A row near a query.

    Args:
        row: Of the bank.
        path: Of its clip.
        similarity: Cosine, or the cosine of centred vectors.
        licence: Of its clip.
    """

    row: int
    path: str
    similarity: float
    licence: str = "unknown"


@dataclass(frozen=True)
class QueryNeighbours:
    """What is near a query, the nearest first.

    Args:
        query: Its name: a path, or a text.
        bank: Which bank they are from.
        neighbours: At least one.
    """

    query: str
    bank: Which
    neighbours: tuple[Neighbour, ...]

    @property
    def mean_similarity(self) -> float:
        """Mean over all neighbours."""
        return float(np.mean([each.similarity for each in self.neighbours]))

    def to_json(self, number: int) -> dict[str, Any]:
        """The line of ``neighbors.jsonl``, with the keys of the original.

        Args:
            number: Of the query.
        """
        return {
            "q_idx": number,
            "q_path": self.query,
            "used_index": self.bank,
            "mean_sim": self.mean_similarity,
            "max_sim": self.neighbours[0].similarity,
            "neighbors": [
                {
                    "rank": rank,
                    "idx": each.row,
                    "path": each.path,
                    "sim": each.similarity,
                    "licence": each.licence,
                }
                for rank, each in enumerate(self.neighbours, 1)
            ],
        }


@dataclass(frozen=True)
class Centring:
    """What is subtracted before vectors are compared: CLAP's texts and recordings lie in two far-apart clusters.

    Args:
        bank: Mean of the bank's rows, ``(D,)``.
        queries: Mean of queries of their kind, ``(D,)``, or one for each query, ``(Q, D)``.
    """

    bank: np.ndarray
    queries: np.ndarray


def find_neighbours(
    queries: np.ndarray,
    names: Sequence[str],
    primary: StyleBank,
    auxiliary: StyleBank | None = None,
    *,
    top_k: int = TOP_K,
    fallback_below: float = FALLBACK_BELOW,
    centring: Centring | None = None,
    allowed: np.ndarray | None = None,
    allowed_auxiliary: np.ndarray | None = None,
    index: SearchIndex | None = None,
) -> list[QueryNeighbours]:
    """Find the neighbours of queries.

    Args:
        queries: ``(Q, D)``.
        names: Q names of the queries.
        primary: The bank.
        auxiliary: Where queries look whose mean similarity in the primary bank is too low.
        top_k: Neighbours wanted; with fewer rows there are fewer.
        fallback_below: Mean similarity, over all neighbours found, below which the auxiliary bank is used.
        centring: Compare centred vectors; in the primary bank only.
        allowed: ``(N,)`` bool, rows of the primary bank that may be found.
        allowed_auxiliary: The same of the auxiliary bank. Without any such row that bank is not used.
        index: Of the primary bank, in place of the exact search.

    Raises:
        InputError: Widths differ, or a vector is zero or not finite.
        UsageError: ``top_k`` is below 1, no row is allowed, or an option does not go with another.
        IncompatibleVectors: The two banks were made in different ways.
    """
    if len(names) != len(queries):
        raise InputError(f"{len(names)} names for {len(queries)} queries; needed: one each")
    if top_k < 1:
        raise UsageError(f"top-k is {top_k}; allowed: 1 and more")
    if auxiliary is not None and primary.header is not None and auxiliary.header is not None:
        auxiliary.header.require(primary.header, auxiliary.where)
    if index is not None and (centring is not None or allowed is not None):
        raise UsageError("an index knows neither centring nor a choice of rows; use the exact search")
    if index is not None:
        found = index.search(np.asarray(queries), top_k)
    elif centring is None:
        found = primary.search(queries, top_k, allowed=allowed)
    else:
        units = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        found = primary.search(units - centring.queries, top_k, allowed=allowed, centre=centring.bank)
    if not found.rows.shape[1]:
        raise UsageError("no row of the bank is allowed, so there are no neighbours")
    result = [_named(name, "primary", primary, found, i) for i, name in enumerate(names)]
    if auxiliary is not None:
        poor = [i for i, each in enumerate(result) if each.mean_similarity < fallback_below]
        if poor:
            found = auxiliary.search(np.asarray(queries)[poor], top_k, allowed=allowed_auxiliary)
            for place, i in enumerate(poor if found.rows.shape[1] else []):
                result[i] = _named(names[i], "aux", auxiliary, found, place)
    return result


def _named(name: str, which: Which, bank: StyleBank, found: Neighbours, i: int) -> QueryNeighbours:
    pairs = [
        (int(row), float(sim)) for row, sim in zip(found.rows[i], found.scores[i], strict=True) if row >= 0
    ]
    return QueryNeighbours(
        name,
        which,
        tuple(Neighbour(row, bank.clips[row].path, sim, bank.clips[row].licence) for row, sim in pairs),
    )


@dataclass(frozen=True)
class Styles:
    """Styles of queries, and what they are made of.

    Args:
        vectors: ``(Q, D)`` float32 of norm 1.
        weights: For each query, the weights of its first neighbours.
    """

    vectors: np.ndarray
    weights: tuple[tuple[float, ...], ...]


def styles_of(
    neighbours: Sequence[QueryNeighbours],
    primary: StyleBank,
    auxiliary: StyleBank | None = None,
    *,
    style_of: int = STYLE_OF,
    weighting: Weighting = "softmax",
    temperature: float = TEMPERATURE,
) -> Styles:
    """Return the weighted means of the first neighbours.

    Args:
        neighbours: Q queries.
        primary: The bank.
        auxiliary: The other bank.
        style_of: Neighbours in a style, M.
        weighting: ``softmax`` of the similarities, or ``mean``.
        temperature: Of the softmax.

    Raises:
        UsageError: An argument is out of its range, or the auxiliary bank is needed and missing.
    """
    if style_of < 1:
        raise UsageError(f"a style of {style_of} neighbours; allowed: 1 and more")
    vectors, weights = [], []
    for each in neighbours:
        bank = primary if each.bank == "primary" else auxiliary
        if bank is None:
            raise UsageError("some neighbours are of the auxiliary bank; give it")
        first = each.neighbours[:style_of]
        own = weights_of(torch.tensor([n.similarity for n in first]), weighting, temperature)
        rows = torch.from_numpy(bank.rows([n.row for n in first]))
        vectors.append(style_from(rows, own).numpy())
        weights.append(tuple(own.tolist()))
    return Styles(
        np.stack(vectors) if vectors else np.zeros((0, primary.dimension), np.float32), tuple(weights)
    )


def write_neighbours(path: Path, neighbours: Sequence[QueryNeighbours]) -> None:
    """Write ``neighbors.jsonl``.

    Raises:
        CheckpointError: It cannot be written.
    """
    with atomic_file(path, "w") as file:
        for number, each in enumerate(neighbours):
            file.write(f"{json.dumps(each.to_json(number))}\n")


def read_neighbours(path: Path) -> list[QueryNeighbours]:
    """Read ``neighbors.jsonl``, ours or the original's; lines in the order of their queries.

    Raises:
        FormatError: The file is missing or damaged.
    """
    result = []
    for line, values in read_json_lines(path):
        try:
            found = tuple(
                Neighbour(
                    int(n["idx"]),
                    str(n.get("path") or ""),
                    float(n["sim"]),
                    str(n.get("licence") or "unknown"),
                )
                for n in values["neighbors"]
                if int(n["idx"]) >= 0  # the original fills up with -1
            )
            which: Which = "aux" if values.get("used_index") == "aux" else "primary"
            result.append(QueryNeighbours(str(values.get("q_path") or ""), which, found))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(
                f"is no line of neighbours ({type(error).__name__}: {error})", path=path, line=line
            ) from error
    return result
