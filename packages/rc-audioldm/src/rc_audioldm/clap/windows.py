"""How a recording is cut into windows, and how their vectors become one.

CLAP hears ten seconds. Its own feature extractor takes them from a random place, so that a file has another vector each
time; here the places are fixed.

Shapes: n samples, W windows of w samples, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from pentatonic.errors import EmptyAudio, InputError

POOLING = "float64 mean of unit vectors, renormalised"


@dataclass(frozen=True)
class Windows:
    """A convention.

    Args:
        hop: From one window to the next, as a part of the window.
        tail: What becomes of samples behind the last whole window: one more window that ends with the file, or nothing.
        short: What a file shorter than a window is filled up with: zeros, or whole copies of itself and then zeros.
    """

    hop: float = 0.5
    tail: Literal["last window", "dropped"] = "last window"
    short: Literal["zeros", "repeated"] = "zeros"

    def describe(self, window_s: float) -> str:
        """Return the convention in words, for headers."""
        tail = "one more that ends with the file" if self.tail == "last window" else "the rest is dropped"
        return f"{window_s:g} s, hop {self.hop * window_s:g} s, {tail}; shorter files: {self.short}"

    def cut(self, samples: Tensor, size: int) -> Tensor:
        """Cut a recording.

        Args:
            samples: ``(n,)``.
            size: Samples of a window, w.

        Returns:
            ``(W, w)``, at least one window.

        Raises:
            EmptyAudio: There are no samples.
        """
        return torch.stack(list(self.stream([samples], size)))

    def stream(self, blocks: Iterable[Tensor], size: int) -> Iterator[Tensor]:
        """Cut a recording that arrives in blocks, in the memory of two windows and a block.

        Args:
            blocks: Consecutive ``(n,)`` pieces.
            size: Samples of a window, w.

        Yields:
            Windows ``(w,)`` in their order, the same as :meth:`cut`.

        Raises:
            EmptyAudio: There are no samples.
        """
        hop = max(1, round(self.hop * size))
        kept = torch.zeros(0)  # the samples from `first` on
        first = start = 0  # `start`: where the next window begins
        for block in blocks:
            kept = torch.cat([kept, block])
            end = first + len(kept)
            while start + size <= end:
                yield kept[start - first : start - first + size].clone()
                start += hop
            needed = max(first, min(start, end - size))  # the last window may begin before the next one
            kept, first = kept[needed - first :], needed
        end = first + len(kept)
        if not end:
            raise EmptyAudio("audio", "there are no samples; at least 1 is needed")
        if end < size:
            yield self._filled_up(kept, size)
        elif self.tail == "last window" and end > start - hop + size:
            yield kept[-size:].clone()

    def _filled_up(self, samples: Tensor, size: int) -> Tensor:
        if self.short == "repeated":
            samples = samples.repeat(size // len(samples))
        return torch.nn.functional.pad(samples, (0, size - len(samples)))


WINDOWS: Mapping[str, Windows] = MappingProxyType(
    {"overlapped": Windows(), "clapback-embed": Windows(hop=1.0, tail="dropped", short="repeated")}
)
"""Conventions by name: ``overlapped`` is ours; ``clapback-embed`` that of the package of this name, version 0.1.0."""


def pool(outputs: Tensor) -> Tensor:
    """Return the mean of vectors at norm 1.

    Args:
        outputs: ``(W, D)``, of norm 1 as CLAP gives them.

    Returns:
        ``(D,)`` float64.

    Raises:
        InputError: The vectors cancel each other, or a number is not finite.
    """
    mean = outputs.double().mean(dim=0)
    length = mean.norm()
    if not torch.isfinite(length) or length == 0:
        raise InputError(f"the mean of the vectors of {len(outputs)} windows has the norm {float(length):g}")
    return mean / length
