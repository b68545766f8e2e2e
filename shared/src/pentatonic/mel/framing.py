"""Turn a signal that arrives in pieces into blocks of whole frames.

Shapes: S signals of a batch; n samples of a piece, any number. Every function takes and yields consecutive ``(S, n)``
pieces, and holds no more than one block in memory unless its docstring says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from pentatonic.errors import NonFiniteAudio
from pentatonic.mel.config import MelConfig


def finite(pieces: Iterable[Tensor]) -> Iterator[Tensor]:
    """Convert the pieces to float32, and check them.

    Raises:
        NonFiniteAudio: A sample is NaN or infinite.
    """
    start = 0
    for piece in map(Tensor.float, pieces):
        # One sum is a cheap first test; since finite samples can overflow it, each sample is checked before raising.
        if not torch.compiler.is_compiling() and not torch.isfinite(piece.detach().sum()):
            at = (~torch.isfinite(piece)).nonzero()[:, -1]
            if len(at):
                index = start + int(at.min())
                raise NonFiniteAudio("audio", f"NaN or infinite samples, the first at index {index}")
        start += piece.shape[-1]
        yield piece


def clipped(pieces: Iterable[Tensor], config: MelConfig) -> Iterator[Tensor]:
    """Pad or cut the signal to the length of ``config.clip_samples``.

    ``clip_fill="repeat"`` holds the whole signal in memory.
    """
    clip = config.clip_samples
    if clip is None:
        yield from pieces
    elif config.clip_fill == "repeat":
        whole = torch.cat(list(pieces), dim=-1)
        n = whole.shape[-1]
        first = max(n - clip, 0) // 2
        signal = whole.repeat(1, max(clip // n, 1))[:, first : first + clip]
        yield F.pad(signal, (0, clip - signal.shape[-1]))
    else:
        n, last = 0, torch.empty(1, 0)
        for last in pieces:
            n += last.shape[-1]
            yield last
        yield last.new_zeros(len(last), -n % clip)


def segments(pieces: Iterable[Tensor], config: MelConfig, block: int) -> Iterator[Tensor]:
    """Pad the signal at both ends, and yield segments of ``block`` frames each; the last may be shorter.

    A segment of k frames has ``(k - 1) * hop_length + n_fft`` samples.
    """
    n_fft, hop = config.n_fft, config.hop_length
    before = after = n_fft // 2
    waiting: list[Tensor] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += piece.shape[-1]
        # One frame more than a block, so that enough samples remain for mirroring at the end.
        if before + size < block * hop + n_fft:
            continue
        signal = torch.cat(waiting, dim=-1)
        if before:
            signal, before = F.pad(signal, (before, 0), mode=config.pad_mode), 0
        while signal.shape[-1] >= block * hop + n_fft:
            yield signal[:, : (block - 1) * hop + n_fft]
            signal = signal[:, block * hop :]
        waiting, size = [signal], signal.shape[-1]
    signal = F.pad(torch.cat(waiting, dim=-1), (before, after), mode=config.pad_mode)
    frames = 1 + (signal.shape[-1] - n_fft) // hop - config.drop_last_frame
    for first in range(0, frames, block):
        last = min(first + block, frames) - 1
        yield signal[:, first * hop : last * hop + n_fft]
