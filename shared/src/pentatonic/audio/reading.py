"""Read audio files: header only (:func:`info`), whole (:func:`load`), or in blocks (:func:`stream`).

Loading and streaming run :class:`~pentatonic.audio.decoding.Decoding` on the same blocks, so their results are equal
bit for bit. No memory is allocated from counts in a header, which may be wrong.

Shape legend: n = samples per channel, C = channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pentatonic.audio.decoding import BLOCK_S, Decoding, NonFinite, mono_blocks
from pentatonic.audio.limits import AudioLimits
from pentatonic.audio.sources import open_source, probe
from pentatonic.errors import UsageError

_DEFAULT_LIMITS = AudioLimits()


@dataclass(frozen=True)
class AudioInfo:
    """Header of an audio file.

    Attributes:
        path: The file.
        sample_rate: In Hz.
        channels: Number of channels.
        frames: Samples per channel.
        duration_s: ``frames / sample_rate``.
        format: Container, such as ``"WAV"``.
        subtype: Encoding, such as ``"PCM_16"``.
    """

    path: Path
    sample_rate: int
    channels: int
    frames: int
    duration_s: float
    format: str
    subtype: str


@dataclass(frozen=True)
class Audio:
    """Decoded audio.

    Attributes:
        samples: (C, n) float32, nominally in [-1, 1]; C = 1 after a downmix.
        sample_rate: In Hz.
        meta: ``source_sample_rate``, ``source_channels``, ``peak`` (largest absolute sample of the file before downmix
            and resampling) and ``warnings`` (list of str: faults that were tolerated).
    """

    samples: Tensor
    sample_rate: int
    meta: dict[str, Any]


def info(path: str | Path, *, limits: AudioLimits = _DEFAULT_LIMITS) -> AudioInfo:
    """Read the header of an audio file.

    Damage behind the header is not found here. A file whose header states no length, or one that is no promise, is
    decoded once to count its samples, so ``frames`` is always what :func:`load` returns of an intact file.

    Args:
        path: The file.
        limits: Bounds on file size, duration, channels and sample rate.

    Returns:
        The fields of the header.

    Raises:
        AudioError: As for :func:`load`; but a file without samples is not an error here.
    """
    path = Path(path)
    with open_source(path, *probe(path, limits.max_bytes)) as source:
        limits.check(path, source)
        frames, rate = source.frames, source.sample_rate
        if frames is None:
            frames = 0
            for block in source.blocks(0):
                frames += len(block)
                limits.check_duration(path, frames, rate)
        return AudioInfo(path, rate, source.channels, frames, frames / rate, source.format, source.subtype)


def load(
    path: str | Path,
    *,
    sample_rate: int | None = None,
    mono: bool = True,
    offset_s: float = 0.0,
    duration_s: float | None = None,
    strict: bool = True,
    nonfinite: NonFinite = "raise",
    limits: AudioLimits = _DEFAULT_LIMITS,
) -> Audio:
    """Read an audio file into memory.

    A part is what the whole file has there: at the rate of the file, ``load(path, offset_s=a, duration_s=b)`` equals
    ``load(path)`` from sample ``a * rate`` on, bit for bit, in every format. Where a format cannot be decoded from the
    middle, it is decoded from the start.

    Args:
        path: The file.
        sample_rate: Resample to this rate in Hz (soxr); None keeps the rate of the file.
        mono: Mean over the channels, before resampling.
        offset_s: Start here, in seconds, rounded to a sample of the file.
        duration_s: Read at most this many seconds; None reads to the end. A file that ends earlier gives fewer.
        strict: Raise at damage, at a file that is shorter than its header promises, and at a file without samples.
            Otherwise keep what was decoded before the damage, with a note in ``meta["warnings"]``. A stated length that
            is no promise (a recording that was stopped, a file written to a pipe) only gives a note.
        nonfinite: ``"raise"`` at NaN and infinite samples, or set them to ``"zero"`` with a warning.
        limits: Bounds on file size, duration, channels and sample rate.

    Returns:
        Samples (C, n) float32, C = 1 when ``mono``.

    Raises:
        AudioFileNotFound: Missing, or not a regular file.
        UnsupportedFormat: Not audio that an installed decoder reads.
        TruncatedAudio: The file is shorter than its header promises (``strict``).
        CorruptAudio: The header is damaged, or the body (``strict``).
        EmptyAudio: No samples (``strict``).
        AudioTooShort: ``offset_s`` is past the end.
        NonFiniteAudio: NaN or infinite samples, with ``nonfinite="raise"``.
        AudioLimitExceeded: Beyond ``limits``.
        UsageError: An argument is out of range.
    """
    decoding = Decoding(Path(path), sample_rate, mono, offset_s, duration_s, strict, nonfinite, limits)
    blocks, n_values = [], 0
    for block in decoding.run(hold_all=True):
        blocks.append(torch.from_numpy(block))
        n_values += block.size
        limits.check_result(decoding.path, n_values)
    samples = torch.cat(blocks, dim=1) if blocks else torch.zeros(1 if mono else decoding.source_channels, 0)
    meta = {
        "source_sample_rate": decoding.source_rate,
        "source_channels": decoding.source_channels,
        "peak": decoding.peak,
        "warnings": decoding.warnings,
    }
    return Audio(samples, decoding.result_rate, meta)


def stream(
    path: str | Path,
    *,
    sample_rate: int | None = None,
    block_s: float = BLOCK_S,
    offset_s: float = 0.0,
    duration_s: float | None = None,
    strict: bool = True,
    nonfinite: NonFinite = "raise",
    limits: AudioLimits = _DEFAULT_LIMITS,
) -> Iterator[Tensor]:
    """Read an audio file as mono blocks, with memory that does not grow with its length.

    The concatenation equals ``load(path, ...).samples[0]`` bit for bit. The file is opened by the first ``next``;
    what :func:`load` would note in ``meta["warnings"]`` is issued as a ``UserWarning`` after the last block.

    Args:
        path: The file.
        sample_rate: Resample to this rate in Hz; None keeps the rate of the file.
        block_s: Length of every block but the last, in seconds.
        offset_s: As for :func:`load`.
        duration_s: As for :func:`load`.
        strict: As for :func:`load`.
        nonfinite: As for :func:`load`.
        limits: As for :func:`load`.

    Returns:
        Iterator over blocks (n,) float32.

    Raises:
        AudioError: As for :func:`load`, before the first block or at the block that is faulty.
        UsageError: An argument is out of range.
    """
    if not (math.isfinite(block_s) and block_s > 0):
        raise UsageError(f"block_s must be positive seconds, not {block_s}")
    decoding = Decoding(Path(path), sample_rate, True, offset_s, duration_s, strict, nonfinite, limits)
    return (torch.from_numpy(block) for block in mono_blocks(decoding, block_s))
