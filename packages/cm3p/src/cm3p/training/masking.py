"""Masking of tokens for the masked language model.

Shapes: tokens of any shape, such as (B, L); V size of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from cm3p.losses import IGNORED
from cm3p.tokens.beatmap import CM3PBeatmapTokenizer
from pentatonic.errors import ConfigError


@dataclass(frozen=True)
class Masking:
    """Which tokens are predicted, and what the model sees in their places.

    Args:
        probability: With which a token is chosen; special tokens never are.
        split: Shares of the chosen tokens that become ``[MASK]``, become a random token, and stay.
        mask_id: Id of ``[MASK]``.
        special_ids: Ids that are never chosen.
        random_ids: (n,) ids that a random token is drawn from, ascending.

    Raises:
        ConfigError: A probability or a share is out of range.
    """

    probability: float
    split: tuple[float, float, float]
    mask_id: int
    special_ids: Tensor
    random_ids: Tensor

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ConfigError(f"masked_lm_prob is {self.probability}; allowed: 0 to 1")
        if len(self.split) != 3 or min(self.split) < 0 or abs(sum(self.split) - 1) > 1e-6:
            raise ConfigError(f"masked_lm_split is {list(self.split)}; allowed: three shares with the sum 1")

    @classmethod
    def of(
        cls,
        tokenizer: CM3PBeatmapTokenizer,
        probability: float,
        split: Sequence[float] = (0.8, 0.1, 0.1),
        *,
        random_special_tokens: bool = True,
    ) -> Self:
        """Masking for a vocabulary.

        Args:
            tokenizer: Gives the vocabulary.
            probability: With which a token is chosen.
            split: Shares that are masked, random and unchanged.
            random_special_tokens: As in the original, a random token may be any but ``[AUDIO]``, such as padding;
                False leaves out all special tokens.
        """
        special = set(tokenizer.all_special_ids)
        left_out = {tokenizer.audio_token_id} if random_special_tokens else special
        allowed = [index for index in range(tokenizer.vocab_size) if index not in left_out]
        first, second, third = split if len(split) == 3 else (-1.0, 0.0, 0.0)
        return cls(
            probability,
            (first, second, third),
            tokenizer.mask_token_id,
            torch.tensor(sorted(special)),
            torch.tensor(allowed),
        )

    def __call__(self, ids: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Mask tokens.

        Args:
            ids: Tokens, which are not changed.
            generator: Random numbers; None: torch's global generator.

        Returns:
            The tokens that the model sees, and the labels: the true ids where tokens were chosen, else
            :data:`cm3p.losses.IGNORED`.
        """
        chosen = torch.rand(ids.shape, generator=generator) < self.probability
        chosen &= ~torch.isin(ids, self.special_ids)
        part = torch.rand(ids.shape, generator=generator)
        masked = chosen & (part < self.split[0])
        random = chosen & ~masked & (part < self.split[0] + self.split[1])
        drawn = torch.randint(len(self.random_ids), (int(random.sum()),), generator=generator)
        seen = ids.masked_fill(masked, self.mask_id)
        seen[random] = self.random_ids[drawn]
        return seen, ids.masked_fill(~chosen, IGNORED)
