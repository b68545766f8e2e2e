"""Options of the event parser."""

from __future__ import annotations

from dataclasses import dataclass

from pentatonic.errors import ConfigError


@dataclass
class ParserOptions:
    """Which events and values the parser makes; see :class:`~cm3p.events.parser.CM3PBeatmapParser`.

    Not frozen, for it is a section of the training's configuration too.
    """

    add_timing: bool = True
    add_snapping: bool = True
    add_timing_points: bool = True
    add_hitsounds: bool = True
    add_distances: bool = True
    add_positions: bool = True
    add_kiai: bool = True
    add_sv: bool = True
    add_mania_sv: bool = True
    mania_bpm_normalized_scroll_speed: bool = True
    slider_version: int = 2
    mania_columns: bool = False
    exact_median_beat_length: bool = False

    def __post_init__(self) -> None:
        if self.slider_version not in (1, 2):
            raise ConfigError(f"slider_version is {self.slider_version}; allowed: 1, 2")
