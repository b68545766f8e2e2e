"""One vector of a whole track: in a single pass, or as the mean over chunks.

Shapes: F mel bands, T frames, n chunks, O width of the vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from myna_rpe.config import EncoderConfig, PatchName
from myna_rpe.frontend import PADDING
from myna_rpe.model import MynaEncoder
from pentatonic.errors import UsageError

Mode = Literal["track", "chunks"]
Aggregate = Literal["full_chunks", "weighted", "upstream_mean", "upstream_demo"]
Output = Literal["head", "features"]

CHUNKS_AT_A_TIME = 32
# Codes that are made of a place in time, so that no other length than that of training has one.
_ABSOLUTE_TIME = ("sincos2d", "sin_raster", "sin_xy", "sin_x", "learned_xy")
# The original's demo loses all full chunks where there are fewer of them than this.
_DEMO_BATCH = 4


@dataclass(frozen=True)
class TrackOptions:
    """How a track becomes a vector.

    Args:
        mode: ``track``: one pass over the whole track, its frames short of a column of patches left out. ``chunks``:
            one pass for each chunk of ``config.chunk_frames``. ``None``: ``track`` where the model can.
        aggregate: Of chunks: ``full_chunks``: mean over the full ones, the remainder left out, as Myna does it;
            ``weighted``: mean weighted by length, the remainder included; ``upstream_mean``: every row weighs the same,
            be the remainder ever so short; ``upstream_demo``: what the public demo of Myna-RPE returns, which for fewer
            than four full chunks is the remainder alone, for parity with vectors that it made. ``None``:
            ``full_chunks`` with Myna's front end, else ``weighted``.
        output: ``head``: the space in which training compares; ``features``: the pooled output of the encoder.
            ``None``: ``features`` with Myna's front end, which throws its head away, or without a head; else ``head``.

    Raises:
        UsageError: A value is not allowed.
    """

    mode: Mode | None = None
    aggregate: Aggregate | None = None
    output: Output | None = None

    def __post_init__(self) -> None:
        for name, choices in (("mode", Mode), ("aggregate", Aggregate), ("output", Output)):
            value = getattr(self, name)
            if value is not None and value not in get_args(choices):
                raise UsageError(f"{name} is {value!r}; allowed: {', '.join(get_args(choices))}")

    def resolved(self, config: EncoderConfig) -> TrackOptions:
        """Return the options with every value chosen for a model.

        Raises:
            UsageError: The model cannot do this.
        """
        mode = self.mode or ("chunks" if absolute_time(config) else "track")
        if mode == "track" and (part := absolute_time(config)):
            raise UsageError(
                f"mode track: the positions {part!r} of this model hold for the {config.train_frames} frames of "
                "training and no other length; use mode chunks"
            )
        if mode == "track" and self.aggregate is not None:
            raise UsageError(f"aggregate is {self.aggregate!r}, but mode track has no chunks")
        is_myna = config.frontend == "myna"
        output = self.output or ("features" if is_myna or not config.out_dim else "head")
        if output == "head" and not config.out_dim:
            raise UsageError("output is 'head', and the model has none; use features")
        aggregate = self.aggregate or ("full_chunks" if is_myna else "weighted")
        if aggregate == "upstream_demo" and not config.class_token:
            raise UsageError("aggregate upstream_demo needs a model with a class token")
        return TrackOptions(mode, None if mode == "track" else aggregate, output)


def absolute_time(config: EncoderConfig) -> str | None:
    """Return the part of a model's positions that is absolute in time, so that it cannot embed other lengths."""
    absolute = config.positions.absolute
    return absolute if absolute in _ABSOLUTE_TIME else None


@dataclass(frozen=True)
class TrackEmbedding:
    """What a track became.

    Attributes:
        vector: ``(O,)`` float32.
        chunks: ``(n, O)`` float32 where it was cut: full chunks, then the remainder if it counts; else ``None``.
        padded: The track is shorter than a patch, or with full chunks alone than a chunk, and padding was added.
    """

    vector: Tensor
    chunks: Tensor | None = None
    padded: bool = False


def embedding_width(config: EncoderConfig, options: TrackOptions) -> int:
    """Return O, for options from :meth:`TrackOptions.resolved`."""
    return (config.out_dim if options.output == "head" else config.dim) * len(config.patches)


@torch.no_grad()
def embed_tracks(model: MynaEncoder, mels: Sequence[Tensor], options: TrackOptions) -> list[TrackEmbedding]:
    """Embed tracks. Chunks of several tracks share a pass; a vector does not depend on the others beyond rounding.

    Args:
        model: In evaluation mode.
        mels: Spectrograms ``(F, T)`` of the model's front end.
        options: How.

    Raises:
        UsageError: The model cannot do this.
    """
    options = options.resolved(model.config)
    if options.mode == "track":
        return [_embed_whole(model, mel, options) for mel in mels]
    return _embed_chunks(model, mels, options)


def _embed_whole(model: MynaEncoder, mel: Tensor, options: TrackOptions) -> TrackEmbedding:
    least = max(patch.frames for patch in model.config.patches.values())
    padded = mel.shape[1] < least
    return TrackEmbedding(_embed(model, _padded(model, mel, least)[None], options)[0], padded=padded)


def _embed_chunks(model: MynaEncoder, mels: Sequence[Tensor], options: TrackOptions) -> list[TrackEmbedding]:
    size = model.config.chunk_frames
    counts = [mel.shape[1] // size for mel in mels]
    full = [
        mel[:, i * size : (i + 1) * size]
        for mel, count in zip(mels, counts, strict=True)
        for i in range(count)
    ]
    rows = torch.cat(
        [
            _embed(model, torch.stack(full[first : first + CHUNKS_AT_A_TIME]), options)
            for first in range(0, len(full), CHUNKS_AT_A_TIME)
        ]
        or [torch.empty(0, embedding_width(model.config, options))]
    )
    return [
        _aggregated(model, mel, chunks, options) for mel, chunks in zip(mels, rows.split(counts), strict=True)
    ]


def _aggregated(model: MynaEncoder, mel: Tensor, chunks: Tensor, options: TrackOptions) -> TrackEmbedding:
    """Put the rows of the full chunks of a track and its remainder together."""
    size = model.config.chunk_frames
    if options.aggregate == "full_chunks":
        padded = not len(chunks)
        if padded:
            chunks = _embed(model, _padded(model, mel, size)[None], options)
        return TrackEmbedding(chunks.mean(0), chunks, padded)
    step = max(patch.frames for patch in model.config.patches.values())
    rest = mel[:, len(chunks) * size :]
    rest = rest[:, : rest.shape[1] // step * step]
    demo = options.aggregate == "upstream_demo"
    padded = not len(chunks) and not rest.shape[1] and not demo
    if padded:
        rest = _padded(model, mel, step)
    weights = [float(size)] * len(chunks)
    if rest.shape[1]:
        chunks = torch.cat([chunks, _embed(model, rest[None], options)])
        weights.append(float(rest.shape[1]))
    elif demo:
        chunks = torch.cat([chunks, _class_token_alone(model, options)])
    if demo:
        kept = chunks if len(chunks) > _DEMO_BATCH else chunks[-1:]
        return TrackEmbedding(kept.mean(0), chunks)
    if options.aggregate == "upstream_mean":
        return TrackEmbedding(chunks.mean(0), chunks, padded)
    share = torch.tensor(weights) / sum(weights)
    return TrackEmbedding(share @ chunks, chunks, padded)


def _embed(model: MynaEncoder, mels: Tensor, options: TrackOptions) -> Tensor:
    """``(B, F, T)`` -> ``(B, O)`` on the CPU; of a model with two kinds of patches one after the other."""
    mels = mels.to(model.norm.weight.device)
    call = model.forward if options.output == "head" else model.features
    names: list[PatchName] = list(model.config.patches)
    return torch.cat([call(mels, patch=name) for name in names], dim=1).float().cpu()


def _class_token_alone(model: MynaEncoder, options: TrackOptions) -> Tensor:
    """What the model gives for no patch at all, ``(1, O)``."""
    device = model.norm.weight.device
    nothing = torch.empty(1, 0, dtype=torch.int64, device=device)
    mel = torch.zeros(1, 128, model.config.patch.frames, device=device)
    call = model.forward if options.output == "head" else model.features
    return call(mel, keep=nothing).float().cpu()


def _padded(model: MynaEncoder, mel: Tensor, frames: int) -> Tensor:
    """Add what stands for nothing on the right, up to so many frames; a longer one is not copied."""
    if mel.shape[1] >= frames:
        return mel
    return pad(mel, (0, frames - mel.shape[1]), value=PADDING[model.config.frontend])
