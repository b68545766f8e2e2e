"""Crops of stored spectrograms for contrastive training: several views of each track.

Data folders hold spectrograms (:mod:`myna_rpe.training.spectrograms`), and beside them any number of targets of a
teacher (:mod:`pentatonic.training.teacher`).

Shapes: V views of a track, B tracks of a batch, F mel bands, T frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from myna_rpe.config import N_MELS
from myna_rpe.frontend import PADDING, Frontend
from myna_rpe.training.augment import AugmentConfig, augment
from myna_rpe.training.spectrograms import SpectrogramFolder
from pentatonic.errors import ConfigError
from pentatonic.training import ItemKey, mix_seed
from pentatonic.training.teacher import TeacherTargets

# Keep the lengths of crops, and how they are changed, apart from their places.
_LENGTH_STREAM, _AUGMENT_STREAM = 0x4C454E, 0x415547


@dataclass
class CropConfig:
    """How tracks are cropped.

    Args:
        views: V, crops of each track.
        frames: Frames of a crop; with ``max_frames`` the least number.
        max_frames: Draw lengths, log-uniform in whole patches from ``frames`` to this; ``None``: fixed length.
        independent_lengths: Draw a length for each view; otherwise one for all views of a batch.
        full_probability: With ``max_frames``, how often a batch gets crops as long as its shortest track.
        full_frames: Most frames of such a crop.
        max_frame_distance: Furthest that another view may start from the first; ``None``: anywhere in the track.

    Raises:
        ConfigError: A value is out of its range.
    """

    views: int = 2
    frames: int = 256
    max_frames: int | None = None
    independent_lengths: bool = False
    full_probability: float = 0.0
    full_frames: int = 18_000
    max_frame_distance: int | None = None

    def __post_init__(self) -> None:
        most = self.frames if self.max_frames is None else self.max_frames
        if self.views < 2:
            raise ConfigError(f"crops.views is {self.views}; allowed: 2 or more")
        if not 1 <= self.frames <= most:
            raise ConfigError(
                f"crops.frames is {self.frames} and max_frames {most}; allowed: 1 or more, ascending"
            )
        if not 0 <= self.full_probability <= 1 or self.full_frames < 1:
            raise ConfigError(
                f"crops.full_probability is {self.full_probability} and full_frames {self.full_frames}; "
                "allowed: 0 to 1, and 1 or more"
            )
        if self.max_frame_distance is not None and self.max_frame_distance < 0:
            raise ConfigError(f"crops.max_frame_distance is {self.max_frame_distance}; allowed: 0 or more")


@dataclass(frozen=True)
class Places:
    """Where the crops of a track are, before their length is known.

    Attributes:
        key: The item.
        track: Number of the track in the index.
        shares: V numbers in [0, 1): how far into the room that there is a crop starts.
    """

    key: ItemKey
    track: int
    shares: tuple[float, ...]


class Views(Dataset[Places]):
    """Several crops of each track of a split. What is cropped depends on (seed, epoch, index) only.

    A length that is drawn for a batch depends on the seed and the first item of the batch. Crops of tracks shorter than
    the crop are padded on the right with what stands for nothing, and their own number of frames is told.

    Args:
        folder: The data.
        split: Which tracks.
        config: How they are cropped.
        step: Frames of a patch, of the widest kind; lengths that are drawn are multiples of it.
        seed: Of all draws.
        teacher: Targets of a teacher for all tracks of the folder.
        augmentation: How crops are changed; ``None``: not at all.

    Attributes:
        tracks: Those of the split.
    """

    def __init__(
        self,
        folder: SpectrogramFolder,
        split: str,
        config: CropConfig,
        *,
        step: int = 16,
        seed: int = 0,
        teacher: TeacherTargets | None = None,
        augmentation: AugmentConfig | None = None,
    ) -> None:
        self.folder, self.config, self.teacher = folder, config, teacher
        self.augmentation = augmentation if augmentation is not None and augmentation.active else None
        self.step, self.seed = step, seed
        self._numbers = [n for n, track in enumerate(folder.tracks) if track.split == split]
        self.tracks = [folder.tracks[number] for number in self._numbers]
        self._frames_per_second = Frontend(folder.frontend).frames_per_second

    def __len__(self) -> int:
        return len(self.tracks)

    def __getitem__(self, key: ItemKey) -> Places:
        rng = np.random.default_rng(mix_seed(self.seed, key.epoch, key.index))
        return Places(key, self._numbers[key.index], tuple(rng.random(self.config.views)))

    def collate(self, places: Sequence[Places]) -> dict[str, Any]:
        """Read the crops of a batch, of this or another split of the folder.

        Returns:
            ``views``: V tensors ``(B, F, T)`` float32; ``frames``: V tensors ``(B,)``, frames before the padding;
            ``index`` and ``epoch`` ``(B,)``; with a teacher ``vectors`` and, where it has them, ``tags``: V tensors
            ``(B, width)``, NaN where a crop has no target.
        """
        lengths = self.lengths(places)
        batch: dict[str, Any] = {
            "index": torch.tensor([one.key.index for one in places]),
            "epoch": torch.tensor([one.key.epoch for one in places]),
        }
        starts = [self.starts(one, lengths) for one in places]
        views, frames = [], []
        for view, length in enumerate(lengths):
            mel = torch.full((len(places), N_MELS, length), PADDING[self.folder.frontend])
            real = torch.empty(len(places), dtype=torch.int64)
            for row, one in enumerate(places):
                values = self.folder.read(self.folder.tracks[one.track], starts[row][view], length)
                crop = torch.from_numpy(values).T.float()
                if self.augmentation is not None:
                    rng = np.random.default_rng(
                        mix_seed(self.seed, one.key.epoch, one.key.index, _AUGMENT_STREAM + view)
                    )
                    crop = augment(crop, self.augmentation, rng)
                mel[row, :, : len(values)] = crop
                real[row] = len(values)
            views.append(mel)
            frames.append(real)
        batch |= {"views": views, "frames": frames}
        if self.teacher is not None:
            batch |= self._targets(self.teacher, places, starts, frames)
        return batch

    def lengths(self, places: Sequence[Places]) -> list[int]:
        """Frames of each view of a batch."""
        config = self.config
        if config.max_frames is None:
            return [config.frames] * config.views
        first = places[0].key
        rng = np.random.default_rng(mix_seed(self.seed, first.epoch, first.index, _LENGTH_STREAM))
        if rng.random() < config.full_probability:
            shortest = min(self.folder.tracks[one.track].frames for one in places)
            most = min(shortest, config.full_frames) // self.step * self.step
            return [max(self.step, most)] * config.views
        count = config.views if config.independent_lengths else 1
        low, high = math.log(config.frames), math.log(config.max_frames)
        drawn = np.exp(rng.uniform(low, high, count))
        steps = np.maximum(1, np.round(drawn / self.step)).astype(int)
        lengths = [int(step) * self.step for step in steps]
        return lengths * (config.views // count)

    def starts(self, places: Places, lengths: Sequence[int]) -> list[int]:
        """First frames of the crops of a track."""
        total = self.folder.tracks[places.track].frames
        starts: list[int] = []
        for share, length in zip(places.shares, lengths, strict=True):
            least, most = 0, max(0, total - length)
            if starts and self.config.max_frame_distance is not None:
                reach = self.config.max_frame_distance
                least = min(max(0, starts[0] - reach), most)
                most = max(least, min(most, starts[0] + reach))
            starts.append(least + int(share * (most - least + 1)))
        return starts

    def _targets(
        self,
        teacher: TeacherTargets,
        places: Sequence[Places],
        starts: list[list[int]],
        frames: list[Tensor],
    ) -> dict[str, list[Tensor]]:
        targets: dict[str, list[Tensor]] = {}
        for view, real in enumerate(frames):
            rows = []
            for row, one in enumerate(places):
                start_s = starts[row][view] / self._frames_per_second
                end_s = start_s + float(real[row]) / self._frames_per_second
                rows.append(teacher.of_crop(one.track, start_s, end_s))
            for name in rows[0]:
                targets.setdefault(name, []).append(torch.from_numpy(np.stack([each[name] for each in rows])))
        return targets
