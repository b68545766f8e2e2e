"""Features of a recording for probes: its embeddings, token by token or pooled, in bounded memory.

Shape legend: n samples, L layers, N tokens, C width of the encoder, D = C or, with deviations, 2 C; c chunks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from omar_rq.model import OmarRQ
from omar_rq.probing.chunks import LAST_CHUNK_RATIO, signal_chunks
from omar_rq.streaming import DEFAULT_CONTEXT_S, stream_embeddings
from pentatonic.errors import AudioTooShort, ConfigError
from pentatonic.untrusted.config import Length, Range, check_fields


@dataclass(frozen=True)
class FeatureConfig:
    """Which features are taken.

    Args:
        layers: Blocks of the encoder, ascending.
        pooling: ``none``: every token; ``mean``, ``mean+std``: over the tokens of a recording or of each chunk.
        context_s: Seconds that attention looks back, see :func:`omar_rq.streaming.stream_embeddings`; None: all.
        chunk_s: Embed chunks of so many seconds alone, as the original does; None: the whole recording as one.
        overlap: Share of a chunk that the next one repeats.
        last_chunk_ratio: A rest at the end becomes a chunk, padded with zeros, if it is longer than this share of one.

    Raises:
        ConfigError: A value is out of its range, or chunks are asked for without pooling.
    """

    layers: Annotated[tuple[Annotated[int, Range(0, 999)], ...], Length(1, 1000)]
    pooling: Literal["none", "mean", "mean+std"] = "mean"
    context_s: Annotated[float, Range(0, 1e6, above=True)] | None = DEFAULT_CONTEXT_S
    chunk_s: Annotated[float, Range(0, 3600, above=True)] | None = None
    overlap: Annotated[float, Range(0, 1, below=True)] = 0.5
    last_chunk_ratio: Annotated[float, Range(0, 1)] = LAST_CHUNK_RATIO

    def __post_init__(self) -> None:
        check_fields(self, "features")
        if self.chunk_s is not None and self.pooling == "none":
            raise ConfigError(
                "features.chunk_s needs a pooling of mean or mean+std; tokens come without chunks"
            )

    def width(self, embed_dim: int) -> int:
        """D for an encoder of this width."""
        return 2 * embed_dim if self.pooling == "mean+std" else embed_dim


def token_features(model: OmarRQ, blocks: Iterable[Tensor], config: FeatureConfig) -> Iterator[Tensor]:
    """Embed one signal that arrives in blocks.

    Args:
        model: The encoder, in evaluation mode.
        blocks: Consecutive ``(n,)`` pieces at the rate of the model.
        config: Which features.

    Yields:
        (L, N, C) float32, consecutive tokens.

    Raises:
        AudioError: As :func:`omar_rq.streaming.stream_embeddings`.
    """
    yield from aligned(stream_embeddings(model, blocks, config.layers, context_s=config.context_s))


def aligned(pieces: Iterable[list[Tensor]]) -> Iterator[Tensor]:
    """Bring layers that lag behind each other together.

    Args:
        pieces: Lists with one (n, C) per layer, which may differ in n.

    Yields:
        (L, n, C): the tokens that all layers have.
    """
    waiting: list[Tensor] = []
    for piece in pieces:
        waiting = [torch.cat(rows) for rows in zip(waiting, piece, strict=True)] if waiting else piece
        if ready := min(map(len, waiting)):
            yield torch.stack([rows[:ready] for rows in waiting])
            waiting = [rows[ready:] for rows in waiting]


def pooled_features(model: OmarRQ, blocks: Iterable[Tensor], config: FeatureConfig) -> tuple[Tensor, int]:
    """Embed one signal, or its chunks one by one, and pool over the tokens.

    Args:
        model: The encoder, in evaluation mode.
        blocks: Consecutive ``(n,)`` pieces at the rate of the model.
        config: Which features, with a pooling.

    Returns:
        (c, L, D) float32 on the CPU, and the number of tokens of all chunks; c = 1 without chunks. Deviations are
        those of the tokens (divided by N).

    Raises:
        AudioError: As :func:`omar_rq.streaming.stream_embeddings`.
    """
    if config.chunk_s is None:
        values, n_tokens = _moments(token_features(model, blocks, config), config)
        return values[None], n_tokens
    chunks = signal_chunks(
        blocks,
        size=round(config.chunk_s * model.sample_rate),
        overlap=config.overlap,
        last_chunk_ratio=config.last_chunk_ratio,
    )
    found = [_moments(token_features(model, [chunk], config), config) for _, chunk in chunks]
    if not found:
        raise AudioTooShort("audio", "there are no samples")
    rows, counts = zip(*found, strict=True)
    return torch.stack(rows), sum(counts)


def _moments(tokens: Iterable[Tensor], config: FeatureConfig) -> tuple[Tensor, int]:
    """(L, D) of all tokens, and their number; sums in float64."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for piece in tokens:
        values = piece.cpu().double()
        count += values.shape[1]
        total, squares = total + values.sum(1), squares + (values**2).sum(1)
    mean = total / count
    if config.pooling == "mean":
        return mean.float(), count
    return torch.cat((mean, (squares / count - mean**2).clamp(min=0).sqrt()), dim=1).float(), count
