"""Objects of mania maps: columns by pitch, chords by strength, holds for long notes."""

from __future__ import annotations

import random

from beatmap_generator.hitsounds import HitSounds
from beatmap_generator.music import Piece
from beatmap_generator.rhythm import choose_slots
from beatmap_generator.style import Style
from beatmap_generator.timing import TimingPlan
from cm3p.beatmap import Circle, HitObject, Hold
from cm3p.beatmap.objects import CIRCLE_BIT, HOLD_BIT

_Y = 192.0
_MOST_CHORD = 4


def column_x(column: int, keys: int) -> float:
    """Return the position of a column's middle."""
    return float(int((column + 0.5) * 512 / keys))


def mania_objects(piece: Piece, style: Style, plan: TimingPlan, rng: random.Random) -> list[HitObject]:
    """Return the notes and holds of a map. No column is used while it is held, nor again at once except by habit."""
    persona, keys = style.persona, style.keys
    sounds = HitSounds(piece, style, rng)
    extra = min(0.9, persona.chords * 0.16 * max(0.0, style.stars - 1.0))  # mean number of notes above one
    slots, _ = choose_slots(piece, style, style.density / (1 + extra), rng)
    free_from = [-1.0] * keys  # beat from which a column is free
    objects: list[HitObject] = []
    last: set[int] = set()
    column, last_pitch = keys // 2, 60
    for index, slot in enumerate(slots):
        gap = slots[index + 1].beat - slot.beat if index + 1 < len(slots) else 1.0
        size = 1 + sum(rng.random() < extra * (0.35 + 0.35 * slot.salience) for _ in range(_MOST_CHORD - 1))
        column = (
            column + (slot.pitch > last_pitch) - (slot.pitch < last_pitch) + rng.choice((-1, 0, 1))
        ) % keys
        last_pitch = slot.pitch
        free = [c for c in range(keys) if free_from[c] <= slot.beat + 1e-6]
        if rng.random() >= persona.anchors:
            free = [c for c in free if c not in last] or free
        chosen = sorted(free, key=lambda c: (abs(c - column), rng.random()))[:1]
        others = [c for c in free if c not in chosen]
        chosen += rng.sample(others, min(size - 1, len(others)))
        time, sound = float(round(piece.time_ms(slot.beat))), sounds.at(slot)
        for rank, note in enumerate(sorted(chosen)):
            x = column_x(note, keys)
            beats = _held(slot.held, gap, style, rng)
            if beats:
                end = float(round(piece.time_ms(slot.beat + beats)))
                objects.append(Hold(x, _Y, time, HOLD_BIT, sound if rank == 0 else 0, end_time_ms=end))
                free_from[note] = slot.beat + beats + 1 / piece.steps
            else:
                objects.append(Circle(x, _Y, time, CIRCLE_BIT, sound if rank == 0 else 0))
        last = set(chosen)
    return objects


def _held(held: float, gap: float, style: Style, rng: random.Random) -> float:
    """How long a note is held, in half beats; 0 for a note."""
    longest = min(held, 4.0)
    if longest < 0.5 or rng.random() >= style.persona.holds * (1.0 if longest >= 1 else 0.4):
        return 0.0
    beats = int(2 * longest) / 2
    return beats if beats <= gap else max(0.5, beats - 0.5)
