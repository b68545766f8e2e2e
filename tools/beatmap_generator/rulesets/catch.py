"""Objects of catch maps: movement across the width, as far as the time allows or, in hard maps, farther."""

from __future__ import annotations

import math
import random

from beatmap_generator.hitsounds import HitSounds
from beatmap_generator.music import Piece
from beatmap_generator.rhythm import Event, make_events
from beatmap_generator.rulesets.shapes import WIDTH
from beatmap_generator.rulesets.standard import slider_at, starts_combo
from beatmap_generator.style import Style
from beatmap_generator.timing import TimingPlan
from cm3p.beatmap import Circle, HitObject
from cm3p.beatmap.objects import CIRCLE_BIT, NEW_COMBO_BIT

_BORDER = 24


def catch_objects(piece: Piece, style: Style, plan: TimingPlan, rng: random.Random) -> list[HitObject]:
    """Return the fruits and juice streams of a map."""
    sounds = HitSounds(piece, style, rng)
    x, direction = 256.0, 1
    objects: list[HitObject] = []
    previous: Event | None = None
    last_pitch = 60
    for event in make_events(piece, style, rng):
        new_combo = starts_combo(event, previous, piece, style)
        intensity = piece.section_at(event.beat).intensity
        gap_s = 0.5 if previous is None else (piece.time_ms(event.beat) - piece.time_ms(previous.end)) / 1000
        direction = _direction(direction, event, last_pitch, style, rng)
        reach = style.distance * (1 + style.persona.curve * (intensity - 0.6))
        distance = min(300.0, 0.85 * reach * (min(gap_s, 0.8) / 0.4) ** 0.75)
        distance *= max(0.1, 1 + rng.gauss(0, 0.15 + style.distance_noise))
        if not _BORDER <= x + direction * distance <= WIDTH - _BORDER:
            direction = -direction
        x = min(max(x + direction * distance, _BORDER), WIDTH - _BORDER)
        y = 192 + 60 * math.sin(event.beat / 3)
        head = complex(round(x), round(y))
        placed = slider_at(event, head, 0.0 if direction > 0 else math.pi, piece, style, plan, sounds, rng)
        if placed is None:
            event.beats = 0.0
            time = float(round(piece.time_ms(event.beat)))
            item: HitObject = Circle(head.real, head.imag, time, CIRCLE_BIT, sounds.at(event.slot))
        else:
            item, end = placed
            x = end.real
        item.type |= NEW_COMBO_BIT if new_combo else 0
        objects.append(item)
        previous, last_pitch = event, event.slot.pitch
    return objects


def _direction(direction: int, event: Event, last_pitch: int, style: Style, rng: random.Random) -> int:
    """Runs go on; others turn by habit, or follow the melody up and down."""
    if event.in_run:
        return direction
    turn = style.persona.turn
    if turn in ("sharp", "star", "triangle"):
        return -direction if rng.random() < 0.8 else direction
    if turn == "square":
        return -direction if event.slot.level == 0 else direction
    if event.slot.pitch == last_pitch:
        return direction
    return 1 if event.slot.pitch > last_pitch else -1
