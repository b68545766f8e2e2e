"""Timing points: tempo, slider and scroll speed, volume, kiai."""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass, field

from beatmap_generator.music import Piece, Section
from beatmap_generator.style import Style
from cm3p.beatmap import TimingPoint
from cm3p.beatmap.objects import MANIA, TAIKO

_KIAI = 1
_SPEEDS = (0.6, 0.75, 0.85, 1.15, 1.3, 1.5)
_SCROLL_SPEEDS = (0.5, 0.7, 0.8, 0.9, 1.1, 1.2, 1.4)


@dataclass
class TimingPlan:
    """Timing points of a map.

    Args:
        points: In order of time.
        beats: Where speeds change.
        speeds: Speed factor from there on.
    """

    points: list[TimingPoint] = field(default_factory=list)
    beats: list[float] = field(default_factory=list)
    speeds: list[float] = field(default_factory=list)

    def speed_at(self, beat: float) -> float:
        """Return the speed factor at a beat."""
        return self.speeds[max(0, bisect_right(self.beats, beat + 1e-6) - 1)]


def plan_timing(piece: Piece, style: Style, rng: random.Random) -> TimingPlan:
    """Return a red line for every tempo, and inherited lines for sections and for bars with another speed."""
    plan = TimingPlan()
    tempo = dict(piece.tempo)
    speeds = _SCROLL_SPEEDS if style.mode in (TAIKO, MANIA) else _SPEEDS
    previous: tuple[float, int, bool] | None = None
    for bar in range(int(piece.end / piece.meter)):
        beat = float(bar * piece.meter)
        section = piece.section_at(beat)
        speed = 1.0
        if section.intensity and rng.random() < style.sv_changes:
            speed = rng.choice(speeds[len(speeds) // 2 :] if section.intensity > 0.8 else speeds)
        kiai, volume = _is_kiai(style, section, beat), _volume(style, section)
        if beat in tempo:
            plan.points.append(_point(piece, style, beat, tempo[beat], volume, kiai, uninherited=True))
        changed = (speed, volume, kiai) != previous and beat not in tempo  # a red line says all but the speed
        if changed or (beat in tempo and speed != 1):
            plan.points.append(_point(piece, style, beat, -100 / speed, volume, kiai, uninherited=False))
        previous = speed, volume, kiai
        plan.beats.append(beat)
        plan.speeds.append(speed)
    return plan


def _is_kiai(style: Style, section: Section, beat: float) -> bool:
    late = style.persona.kiai != "late" or beat >= (section.start + section.end) / 2
    return style.kiai and section.kiai and late


def _volume(style: Style, section: Section) -> int:
    if style.status == "graveyard" and style.persona.id % 2:
        return style.volume
    return max(20, round(style.volume * (0.6 + 0.4 * section.intensity) / 5) * 5)


def _point(
    piece: Piece, style: Style, beat: float, length_ms: float, volume: int, kiai: bool, *, uninherited: bool
) -> TimingPoint:
    time_ms = float(round(piece.time_ms(beat)))
    effects = _KIAI if kiai else 0
    sample_set = style.persona.sample_set
    return TimingPoint(time_ms, round(length_ms, 9), piece.meter, sample_set, 0, volume, uninherited, effects)
