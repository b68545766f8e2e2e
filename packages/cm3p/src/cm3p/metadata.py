"""Metadata of a beatmap: the fields, and where their values come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypedDict

from cm3p.beatmap.objects import CATCH, MANIA, OSU, TAIKO, Hold
from cm3p.events.song_length import get_song_length

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cm3p.beatmap.objects import Beatmap

STAR_RATING_SPEEDS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
"""Speeds of the seven star ratings of a row of a data set."""

STATUSES = {-2: "graveyard", -1: "wip", 0: "pending", 1: "ranked", 2: "approved", 3: "qualified", 4: "loved"}
"""Names of the ranked statuses by number, as the web site has them."""


class CM3PMetadata(TypedDict, total=False):
    """Metadata of a beatmap, or of a window of it. A missing field, or None, is unknown.

    ``difficulty`` in stars, ``mode``, ``status``, ``mapper`` and ``tags`` as ids or names, ``song_length`` in s,
    ``song_position`` from 0 to 1, ``cs`` the circle size, ``global_sv`` the slider multiplier.
    """

    difficulty: float | None
    year: int | None
    mode: int | str | None
    status: int | str | None
    mapper: int | str | None
    cs: float | None
    hitsounded: bool | None
    song_length: float | None
    song_position: float | None
    global_sv: float | None
    mania_keycount: int | None
    hold_note_ratio: float | None
    scroll_speed_ratio: float | None
    tags: Sequence[int | str] | None


FIELDS = tuple(CM3PMetadata.__annotations__)
"""All fields, in the order of their tokens."""


def is_null(value: Any) -> bool:
    """Whether a value stands for "unknown": None, NaN, or the null values of pandas."""
    if value is None:
        return True
    if isinstance(value, str | list | tuple | dict) or getattr(value, "ndim", 0):
        return False
    try:
        return bool(value != value)  # noqa: PLR0124  NaN and NaT
    except TypeError:  # pandas.NA has no truth value
        return True


def merge_metadata_dicts(
    first: Mapping[str, Any] | None, second: Mapping[str, Any] | None
) -> Mapping[str, Any] | None:
    """Fill the unknown fields of one dictionary from another.

    Args:
        first: Its values win where they are not None.
        second: Gives the others.

    Returns:
        A new dictionary with all fields; the other argument itself where one is None.
    """
    if first is None or second is None:
        return second if first is None else first
    return {field: second.get(field) if first.get(field) is None else first.get(field) for field in FIELDS}


def get_metadata(
    beatmap_metadata: Mapping[str, Any] | None = None,
    beatmap: Beatmap | None = None,
    audio_samples: NDArray[np.floating] | None = None,
    sampling_rate: int | None = None,
    speed: float = 1.0,
    song_position: float | None = None,
    *,
    song_length: float | None = None,
) -> CM3PMetadata:
    """Collect the metadata of a beatmap from the map, its audio and the row of a data set.

    As in the original, ``song_length`` is 0, not unknown, without a map and without audio: the released models saw it
    so in training.

    Args:
        beatmap_metadata: Row of a data set, with the columns ``ModeInt``, ``Cs``, ``StarRating`` (seven values),
            ``SubmittedDate``, ``Status``, ``UserId`` and ``TopTagIds``; columns may be missing or null.
        beatmap: The map.
        audio_samples: (n,) samples of the song.
        sampling_rate: Rate of ``audio_samples`` in Hz.
        speed: Speed that the difficulty is taken at.
        song_position: Where a window starts, 0 to 1.
        song_length: Length of the song in seconds, where it is known already.

    Returns:
        All fields of :class:`CM3PMetadata`.
    """
    row = beatmap_metadata if beatmap_metadata is not None else {}

    def column(name: str) -> Any:
        value = row.get(name)
        return None if is_null(value) else value

    mode = beatmap.mode if beatmap is not None else column("ModeInt")
    metadata = CM3PMetadata(
        difficulty=_difficulty(column("StarRating"), speed),
        year=_year(column("SubmittedDate")),
        mode=mode,
        status=column("Status"),
        mapper=column("UserId"),
        cs=(beatmap.circle_size if beatmap is not None else column("Cs")) if mode in (OSU, CATCH) else None,
        hitsounded=None,
        song_length=get_song_length(audio_samples, sampling_rate, beatmap)
        if song_length is None
        else song_length,
        song_position=song_position,
        global_sv=None,
        mania_keycount=None,
        hold_note_ratio=None,
        scroll_speed_ratio=None,
        tags=_tags(column("TopTagIds")),
    )
    if beatmap is None:
        return metadata
    objects = beatmap.hit_objects
    metadata["hitsounded"] = any(hit_object.hit_sound != 0 for hit_object in objects)
    if mode in (OSU, CATCH):
        metadata["global_sv"] = beatmap.slider_multiplier
    if mode == MANIA:
        metadata["mania_keycount"] = int(beatmap.circle_size)
        if objects:
            metadata["hold_note_ratio"] = sum(isinstance(item, Hold) for item in objects) / len(objects)
    if mode in (TAIKO, MANIA) and objects:
        metadata["scroll_speed_ratio"] = _scroll_speed_changes(beatmap) / _distinct_times(beatmap)
    return metadata


def _difficulty(star_ratings: Any, speed: float) -> float | None:
    """Star rating at a speed, linear between the given ones."""
    if star_ratings is None or len(star_ratings) != len(STAR_RATING_SPEEDS):
        return None
    import numpy as np

    ratings = [float("nan") if is_null(rating) else float(rating) for rating in star_ratings]
    value = float(np.interp(speed, STAR_RATING_SPEEDS, ratings))
    return None if is_null(value) else value


def _year(date: Any) -> int | None:
    """Year of a date, a time stamp, or a text that starts with the year."""
    if date is None:
        return None
    if hasattr(date, "year"):
        return int(date.year)
    digits = str(date)[:4]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) == 4 else None


def _tags(tags: Any) -> list[int | str] | None:
    return None if tags is None else [tag for tag in tags if not is_null(tag)]


def _scroll_speed_changes(beatmap: Beatmap) -> int:
    """Number of inherited points whose scroll speed differs from the one before."""
    changes, previous = 0, None
    for point in beatmap.timing_points:
        inherited = not point.uninherited
        speed = 1.0
        if inherited:
            speed = -100 / point.beat_length_ms if point.beat_length_ms else 1.0
            changes += previous is not None and speed != previous
        previous = speed
    return changes


def _distinct_times(beatmap: Beatmap) -> int:
    """Number of runs of objects at the same time."""
    times = [hit_object.time_ms for hit_object in beatmap.hit_objects]
    return 1 + sum(one != other for one, other in pairwise(times))
