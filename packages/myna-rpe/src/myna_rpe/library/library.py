"""The reading side of a library: its tracks, what is like what, and a way from one track to another."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from myna_rpe.library.analysis import is_comparable
from myna_rpe.library.choosing import Limits, choose
from myna_rpe.library.hubs import similarities, unit_vectors
from myna_rpe.library.index import Generation, IndexSettings
from myna_rpe.library.paths import find_path
from myna_rpe.library.records import Failure, printable_path
from pentatonic.errors import InputError, UsageError
from pentatonic.search import VectorHeader


@dataclass(frozen=True)
class LibraryTrack:
    """One recording of a library.

    Attributes:
        id: Stable text, from the hash of the file's content.
        path: The file; the first where several hold the same.
        title: Title, else the name of the file.
        artist: Artist.
        album: Album.
        track: Number on the album.
        year: Year.
        duration_s: Length.
        flags: What is unusual about its sound, such as ``quiet (silence)`` or ``short (4.9 s)``.
        group: Id of its group of near-duplicates; ``None``: it has none.
        repairs: What was repaired in its tags.
        copies: Other files that hold the same.
    """

    id: str
    path: Path
    title: str
    artist: str | None
    album: str | None
    track: int | None
    year: int | None
    duration_s: float
    flags: tuple[str, ...]
    group: str | None
    repairs: tuple[str, ...] = ()
    copies: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """Artist and title, for people."""
        return f"{self.artist} - {self.title}" if self.artist else self.title

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            **{
                name: getattr(self, name)
                for name in ("id", "path", "title", "artist", "album", "track", "year")
            },
            **{name: getattr(self, name) for name in ("duration_s", "flags", "group")},
        }


@dataclass(frozen=True)
class Neighbour:
    """A track that is like others.

    Attributes:
        track: The track.
        similarity: From 0 to 1; corrected for hubs, see :mod:`myna_rpe.library.hubs`.
    """

    track: LibraryTrack
    similarity: float


@dataclass(frozen=True)
class Step:
    """A track on a way.

    Attributes:
        track: The track.
        similarity: To the start of the way, from 0 to 1.
        length: Distance from the track before; 0 for the first.
    """

    track: LibraryTrack
    similarity: float
    length: float


class Library:
    """A library that was scanned, open for reading; it stays as it was when it was opened.

    Args:
        generation: Its recordings.
        settings: Its folders.

    Attributes:
        tracks: All recordings, those with a usable vector first.
        vectors: ``(n, O)`` of norm 1: the vectors of the first n tracks, which may be neighbours.
        near: ``(n,)`` mean distances to their nearest neighbours.
        failures: Path -> why it could not be embedded.
    """

    def __init__(self, generation: Generation, settings: IndexSettings) -> None:
        self.header: VectorHeader = generation.header
        self.measures, self.settings = generation.measures, settings
        self.unfinished = generation.unfinished
        paths = generation.paths_by_content()
        usable, others = [], []
        for key, record in sorted(generation.tracks.items()):
            if key not in paths:
                continue
            first, *rest = map(Path, paths[key])
            tags = record.tags
            track = LibraryTrack(
                key,
                first,
                tags.title or printable_path(first.stem),
                *(tags.artist, tags.album, tags.track, tags.year, record.duration_s, record.flags),
                record.group,
                tags.repairs,
                tuple(rest),
            )
            (usable if record.vector is not None and is_comparable(record.flags) else others).append(track)
        self.tracks: list[LibraryTrack] = usable + others
        records = [generation.tracks[track.id] for track in usable]
        width = generation.header.dimension
        self.vectors = unit_vectors(np.array([each.vector for each in records]).reshape(-1, width))
        self.near = np.array([each.neighbourhood or 1.0 for each in records])
        self.failures: dict[str, Failure] = {
            path: generation.failures[key]
            for key, found in paths.items()
            if key in generation.failures
            for path in found
        }
        self._rows = {track.id: row for row, track in enumerate(self.tracks)}
        self._by_path = {path: t for t in self.tracks for path in (t.path, *t.copies)}

    @classmethod
    def open(cls, folder: str | Path, expected: VectorHeader | None = None) -> Self:
        """Open the index in a folder.

        Args:
            folder: The folder.
            expected: What must have made the vectors, so that others can be compared with them.

        Raises:
            InputError: There is no index, or no scan has ended.
            IncompatibleVectors: Something else made them.
            FormatError: It is damaged.
            MissingExtra: pyarrow is not installed.
        """
        folder = Path(folder)
        settings = IndexSettings.load(folder)
        if not settings.current:
            raise InputError(f"{folder}: has no library yet; scan a folder of music first, to its end")
        loaded = Generation.load(folder / settings.current, journal=False)
        if expected is not None:
            loaded.header.require(expected, str(folder))
        return cls(loaded, settings)

    def find(self, what: str | Path) -> LibraryTrack:
        """Find one track by id, path, or text of its artist and title.

        Raises:
            InputError: There is none, or several; the message names some.
        """
        text = str(what)
        if (row := self._rows.get(text)) is not None:
            return self.tracks[row]
        found = self._by_path.get(Path(what)) or self._by_path.get(Path(what).absolute())
        if found is not None:
            return found
        wanted = _folded(text)
        exact = [track for track in self.tracks if wanted in (_folded(track.title), _folded(track.name))]
        several = exact or self.search(text, len(self.tracks))
        if len(several) == 1:
            return several[0]
        if not several:
            raise InputError(
                f"{text!r}: no track of the library has this id, path or words in its title and artist"
            )
        some = "; ".join(f"{track.name} ({track.path})" for track in several[:5])
        raise InputError(f"{text!r}: {len(several)} tracks fit, give the path or id of one: {some}")

    def get(self, key: str) -> LibraryTrack | None:
        """Return the track with an id, or ``None``."""
        row = self._rows.get(key)
        return None if row is None else self.tracks[row]

    def at_path(self, path: Path) -> LibraryTrack | None:
        """Return the track whose file this is, or ``None``."""
        return self._by_path.get(path)

    def search(self, query: str, count: int = 20, offset: int = 0) -> list[LibraryTrack]:
        """Return tracks with all words of a query in title, artist, album or name of the file; for no words, all.

        Raises:
            UsageError: ``count`` or ``offset`` is negative.
        """
        if count < 0 or offset < 0:
            raise UsageError(f"count is {count} and offset {offset}; allowed: 0 and more")
        words = _folded(query).split()
        found = [track for track in self.tracks if all(word in self._words(track) for word in words)]
        found.sort(
            key=lambda t: (_folded(t.artist or ""), _folded(t.album or ""), t.track or 0, _folded(t.title))
        )
        return found[offset : offset + count]

    def row(self, track: LibraryTrack) -> int | None:
        """Return the row of a track's vector; ``None`` where it has none that may be compared."""
        row = self._rows[track.id]
        return row if row < len(self.vectors) else None

    def similarity_to(self, ids: Sequence[str], unlike: Sequence[str] = ()) -> np.ndarray:
        """Return how like some tracks, and unlike others, each track with a vector is, ``(n,)``.

        Raises:
            InputError: An id is unknown, or its track is silent, quiet or very short; or there are none.
        """
        if not ids:
            raise InputError("give at least one track to be like")
        liked = self._similarities(ids).mean(axis=0)
        return liked * (1 - self._similarities(unlike).mean(axis=0)) if unlike else liked

    def similar(
        self,
        ids: Sequence[str],
        count: int = 10,
        unlike: Sequence[str] = (),
        variance: int | None = None,
        max_per_artist: int | None = None,
        max_per_album: int | None = None,
    ) -> list[Neighbour]:
        """Return the tracks that are most like some others; never these, nor near-duplicates of them or of each other.

        Args:
            ids: Tracks to be like; several count by their mean similarity.
            count: How many at most.
            unlike: Tracks to be unlike.
            variance: Seed of a random choice among the nearest ones; ``None``: always the nearest.
            max_per_artist: Most tracks of one artist.
            max_per_album: Most tracks of one album.

        Raises:
            InputError: As :meth:`similarity_to`.
            UsageError: A number is out of its range.
        """
        worth = self.similarity_to(ids, unlike)
        limits = Limits(max_per_artist, max_per_album)
        excluded = [self.tracks[self._rows[key]] for key in (*ids, *unlike)]
        rows = choose(worth, self.tracks, count, excluded=excluded, limits=limits, variance=variance)
        return [Neighbour(self.tracks[row], float(worth[row])) for row in rows]

    def path_between(self, start_id: str, end_id: str, count: int = 25) -> list[Step]:
        """Return a way from one track to another, both included; there always is one.

        Args:
            start_id: Its start.
            end_id: Its end.
            count: Tracks on it at most, 2 and more; 1 where start and end are the same.

        Raises:
            InputError: An id is unknown, or its track is silent, quiet or very short.
            UsageError: ``count`` is too small.
        """
        start, end = self._usable_row(start_id), self._usable_row(end_id)
        if count < 1 or (count < 2 and start != end):
            raise UsageError(f"count is {count}; allowed: 2 and more, or 1 from a track to itself")
        rows = find_path(self.vectors, self.tracks, start, end, count)
        return self.steps(rows)

    def steps(self, rows: Sequence[int]) -> list[Step]:
        """Describe a way through tracks with a vector."""
        if not rows:
            return []
        likeness = self._similarity_of_rows(rows[:1])[0]
        lengths = np.linalg.norm(np.diff(self.vectors[list(rows)], axis=0), axis=1)
        return [
            Step(self.tracks[row], float(likeness[row]), float(length))
            for row, length in zip(rows, [0.0, *lengths.tolist()], strict=True)
        ]

    def artist_counts(self, count: int = 10) -> dict[str, int]:
        """Return artist -> in how many lists it appears, one list for each track; the most frequent first."""
        counts: Counter[str] = Counter()
        for track in self.tracks[: len(self.vectors)]:
            found = {each.track.artist or "unknown" for each in self.similar([track.id], count)}
            counts.update(found)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def _similarities(self, ids: Iterable[str]) -> np.ndarray:
        return self._similarity_of_rows([self._usable_row(key) for key in ids])

    def _similarity_of_rows(self, rows: Sequence[int]) -> np.ndarray:
        found = similarities(self.vectors[list(rows)], self.near[list(rows)], self.vectors, self.near)
        found[np.arange(len(rows)), list(rows)] = 1.0
        return found

    def _usable_row(self, key: str) -> int:
        if key not in self._rows:
            raise InputError(f"{key!r} is not the id of a track of the library")
        row = self._rows[key]
        if row >= len(self.vectors):
            track = self.tracks[row]
            raise InputError(f"{track.path}: cannot be compared, for it is {', '.join(track.flags)}")
        return row

    @staticmethod
    def _words(track: LibraryTrack) -> str:
        name = printable_path(track.path.name)
        return _folded(" ".join((track.title, track.artist or "", track.album or "", name)))


def _folded(text: str) -> str:
    """Text without case and accents."""
    apart = unicodedata.normalize("NFKD", text.casefold())
    return "".join(sign for sign in apart if not unicodedata.combining(sign))
