"""Objects of taiko maps: dons and kats by register, large notes on accents, drum rolls and dendens."""

from __future__ import annotations

import random

from beatmap_generator.hitsounds import CLAP, FINISH, WHISTLE
from beatmap_generator.music import CRASH, SNARE, Piece, Slot
from beatmap_generator.rhythm import choose_slots
from beatmap_generator.style import Style
from beatmap_generator.timing import TimingPlan
from cm3p.beatmap import Circle, HitObject, Slider
from cm3p.beatmap.objects import CIRCLE_BIT, SLIDER_BIT

_X, _Y = 256.0, 192.0
_REMEMBERED = 24  # melody notes that decide what is high


def taiko_objects(piece: Piece, style: Style, plan: TimingPlan, rng: random.Random) -> list[HitObject]:
    """Return the notes and drum rolls of a map."""
    persona = style.persona
    slots, _ = choose_slots(piece, style, style.density, rng)
    objects: list[HitObject] = []
    pitches: list[int] = []
    rolls = 0.05 + 0.3 * persona.repeats
    skip_before = -1.0
    for slot, after in zip(slots, [*slots[1:], None], strict=True):
        if slot.beat < skip_before:
            continue
        pitches = [*pitches[-_REMEMBERED:], slot.pitch]
        sound = _colour(slot, pitches, style, rng)
        time = float(round(piece.time_ms(slot.beat)))
        large = slot.level == 0 and (CRASH in slot.drums or rng.random() < 0.3 * persona.finishers)
        if large and (after is None or after.beat - slot.beat >= 0.5):
            sound |= FINISH
        fits = slot.beat + 1 < piece.end and not piece.changes_tempo(slot.beat, slot.beat + 1)
        if slot.held >= 1 and fits and rng.random() < rolls:
            objects.append(_roll(slot, 1.0, time, sound & FINISH, style, plan))
            skip_before = slot.beat + 1.0 + 1 / piece.steps
            continue
        objects.append(Circle(_X, _Y, time, CIRCLE_BIT, sound))
    return objects


def _colour(slot: Slot, pitches: list[int], style: Style, rng: random.Random) -> int:
    """0 for a don; the mapper's kind of kat for high notes and the snare."""
    persona = style.persona
    threshold = sorted(pitches)[int((1 - persona.kats) * (len(pitches) - 1))]
    high = slot.pitch >= threshold if rng.random() > 0.1 else rng.random() < persona.kats
    if SNARE in slot.drums and persona.hit_sounds in ("drums", "both"):
        high = True
    return (WHISTLE if persona.hit_sounds == "melody" else CLAP) if high else 0


def _roll(slot: Slot, beats: float, time_ms: float, sound: int, style: Style, plan: TimingPlan) -> Slider:
    length = beats * 100 * style.slider_multiplier * plan.speed_at(slot.beat)
    points = [(_X, _Y), (_X + round(length), _Y)]
    return Slider(_X, _Y, time_ms, SLIDER_BIT, sound, points=points, length=length)
