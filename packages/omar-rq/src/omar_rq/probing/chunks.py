"""Chunks of a recording as the original's ``predict`` cuts them: fixed length and overlap, the rest padded with zeros.

Shape legend: n samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from pentatonic.errors import UsageError

LAST_CHUNK_RATIO = 0.1


def chunk_offsets(
    n_samples: int,
    sample_rate: int,
    *,
    chunk_s: float,
    overlap: float = 0.5,
    last_chunk_ratio: float = LAST_CHUNK_RATIO,
) -> list[int]:
    """Return where the chunks of a recording start, in samples at its own rate; always at least one.

    Args:
        n_samples: Length of the recording.
        sample_rate: Its rate in Hz.
        chunk_s: Seconds of a chunk.
        overlap: Share of a chunk that the next one repeats, from 0 to below 1.
        last_chunk_ratio: What the whole chunks leave at the end becomes one more if it is longer than this share.

    Raises:
        UsageError: A chunk or its step is shorter than a sample, or a share is out of its range.
    """
    return _offsets(n_samples, chunk_s * sample_rate, overlap, last_chunk_ratio)


def _offsets(n_samples: int, size: float, overlap: float, last_chunk_ratio: float) -> list[int]:
    step = size * (1 - overlap)
    if not (0 <= overlap < 1 and 0 <= last_chunk_ratio <= 1 and step >= 1):
        raise UsageError(
            f"chunks of {size:g} samples, an overlap of {overlap:g} and a last ratio of {last_chunk_ratio:g}; "
            "allowed: a step of one sample or more, an overlap from 0 to below 1, a ratio from 0 to 1"
        )
    count = int(1 + max(0, (n_samples - size) // step))
    if n_samples - ((count - 1) * step + size) > last_chunk_ratio * size:
        count += 1
    return [int(size * i * (1 - overlap)) for i in range(count)]


def signal_chunks(
    blocks: Iterable[Tensor], *, size: int, overlap: float = 0.5, last_chunk_ratio: float = LAST_CHUNK_RATIO
) -> Iterator[tuple[int, Tensor]]:
    """Cut a signal that arrives in blocks; memory holds about one chunk and one block.

    Args:
        blocks: Consecutive ``(n,)`` pieces.
        size: Samples of a chunk.
        overlap: As in :func:`chunk_offsets`.
        last_chunk_ratio: As in :func:`chunk_offsets`.

    Yields:
        Offset and samples ``(size,)`` of each chunk, at the offsets of :func:`chunk_offsets`; nothing of a signal
        without samples.

    Raises:
        UsageError: As :func:`chunk_offsets`.
    """
    _offsets(0, size, overlap, last_chunk_ratio)  # refuse before the first block
    held, first, number = torch.zeros(0), 0, 0  # samples from `first` on
    n_samples, step = 0, size * (1 - overlap)

    def offset(index: int) -> int:
        return int(size * index * (1 - overlap))

    for block in blocks:
        held, n_samples = torch.cat((held, block)), n_samples + len(block)
        while n_samples >= size and (n_samples - size) // step >= number:
            yield offset(number), held[offset(number) - first :][:size]
            number += 1
            held, first = held[offset(number) - first :], offset(number)
    if not n_samples:
        return
    for last in _offsets(n_samples, size, overlap, last_chunk_ratio)[number:]:
        rest = held[last - first :]
        yield last, torch.cat((rest, rest.new_zeros(size - len(rest))))
