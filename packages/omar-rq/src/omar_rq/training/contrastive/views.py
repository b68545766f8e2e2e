"""Two windows of a recording that do not overlap, for SimCLR.

The first is uniform. The second is near the first rather than far from it, so that both sound alike without being the
same: its probability falls linearly with the distance, to a tenth, and is zero where the windows would overlap.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from omar_rq.training.data import Track
from pentatonic import audio
from pentatonic.training import ItemKey

_RESOLUTION = 1000  # samples between the starts among which the second window is drawn
_FLOOR = 0.1  # probability of the farthest start, relative to that of the nearest


def second_start(first: int, spare: int, length: int, rng: np.random.Generator) -> int:
    """Draw the start of the second window.

    Args:
        first: Start of the first, in [0, spare].
        spare: Largest start.
        length: Of a window; two that start less than this apart overlap.
        rng: Source of randomness.

    Returns:
        A start in [0, spare]; where no window fits beside the first, the farthest one.
    """
    starts = np.append(np.arange(0, spare, _RESOLUTION), spare)
    distance = np.abs(starts - first)
    weights = np.where(distance < length, 0.0, np.maximum(_FLOOR, 1 - distance / max(spare, 1)))
    if not weights.any():
        return int(starts[distance.argmax()])
    return int(rng.choice(starts, p=weights / weights.sum()))


class TwoViews(Dataset[Tensor]):
    """Two windows of each track, as ``(2, n)`` float32 at the model's sample rate.

    A pair depends on (seed, epoch, index) only; for validation on (seed, index). Tracks shorter than a window are
    padded with zeros on the right.

    Args:
        tracks: The recordings.
        crop_s: Seconds of a window.
        sample_rate: Samples per second of the windows; other tracks are resampled.
        seed: Seed of the positions.
        random: Draw new positions in each epoch.
    """

    def __init__(
        self, tracks: list[Track], *, crop_s: float, sample_rate: int, seed: int = 0, random: bool = True
    ) -> None:
        self.tracks, self.crop_s, self.sample_rate = tracks, crop_s, sample_rate
        self.seed, self.random = seed, random

    def __len__(self) -> int:
        return len(self.tracks)

    def __getitem__(self, key: ItemKey) -> Tensor:
        """Return ``(2, crop_s * sample_rate)`` float32.

        Raises:
            AudioError: The track cannot be read.
        """
        track = self.tracks[key.index]
        length = round(self.crop_s * track.sample_rate)
        spare = max(0, track.samples - length)
        rng = np.random.default_rng((self.seed, key.epoch if self.random else 0, key.index))
        # Not in the middle of a short track, where no second window would fit on either side.
        first = int(rng.integers(spare + 1)) if spare >= 2 * length else spare * int(rng.integers(2))
        return torch.stack(
            [self._window(track, start, length) for start in (first, second_start(first, spare, length, rng))]
        )

    def _window(self, track: Track, start: int, length: int) -> Tensor:
        window = track.read(start, length)
        if track.sample_rate != self.sample_rate:
            window = audio.resample(window, track.sample_rate, self.sample_rate)
        wanted = round(self.crop_s * self.sample_rate)
        return torch.nn.functional.pad(window, (0, max(0, wanted - len(window))))[:wanted]
