"""Recordings with texts about them, and the tokens of the texts.

Shapes: B items, n samples, T text tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from omar_rq.training.contrastive.metadata import Metadata
from omar_rq.training.data import CropDataset
from pentatonic.training import ItemKey

_TEXT_STREAM = 1  # keeps the randomness of texts apart from that of crops

Batch = dict[str, Tensor]


class TextAudioDataset(Dataset[tuple[Tensor, str]]):
    """Crops with texts: ``((n,) float32, text)``; a recording is known by the name of its file, without suffix.

    Args:
        crops: The recordings; all randomness depends on its seed, the epoch and the index.
        metadata: What is known of them. A recording that is not in it raises InputError, and the loader takes another.
        dropout: Probability that one of two blocks of a text is left out.
    """

    def __init__(self, crops: CropDataset, metadata: Metadata, *, dropout: float) -> None:
        self.crops, self.metadata, self.dropout = crops, metadata, dropout

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, key: ItemKey) -> tuple[Tensor, str]:
        """Return a crop and a text.

        Raises:
            AudioError: The track cannot be read.
            InputError: Nothing is known of it.
        """
        rng = None
        if self.crops.random:
            rng = np.random.default_rng((self.crops.seed, key.epoch, key.index, _TEXT_STREAM))
        text = self.metadata.text(self.crops.tracks[key.index].path.stem, rng, self.dropout)
        return self.crops.crop(key), text


class TextCollate:
    """Makes a batch: ``audio`` ``(B, n)`` float32, ``input_ids`` and ``attention_mask`` ``(B, T)`` int64.

    Args:
        tokenizer: Of transformers.
        max_tokens: Longer texts are cut.
    """

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        self.tokenizer, self.max_tokens = tokenizer, max_tokens

    def __call__(self, items: Sequence[tuple[Tensor, str]]) -> Batch:
        """Stack the crops, and turn the texts into tokens."""
        tokens = self.tokenizer(
            [text for _, text in items],
            padding=True,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        )
        return {
            "audio": torch.stack([crop for crop, _ in items]),
            "input_ids": tokens["input_ids"],
            "attention_mask": tokens["attention_mask"],
        }
