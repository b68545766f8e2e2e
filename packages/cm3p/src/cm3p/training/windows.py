"""Maps of a set to the windows that the models are trained on.

Shapes: L tokens, S spectrograms of a window (one as a rule), T frames, V variations, M tokens of metadata.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from cm3p.audio_features import load_song
from cm3p.beatmap import AudioSource, Beatmap, read_beatmap
from cm3p.beatmap.archive import open_osz
from cm3p.beatmap.source import MOST_BYTES
from cm3p.events.song_length import get_song_length
from cm3p.metadata import CM3PMetadata, get_metadata, merge_metadata_dicts
from cm3p.processor import CM3PProcessor
from cm3p.training.masking import Masking
from cm3p.training.options import DatasetConfig
from pentatonic.errors import InputError, PentatonicError
from pentatonic.training import mix_seed

_SONGS = 1  # a stream of random numbers

Failures = list[tuple[str, str]]
"""Map or audio, and why it is left out."""


@dataclass(slots=True)
class Window:
    """A window of a map.

    Args:
        set_id: The set of its map.
        input_ids: (L,).
        labels: (L,) for masked tokens, () for a class; None without labels.
        input_features: (S, bands, T); None without audio.
        metadata_ids: (M,) or (V, M); None without metadata.
        metadata_attention_mask: The same shape.
        metadata_variation_classes: (V,); None without variations.
        beatmap_id: Id of its map.
    """

    set_id: int
    input_ids: Tensor
    labels: Tensor | None
    input_features: Tensor | None
    metadata_ids: Tensor | None
    metadata_attention_mask: Tensor | None
    metadata_variation_classes: Tensor | None
    beatmap_id: int


class SetReader:
    """Reads sets into windows. The result is a function of the seed, the epoch and the set.

    The audio of a set is decoded once, whatever the number of its maps.

    Args:
        maps: Sorted table of :mod:`cm3p.training.tables`.
        processor: Makes the inputs.
        config: Options of the data.
        seed: Of all random choices.
        training: Whether sets are sped up and metadata is dropped.
        masking: For the labels ``masked_lm``.
    """

    def __init__(
        self,
        maps: pa.Table,
        processor: CM3PProcessor,
        config: DatasetConfig,
        *,
        seed: int,
        training: bool,
        masking: Masking | None,
    ) -> None:
        self.maps, self.processor, self.config = maps, processor, config
        self.seed, self.training, self.masking = seed, training, masking
        ids = maps["BeatmapSetId"].to_numpy()
        self._starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]]) if len(ids) else np.empty(0, np.int64)
        self._bounds = np.append(self._starts, len(ids))

    def __len__(self) -> int:
        """Number of sets."""
        return len(self._starts)

    def read(self, index: int, epoch: int) -> tuple[list[Window], Failures]:
        """Read a set.

        Args:
            index: Number of the set.
            epoch: Pass over the data.

        Returns:
            The windows of all its maps, and what could not be read.
        """
        first, after = int(self._bounds[index]), int(self._bounds[index + 1])
        rows = self.maps.slice(first, after - first).to_pylist()
        rng = np.random.default_rng(
            mix_seed(self.seed, int(not self.training), epoch, rows[0]["BeatmapSetId"])
        )
        speed = self._speed(rng)
        audio = _SetAudio(self.config.sampling_rate, speed)
        windows, failures = [], []
        for row in rows:
            # Drawn for each map, whatever becomes of it, so that a bad file changes no other map.
            mismatched = rng.random() < self.config.beatmap_mismatch_prob
            other, stream = int(rng.integers(len(self.maps))), int(rng.integers(2**63))
            shown = self.maps.slice(other, 1).to_pylist()[0] if mismatched else row
            matched = shown["Id"] == row["Id"]
            try:
                windows += self._windows(shown, row, audio, speed, stream, matched)
            except (PentatonicError, OSError, ValueError, ArithmeticError) as error:
                place = row["Path"] if row["Member"] is None else f"{row['Path']}: {row['Member']}"
                where = str(place or f"map {row['Id']}")
                failures.append((where, " ".join(str(error).removeprefix(f"{where}:").split())))
        return windows, failures

    def _speed(self, rng: np.random.Generator) -> float:
        chosen, share = rng.random() < self.config.dt_augment_prob, rng.random()
        if not (self.training and chosen):
            return 1.0
        least, greatest = self.config.dt_augment_range
        return least + (greatest - least) * (share**0.5 if self.config.dt_augment_sqrt else share)

    def _windows(
        self,
        shown: dict[str, Any],
        row: dict[str, Any],
        audio: _SetAudio,
        speed: float,
        stream: int,
        matched: bool,
    ) -> Iterator[Window]:
        config = self.config
        beatmap = _read(shown)
        samples = audio.samples(row) if config.include_audio and not self._without_song(stream) else None
        metadata = self._metadata(shown, beatmap, samples, speed) if config.include_metadata else None
        with _numpy_stream(stream):
            encoding = self.processor(
                metadata=metadata,
                beatmap=beatmap
                if config.include_beatmap
                else replace(beatmap, hit_objects=[], timing_points=[]),
                audio=samples,
                audio_sampling_rate=config.sampling_rate,
                speed=speed,
                multiply_metadata=config.include_metadata,
                populate_metadata=config.include_metadata,
                metadata_dropout_prob=config.metadata_dropout_prob if self.training else 0.0,
                metadata_variations=(
                    config.train_metadata_variations if self.training else config.test_metadata_variations
                ),
            )
        generator = torch.Generator().manual_seed(stream)
        features = audio.shared(row, encoding.get("input_features"))
        count = len(encoding["input_ids"])
        fields = ("metadata_ids", "metadata_attention_mask", "metadata_variation_classes")
        for place in range(count):
            ids = encoding["input_ids"][place][encoding["attention_mask"][place].bool()].clone()
            labels = None
            if config.labels == "masked_lm":
                assert self.masking is not None
                ids, labels = self.masking(ids, generator)
            elif config.labels == "ranked_classification":
                labels = torch.tensor(int(shown["Status"] == "ranked" and matched))
            each = len(features) // count if features is not None else 0
            yield Window(
                row["BeatmapSetId"],
                ids,
                labels,
                None if features is None else features[place * each : (place + 1) * each],
                *(encoding[name][place] if name in encoding else None for name in fields),
                beatmap_id=shown["Id"],
            )

    def _without_song(self, stream: int) -> bool:
        """Whether a map is shown without its song; drawn from a stream of its own, so that it changes nothing else."""
        chance = self.config.audio_dropout_prob if self.training else 0.0
        return chance > 0 and np.random.default_rng(mix_seed(stream, _SONGS)).random() < chance

    def _metadata(
        self, row: dict[str, Any], beatmap: Beatmap, samples: Tensor | None, speed: float
    ) -> CM3PMetadata:
        """What the table knows of a map; the processor adds what the map itself says."""
        metadata = get_metadata(
            {**row, "SubmittedDate": None if row["Year"] is None else f"{row['Year']:04}"}, speed=speed
        )
        if not self.config.reproduce_original:
            metadata["song_length"] = None  # of the song, and not the 0 that the original always has
        if not self.config.include_beatmap:
            rate = self.config.sampling_rate
            length = get_song_length(beatmap=beatmap) if samples is None else len(samples) / rate
            merged = merge_metadata_dicts(metadata, get_metadata(beatmap=beatmap, song_length=length))
            return cast(CM3PMetadata, merged)
        return metadata


class _SetAudio:
    """Songs of one set at one speed, each decoded once; failures too are kept.

    Args:
        sampling_rate: In Hz.
        speed: Songs are decoded at a lower rate and taken for the full one, which speeds them up with their pitch.
    """

    def __init__(self, sampling_rate: int, speed: float) -> None:
        self._rate = int(sampling_rate // speed)
        self._songs: dict[tuple[str, str | None], Tensor | Exception] = {}
        self._features: dict[tuple[Any, ...], Tensor] = {}

    def samples(self, row: dict[str, Any]) -> Tensor:
        """The song of a map."""
        place = row["AudioPath"], row["AudioMember"]
        if place[0] is None:
            raise InputError("the map has no audio file")
        if place not in self._songs:
            try:
                self._songs[place] = _decoded(*place, self._rate)
            except (PentatonicError, OSError) as error:
                self._songs[place] = error
        song = self._songs[place]
        if isinstance(song, Exception):
            raise song
        return song

    def shared(self, row: dict[str, Any], features: Tensor | None) -> Tensor | None:
        """The spectrograms of a map, in the memory of those of another map with the same song."""
        if features is None:
            return None
        return self._features.setdefault(
            (row["AudioPath"], row["AudioMember"], tuple(features.shape)), features
        )


def _decoded(path: str, member: str | None, rate: int) -> Tensor:
    if member is None:
        return load_song(path, rate)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"audio{Path(member).suffix}"
        file.write_bytes(AudioSource(Path(path), member).read())
        return load_song(file, rate)


def _read(row: dict[str, Any]) -> Beatmap:
    if row["Path"] is None:
        raise InputError("the table names no file of the map within the data set")
    path = Path(row["Path"])
    if row["Member"] is None:
        return read_beatmap(path)
    with open_osz(path) as archive:
        content = archive.read(row["Member"], at_most=MOST_BYTES)
    return read_beatmap(content, name=f"{path}: {row['Member']}")


@contextmanager
def _numpy_stream(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, which metadata are varied with, and put it back afterwards."""
    state = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(state)
