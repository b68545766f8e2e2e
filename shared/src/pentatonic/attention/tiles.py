"""How attention is cut into tiles, and what the bias and the mask are inside one tile.

A *tile* is a range of query rows against a range of keys, for a range of samples and heads. Rows are given by
token number (query i of Nq has ``Nk - Nq + i``), so they compare with keys directly.

Shapes: B batch, H heads, Nq queries, Nk keys; b, h, r, c are the samples, heads, rows and columns of one tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pentatonic.attention.descriptors import Visibility
from pentatonic.attention.intervals import GROUP

# One tile of scores and one of distances fit into the second-level cache; longer rows would go through memory for
# every elementwise operation.
BLOCK_QUERIES, BLOCK_KEYS = 256, 1024
# Scores held at once; short heads and samples share a tile up to this size.
TILE_SCORES = 1 << 18


class RowBlock(NamedTuple):
    """Query rows that are computed together; rows count from 0 to Nq."""

    samples: slice
    heads: slice
    rows: slice


@dataclass(frozen=True, eq=False)
class Tiling:
    """The tiles that hold at least one visible score, in a fixed order.

    Attributes:
        batch: B.
        heads: H.
        n_q: Nq.
        n_k: Nk.
        visibility: The mask.
        intervals: Live key groups ``[b][h][query group] -> (first, end)`` as of
            :func:`pentatonic.attention.intervals.key_intervals`; ``None`` if all keys are live.
        cls_tokens: With 1, the first key group is live besides the interval.
    """

    batch: int
    heads: int
    n_q: int
    n_k: int
    visibility: Visibility
    intervals: list[list[list[list[int]]]] | None = None
    cls_tokens: int = 0

    def row_blocks(self) -> Iterator[RowBlock]:
        """Yield the blocks of rows; with intervals each is one group of one head of one sample."""
        if self.intervals is not None:
            height, samples, heads = GROUP, 1, 1
        else:
            height = BLOCK_QUERIES
            area = max(1, min(self.n_q, BLOCK_QUERIES) * min(self.n_k, BLOCK_KEYS))
            heads = min(self.heads, max(1, TILE_SCORES // area))
            samples = max(1, TILE_SCORES // (area * heads)) if heads == self.heads else 1
        for b in _ranges(0, self.batch, samples):
            for h in _ranges(0, self.heads, heads):
                for rows in _ranges(0, self.n_q, height):
                    yield RowBlock(b, h, rows)

    @property
    def largest(self) -> int:
        """Upper bound of the number of scores in a tile."""
        area = min(self.n_q, max(GROUP, BLOCK_QUERIES)) * min(self.n_k, BLOCK_KEYS)
        return min(max(area, TILE_SCORES), area * self.batch * self.heads)

    def tokens(self, rows: slice) -> slice:
        """Token numbers of query rows; negative ones come before the first key."""
        return slice(rows.start + self.n_k - self.n_q, rows.stop + self.n_k - self.n_q)

    def key_blocks(self, block: RowBlock) -> Iterator[slice]:
        """Yield the key ranges that window, causal bound and interval leave to these rows."""
        tokens, left, right = self.tokens(block.rows), self.visibility.left, self.visibility.right
        start = 0 if left is None else max(0, tokens.start - left)
        stop = self.n_k if right is None else min(self.n_k, tokens.stop + right)
        for first, end in self._live(block):
            yield from _ranges(max(start, first), min(stop, end), BLOCK_KEYS)

    def _live(self, block: RowBlock) -> list[tuple[int, int]]:
        """Ranges of keys that may not be neglected."""
        if self.intervals is None:
            return [(0, self.n_k)]
        first, end = self.intervals[block.samples.start][block.heads.start][block.rows.start // GROUP]
        interval = (first * GROUP, end * GROUP)
        return [(0, GROUP), interval] if self.cls_tokens and first > 0 else [interval]

    def hidden(self, samples: slice, rows: slice, keys: slice, device: torch.device) -> Tensor | None:
        """``(1 or b, 1, r, c)`` bool, true where the mask hides the key; ``None`` if it hides nothing."""
        tokens, left, right = self.tokens(rows), self.visibility.left, self.visibility.right
        cut_left = left is not None and keys.start < tokens.stop - 1 - left
        cut_right = right is not None and keys.stop - 1 > tokens.start + right
        hidden = None
        columns = torch.arange(keys.start, keys.stop, device=device)
        if cut_left or cut_right:
            ahead = columns - torch.arange(tokens.start, tokens.stop, device=device)[:, None]
            hidden = torch.zeros_like(ahead, dtype=torch.bool)
            if left is not None:
                hidden |= ahead < -left
            if right is not None:
                hidden |= ahead > right
            hidden = hidden[None, None]
        if self.visibility.kv_len is not None:
            padding = columns >= self.visibility.kv_len[samples, None, None, None]
            hidden = padding if hidden is None else hidden | padding
        return hidden


def _ranges(start: int, stop: int, size: int) -> Iterator[slice]:
    for begin in range(start, stop, size):
        yield slice(begin, min(begin + size, stop))
