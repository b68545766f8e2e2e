"""What probes read: the encoder, the same network with random weights, and log-mel spectrograms.

Shape legend: n samples, L layers, N tokens, C width, D width of features, c chunks, f frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from omar_rq.embed import fingerprint
from omar_rq.model import OmarRQ
from omar_rq.probing.chunks import signal_chunks
from omar_rq.probing.features import FeatureConfig, pooled_features, token_features
from pentatonic.errors import AudioTooShort
from pentatonic.mel import MelFrontend

_MEL = "omar-rq-16k"


class Source(Protocol):
    """Features of signals.

    Attributes:
        features: Which are taken.
        sample_rate: Of the signals, in Hz.
        rate: Tokens per second.
        width: D.
    """

    features: FeatureConfig
    sample_rate: int
    rate: float
    width: int

    def settings(self) -> dict[str, Any]:
        """JSON values that decide the features."""
        ...

    def tokens(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield consecutive tokens (L, N, D) of a signal that arrives in blocks (n,)."""
        ...

    def pooled(self, blocks: Iterable[Tensor]) -> Tensor:
        """Return (c, L, D) of a signal that arrives in blocks (n,)."""
        ...


class EncoderSource:
    """Embeddings of an encoder.

    Args:
        model: In evaluation mode.
        features: Which are taken.
    """

    def __init__(self, model: OmarRQ, features: FeatureConfig) -> None:
        self.model, self.features = model, features
        self.sample_rate, self.rate = model.sample_rate, model.embedding_rate_hz
        self.width = features.width(model.config.net.embed_dim)
        self._sha256 = fingerprint(model)

    def settings(self) -> dict[str, Any]:
        """See :class:`Source`."""
        return {"encoder": self._sha256, **asdict(self.features)}

    @torch.inference_mode()
    def pooled(self, blocks: Iterable[Tensor]) -> Tensor:
        """See :class:`Source`."""
        return pooled_features(self.model, blocks, self.features)[0]

    def tokens(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """See :class:`Source`."""
        pieces = token_features(self.model, blocks, self.features)
        while True:
            with torch.inference_mode():
                piece = next(pieces, None)
            if piece is None:
                return
            yield piece.cpu()


def untrained_like(model: OmarRQ, seed: int) -> OmarRQ:
    """The same network with fresh weights; the global random generator stays as it is."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        fresh = OmarRQ(model.config)
    weight = model.embed.weight
    return fresh.to(device=weight.device, dtype=weight.dtype).eval()


class LogMelSource:
    """Log-mel spectrograms at the rate of an encoder's tokens: the mean of the frames of each, or of a recording.

    The mel is that of the original at 16 kHz: 96 bands, ``log10(10000 x + 1)``. Pooled features are mean and deviation
    of the frames, whatever the pooling of the encoder.

    Args:
        features: Of the encoder; chunks and pooling are those.
        rate: Tokens per second of the encoder.
    """

    def __init__(self, features: FeatureConfig, rate: float) -> None:
        self.features = replace(features, layers=(0,))
        self._mel = MelFrontend.preset(_MEL)
        self.sample_rate, self.rate = self._mel.config.sample_rate, rate
        self._frame_rate = self.sample_rate / self._mel.config.hop_length
        self.width = self._mel.config.n_mels * (1 if features.pooling == "none" else 2)

    def settings(self) -> dict[str, Any]:
        """See :class:`Source`."""
        chunks = {name: getattr(self.features, name) for name in ("chunk_s", "overlap", "last_chunk_ratio")}
        return {"mel": _MEL, "rate": self.rate, "pooled": self.features.pooling != "none", **chunks}

    def tokens(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """See :class:`Source`."""
        frames = self._frames(blocks)
        count = math.floor(frames.shape[1] / self._frame_rate * self.rate)
        if not count:
            raise AudioTooShort("audio", "too short for one token")
        owner = (
            (torch.arange(frames.shape[1]) / self._frame_rate * self.rate + 1e-6).long().clamp(max=count - 1)
        )
        sums = torch.zeros(count, frames.shape[0]).index_add_(0, owner, frames.T)
        yield (sums / torch.bincount(owner, minlength=count).clamp(min=1)[:, None])[None]

    def pooled(self, blocks: Iterable[Tensor]) -> Tensor:
        """See :class:`Source`."""
        if self.features.chunk_s is None:
            signals: Iterable[Iterable[Tensor]] = [blocks]
        else:
            cut = signal_chunks(
                blocks,
                size=round(self.features.chunk_s * self.sample_rate),
                overlap=self.features.overlap,
                last_chunk_ratio=self.features.last_chunk_ratio,
            )
            signals = ([chunk] for _, chunk in cut)
        rows = []
        for signal in signals:
            frames = self._frames(signal)
            rows.append(torch.cat((frames.mean(1), frames.std(1, correction=0))))
        if not rows:
            raise AudioTooShort("audio", "there are no samples")
        return torch.stack(rows)[:, None]

    def _frames(self, blocks: Iterable[Tensor]) -> Tensor:
        """(bands, f)."""
        return torch.cat(list(self._mel.stream(blocks)), dim=1)


@dataclass(frozen=True)
class System:
    """A source under the name that tables give it.

    Attributes:
        name: ``probe``, ``log-mel`` or ``untrained network``.
        source: What its heads read.
    """

    name: str
    source: Source
