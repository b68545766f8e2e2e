"""What the server needs of a music library; :class:`myna_rpe.library.Library` has it, and so have the tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pentatonic.errors import InputError


class NoEmbedding(InputError):
    """A track of the library has no embedding, so nothing can be said about what sounds like it.

    Args:
        track_id: The track.
    """

    def __init__(self, track_id: str) -> None:
        self.track_id = track_id
        super().__init__(
            f"track {track_id!r} has no embedding; allowed: a track that the library has embedded"
        )


class SonicTrack(Protocol):
    """One track: its id, its file and its tags. None: not known."""

    @property
    def id(self) -> str:
        """Stable id, unique in the library."""
        ...

    @property
    def path(self) -> str | Path:
        """The file."""
        ...

    @property
    def title(self) -> str | None:
        """Title; without one the name of the file is shown."""
        ...

    @property
    def artist(self) -> str | None:
        """Artist."""
        ...

    @property
    def album(self) -> str | None:
        """Album."""
        ...

    @property
    def duration_s(self) -> float | None:
        """Length in seconds."""
        ...

    @property
    def year(self) -> int | None:
        """Year of release."""
        ...

    @property
    def track(self) -> int | None:
        """Number on the album."""
        ...

    @property
    def size(self) -> int | None:
        """Size of the file in bytes."""
        ...

    @property
    def suffix(self) -> str | None:
        """Suffix of the file, with or without the dot."""
        ...

    @property
    def flags(self) -> Sequence[str]:
        """What is unusual about the sound, such as ``quiet``."""
        ...


class SonicLibrary(Protocol):
    """Tracks, some of them with an embedding. The server calls one method at a time, from changing threads.

    Similarities are in [0, 1]: 1 is the very same sound.
    """

    def track(self, id: str) -> SonicTrack | None:
        """The track with this id; None: there is none."""
        ...

    def search(self, query: str, count: int, offset: int) -> Sequence[SonicTrack]:
        """Tracks that match a text in their tags, in a fixed order; an empty text matches all.

        Args:
            query: The text.
            count: Most tracks returned, 0 or more.
            offset: Matches to leave out at the start.
        """
        ...

    def similar(self, ids: Sequence[str], count: int) -> Sequence[tuple[SonicTrack, float]]:
        """The tracks that sound most like the given ones, nearest first, without those given.

        Args:
            ids: Known tracks, at least one.
            count: Most tracks returned, 0 or more.

        Returns:
            Pairs of track and similarity to the given tracks.

        Raises:
            NoEmbedding: None of the given tracks has an embedding.
        """
        ...

    def path_between(self, start_id: str, end_id: str, count: int) -> Sequence[tuple[SonicTrack, float]]:
        """A way from one track to another in small steps of sound.

        Args:
            start_id: Known track; the first of the result.
            end_id: Another known track; the last of the result.
            count: Most tracks returned, 2 or more.

        Returns:
            Pairs of track and similarity to the first track.

        Raises:
            NoEmbedding: One of the two tracks has no embedding; the error names it.
        """
        ...
