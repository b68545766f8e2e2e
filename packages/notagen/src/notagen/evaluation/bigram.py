"""Baseline: a bigram model, in which each character depends only on the one before."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from notagen.codec import BOS, EOS, PAD, VOCABULARY_SIZE, encode_generate
from notagen.generation.sampling import Sampling, draw, probabilities
from pentatonic.errors import UsageError


class Bigram:
    """Bigram model of the ids in the patches of pieces, without padding.

    Args:
        pieces: Patches ``(N, S)`` int64 of each piece, with start and end patch, as
            :class:`notagen.training.data.PieceDataset` gives them.
        smoothing: Added to every count, above 0.

    Attributes:
        log_p: ``(V, V)`` float64: natural logarithm of the probability of each next id (column) after each id (row).

    Raises:
        UsageError: ``smoothing`` is not positive.
    """

    def __init__(self, pieces: Iterable[Tensor], *, smoothing: float = 0.1) -> None:
        if not smoothing > 0:
            raise UsageError(f"smoothing must be above 0, got {smoothing}")
        counts = torch.full((VOCABULARY_SIZE, VOCABULARY_SIZE), smoothing, dtype=torch.float64)
        counts[:, PAD] = 0.0
        for piece in pieces:
            before, after = _pairs(piece)
            counts.view(-1).index_add_(
                0, before * VOCABULARY_SIZE + after, torch.ones(len(after), dtype=torch.float64)
            )
        self.log_p = (counts / counts.sum(1, keepdim=True)).log()

    def log_probability(self, piece: Tensor) -> float:
        """Return the natural logarithm of the probability of a piece, without padding and the first patch.

        Args:
            piece: ``(N, S)`` int64.
        """
        before, after = _pairs(piece)
        return float(self.log_p[before, after].sum())

    def generate(
        self, prompt: str, *, seed: int, sampling: Sampling, max_characters: int = 4000
    ) -> tuple[str, bool]:
        """Generate a piece.

        Args:
            prompt: Start of the text.
            seed: Seed of the random stream.
            sampling: How characters are chosen.
            max_characters: Greatest length of the text.

        Returns:
            The text, including the prompt, and whether the piece is finished.

        Raises:
            FormatError: The prompt has a character without an id.
        """
        generator = torch.Generator().manual_seed(seed)
        ids = [i for patch in encode_generate(prompt) for i in patch if i != PAD]
        written = [i for i in ids if i > EOS]
        last = ids[-1]
        p = probabilities(self.log_p, sampling)
        while len(written) < max_characters:
            last = int(draw(p[last], torch.rand((), generator=generator, dtype=torch.float64)))
            if last == BOS:  # after the start patch, only the end patch has it
                return "".join(map(chr, written)), True
            if last != EOS:
                written.append(last)
        return "".join(map(chr, written)), False


def _pairs(piece: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ids before and after each transition from the end of the first patch on, without padding."""
    rest = piece[1:][piece[1:] != PAD]
    return torch.cat((piece[0, -1:], rest[:-1])), rest
