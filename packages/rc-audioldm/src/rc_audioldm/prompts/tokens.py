"""Token ids of prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pentatonic.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_CHARACTERS = 100_000
"""Longest text that is tokenised."""


@dataclass(frozen=True)
class Tokens:
    """Token ids and their masks, ``(B, N)`` int64."""

    ids: Tensor
    mask: Tensor


def token_limit(tokenizer: PreTrainedTokenizerBase, most: int) -> int:
    """Return how many tokens a prompt may have.

    Args:
        tokenizer: States its own limit, or none.
        most: What the model can read.
    """
    return max(1, min(int(tokenizer.model_max_length), most))


def tokenize(
    tokenizer: PreTrainedTokenizerBase, text: str, limit: int, *, length: int | None = None
) -> Tokens:
    """Return the tokens of one text, ``(1, N)``.

    Args:
        tokenizer: Of CLAP or T5.
        text: The text; what is beyond the limit is cut.
        limit: Most tokens, special ones included.
        length: Pad to so many tokens.

    Raises:
        InputError: The text has more than ``MAX_CHARACTERS``.
    """
    if len(text) > MAX_CHARACTERS:
        raise InputError(f"the prompt has {len(text)} characters; allowed: at most {MAX_CHARACTERS}")
    ids = list(tokenizer(text, truncation=True, max_length=limit)["input_ids"])
    padding = max(0, (length or 0) - len(ids))
    pad = tokenizer.pad_token_id or 0
    return Tokens(torch.tensor([ids + [pad] * padding]), torch.tensor([[1] * len(ids) + [0] * padding]))


def token_count(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    """Return how many tokens a text has before it is cut, special ones included."""
    return len(tokenizer(text, truncation=False)["input_ids"])
