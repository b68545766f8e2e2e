"""Events of a beatmap as the tokenizer takes them: one :class:`Group` per event."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class EventType(StrEnum):
    """Kinds of events, in the order of their token ids."""

    CIRCLE = "circle"
    SPINNER = "spinner"
    SPINNER_END = "spinner_end"
    SLIDER_HEAD = "slider_head"
    BEZIER_ANCHOR = "bezier_anchor"
    PERFECT_ANCHOR = "perfect_anchor"
    CATMULL_ANCHOR = "catmull_anchor"
    RED_ANCHOR = "red_anchor"
    LAST_ANCHOR = "last_anchor"
    SLIDER_END = "slider_end"
    REPEAT_END = "repeat_end"
    BEAT = "beat"
    MEASURE = "measure"
    TIMING_POINT = "timing_point"
    KIAI_ON = "kiai_on"
    KIAI_OFF = "kiai_off"
    HOLD_NOTE = "hold_note"
    HOLD_NOTE_END = "hold_note_end"
    SCROLL_SPEED_CHANGE = "scroll_speed_change"
    DRUMROLL = "drumroll"
    DRUMROLL_END = "drumroll_end"
    DENDEN = "denden"
    DENDEN_END = "denden_end"

    # The hash of an Enum is a Python function; the tokenizer looks up thousands of events.
    __hash__ = str.__hash__


EVENT_TYPES_WITH_NEW_COMBO = (EventType.CIRCLE, EventType.SLIDER_HEAD)
"""Events that can start a new combo."""


@dataclass(slots=True)
class Group:
    """One event and what belongs to it.

    Args:
        event_type: Kind of event.
        time: In ms from the start of the song.
        has_time: Whether the time is written; false for the control points of a slider.
        snapping: Smallest beat divisor (1 to 16) that the time lies on, 0 for none of them.
        distance: From the previous position, in osu! pixels.
        x: Horizontal position in osu! pixels.
        y: Vertical position in osu! pixels.
        mania_column: Column in osu!mania, from 1.
        new_combo: Whether a new combo starts here.
        hitsounds: Per hit sound, the bits of whistle (2), finish (4) and clap (8).
        samplesets: Per hit sound, the sample set, 1 to 3.
        additions: Per hit sound, the sample set of the additions, 1 to 3.
        volumes: Per hit sound, the volume, 0 to 100.
        scroll_speed: Slider velocity, or scroll speed in osu!taiko and osu!mania.
        object_index: Which hit object of the map it belongs to; None for events of timing points. Not compared.
    """

    event_type: EventType
    time: int
    has_time: bool = False
    snapping: int | None = None
    distance: int | None = None
    x: float | None = None
    y: float | None = None
    mania_column: int | None = None
    new_combo: bool = False
    hitsounds: list[int] = field(default_factory=list)
    samplesets: list[int] = field(default_factory=list)
    additions: list[int] = field(default_factory=list)
    volumes: list[int] = field(default_factory=list)
    scroll_speed: float | None = None
    object_index: int | None = field(default=None, compare=False, repr=False)
