"""Cut sequences of tokens at bars."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pentatonic.errors import UsageError

LONGEST, SHORTEST = 2048, 256


def chunk_at_bars(
    ids: NDArray[np.integer],
    bar_id: int,
    *,
    longest: int = LONGEST,
    shortest: int = SHORTEST,
    legacy: bool = False,
) -> Iterator[tuple[int, int]]:
    """Yield the spans of consecutive chunks of a sequence.

    A chunk ends before the last bar token that fits, so that the next one begins with it; where that would leave fewer
    than ``shortest`` tokens, it is as long as allowed.

    Args:
        ids: ``(n,)`` tokens.
        bar_id: The token that begins a bar.
        longest: Most tokens of a chunk.
        shortest: Least tokens of a chunk that ends at a bar.
        legacy: As in the original, a chunk ends *behind* its last bar token, so that the next one begins without its
            own; and a rest that would fit is cut at its last bar again.

    Yields:
        ``(start, stop)``.

    Raises:
        UsageError: ``shortest`` is not from 1 to ``longest``.
    """
    if not 1 <= shortest <= longest:
        raise UsageError(f"shortest is {shortest}; allowed: 1 to longest, {longest}")
    # Where a chunk may end.
    ends = np.flatnonzero(ids == bar_id) + (1 if legacy else 0)
    start = 0
    while start < len(ids):
        limit = min(start + longest, len(ids))
        if not legacy and limit == len(ids):
            stop = limit
        else:
            before = int(np.searchsorted(ends, limit, side="right"))
            stop = int(ends[before - 1]) if before else 0
            stop = stop if stop - start >= shortest else limit
        yield start, stop
        start = stop
