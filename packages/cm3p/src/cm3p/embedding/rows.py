"""What a map says about itself, as a row of a file of embeddings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cm3p.beatmap import (
    RULESETS,
    Circle,
    Hold,
    LimitExceeded,
    MapEntry,
    Slider,
    Spinner,
    map_id,
    max_combo,
    set_id,
)
from cm3p.embedding.columns import HASH, Row, normalised


def row_of(entry: MapEntry, *known: Mapping[str, Any]) -> Row:
    """Return the row of a map: what is known of it, and for the rest what the file says.

    Args:
        entry: A map that was read.
        known: Rows of data sets; the first one with a value counts.

    Raises:
        InputError: A value of a row does not fit its column.
    """
    row = _of_file(entry)
    for given in reversed(known):
        row |= normalised(given)
    row[HASH] = entry.sha256
    return row


def _of_file(entry: MapEntry) -> Row:
    beatmap = entry.beatmap
    assert beatmap is not None
    objects = beatmap.hit_objects
    times_ms = [each.time_ms for each in objects if math.isfinite(each.time_ms)]
    beats_ms = (point.beat_length_ms for point in beatmap.timing_points)
    beat_ms = next((each for each in beats_ms if math.isfinite(each) and each > 0), None)
    folder = entry.path.stem if entry.member is not None else entry.path.parent.name
    return normalised(
        {
            "Id": map_id(beatmap, entry.sha256),
            "BeatmapSetId": set_id(beatmap, entry.sha256),
            "Artist": beatmap.artist or None,
            "ArtistUnicode": beatmap.artist_unicode or None,
            "Title": beatmap.title or None,
            "TitleUnicode": beatmap.title_unicode or None,
            "Creator": beatmap.creator or None,
            "Version": beatmap.version_name or None,
            "Source": beatmap.source or None,
            "Tags": " ".join(beatmap.tags) or None,
            "Mode": RULESETS[beatmap.mode],
            "ModeInt": beatmap.mode,
            "Cs": beatmap.circle_size,
            "Ar": beatmap.approach_rate,
            "Accuracy": beatmap.overall_difficulty,
            "Drain": beatmap.hp_drain_rate,
            "Bpm": None if beat_ms is None else 60_000 / beat_ms,
            "TotalLength": round((times_ms[-1] - times_ms[0]) / 1000) if times_ms else None,
            "CountCircles": sum(isinstance(each, Circle) for each in objects),
            "CountSliders": sum(isinstance(each, Slider | Hold) for each in objects),
            "CountSpinners": sum(isinstance(each, Spinner) for each in objects),
            "MaxCombo": _max_combo(entry),
            "AudioFile": beatmap.audio_filename or None,
            "BeatmapSetFolder": folder or None,
            "BeatmapFile": entry.path.name if entry.member is None else entry.member,
        }
    )


def _max_combo(entry: MapEntry) -> int | None:
    assert entry.beatmap is not None
    try:
        return max_combo(entry.beatmap)
    except LimitExceeded:
        return None
