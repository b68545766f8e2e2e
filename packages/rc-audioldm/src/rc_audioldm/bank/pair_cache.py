"""Pairs of queries and neighbours as arrays, for training: real ``.npy`` files, where the original dumps raw memory.

Shapes: Q queries, M neighbours, D dimensions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pentatonic.checkpoint import atomic_directory
from rc_audioldm.bank.neighbours import QueryNeighbours, styles_of
from rc_audioldm.bank.style_bank import StyleBank
from rc_audioldm.style.vectors import Weighting


def write_pairs(
    out: Path,
    neighbours: Sequence[QueryNeighbours],
    primary: StyleBank,
    auxiliary: StyleBank | None = None,
    *,
    style_of: int = 8,
    weighting: Weighting = "softmax",
    temperature: float = 0.08,
    save_rows: bool = False,
) -> None:
    """Write a folder of pairs.

    ``style_topM.npy`` (Q, D) float32, ``neighbor_idx_topM.npy`` (Q, M) int32 with -1 where there are fewer,
    ``neighbor_w_topM.npy`` (Q, M) float32, with ``save_rows`` ``neighbor_emb_topM.npy`` (Q, M, D) float32, and
    ``pairs_flat.jsonl``.

    Args:
        out: The folder, which is replaced as a whole.
        neighbours: Q queries.
        primary: The bank.
        auxiliary: The other bank.
        style_of: M.
        weighting: As for :func:`rc_audioldm.bank.neighbours.styles_of`.
        temperature: As there.
        save_rows: Also write the rows of the neighbours.

    Raises:
        CheckpointError: It cannot be written.
        UsageError: As :func:`rc_audioldm.bank.neighbours.styles_of`.
    """
    styles = styles_of(
        neighbours, primary, auxiliary, style_of=style_of, weighting=weighting, temperature=temperature
    )
    shape = (len(neighbours), style_of)
    rows, weights = np.full(shape, -1, np.int32), np.zeros(shape, np.float32)
    vectors = np.zeros((*shape, primary.dimension) if save_rows else (0,), np.float32)
    lines = []
    for number, (each, own) in enumerate(zip(neighbours, styles.weights, strict=True)):
        bank = primary if each.bank == "primary" or auxiliary is None else auxiliary
        first = each.neighbours[:style_of]
        rows[number, : len(first)] = [n.row for n in first]
        weights[number, : len(first)] = own
        if save_rows:
            vectors[number, : len(first)] = bank.rows([n.row for n in first])
        for rank, (neighbour, weight) in enumerate(zip(first, own, strict=True), 1):
            line = {"query_id": number, "rank": rank, "bank": each.bank, "idx": neighbour.row}
            lines.append({**line, "sim": neighbour.similarity, "weight": weight, "path": neighbour.path})
    with atomic_directory(out) as folder:
        np.save(folder / "style_topM.npy", styles.vectors)
        np.save(folder / "neighbor_idx_topM.npy", rows)
        np.save(folder / "neighbor_w_topM.npy", weights)
        if save_rows:
            np.save(folder / "neighbor_emb_topM.npy", vectors)
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        (folder / "pairs_flat.jsonl").write_text(text, encoding="utf-8")
