"""Objects of osu! maps: positions by distance and turn, sliders that follow the phrases."""

from __future__ import annotations

import cmath
import math
import random
from dataclasses import dataclass, field

from beatmap_generator.hitsounds import HitSounds
from beatmap_generator.music import Piece
from beatmap_generator.rhythm import Event, make_events
from beatmap_generator.rulesets.shapes import WIDTH, inside, make_slider
from beatmap_generator.style import Style
from beatmap_generator.timing import TimingPlan
from cm3p.beatmap import Circle, HitObject, Slider
from cm3p.beatmap.objects import CIRCLE_BIT, NEW_COMBO_BIT

_TURNS = {"flow": 0.6, "sharp": 2.5, "square": math.pi / 2, "triangle": 2.09, "star": 2.51, "line": 0.15}
_ALTERNATING = ("sharp", "line")
_CANDIDATES = 24
_LONGEST_SLIDER = 420.0


@dataclass
class Placer:
    """Places objects one after the other.

    Args:
        style: Distances, turns, stacks, symmetry.
        rng: Deviations.
        at: Where the last object ended.
        heading: Where the last movement went, in radians.
        side: Sense of the turns, 1 or -1.
        recent: Where the last objects were.
        combo_head: Where the combo started.
    """

    style: Style
    rng: random.Random
    at: complex = 256 + 192j
    heading: float = 0.0
    side: int = 1
    recent: list[complex] = field(default_factory=list)
    combo_head: complex = 200 + 150j

    def next_position(self, distance: float, *, in_run: bool, new_combo: bool) -> complex:
        """Return whole coordinates about so far away from the last object."""
        persona, rng = self.style.persona, self.rng
        if new_combo:
            self.side = rng.choice((-1, 1)) if persona.turn == "flow" else self.side
            if rng.random() < persona.mirror:
                mirrored = complex(WIDTH - self.combo_head.real, self.combo_head.imag)
                if abs(mirrored - self.at) <= 1.5 * distance:
                    return self._move(mirrored, new_combo)
        if not new_combo and not in_run and rng.random() < persona.stacks:
            return self._move(self.at, new_combo)
        turn = 0.12 if in_run else _TURNS[persona.turn]
        if persona.turn in _ALTERNATING and not in_run:
            self.side = -self.side
        preferred = self.heading + self.side * turn + rng.gauss(0, 0.12)
        distance = max(4.0, distance * (1 + rng.gauss(0, self.style.distance_noise)))
        return self._move(self._best(preferred, distance, in_run), new_combo)

    def _best(self, preferred: float, distance: float, in_run: bool) -> complex:
        best, best_cost = 256 + 192j, math.inf
        for shrink in (1.0, 0.75, 0.5, 0.25):
            for index in range(_CANDIDATES):
                turn = (index + 1) // 2 * (1 if index % 2 else -1) * 2 * math.pi / _CANDIDATES
                point = self.at + cmath.rect(shrink * distance, preferred + turn)
                if not inside(point, 20):
                    continue
                crowded = 0.0 if in_run else sum(abs(point - other) < 45 for other in self.recent[-4:-1])
                at_border = 0.0 if inside(point, 60) else 0.6
                cost = abs(turn) + crowded + at_border + 0.002 * abs(point - (256 + 192j))
                if cost < best_cost:
                    best, best_cost = point, cost
            if best_cost < math.inf:
                break
        return best

    def _move(self, point: complex, new_combo: bool) -> complex:
        point = complex(round(point.real), round(point.imag))
        if point != self.at:
            self.heading = cmath.phase(point - self.at)
        self.at = point
        self.recent = [*self.recent[-5:], point]
        if new_combo:
            self.combo_head = point
        return point

    def follow(self, end: complex) -> None:
        """Go on from the end of a slider."""
        if end != self.at:
            self.heading = cmath.phase(end - self.at)
        self.at = end


def osu_objects(piece: Piece, style: Style, plan: TimingPlan, rng: random.Random) -> list[HitObject]:
    """Return the circles and sliders of a map."""
    sounds = HitSounds(piece, style, rng)
    placer = Placer(style, rng)
    objects: list[HitObject] = []
    previous: Event | None = None
    for event in make_events(piece, style, rng):
        new_combo = starts_combo(event, previous, piece, style)
        head = placer.next_position(
            _distance(event, previous, piece, style),
            in_run=event.in_run and previous is not None,
            new_combo=new_combo,
        )
        placed = slider_at(event, head, placer.heading, piece, style, plan, sounds, rng)
        if placed is None:
            event.beats = 0.0
            item: HitObject = Circle(
                head.real, head.imag, _time(piece, event), CIRCLE_BIT, sounds.at(event.slot)
            )
        else:
            item, end = placed
            placer.follow(end)
        item.type |= NEW_COMBO_BIT if new_combo else 0
        objects.append(item)
        previous = event
    return objects


def starts_combo(event: Event, previous: Event | None, piece: Piece, style: Style) -> bool:
    """Whether a combo ends before an event: every so many bars, and after a long gap."""
    if previous is None or event.beat - previous.end > 2 * piece.meter:
        return True
    beats = max(1.0, style.persona.combo_bars * piece.meter * (1.0 if style.stars < 3 else 0.5))
    return event.beat // beats > previous.beat // beats


def slider_at(
    event: Event,
    head: complex,
    heading: float,
    piece: Piece,
    style: Style,
    plan: TimingPlan,
    sounds: HitSounds,
    rng: random.Random,
) -> tuple[Slider, complex] | None:
    """Return the slider of an event and where its last travel ends; None for a circle, or where none fits."""
    if not event.beats:
        return None
    speed = 100 * style.slider_multiplier * plan.speed_at(event.beat)
    while event.beats * speed > _LONGEST_SLIDER:
        event.beats, event.tail, event.repeat = event.beats / 2, None, 1
    shortest = 1 / piece.steps
    event.beats = round(event.beats * piece.steps) / piece.steps
    if event.beats < shortest or piece.changes_tempo(event.beat, event.end):
        return None
    placed = make_slider(head, heading, event.beats * speed, _time(piece, event), style, rng)
    if placed is None:
        return None
    slider, end = placed
    slider.repeat = event.repeat
    first, last = sounds.at(event.slot), sounds.at(event.tail) if event.tail else 0
    slider.hit_sound = first
    slider.edge_sounds = [first, *[0] * (event.repeat - 1), last]
    slider.edge_sets = ["0:0"] * (event.repeat + 1)
    return slider, end if event.repeat % 2 else head


def _time(piece: Piece, event: Event) -> float:
    return float(round(piece.time_ms(event.beat)))


def _distance(event: Event, previous: Event | None, piece: Piece, style: Style) -> float:
    """Distance to the last object's end: further for longer gaps, higher intensity, and after sliders less."""
    if previous is None:
        return style.distance
    gap_s = (piece.time_ms(event.beat) - piece.time_ms(previous.end)) / 1000
    intensity = piece.section_at(event.beat).intensity
    if event.in_run and previous.in_run:
        return style.stream_distance * (1 + 0.4 * style.persona.curve * (intensity - 0.6))
    reach = style.distance * (1 + style.persona.curve * (intensity - 0.6))
    slider = 0.8 if previous.beats else 1.0
    # Easy maps keep distances proportional to time; hard ones jump as far in a short gap.
    power = 0.9 if style.stars < 3 else 0.45
    return min(330.0, slider * reach * (min(gap_s, 1.0) / 0.5) ** power)
