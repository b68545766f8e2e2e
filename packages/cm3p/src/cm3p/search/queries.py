"""What a search asks for: maps of the index, maps in files, metadata, audio. All become vectors of the index's model.

Shapes: D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cm3p.beatmap import AudioSource, MapEntry, find_maps
from cm3p.classification.labels import metadata_from
from cm3p.embedding.rows import row_of
from cm3p.inference.maps import EncodedMap, WindowOptions, encode_audio_alone, encode_map
from cm3p.search.index import Index
from pentatonic.errors import InputError, UsageError

if TYPE_CHECKING:  # these need torch, and queries that the index has need no model
    from cm3p.inference.loading import LoadedModel
    from cm3p.inference.songs import SongReader

AUDIO_NOTE = "the query is a song with empty windows of a map: no objects, no beats, no kiai time"


@dataclass(frozen=True)
class Query:
    """One thing that is asked for.

    Args:
        name: What the user called it.
        vector: (D,) float32 of norm 1.
        row: Its row in the index; None for what is not in it.
        set_id: Id of its set, where that is known.
    """

    name: str
    vector: np.ndarray
    row: int | None = None
    set_id: int | None = None


class Queries:
    """Makes queries for an index.

    Args:
        index: The index.
        load: Loads the model that ``--model`` names; called when a query needs it.
        windows: How maps that are embedded now are cut.
    """

    def __init__(
        self,
        index: Index,
        load: Callable[[], LoadedModel],
        windows: WindowOptions = WindowOptions(),  # noqa: B008
    ) -> None:
        self._index, self._load, self._windows = index, load, windows
        self._loaded: LoadedModel | None = None

    @property
    def with_audio(self) -> bool:
        """Whether the vectors of the index were made with songs."""
        return "audio" in self._index.require_header().frontend

    @property
    def model(self) -> LoadedModel:
        """The model, which must be that of the index.

        Raises:
            IncompatibleVectors: It is another one.
        """
        if self._loaded is None:
            from cm3p.embedding.vectors import vector_header

            header = self._index.require_header()
            loaded = self._load()
            header.require(vector_header(loaded, with_audio=self.with_audio), str(self._index.path))
            self._loaded = loaded
        return self._loaded

    def maps(self, name: str) -> list[Query]:
        """Return the maps that a text names.

        Args:
            name: Id or path of a map that the index has; a map, archive or folder on this machine.

        Raises:
            InputError: There are none, or one cannot be embedded.
        """
        if rows := self._index.rows_named(name):
            return [self._of_row(row, name) for row in rows]
        if not Path(name).exists():
            raise InputError(
                f"{name!r} is not a map of {self._index.path} (by id, hash or path), nor is there such a file"
            )
        entries = list(find_maps(name))
        if not entries:
            raise InputError(f"{name}: there are no maps in it")
        return [self._of_entry(entry) for entry in entries]

    def metadata(self, fields: Sequence[str]) -> Query:
        """Return the vector of metadata, from the metadata tower.

        Args:
            fields: Such as ``mode=osu`` and ``year=2015``.

        Raises:
            UsageError: A field or a value is unknown; the message says what is allowed.
        """
        import torch

        from cm3p.model import CM3PModel

        model = self.model.model
        if not isinstance(model, CM3PModel):
            raise UsageError(f"{self.model.name} has no metadata tower, so --metadata cannot be asked for")
        metadata = metadata_from(self.model.processor.metadata_tokenizer, fields)
        encoded = self.model.processor(metadata=metadata).to(self.model.device)
        with torch.inference_mode():
            vector = model.get_metadata_features(encoded["input_ids"], encoded["attention_mask"])[0].float()
        return Query(" ".join(fields), torch.nn.functional.normalize(vector, dim=0).cpu().numpy())

    def audio(self, path: Path) -> Query:
        """Return the vector of a song without a map; see :data:`AUDIO_NOTE`.

        Raises:
            InputError: The vectors of the index were made without audio; or the song cannot be read.
        """
        if not self.with_audio:
            raise InputError(
                f"{self._index.path}: its vectors were made without audio, so a song cannot be compared with them; "
                "embed the maps with --audio"
            )
        processor = self.model.processor
        with self._songs() as songs:
            samples = songs.read(AudioSource(path))
        return Query(str(path), self._embed(encode_audio_alone(processor, samples, self._windows)))

    def _of_row(self, row: int, name: str) -> Query:
        return Query(name, self._index.vectors[row], row, self._index.column("BeatmapSetId")[row])

    def _of_entry(self, entry: MapEntry) -> Query:
        if entry.error is not None:
            raise entry.error
        assert entry.beatmap is not None
        if (row := self._index.row_of_hash(entry.sha256)) is not None:
            return self._of_row(row, entry.where)
        model = self.model
        samples = None
        try:
            if self.with_audio:
                with self._songs() as songs:
                    samples = songs.read_for(entry)
            encoded = encode_map(model.processor, entry.beatmap, samples, self._windows)
        except InputError as error:
            raise InputError(f"{entry.where}: {error}") from error
        return Query(entry.where, self._embed(encoded), None, row_of(entry).get("BeatmapSetId"))

    def _embed(self, encoded: EncodedMap) -> np.ndarray:
        from cm3p.embedding.vectors import map_vectors
        from cm3p.inference.batches import DEFAULT_BATCH_SIZE

        return map_vectors(self.model, [encoded], DEFAULT_BATCH_SIZE)[0]

    def _songs(self) -> SongReader:
        from cm3p.inference.songs import SongReader

        return SongReader(self.model.processor.default_kwargs["audio_kwargs"]["sampling_rate"])
