"""What a map is like, and how that follows from difficulty, ruleset, persona, year and status.

*Difficulty* (a star rating to aim at) sets objects per second, the finest snap (1/1 below 1.9 stars, 1/2 below 3, then
1/4; thirds and sixths in ternary pieces), distances, AR, OD, CS, HP, the share of sliders (less as maps get harder) and
slider speed. Fast tempo and wide spacing make maps harder, so density and distances are corrected for both, by factors
that were fitted to star ratings of generated maps.

*Persona* (:mod:`beatmap_generator.personas`) sets habits: shapes, turns, symmetry, stacks, combos, hit sounds, kiai.

*Year*, t = 0 in 2007 to 1 in 2023, drifts: distances x0.8 to x1.15; AR -0.8 to +0.3; catmull sliders until 2009; lines
and zigzags give way to curves and waves (weights x1.6 to x0.5 and x0.4 to x1.6); bars with a changed slider speed x0.2
to x1.6; share of sounded objects 0.45 to 0.95; volumes 100 to 60 %; CS, AR, OD and HP in whole numbers until 2011; file
format 3 in 2007, 9 until 2012, 14 from 2013; stack leniency 0.9 to 0.4; kiai from 2009; breaks of the music are
kept, but filled with a spinner until 2010.

*Status*: ``ranked`` is clean; ``loved`` is exaggerated (distances x1.2, speed changes x1.5); ``graveyard`` has 8 % of
its objects off the snap by 4 to 12 ms, distances that vary by 40 %, half of the hit sounds, no kiai, and often no
changes of volume.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise

from beatmap_generator.personas import Persona
from cm3p.beatmap.objects import CATCH, MANIA, OSU, TAIKO

MODE_NAMES = {OSU: "osu", TAIKO: "taiko", CATCH: "fruits", MANIA: "mania"}
STATUSES = {1: "ranked", 4: "loved", -2: "graveyard"}
FIRST_YEAR, LAST_YEAR = 2007, 2023
STARS = {OSU: (1.2, 7.0), TAIKO: (1.4, 6.0), CATCH: (1.2, 6.5), MANIA: (1.0, 5.2)}
_LEVEL_NAMES = {
    OSU: ("Easy", "Normal", "Hard", "Insane", "Extra", "Extreme"),
    TAIKO: ("Kantan", "Futsuu", "Muzukashii", "Oni", "Inner Oni", "Ura Oni"),
    CATCH: ("Cup", "Salad", "Platter", "Rain", "Overdose", "Deluge"),
    MANIA: ("Easy", "Normal", "Hard", "Insane", "Another", "Black Another"),
}
# (stars, AR) of maps of our time.
_APPROACH_RATES = ((1.2, 3.0), (2.0, 5.0), (3.0, 7.2), (4.0, 8.2), (5.0, 9.0), (6.0, 9.4), (7.0, 9.8))
# Exponents of the step's length and of the spacing, and a factor.
_CORRECTIONS = {
    OSU: (0.8, 0.5, 1.0),
    TAIKO: (0.3, 0.0, 1.0),
    CATCH: (0.1, 1.0, 1.15),
    MANIA: (0.75, 0.0, 1.05),
}
_LEVEL_STARS = (2.0, 2.7, 4.0, 5.3, 6.5)


@dataclass(frozen=True, slots=True)
class Style:
    """All parameters of a map.

    Args:
        mode: Ruleset, 0 to 3.
        stars: Star rating that is aimed at.
        persona: Whose habits it has.
        year: 2007 to 2023.
        status: ``ranked``, ``loved`` or ``graveyard``.
        density: Objects per second in a section of middling intensity.
        finest: Finest level of the grid: 0 beats, 1 halves, 2 quarters.
        min_gap: Shortest gap between objects in grid steps of 1/4 beat (1/6 in ternary pieces).
        streams: Share of objects in runs at the finest level.
        sliders: Share of sliders.
        repeats: Share of sliders that repeat.
        distance: Distance of objects half a second apart, in osu! pixels.
        stream_distance: Distance within runs.
        distance_noise: Relative deviation of distances.
        shapes: Weights of slider shapes: line, arc, curve, zigzag, wave, catmull.
        slider_multiplier: Of the map.
        sv_changes: Share of bars with their own slider or scroll speed.
        hit_sounds: Share of the sounds that the habit asks for.
        volume: In percent, of a loud section.
        kiai: Whether there is kiai time.
        keys: Columns in mania.
        unsnapped: Share of objects off the snap.
        circle_size: CS; in mania the keys.
        approach_rate: AR.
        overall_difficulty: OD.
        hp_drain_rate: HP.
        stack_leniency: Of the map.
        version: File format.
    """

    mode: int
    stars: float
    persona: Persona
    year: int
    status: str
    density: float
    finest: int
    min_gap: int
    streams: float
    sliders: float
    repeats: float
    distance: float
    stream_distance: float
    distance_noise: float
    shapes: tuple[float, ...]
    slider_multiplier: float
    sv_changes: float
    hit_sounds: float
    volume: int
    kiai: bool
    keys: int
    unsnapped: float
    circle_size: float
    approach_rate: float
    overall_difficulty: float
    hp_drain_rate: float
    stack_leniency: float
    version: int

    @property
    def level_name(self) -> str:
        """Customary name of the difficulty."""
        scale = 0.8 if self.mode == MANIA else 1.0
        return _LEVEL_NAMES[self.mode][sum(self.stars >= scale * limit for limit in _LEVEL_STARS)]


def make_style(
    mode: int, stars: float, persona: Persona, year: int, status: str, seed: str, step_ms: float
) -> Style:
    """Return the parameters of a map.

    Args:
        mode: Ruleset, 0 to 3.
        stars: Star rating to aim at.
        persona: Whose habits it has.
        year: 2007 to 2023.
        status: ``ranked``, ``loved`` or ``graveyard``.
        seed: For the small deviations between maps of one kind.
        step_ms: Milliseconds per step of the piece's grid, 1/4 of a beat or 1/6.
    """
    rng = random.Random(f"style/{seed}")
    t = (year - FIRST_YEAR) / (LAST_YEAR - FIRST_YEAR)
    graveyard, loved = status == "graveyard", status == "loved"
    low, high = STARS[mode]
    level = (stars - low) / (high - low)
    spacing = persona.spacing * (0.8 + 0.35 * t) * (1.2 if loved else 1.0)
    effort = stars * _effort(mode, spacing, step_ms)
    shapes = [weight * factor for weight, factor in zip(persona.shapes, _shape_drift(t), strict=True)]
    catmull = 0.6 * sum(shapes) if year <= 2009 else 0.0

    def setting(value: float, digits: int = 1) -> float:
        rounded = round(min(10.0, max(0.0, value + rng.gauss(0, 0.15))), 0 if year <= 2011 else digits)
        return float(rounded)

    keys = rng.choice((4, 4, 4, 7, 7, 5, 6))
    approach_rate = _interpolate(stars, *_APPROACH_RATES)
    return Style(
        mode=mode,
        stars=stars,
        persona=persona,
        year=year,
        status=status,
        density=_density(mode, effort) * rng.uniform(0.95, 1.05),
        finest=0 if stars < 1.7 else 1 if stars < 2.9 else 2,
        min_gap=4 if stars < 1.7 else 2 if stars < 2.9 else 1,
        streams=0.0 if stars < 2.9 else persona.streams * min(1.0, (stars - 2.4) / 1.5),
        sliders=min(0.9, max(0.08, (0.78 - 0.3 * level) * persona.sliders)),
        repeats=min(0.5, persona.repeats + 0.5 * max(0.0, 0.6 - level)),
        distance=spacing * _distance(mode, effort),
        stream_distance=spacing * (14 + 7 * effort),
        distance_noise=0.4 if graveyard else 0.04,
        shapes=(*shapes, catmull),
        slider_multiplier=round(0.85 + 0.14 * stars + 0.25 * t + rng.gauss(0, 0.05), 1 if t < 0.5 else 2),
        sv_changes=min(0.9, persona.sv_changes * (0.2 + 1.4 * t) * (1.5 if loved else 1.0)),
        hit_sounds=(0.45 + 0.5 * t) * (0.5 if graveyard else 1.0),
        volume=100 - 5 * round(8 * t),
        kiai=persona.kiai != "never" and year >= 2009 and not graveyard,
        keys=keys,
        unsnapped=0.08 if graveyard else 0.0,
        circle_size=float(keys)
        if mode == MANIA
        else setting(2.6 + 1.7 * level + (0.8 * (1.0 - persona.spacing))),
        approach_rate=setting(approach_rate - 0.8 + 1.1 * t),
        overall_difficulty=setting(approach_rate - 0.7),
        hp_drain_rate=setting(3 + 3.2 * level),
        stack_leniency=round(0.9 - 0.5 * t, 1),
        version=3 if year == FIRST_YEAR else 9 if year <= 2012 else 14,
    )


def _shape_drift(t: float) -> tuple[float, ...]:
    """Factors on line, arc, curve, zigzag and wave."""
    old, new = 1.6 - 1.1 * t, 0.4 + 1.2 * t
    return (old, 1.0, new, old, new)


def _effort(mode: int, spacing: float, step_ms: float) -> float:
    """Factor on the stars that density and distances are made for, so that the map gets the stars that it should."""
    tempo_exponent, spacing_exponent, factor = _CORRECTIONS[mode]
    return factor * (step_ms / 100) ** tempo_exponent / spacing**spacing_exponent


def _density(mode: int, effort: float) -> float:
    """Objects per second."""
    if mode == TAIKO:
        return 1.9 * effort - 1.2
    if mode == CATCH:
        return 1.0 + 0.65 * effort
    if mode == MANIA:
        return 3.4 * effort - 1.8
    return 0.95 * effort - 0.5 - 0.3 * max(0.0, effort - 4)


def _distance(mode: int, effort: float) -> float:
    """Distance of objects half a second apart, in osu! pixels."""
    if mode == CATCH:
        return 70 + 48 * effort
    return 80 + 34 * effort + 16 * max(0.0, effort - 4)


def _interpolate(x: float, *points: tuple[float, float]) -> float:
    if x <= points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in pairwise(points):
        if x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return points[-1][1]
