"""What is known of a recording: the labels that probes read from its sound. All times are seconds from its start."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pentatonic.errors import InputError

SPLITS = ("train", "valid", "test")
_VALID_FROM, _TEST_FROM = 65, 80  # of 100 groups

Span = tuple[float, float, str]
"""Start and end in seconds, and what is there."""


@dataclass(frozen=True)
class Labels:
    """Labels of a recording; None where nothing is known.

    Attributes:
        tags: Any number of words.
        genre: One of several that exclude each other.
        key: Of the whole recording, such as ``C major`` or ``F# minor``.
        keys: Keys that change.
        chords: In the syntax of mir_eval, such as ``C:maj``, ``A:min7`` or ``N``.
        beats: Time and position in the bar, starting at 1; 0 where the position is not known.
        meter: Such as ``3/4``.
        instruments: Names.
        sections: Names such as ``chorus``, or letters for parts that return.
        notes: Start, end, MIDI pitch and program from 0; programs from 128 on are drums.
        tempo: Beats per minute.
        pitch: MIDI pitch of a recording of one note.
        difficulty: A grade.
        emotion: ``arousal`` and ``valence``.
    """

    tags: tuple[str, ...] | None = None
    genre: str | None = None
    key: str | None = None
    keys: tuple[Span, ...] | None = None
    chords: tuple[Span, ...] | None = None
    beats: tuple[tuple[float, int], ...] | None = None
    meter: str | None = None
    instruments: tuple[str, ...] | None = None
    sections: tuple[Span, ...] | None = None
    notes: tuple[tuple[float, float, int, int], ...] | None = None
    tempo: float | None = None
    pitch: int | None = None
    difficulty: float | None = None
    emotion: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Recording:
    """A recording of a data set.

    Attributes:
        path: The file; it may be missing or not decodable.
        split: ``train``, ``valid`` or ``test``.
        group: Recordings of a group, such as those of an artist or of a score, are not independent, and in one split.
        labels: What is known of it.
    """

    path: Path
    split: str
    group: str
    labels: Labels


@dataclass(frozen=True)
class DataSet:
    """Labelled recordings.

    Attributes:
        name: Of the data set.
        recordings: Of all splits.
        source: Where it comes from, and under which conditions.
        split: How the splits were made.
        vocabulary: Labels that a task of this data set has, where the data set fixes them and their order.

    Raises:
        InputError: A group is in two splits.
    """

    name: str
    recordings: tuple[Recording, ...]
    source: str
    split: str
    vocabulary: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        for recording in self.recordings:
            if (before := seen.setdefault(recording.group, recording.split)) != recording.split:
                raise InputError(
                    f"{self.name}: the group {recording.group!r} is in the splits {before} and {recording.split}; "
                    "allowed: one, since its recordings are not independent"
                )

    def of(self, split: str) -> list[Recording]:
        """Recordings of a split."""
        return [recording for recording in self.recordings if recording.split == split]


def split_of(group: str) -> str:
    """Return the split of a group where a data set says none: by a hash, 65 % train, 15 % valid, 20 % test."""
    number = int(hashlib.sha256(group.encode("utf-8", "surrogateescape")).hexdigest(), 16) % 100
    return "test" if number >= _TEST_FROM else "valid" if number >= _VALID_FROM else "train"


HASHED_SPLIT = "by a hash of the group: 65 % train, 15 % valid, 20 % test"


def ordered(recordings: Iterable[Recording]) -> tuple[Recording, ...]:
    """Sort recordings by their path, so that an order of files on disk decides nothing."""
    return tuple(sorted(recordings, key=lambda recording: str(recording.path)))
