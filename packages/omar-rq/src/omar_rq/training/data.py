"""Audio for pre-training: tracks on disk, and crops of them.

A data folder is one of

- prepared: ``manifest.jsonl`` (written by ``omar-rq prepare``) beside 16-bit sample files;
- the original's: headerless float16 ``.mmap`` files, named by a text file list;
- any folder of audio files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from omar_rq.training.augment import AugmentConfig, augment
from pentatonic import audio
from pentatonic.errors import AudioFileNotFound, EmptyAudio, FormatError, InputError, NonFiniteAudio
from pentatonic.training import ItemKey, mix_seed

_AUGMENT_STREAM = 0x415547
"""Keeps the changes of crops apart from their places."""
MANIFEST = "manifest.jsonl"
SAMPLE_TYPES = {"float16": np.dtype("<f2"), "int16": np.dtype("<i2")}


@dataclass(frozen=True)
class Track:
    """One recording on disk.

    Args:
        path: The file.
        sample_rate: Samples per second.
        samples: Number of samples of one channel.
        dtype: ``float16`` or ``int16`` for headerless mono samples, ``audio`` for a file with a decoder.
        offset: First sample inside the file, for files that hold several tracks.
    """

    path: Path
    sample_rate: int
    samples: int
    dtype: str = "audio"
    offset: int = 0

    def read(self, start: int, count: int) -> Tensor:
        """Return ``count`` samples from ``start`` as (count,) float32; fewer at the end of the track.

        Raises:
            AudioError: The file is missing, shorter than its entry says, not audio, or has NaN or infinite samples.
        """
        count = min(count, self.samples - start)
        if self.dtype == "audio":
            whole = audio.load(
                self.path,
                offset_s=start / self.sample_rate,
                duration_s=count / self.sample_rate,
                strict=False,
            )
            return whole.samples[0]
        sample_type = SAMPLE_TYPES[self.dtype]
        if not self.path.is_file():
            raise AudioFileNotFound(self.path, "the data folder lists this file, but it does not exist")
        first = self.offset + start
        if self.path.stat().st_size < (first + count) * sample_type.itemsize:
            raise EmptyAudio(
                self.path, f"it has no samples {first} to {first + count}; it was truncated or changed"
            )
        samples = np.fromfile(self.path, sample_type, count, offset=first * sample_type.itemsize)
        samples = samples.astype(np.float32) / (32768.0 if self.dtype == "int16" else 1.0)
        if not np.isfinite(samples).all():
            raise NonFiniteAudio(self.path, "there are NaN or infinite samples")
        return torch.from_numpy(samples)


def open_tracks(
    root: str | Path, filelist: str | Path | None = None, *, raw_sample_rate: int = 16000
) -> list[Track]:
    """List the tracks of a data folder.

    Args:
        root: The folder.
        filelist: Limits the tracks to those listed, relative to ``root``: a ``.jsonl`` file with one JSON string per
            line, as ``omar-rq prepare`` writes it for names of any kind, or a text file with one path per line.
        raw_sample_rate: Samples per second of headerless ``.mmap`` files without a manifest.

    Raises:
        FormatError: A manifest line or a listed path is wrong; the message has file and line.
        InputError: There is no track.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"data folder {root} is not a folder")
    wanted = None if filelist is None else _read_filelist(root, Path(filelist))
    if (root / MANIFEST).is_file():
        tracks = read_manifest(root)
        tracks = [track for track in tracks if wanted is None or track.path in wanted]
    else:
        paths = sorted(root.rglob("*.mmap")) or audio.find_files([root])
        tracks = [_open_track(path, raw_sample_rate) for path in (paths if wanted is None else wanted)]
    if not tracks:
        raise InputError(f"no tracks in {root}; it needs {MANIFEST}, .mmap files or audio files")
    return tracks


def read_manifest(root: Path) -> list[Track]:
    """Read ``manifest.jsonl``; every path must stay inside ``root``."""
    tracks = []
    manifest = root / MANIFEST
    # Not by splitlines, which also splits at characters that names may have.
    for number, line in enumerate(manifest.read_text(encoding="utf-8").split("\n"), start=1):
        if not line:
            continue
        try:
            entry = json.loads(line)
            dtype, path = str(entry["dtype"]), _inside(root, str(entry["path"]))
            track = Track(
                path, int(entry["sample_rate"]), int(entry["samples"]), dtype, int(entry.get("offset", 0))
            )
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise FormatError(f"not a manifest entry ({error})", path=manifest, line=number) from None
        if dtype not in SAMPLE_TYPES or track.samples < 1 or track.sample_rate < 1 or track.offset < 0:
            reason = f"dtype must be one of {', '.join(SAMPLE_TYPES)}; samples and sample_rate positive"
            raise FormatError(reason, path=manifest, line=number)
        tracks.append(track)
    return tracks


def _read_filelist(root: Path, filelist: Path) -> list[Path]:
    if not filelist.is_file():
        raise InputError(f"file list {filelist} is not a file")
    paths = []
    text = filelist.read_text(encoding="utf-8")
    as_json = filelist.suffix == ".jsonl"
    for number, line in enumerate(text.split("\n") if as_json else text.splitlines(), start=1):
        try:
            name = json.loads(line) if as_json and line else line.strip()
            if not isinstance(name, str):
                raise ValueError("not a JSON string")
            if name:
                paths.append(_inside(root, name))
        except (ValueError, RecursionError) as error:
            raise FormatError(str(error), path=filelist, line=number) from None
    return paths


def default_filelist(root: Path, split: str) -> Path | None:
    """The file list of a split in a data folder, ``<split>.jsonl`` or ``<split>.txt``; None if there is neither."""
    candidates = [root / f"{split}{suffix}" for suffix in (".jsonl", ".txt")]
    return next((path for path in candidates if path.is_file()), None)


def _inside(root: Path, name: str) -> Path:
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"path {name!r} leaves the data folder")
    return path


def _open_track(path: Path, raw_sample_rate: int) -> Track:
    if path.suffix == ".mmap":
        size = path.stat().st_size if path.is_file() else 0
        return Track(path, raw_sample_rate, max(1, size // 2), "float16")
    try:
        described = audio.info(path)
    except InputError:
        # Reading the track raises the same error; the loader then counts it and takes another track.
        return Track(path, raw_sample_rate, 1)
    return Track(path, described.sample_rate, max(1, described.frames))


class CropTeacher(Protocol):
    """What says something about a crop of a track."""

    def of_crop(self, track: Track, start_s: float, end_s: float) -> dict[str, NDArray[np.float32]]:
        """Return ``vectors`` ``(V,)`` and perhaps ``tags`` ``(K,)``; NaN where nothing is known."""
        ...


@dataclass(frozen=True)
class TaughtCrops:
    """A crop, or a batch of B crops, with what a teacher says about it.

    Args:
        audio: ``(n,)`` float32; of a batch ``(B, n)``.
        vectors: ``(V,)``; of a batch ``(B, V)``. NaN where nothing is known.
        tags: ``(K,)`` probabilities; of a batch ``(B, K)``; None of a teacher without tags.
    """

    audio: Tensor
    vectors: Tensor
    tags: Tensor | None


def collate_taught(crops: Sequence[TaughtCrops]) -> TaughtCrops:
    """Stack crops of one length, with the targets of one teacher, to a batch."""
    tags = [crop.tags for crop in crops if crop.tags is not None]
    return TaughtCrops(
        torch.stack([crop.audio for crop in crops]),
        torch.stack([crop.vectors for crop in crops]),
        torch.stack(tags) if tags else None,
    )


class CropDataset(Dataset[Tensor | TaughtCrops]):
    """Crops of equal length, at the model's sample rate.

    A crop depends on (seed, epoch, index) only, so a resumed run, or one with other workers, gets the same audio.
    Tracks shorter than the crop are padded with zeros on the right.

    Args:
        tracks: The recordings.
        crop_s: Seconds of a crop.
        sample_rate: Samples per second of the crops; other tracks are resampled.
        seed: Seed of the crop positions.
        random: Draw positions; otherwise take the middle of the track, for validation.
        teacher: What says something about the crops; items are then :class:`TaughtCrops`.
        augmentation: How crops are changed; ``None``: not at all. The teacher heard them as they are.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        *,
        crop_s: float,
        sample_rate: int,
        seed: int = 0,
        random: bool = True,
        teacher: CropTeacher | None = None,
        augmentation: AugmentConfig | None = None,
    ) -> None:
        self.tracks, self.crop_s, self.sample_rate = list(tracks), crop_s, sample_rate
        self.seed, self.random, self.teacher = seed, random, teacher
        self.augmentation = augmentation if augmentation is not None and augmentation.active else None

    def __len__(self) -> int:
        return len(self.tracks)

    def __getitem__(self, key: ItemKey) -> Tensor | TaughtCrops:
        """Return (crop_s * sample_rate,) float32, with a teacher as a part of :class:`TaughtCrops`.

        Raises:
            AudioError: The track cannot be read.
        """
        crop = self.crop(key)
        if self.teacher is None:
            return crop
        track = self.tracks[key.index]
        start, wanted = self._place(key)
        end = min(track.samples, start + wanted)
        said = self.teacher.of_crop(track, start / track.sample_rate, end / track.sample_rate)
        tags = said.get("tags")
        return TaughtCrops(
            crop, torch.from_numpy(said["vectors"]), None if tags is None else torch.from_numpy(tags)
        )

    def crop(self, key: ItemKey) -> Tensor:
        """Return the audio of an item alone, (crop_s * sample_rate,) float32.

        Raises:
            AudioError: The track cannot be read.
        """
        track = self.tracks[key.index]
        start, wanted = self._place(key)
        crop = track.read(start, wanted)
        if track.sample_rate != self.sample_rate:
            crop = audio.resample(crop, track.sample_rate, self.sample_rate)
        if self.augmentation is not None:
            rng = np.random.default_rng(mix_seed(self.seed, key.epoch, key.index, _AUGMENT_STREAM))
            crop = augment(crop, self.sample_rate, self.augmentation, rng)
        length = round(self.crop_s * self.sample_rate)
        return torch.nn.functional.pad(crop, (0, max(0, length - len(crop))))[:length]

    def _place(self, key: ItemKey) -> tuple[int, int]:
        """First sample of a crop in its track, and the samples of a whole crop, at the rate of the track."""
        track = self.tracks[key.index]
        wanted = round(self.crop_s * track.sample_rate)
        spare = max(0, track.samples - wanted)
        if not self.random:
            return spare // 2, wanted
        return int(np.random.default_rng((self.seed, key.epoch, key.index)).integers(spare + 1)), wanted
