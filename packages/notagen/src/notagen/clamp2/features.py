"""Windows of long pieces and texts, and the features of CLaMP 2 that are computed from them.

A sequence of more patches than the context is cut into windows one after the other; the last window is the last full
context of the sequence, so that it overlaps the one before. The feature of a sequence is the mean of those of its
windows, each weighted by its length, but the last one by what it adds.

Shapes: N patches or tokens of a sequence, L of the context, S = 64 characters, C width, P width of a feature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from notagen.clamp2.model import M3, MUSIC_ONLY, Clamp, M3Encoder
from pentatonic.errors import UsageError

_BATCH_ITEMS = 4096
"""Most patches or tokens of a batch of windows, padding included."""


def windows(count: int, context: int) -> list[tuple[int, int]]:
    """Begin and end of the windows of ``count`` items.

    Args:
        count: Items, at least 1.
        context: L, at least 1.
    """
    ends = [*range(context, count, context), count]
    return [(max(0, end - context), end) for end in ends]


def window_weights(count: int, context: int) -> list[int]:
    """Weight of each window of ``count`` items: how many items it has that the ones before it do not have."""
    full, rest = divmod(count, context)
    return [context] * full + [rest] * (rest > 0)


@torch.inference_mode()
def music_features(model: Clamp, pieces: Sequence[Tensor]) -> Tensor:
    """Features of pieces.

    Args:
        model: The encoder.
        pieces: ``(N, S)`` int64 patches each, with the special ones around them, N at least 1.

    Returns:
        ``(pieces, P)`` float32, on the CPU.

    Raises:
        UsageError: A piece has no patches.
    """
    return _features(pieces, model.config.music.length, model.device, model.music_features)


@torch.inference_mode()
def text_features(model: Clamp, texts: Sequence[Tensor]) -> Tensor:
    """Features of texts: ``(N,)`` int64 tokens each, with those around them; see :func:`music_features`.

    Raises:
        UsageError: The model has no text encoder, or a text has no tokens.
    """
    return _features(texts, _text_length(model), model.device, model.text_features)


@torch.inference_mode()
def audio_features(model: Clamp, recordings: Sequence[Tensor]) -> Tensor:
    """Features of recordings, given as vectors.

    Args:
        model: CLaMP 3.
        recordings: ``(N, C)`` float32 each: averages over the layers of MERT, one for each 5 seconds. A zero vector is
            added at both ends.

    Raises:
        UsageError: The model has no audio encoder.
    """
    if model.config.audio is None:
        raise UsageError("this model has no audio encoder")
    padded = [torch.nn.functional.pad(vectors, (0, 0, 1, 1)) for vectors in recordings]
    return _features(padded, model.config.audio.length, model.device, model.audio_features)


@torch.inference_mode()
def music_frames(model: Clamp | M3, pieces: Sequence[Tensor]) -> list[Tensor]:
    """Vector of each patch, neither pooled nor projected; see :func:`music_features`.

    Returns:
        ``(N, C)`` float32 each, on the CPU.
    """
    encoder: M3Encoder = model.music if isinstance(model, Clamp) else model.encoder
    return _frames(pieces, encoder.trunk.positions.num_embeddings, encoder.embed_bias.device, encoder)


@torch.inference_mode()
def text_frames(model: Clamp, texts: Sequence[Tensor]) -> list[Tensor]:
    """Vector of each token; see :func:`text_features` and :func:`music_frames`."""
    return _frames(texts, _text_length(model), model.device, model.text_states)


@torch.inference_mode()
def audio_frames(model: Clamp, recordings: Sequence[Tensor]) -> list[Tensor]:
    """Vector of each segment, those of the zero vectors at both ends included; see :func:`audio_features`."""
    if model.config.audio is None or model.audio is None:
        raise UsageError("this model has no audio encoder")
    padded = [torch.nn.functional.pad(vectors, (0, 0, 1, 1)) for vectors in recordings]
    return _frames(padded, model.config.audio.length, model.device, model.audio)


def _text_length(model: Clamp) -> int:
    if model.config.text is None:
        raise UsageError(MUSIC_ONLY)
    return model.config.text.length


def _features(
    sequences: Sequence[Tensor],
    context: int,
    device: torch.device,
    compute: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    owners, parts, weights = [], [], []
    for owner, sequence in enumerate(sequences):
        _check(sequence)
        for (start, end), weight in zip(
            windows(len(sequence), context), window_weights(len(sequence), context), strict=True
        ):
            owners.append(owner)
            parts.append(sequence[start:end])
            weights.append(float(weight))
    if not parts:
        raise UsageError("there is nothing to embed")
    computed = torch.stack(_by_length(parts, device, compute))
    shares, rows = torch.tensor(weights), torch.tensor(owners)
    sums = torch.zeros(len(sequences), computed.shape[1]).index_add(0, rows, computed * shares[:, None])
    return sums / torch.zeros(len(sequences)).index_add(0, rows, shares)[:, None]


def _frames(
    sequences: Sequence[Tensor],
    context: int,
    device: torch.device,
    compute: Callable[[Tensor, Tensor], Tensor],
) -> list[Tensor]:
    for sequence in sequences:
        _check(sequence)
    spans = [windows(len(sequence), context) for sequence in sequences]
    parts = [sequence[a:b] for sequence, found in zip(sequences, spans, strict=True) for a, b in found]
    computed = iter(_by_length(parts, device, compute))
    frames = []
    for sequence, found in zip(sequences, spans, strict=True):
        own = [next(computed) for _ in found]
        frames.append(torch.cat([*own[:-1], own[-1][-window_weights(len(sequence), context)[-1] :]]))
    return frames


def _by_length(
    parts: Sequence[Tensor], device: torch.device, compute: Callable[[Tensor, Tensor], Tensor]
) -> list[Tensor]:
    """Results of all windows in their order, computed in batches of windows of one length: nothing is padded.

    A result with one row for each item of the window is cut to its items by its shape alone.
    """
    order = sorted(range(len(parts)), key=lambda index: len(parts[index]))
    results: dict[int, Tensor] = {}
    begin = 0
    while begin < len(order):
        size = len(parts[order[begin]])
        end = begin
        while (
            end < len(order)
            and len(parts[order[end]]) == size
            and (end - begin + 1) * size <= max(_BATCH_ITEMS, size)
        ):
            end += 1
        chosen = order[begin:end]
        batch = torch.stack([parts[index] for index in chosen]).to(device)
        lengths = torch.full((len(chosen),), size, device=device)
        results.update(zip(chosen, compute(batch, lengths).float().cpu(), strict=True))
        begin = end
    return [results[index] for index in range(len(parts))]


def _check(sequence: Tensor) -> None:
    if len(sequence) == 0:
        raise UsageError("there is nothing to embed: a sequence is empty")
