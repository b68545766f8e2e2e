"""Frozen embeddings of one split: chunks of tracks, with one target per track."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pentatonic.errors import InputError, UsageError


@dataclass(frozen=True)
class ProbeSplit:
    """Embeddings of the chunks of T tracks. A probe is trained on chunks, each with the target of its track.

    Args:
        name: Of the split, for messages.
        features: (chunks, C) finite embeddings.
        targets: What is read from them, on the CPU: (T,) int64 classes, or (T, outputs) numbers.
        track: (chunks,) int64, the track of each chunk, from 0; by default every chunk is a track of its own.
        groups: T names, such as artists. Tracks of a group are resampled together, as they are not independent; by
            default every track is a group.

    Raises:
        InputError: Shapes do not match, an embedding is not finite, or a track has no chunk; the message names it.
    """

    name: str
    features: Tensor
    targets: Tensor
    track: Tensor | None = None
    groups: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or self.features.numel() == 0 or not self.features.is_floating_point():
            raise self._refusal(
                f"features have the shape {tuple(self.features.shape)}; allowed: (chunks, C) floats"
            )
        finite = torch.isfinite(self.features).all(dim=1)
        if not finite.all():
            raise self._refusal(f"the features of chunk {int(finite.long().argmin())} are not finite")
        tracks = self.chunk_tracks
        if tracks.shape != (len(self.features),) or tracks.dtype != torch.int64:
            raise self._refusal("track needs one int64 number per chunk")
        if tracks.min() < 0 or tracks.max() >= self.n_tracks:
            raise self._refusal(f"a chunk has a track outside [0, {self.n_tracks}), the number of targets")
        counts = torch.bincount(tracks, minlength=self.n_tracks)
        if not counts.all():
            raise self._refusal(f"track {int(counts.argmin())} has no chunk")
        if self.groups is not None and len(self.groups) != self.n_tracks:
            raise self._refusal(f"there are {len(self.groups)} groups for {self.n_tracks} tracks")

    @property
    def n_tracks(self) -> int:
        """Number of tracks, T."""
        return len(self.targets)

    @property
    def chunk_tracks(self) -> Tensor:
        """(chunks,) int64, the track of each chunk."""
        return torch.arange(len(self.features)) if self.track is None else self.track.cpu()

    def track_means(self, outputs: Tensor) -> np.ndarray:
        """Average raw outputs over the chunks of each track, before any sigmoid, argmax or metric.

        Args:
            outputs: (chunks, outputs).

        Returns:
            (T, outputs) float64.
        """
        tracks = self.chunk_tracks
        sums = torch.zeros(self.n_tracks, outputs.shape[1], dtype=torch.float64)
        sums.index_add_(0, tracks, outputs.detach().cpu().double())
        return (sums / torch.bincount(tracks, minlength=self.n_tracks)[:, None]).numpy()

    def _refusal(self, reason: str) -> InputError:
        return InputError(f"{self.name} split: {reason}")


def chunk_starts(n_frames: int, size: int, hop: int | None = None) -> range:
    """Where the chunks of a track start; frames that do not fill a last chunk are left out.

    Args:
        n_frames: Frames of the track, at least one.
        size: Frames of a chunk.
        hop: Frames from one start to the next; ``size`` by default. Overlapping chunks are for training only.

    Returns:
        The starts. A track shorter than a chunk has one chunk, which the caller pads with zeros at its end.

    Raises:
        UsageError: A number is below 1.
    """
    hop = size if hop is None else hop
    if min(n_frames, size, hop) < 1:
        raise UsageError(f"n_frames {n_frames}, size {size} and hop {hop}; allowed: 1 and more")
    return range(0, max(n_frames - size, 0) + 1, hop)
