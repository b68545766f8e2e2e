"""What an ``.osu`` file says, as plain objects.

Units: times in milliseconds of the audio, positions in osu! pixels (the playfield is 512 x 384), lengths of sliders
in osu! pixels. Numbers are kept as the file has them; nothing is rounded, stacked or shifted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

OSU: Final = 0
TAIKO: Final = 1
CATCH: Final = 2
MANIA: Final = 3
RULESETS: Final = ("osu", "taiko", "fruits", "mania")
"""Names of the rulesets by number, as the web site has them."""

CIRCLE_BIT: Final = 1
SLIDER_BIT: Final = 2
NEW_COMBO_BIT: Final = 4
SPINNER_BIT: Final = 8
HOLD_BIT: Final = 128

DEFAULT_SAMPLE: Final = "0:0:0:0:"
FARTHEST: Final = 1e60  # coordinates and lengths, so that products of five are finite

Point = tuple[float, float]


@dataclass(slots=True, frozen=True)
class ReadWarning:
    """Something that was skipped or repaired while a file was read.

    Args:
        file: Name of the file, empty for a text.
        line: 1-based line number; 0 when it is about the whole file.
        column: 1-based column number.
        text: The line, cut to 200 characters.
        message: What is wrong, and what was done about it.
    """

    file: str
    line: int
    column: int
    text: str
    message: str

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        return f"{where}: {self.message}: {self.text!r}"


@dataclass(slots=True)
class TimingPoint:
    """One line of ``[TimingPoints]``.

    Args:
        time_ms: From when it holds.
        beat_length_ms: Milliseconds per beat; a negative number -v multiplies the slider speed by 100 / v.
        meter: Beats per measure.
        sample_set: 1 normal, 2 soft, 3 drum, 0 for the map's default.
        sample_index: Number of a custom sample set.
        volume: 0 to 100.
        uninherited: The flag of the file; see :meth:`cm3p.beatmap.timing.Timing.parent_of` for its effect.
        effects: Bit field; bit 0 is kiai.
    """

    time_ms: float
    beat_length_ms: float
    meter: int = 4
    sample_set: int = 0
    sample_index: int = 0
    volume: int = 100
    uninherited: bool = True
    effects: int = 0


@dataclass(slots=True)
class HitObject:
    """What all objects have.

    Args:
        x: Position.
        y: Position.
        time_ms: Start.
        type: Bit field of the file, combo bits included.
        hit_sound: Bit field: 2 whistle, 4 finish, 8 clap.
    """

    x: float
    y: float
    time_ms: float
    type: int
    hit_sound: int

    @property
    def new_combo(self) -> bool:
        """Whether the object starts a combo."""
        return bool(self.type & NEW_COMBO_BIT)


@dataclass(slots=True)
class Circle(HitObject):
    """A circle; a single note in mania.

    Args:
        sample: ``normal set:addition set:index:volume:file name``.
    """

    sample: str = DEFAULT_SAMPLE


@dataclass(slots=True, frozen=True)
class Segment:
    """One typed part of a slider's path.

    Args:
        kind: ``B``, ``C``, ``L`` or ``P``, as in the file.
        degree: Of a B-spline; 0 for Bezier curves and all other kinds.
        first: Index of its first control point. It ends where the next one starts, at a point that both have.
    """

    kind: str
    degree: int
    first: int


@dataclass(slots=True)
class Slider(HitObject):
    """A slider.

    Args:
        curve: The type in the file: ``B``, ``C``, ``L``, ``P``, or ``B3`` and so on for a B-spline; the first one of
            several.
        kind: ``B``, ``C``, ``L`` or ``P`` for the whole curve: ``P`` only for three points that are not on a line
            (else ``B``).
        points: Control points, the head first.
        repeat: How often it is travelled: 1 for once.
        length: Of the path, for one travel.
        segments: The typed segments when there are several or a B-spline; else empty.
        edge_sounds: Hit sound bit fields of head, repeats and end; may be short or empty.
        edge_sets: ``normal set:addition set`` of head, repeats and end; may be short or empty.
        sample: As for circles.
    """

    curve: str = "L"
    kind: str = "L"
    points: list[Point] = field(default_factory=list)
    repeat: int = 1
    length: float = 0.0
    segments: list[Segment] = field(default_factory=list)
    edge_sounds: list[int] = field(default_factory=list)
    edge_sets: list[str] = field(default_factory=list)
    sample: str = DEFAULT_SAMPLE


@dataclass(slots=True)
class Spinner(HitObject):
    """A spinner; a denden in taiko, a banana shower in catch.

    Args:
        end_time_ms: End; a file may have it before the start.
        sample: As for circles.
    """

    end_time_ms: float = 0.0
    sample: str = DEFAULT_SAMPLE


@dataclass(slots=True)
class Hold(HitObject):
    """A hold note of mania.

    Args:
        end_time_ms: End; a file may have it before the start.
        sample: As for circles.
    """

    end_time_ms: float = 0.0
    sample: str = DEFAULT_SAMPLE


@dataclass(slots=True)
class Break:
    """A break without objects."""

    start_ms: float
    end_ms: float


@dataclass(slots=True)
class Beatmap:
    """A map: one difficulty of one song.

    Args:
        version: Of the file format, 3 to 128.
        mode: Ruleset: 0 osu!, 1 taiko, 2 catch, 3 mania.
        version_name: Name of the difficulty.
        timing_points: In the order of the file, which may not be that of time.
        hit_objects: In the order of the file, which may not be that of time.
        breaks: Breaks of ``[Events]``.
        header: Keys and texts of ``[General]``, ``[Editor]``, ``[Metadata]`` and ``[Difficulty]`` as they are in the
            file; empty for a map that does not come from a file. The fields above win when the map is written.
        lines: Lines of all sections that are not in ``header`` nor objects or timing points: events (breaks
            included, with their indentation), colours, unknown ones.
        warnings: What was skipped or repaired; not compared.
    """

    version: int = 14
    mode: int = OSU
    audio_filename: str = ""
    title: str = ""
    title_unicode: str = ""
    artist: str = ""
    artist_unicode: str = ""
    creator: str = ""
    version_name: str = ""
    source: str = ""
    tags: list[str] = field(default_factory=list)
    beatmap_id: int | None = None
    beatmap_set_id: int | None = None
    hp_drain_rate: float = 5.0
    circle_size: float = 5.0
    overall_difficulty: float = 5.0
    approach_rate: float = 5.0
    slider_multiplier: float = 1.4
    slider_tick_rate: float = 1.0
    stack_leniency: float = 0.0
    timing_points: list[TimingPoint] = field(default_factory=list)
    hit_objects: list[HitObject] = field(default_factory=list)
    breaks: list[Break] = field(default_factory=list)
    header: dict[str, dict[str, str]] = field(default_factory=dict)
    lines: dict[str, list[str]] = field(default_factory=dict)
    warnings: list[ReadWarning] = field(default_factory=list, compare=False)
