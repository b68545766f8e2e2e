"""What the server needs of a music library; :class:`myna_rpe.library.library.Library` has it, and so have the tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class SonicTrack(Protocol):
    """One track: its id, its file and its tags. None: not known."""

    @property
    def id(self) -> str:
        """Stable id, unique in the library."""
        ...

    @property
    def path(self) -> Path:
        """The file."""
        ...

    @property
    def title(self) -> str:
        """Title, or the name of the file."""
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
    def flags(self) -> Sequence[str]:
        """What is unusual about the sound, such as ``quiet (silence)``."""
        ...


class SonicMatch(Protocol):
    """A track, and how like another one it is."""

    @property
    def track(self) -> SonicTrack:
        """The track."""
        ...

    @property
    def similarity(self) -> float:
        """From 0 to 1, which is the very same sound."""
        ...


class SonicLibrary(Protocol):
    """Tracks, some of which cannot be compared: silent ones have no embedding.

    The server calls one method at a time, from changing threads.
    """

    def get(self, key: str, /) -> SonicTrack | None:
        """The track with this id; None: there is none."""
        ...

    def search(self, query: str, count: int, offset: int, /) -> Sequence[SonicTrack]:
        """Tracks that match a text in their tags, in a fixed order; an empty text matches all.

        Args:
            query: The text.
            count: Most tracks returned, 0 or more.
            offset: Matches to leave out at the start.
        """
        ...

    def similar(self, ids: Sequence[str], count: int, /) -> Sequence[SonicMatch]:
        """The tracks that sound most like the given ones, nearest first, without those given.

        Args:
            ids: Known tracks, at least one.
            count: Most tracks returned, 0 or more.

        Raises:
            InputError: A given track cannot be compared.
        """
        ...

    def path_between(self, start_id: str, end_id: str, count: int, /) -> Sequence[SonicMatch]:
        """A way from one track to another in small steps of sound, with similarities to the first track.

        Args:
            start_id: Known track; the first of the result.
            end_id: Another known track; the last of the result.
            count: Most tracks returned, 2 or more.

        Raises:
            InputError: One of the two tracks cannot be compared; the message names it.
        """
        ...
