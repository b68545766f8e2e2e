"""Rows of pairs for the training loop.

Shapes: B rows of width D, N states of width H.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from pentatonic.training import ItemKey
from rc_audioldm.adapters.pair_vectors import PairVectors

Batch = dict[str, Tensor]


class PairRows:
    """Numbers of rows as items; a batch of them is read from the arrays at once.

    Args:
        pairs: All pairs.
        rows: Those that belong to this part, int64.
    """

    def __init__(self, pairs: PairVectors, rows: np.ndarray) -> None:
        self.pairs, self.rows = pairs, rows
        self._captions = pairs.caption_numbers()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: ItemKey) -> int:
        return int(self.rows[key.index])

    def collate(self, rows: Sequence[int]) -> Batch:
        """Read rows.

        Args:
            rows: Numbers of B rows.

        Returns:
            ``audio`` and ``text``, ``(B, D)`` of norm 1; ``captions`` ``(B,)``; ``states`` ``(B, N, H)`` if any.
        """
        which = np.asarray(rows)
        batch = {
            "audio": normalize(torch.from_numpy(self.pairs.audio[which]), dim=-1),
            "text": normalize(torch.from_numpy(self.pairs.text[which]), dim=-1),
            "captions": torch.from_numpy(self._captions[which]),
        }
        if self.pairs.states is not None:
            batch["states"] = torch.from_numpy(self.pairs.states[which])
        return batch

    def whole(self) -> Batch:
        """Read all rows of this part."""
        return self.collate(self.rows.tolist())


class WholeAtOnce:
    """A validation set of one item that stands for all rows: recall is that of a whole set, not of its batches."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, key: ItemKey) -> int:
        return key.index
