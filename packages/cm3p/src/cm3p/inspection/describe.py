"""What the reader and the tokenizer make of one map."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from cm3p.beatmap import RULESETS, Circle, HitObject, Hold, MapEntry, Slider, Spinner
from cm3p.embedding.rows import row_of
from cm3p.events.groups import Group
from cm3p.events.song_length import get_song_length
from cm3p.processor import CM3PProcessor
from cm3p.windows import MAX_WINDOWS, groups_in_windows, window_starts

_KINDS: dict[type[HitObject], str] = {
    Circle: "circles",
    Slider: "sliders",
    Spinner: "spinners",
    Hold: "holds",
}


@dataclass(frozen=True)
class Event:
    """An event with its tokens.

    Args:
        time_ms: From the start of the song.
        type: Kind of event.
        tokens: What it becomes.
    """

    time_ms: int
    type: str
    tokens: list[str]


@dataclass(frozen=True)
class Window:
    """A window of a map.

    Args:
        number: From 0.
        start_s: In seconds.
        length: Tokens, those around the events included.
        cut: Tokens beyond the longest sequence of the model, which it does not see.
        events: Its events with their tokens.
    """

    number: int
    start_s: float
    length: int
    cut: int
    events: list[Event]


def describe_map(entry: MapEntry) -> dict[str, Any]:
    """Return what the reader found in a map, as JSON values."""
    beatmap = entry.beatmap
    assert beatmap is not None
    row = row_of(entry)
    counts = Counter(_KINDS[type(each)] for each in beatmap.hit_objects)
    return {
        "path": entry.where,
        "format": beatmap.version,
        "mode": RULESETS[beatmap.mode],
        "artist": beatmap.artist,
        "title": beatmap.title,
        "version": beatmap.version_name,
        "creator": beatmap.creator,
        "id": row["Id"],
        "set_id": row["BeatmapSetId"],
        "objects": {name: counts[name] for name in _KINDS.values() if counts[name]},
        "max_combo": row.get("MaxCombo"),
        "timing_points": len(beatmap.timing_points),
        "bpm": row.get("Bpm"),
        "length_s": get_song_length(beatmap=beatmap),
        "hp": beatmap.hp_drain_rate,
        "cs": beatmap.circle_size,
        "od": beatmap.overall_difficulty,
        "ar": beatmap.approach_rate,
        "audio": None if entry.audio is None else str(entry.audio),
        "audio_note": entry.audio_note,
        "sha256": entry.sha256,
        "warnings": [
            {"line": each.line, "column": each.column, "message": each.message, "text": each.text}
            for each in beatmap.warnings
        ],
    }


def windows_of(entry: MapEntry, processor: CM3PProcessor, max_windows: int = MAX_WINDOWS) -> list[Window]:
    """Return the windows of a map without audio.

    Raises:
        TooManyWindows: There are more than ``max_windows``.
        InputError: The map cannot be encoded.
    """
    beatmap = entry.beatmap
    assert beatmap is not None
    options = processor.default_kwargs["beatmap_kwargs"]
    length_s = get_song_length(beatmap=beatmap)
    window_s, stride_s = options["window_length_sec"], options["window_stride_sec"]
    starts_s = window_starts(length_s, stride_s, options["min_window_length_sec"], max_windows)
    if not starts_s:
        return []
    groups = processor.beatmap_parser.parse_beatmap(beatmap, 1.0, length_s)
    windows = groups_in_windows(groups, starts_s, window_s, stride_s)
    longest = options["max_length"]
    return [
        _window(number, start_s, events, processor, longest)
        for number, (start_s, events) in enumerate(zip(starts_s, windows, strict=True))
    ]


def _window(
    number: int, start_s: float, groups: list[Group], processor: CM3PProcessor, longest: int | None
) -> Window:
    tokenizer = processor.beatmap_tokenizer
    around = len(tokenizer.encode([]))
    first = around - 1  # all but [EOS] stand before the events
    events = [
        Event(group.time, str(group.event_type), tokenizer.tokenize([group], start_s * 1000)[first:-1])
        for group in groups
    ]
    length = around + sum(len(event.tokens) for event in events)
    return Window(number, start_s, length, max(0, length - longest) if longest else 0, events)
