"""What is said of a recording: events with times in seconds, counted from the start of the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Meter:
    """A time signature.

    Args:
        beats: Beats of a bar.
        unit: Note value of a beat: 4 for quarter notes.
    """

    beats: int
    unit: int

    def __str__(self) -> str:
        return f"{self.beats}/{self.unit}"


@dataclass(frozen=True)
class Beat:
    """One beat.

    Attributes:
        time: Seconds.
        position: Place in its bar, from 1; 1 is a downbeat.
        bpm: Tempo around it, in beats per minute; None of the only beat.
        confidence: 0 to 1: probability by the probe that there is a beat.
    """

    time: float
    position: int
    bpm: float | None
    confidence: float


@dataclass(frozen=True)
class Beats:
    """The beats of a recording.

    Attributes:
        beats: In the order of time.
        meter: None without beats.
        bpm: Usual tempo, of the intervals near the median; None with fewer than two beats.
        confidence: 0 to 1: mean over the beats, see :class:`Beat`; 0 without beats.
        meter_confidence: 0 to 1: 0 where another of the allowed meters explains the downbeats as well; 1 where only one
            meter was allowed.
        double: 0 to 1: how likely beats are half-way between these, in shares of how likely these are; near 1, the
            tempo may be twice as high.
        half: 0 to 1: how much less likely every other beat is than the rest; near 1, the tempo may be half as high.
    """

    beats: tuple[Beat, ...]
    meter: Meter | None
    bpm: float | None
    confidence: float
    meter_confidence: float
    double: float
    half: float


@dataclass(frozen=True)
class Span:
    """A stretch of a recording with a label: a chord, a key, a section.

    Attributes:
        start: Seconds.
        end: Seconds.
        label: Of chords in the syntax of mir_eval such as ``A:min``; of keys such as ``A minor``.
        confidence: 0 to 1; None where nothing measures it.
    """

    start: float
    end: float
    label: str
    confidence: float | None = None


@dataclass(frozen=True)
class Score:
    """A label of a whole recording, or a value.

    Attributes:
        label: Its name.
        value: A probability, or the value of a regression.
    """

    label: str
    value: float


@dataclass(frozen=True)
class Highlight:
    """The stretch that stands best for a recording.

    Attributes:
        start: Seconds.
        end: Seconds.
        likeness: Mean cosine between the stretch and the whole recording.
    """

    start: float
    end: float
    likeness: float


@dataclass(frozen=True)
class Annotation:
    """What was read from one recording; parts that were not asked for are None.

    Attributes:
        path: The file.
        start: Second of the file at which reading began.
        duration: Seconds that were read.
        beats: Beats.
        chords: Chords, one after the other.
        key: Keys of the whole recording, the likeliest first.
        keys: Keys over time.
        segments: Sections.
        highlight: The stretch that stands best for the recording.
        tags: Labels with scores, the highest first.
        notes: How it was made, in words: pooling, methods, what labels mean.
        probes: Task -> what is known of the probe that was used.
    """

    path: str
    start: float
    duration: float
    beats: Beats | None = None
    chords: Sequence[Span] | None = None
    key: Sequence[Score] | None = None
    keys: Sequence[Span] | None = None
    segments: Sequence[Span] | None = None
    highlight: Highlight | None = None
    tags: Sequence[Score] | None = None
    notes: Sequence[str] = ()
    probes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
