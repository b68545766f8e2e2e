"""Beatmaps to lists of events."""

from __future__ import annotations

import math
from dataclasses import asdict, fields
from typing import Any

from cm3p.beatmap.errors import FormatError
from cm3p.beatmap.objects import MANIA, Beatmap, TimingPoint
from cm3p.beatmap.timing import Timing
from cm3p.events.groups import Group
from cm3p.events.merging import merge_groups
from cm3p.events.objects import ObjectEvents
from cm3p.events.options import ParserOptions
from cm3p.events.song_length import get_song_length
from cm3p.events.timing_events import TimingEvents
from cm3p.stored import StoredInOneFile
from pentatonic.errors import InputError, UsageError

_WITHOUT_TIMING_POINTS = TimingPoint(0.0, 1000.0)


class CM3PBeatmapParser(StoredInOneFile):
    """Turns beatmaps into lists of events.

    Args:
        add_timing: Beats and measures.
        add_snapping: Beat divisors of the times of objects, kiai and scroll speed changes.
        add_timing_points: Timing points instead of the first beats.
        add_hitsounds: Hit sounds and their volumes.
        add_distances: Distances between positions (osu!, osu!catch).
        add_positions: Positions (osu!, osu!catch).
        add_kiai: Starts and ends of kiai time.
        add_sv: Slider velocities.
        add_mania_sv: Changes of the scroll speed in osu!mania.
        mania_bpm_normalized_scroll_speed: Scroll speeds relative to the tempo that holds longest.
        slider_version: 2, or 1: control points have times of their own, and there is no last anchor.
        mania_columns: Columns of osu!mania. The original loses them, so its models have not seen any.
        exact_median_beat_length: Find the tempo that holds longest in milliseconds, as the game does; the original
            counts whole seconds within a day.
        kwargs: Other keys of a stored configuration; they change nothing.

    Raises:
        ConfigError: An option is out of range.
    """

    def __init__(
        self,
        add_timing: bool = True,
        add_snapping: bool = True,
        add_timing_points: bool = True,
        add_hitsounds: bool = True,
        add_distances: bool = True,
        add_positions: bool = True,
        add_kiai: bool = True,
        add_sv: bool = True,
        add_mania_sv: bool = True,
        mania_bpm_normalized_scroll_speed: bool = True,
        slider_version: int = 2,
        *,
        mania_columns: bool = False,
        exact_median_beat_length: bool = False,
        **kwargs: Any,
    ) -> None:
        self.options = ParserOptions(
            add_timing=add_timing,
            add_snapping=add_snapping,
            add_timing_points=add_timing_points,
            add_hitsounds=add_hitsounds,
            add_distances=add_distances,
            add_positions=add_positions,
            add_kiai=add_kiai,
            add_sv=add_sv,
            add_mania_sv=add_mania_sv,
            mania_bpm_normalized_scroll_speed=mania_bpm_normalized_scroll_speed,
            slider_version=slider_version,
            mania_columns=mania_columns,
            exact_median_beat_length=exact_median_beat_length,
        )

    def parse_beatmap(
        self, beatmap: Beatmap, speed: float = 1.0, song_length: float | None = None, *, strict: bool = False
    ) -> list[Group]:
        """Return the events of a beatmap, in the order of their times.

        Args:
            beatmap: The map.
            speed: All times are divided by it.
            song_length: Length of the song in seconds, up to which there are beats; None or 0: that of the map. As in
                the original it is a time of the map, not divided by ``speed``.
            strict: Raise where the original fails; else objects with faults are left out, and zero or undefined beat
                lengths and meters are passed over.

        Raises:
            UsageError: ``speed`` is not a finite number above 0.
            InputError: A time is not a finite number, or the map has more beats than are allowed.
            FormatError: The map has a fault, in strict mode.
        """
        if not (math.isfinite(speed) and speed > 0):
            raise UsageError(f"speed is {speed}; allowed: finite numbers above 0")
        try:
            return self._parse(beatmap, speed, song_length, strict)
        except (ArithmeticError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise (FormatError if strict else InputError)(
                f"the map cannot be turned into events: {error}"
            ) from error

    def _parse(self, beatmap: Beatmap, speed: float, song_length: float | None, strict: bool) -> list[Group]:
        options = self.options
        points = beatmap.timing_points if strict else beatmap.timing_points or [_WITHOUT_TIMING_POINTS]
        timing = Timing(points)
        groups = ObjectEvents(beatmap, timing, options, strict=strict).groups()
        events = TimingEvents(beatmap, timing, options, strict=strict)
        if beatmap.mode == MANIA and options.add_mania_sv:
            groups = merge_groups(list(events.scroll_speed_changes()), groups)
        if options.add_kiai:
            groups = merge_groups(list(events.kiai()), groups)
        if options.add_timing:
            length_s = song_length or get_song_length(beatmap=beatmap)
            groups = merge_groups(events.beats(int(length_s * 1000)), groups)
        if speed != 1:
            for group in groups:
                group.time = int(group.time / speed)
        return groups

    def to_dict(self) -> dict[str, Any]:
        """The content of the configuration file. Options that the original lacks are left out at their defaults."""
        defaults = {field.name: field.default for field in fields(ParserOptions)}
        ours = ("mania_columns", "exact_median_beat_length")
        options = {
            name: value
            for name, value in asdict(self.options).items()
            if name not in ours or value != defaults[name]
        }
        return {"feature_extractor_type": type(self).__name__, "processor_class": "CM3PProcessor", **options}
