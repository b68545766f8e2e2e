"""Pieces for training: choice of key, patches, and batches.

Shapes: B pieces, N patches, S = 16 characters of a patch.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from notagen.codec import encode_train
from notagen.notation.keys import MAJOR_KEYS, choose_key
from notagen.training.index import Index
from pentatonic.errors import ConfigError
from pentatonic.training import ItemKey, mix_seed

Keys = Literal["uniform", "near", "original"]
KEYS: tuple[Keys, ...] = ("uniform", "near", "original")

#: Patches and mask of pieces of similar length.
Group = tuple[Tensor, Tensor]

_MOST_PADDING = 0.2


class _FirstChoice(random.Random):
    """A generator whose every choice is the first one: a piece that is too long is cut after its beginning."""

    def choice(self, seq: Any) -> Any:
        return seq[0]


class PieceDataset(Dataset[Tensor]):
    """Pieces as patches.

    Key and cut of a piece depend on (seed, epoch, index) only, so a resumed run, or one with other workers, gets the
    same pieces.

    Args:
        index: The pieces.
        patch_length: Most patches of a piece, at least 1.
        keys: ``uniform`` over all 15, as in the original's pre-training; ``near`` the piece's own, as in its
            fine-tuning; or the ``original`` one.
        seed: Seed of key and cut.
        random: Draw key and cut; otherwise take the original key and the beginning, for evaluation.

    Raises:
        ConfigError: ``keys`` is unknown.
    """

    def __init__(
        self, index: Index, *, patch_length: int, keys: Keys = "original", seed: int = 0, random: bool = True
    ) -> None:
        if keys not in KEYS:
            raise ConfigError(f"keys is {keys!r}; allowed: {', '.join(KEYS)}")
        self.index, self.patch_length, self.keys, self.seed, self.random = (
            index,
            patch_length,
            keys,
            seed,
            random,
        )

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: ItemKey) -> Tensor:
        """Return the patches of a piece, prompt included: ``(N, S)`` int64.

        Raises:
            InputError: The file cannot be read.
            FormatError: It is not interleaved ABC.
        """
        rng = random.Random(mix_seed(self.seed, key.epoch, key.index)) if self.random else _FirstChoice()
        text = self.index.read(key.index, self._key(self.index.entries[key.index].key, rng))
        return torch.tensor(encode_train(text, self.patch_length, rng=rng))

    def _key(self, own: str, rng: random.Random) -> str | None:
        if not self.random or self.keys == "original":
            return None
        return choose_key(own, rng) if self.keys == "near" else rng.choice(MAJOR_KEYS)


def collate(pieces: Sequence[Tensor]) -> list[Group]:
    """Batch pieces of similar length.

    Args:
        pieces: ``(N, S)`` int64 each, N at least 1.

    Returns:
        Groups ``(patches, mask)`` of ``(B, N, S)`` int64, padded on the right, and ``(B, N)`` bool. At most a fifth of
        the patches of a group are padding.
    """
    groups: list[list[Tensor]] = []
    real = 0
    for piece in sorted(pieces, key=len, reverse=True):
        padded = len(groups[-1][0]) * (len(groups[-1]) + 1) if groups else 0
        if not groups or real + len(piece) < (1 - _MOST_PADDING) * padded:
            groups.append([])
            real = 0
        groups[-1].append(piece)
        real += len(piece)
    return [_padded(group) for group in groups]


def _padded(pieces: list[Tensor]) -> Group:
    lengths = torch.tensor([len(piece) for piece in pieces])
    patches = pad_sequence(pieces, batch_first=True)
    return patches, torch.arange(patches.shape[1]) < lengths[:, None]
