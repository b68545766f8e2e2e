"""Near-duplicates: clips whose vectors are nearly the same. They stay in the bank, and are marked.

Shapes: N rows, D dimensions.
"""

from __future__ import annotations

import numpy as np

from pentatonic.errors import UsageError
from pentatonic.search import top_k

NEARLY_THE_SAME = 0.99
"""Least cosine of near-duplicates."""
_AT_A_TIME = 1024
_NEIGHBOURS, _MOST_NEIGHBOURS = 64, 4096


def find_duplicates(vectors: np.ndarray, least: float = NEARLY_THE_SAME) -> list[int | None]:
    """Return for each row the first row that it nearly equals, of those that equal none before them.

    The time grows with the square of the rows: a million take hours.

    Args:
        vectors: ``(N, D)``.
        least: Least cosine; above 1 marks none.

    Raises:
        UsageError: ``least`` is not a number from 0.
    """
    if not least >= 0:
        raise UsageError(
            f"near-duplicates have a cosine of at least {least}; allowed: from 0, and above 1 for none"
        )
    originals: list[int | None] = [None] * len(vectors)
    if least > 1:
        return originals
    for start in range(0, len(vectors), _AT_A_TIME):
        queries = np.asarray(vectors[start : start + _AT_A_TIME])
        before = vectors[: start + len(queries)]
        count = _NEIGHBOURS
        while True:
            found = top_k(queries, before, count, metric="cosine")
            # A row with more neighbours than asked for may have an earlier one among those that are not listed.
            if count >= min(len(before), _MOST_NEIGHBOURS) or not (found.scores[:, -1] >= least).any():
                break
            count *= 8
        for i, (rows, scores) in enumerate(zip(found.rows, found.scores, strict=True)):
            row = start + i
            near = sorted(int(r) for r, score in zip(rows, scores, strict=True) if score >= least and r < row)
            originals[row] = next((r for r in near if originals[r] is None), None)
    return originals
