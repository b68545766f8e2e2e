"""An attention call in lowered form: what back ends compute, free of descriptors.

Shapes: B batch, H heads, Nq queries, Nk keys, M weights of the bias. A packed batch has B = 1 and running lengths.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from pentatonic.attention.descriptors import Visibility
from pentatonic.attention.tiles import Distances


@dataclass(frozen=True, eq=False)
class Problem:
    """Everything about a call but q, k, v and the tensors that carry gradients.

    Attributes:
        distances: The part of the bias without gradients.
        scale: Factor on ``q . k``.
        left: Keys visible before the query's own position, or ``None`` for all.
        right: Keys visible after it, or ``None`` for all.
        kv_len: ``(B,)`` number of valid keys (one per sequence if packed), or ``None`` for all.
        aligned: Queries are the last of the ``kv_len`` tokens, not of all Nk.
        cu_q: ``(S + 1,)`` int32 running lengths of packed queries.
        cu_k: The same for the keys.
        rope: ``(cos, sin, interleaved)``: tables ``(1 or B, Nk, d/2)`` or ``(Nk, d/2)`` float32, and the pairing.
        intervals: ``(B, H, row groups, 2)`` int32, live ranges of key groups, or ``None`` for all.
    """

    distances: Distances
    scale: float
    left: int | None = None
    right: int | None = None
    kv_len: Tensor | None = None
    aligned: bool = False
    cu_q: Tensor | None = None
    cu_k: Tensor | None = None
    rope: tuple[Tensor, Tensor, bool] | None = None
    intervals: Tensor | None = None

    @property
    def visibility(self) -> Visibility:
        """The mask in normal form."""
        return Visibility(self.left, self.right, self.kv_len)

    def within(self, intervals: Tensor) -> Problem:
        """The same problem over live intervals only."""
        return replace(self, intervals=intervals)
