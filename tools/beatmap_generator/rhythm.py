"""When a map has objects, and of what kind: the part that all rulesets share."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from beatmap_generator.music import Piece, Slot
from beatmap_generator.style import Style


@dataclass(slots=True)
class Event:
    """An object without a position.

    Args:
        slot: Where it starts.
        beats: How long one travel of a slider lasts; 0 for a circle.
        repeat: Travels of a slider.
        in_run: Whether it belongs to a run at the finest snap.
        tail: The slot where it ends, when there is one.
    """

    slot: Slot
    beats: float = 0.0
    repeat: int = 1
    in_run: bool = False
    tail: Slot | None = None

    @property
    def beat(self) -> float:
        """Start."""
        return self.slot.beat

    @property
    def end(self) -> float:
        """End; the start for a circle."""
        return self.slot.beat + self.beats * self.repeat


def choose_slots(
    piece: Piece, style: Style, per_second: float, rng: random.Random
) -> tuple[list[Slot], set[float]]:
    """Choose where objects are.

    Each bar gets a number of slots that follows from the rate and the section's intensity. The share ``style.streams``
    of them goes to runs at the finest level (of 3, 5 or 9), the others to the strongest slots that are not so fine. A
    bar without sound gets none.

    Args:
        piece: The piece.
        style: Finest level, shortest gap, share of runs.
        per_second: Slots per second in a section of middling intensity.
        rng: Noise.

    Returns:
        The slots in order, and the beats of those that belong to runs.
    """
    chosen: dict[float, Slot] = {}
    runs: set[float] = set()
    for _, group in groupby(piece.grid, key=lambda slot: slot.bar):
        bar = list(group)
        if sum(slot.salience for slot in bar) == 0:
            continue
        intensity = piece.section_at(bar[0].beat).intensity
        seconds = piece.meter * piece.beat_length_at(bar[0].beat) / 1000
        wanted = int(per_second * seconds * (0.6 + 0.6 * intensity) + rng.random())
        coarse = [slot for slot in bar if slot.level <= min(1, style.finest)]
        in_runs = round(wanted * style.streams * (0.5 + intensity)) if style.finest == 2 else 0
        strength = {slot.beat: _strength(slot, rng) for slot in bar}
        ranked = sorted((s for s in coarse if s.salience or s.level == 0), key=lambda s: -strength[s.beat])
        picked = {slot.beat: slot for slot in ranked[: wanted - in_runs]}
        _add_runs(picked, runs, bar, wanted if style.finest == 2 else 0, strength, rng)
        chosen |= picked
    slots = _thinned([chosen[beat] for beat in sorted(chosen)], style.min_gap / piece.steps, runs)
    return slots, runs


def _strength(slot: Slot, rng: random.Random) -> float:
    return slot.salience + (0.6, 0.15, 0.0)[slot.level] + 0.2 * slot.held + rng.uniform(0, 0.3)


def _add_runs(
    picked: dict[float, Slot],
    runs: set[float],
    bar: Sequence[Slot],
    wanted: int,
    strength: dict[float, float],
    rng: random.Random,
) -> None:
    """Fill the space between neighbours until there are as many slots as wanted."""
    starts = [index for index, slot in enumerate(bar) if slot.level <= 1]
    starts.sort(key=lambda index: -sum(strength[slot.beat] for slot in bar[index : index + 3]))
    for index in starts:
        missing = wanted - len(picked)
        if missing <= 0:
            return
        length = rng.choice((3, 3, 5, 9)) if missing > 4 else 5 if missing > 2 else 3
        run = bar[index : index + length]
        if len(run) >= 3:
            picked.update((slot.beat, slot) for slot in run)
            runs.update(slot.beat for slot in run)


def _thinned(slots: Iterable[Slot], min_gap: float, runs: set[float]) -> list[Slot]:
    """Leave out what follows too closely on a slot that is at least as strong."""
    kept: list[Slot] = []
    for slot in slots:
        if kept and slot.beat - kept[-1].beat < min_gap - 1e-6:
            if slot.salience <= kept[-1].salience or slot.level > kept[-1].level:
                continue
            kept.pop()
        kept.append(slot)
    runs &= {slot.beat for slot in kept}
    return kept


def make_events(piece: Piece, style: Style, rng: random.Random) -> list[Event]:
    """Return circles and sliders: a slider covers the slot where it ends, or fills half of the gap to the next one."""
    absorbed = style.sliders * (0.55 + 0.6 * style.repeats)
    slots, runs = choose_slots(piece, style, style.density * (1 + absorbed), rng)
    events: list[Event] = []
    index = 0
    while index < len(slots):
        slot = slots[index]
        gaps = [
            b.beat - a.beat
            for a, b in zip(slots[index : index + 4], slots[index + 1 : index + 5], strict=False)
        ]
        in_run = slot.beat in runs and bool(gaps) and gaps[0] <= 1.01 / piece.steps
        share = style.sliders * (0.3 if in_run else 1.5 if slot.held >= 0.9 else 1.0)
        event = Event(slot, in_run=in_run)
        step = index + 1
        if gaps and gaps[0] <= piece.meter and rng.random() < share:
            step = index + _make_slider(event, slots[index + 1 : index + 4], gaps, piece, style, rng)
        events.append(event)
        index = step
    return events


def _make_slider(
    event: Event,
    following: Sequence[Slot],
    gaps: Sequence[float],
    piece: Piece,
    style: Style,
    rng: random.Random,
) -> int:
    """Give an event a duration; return by how many slots the next one is further on."""
    gap = gaps[0]
    shortest = style.min_gap / piece.steps
    equal = 1
    while equal < min(3, len(gaps)) and abs(gaps[equal] - gap) < 1e-6:
        equal += 1
    if equal > 1 and gap <= 1.01 and rng.random() < style.repeats:
        event.repeat = equal
    covers = gap <= 2.01 and (event.repeat > 1 or rng.random() < 0.6)
    if covers:
        event.beats, event.tail = gap, following[event.repeat - 1]
        return event.repeat + 1
    half = _on_grid(gap / 2, piece.steps)
    if half < max(shortest, 1 / piece.steps):
        return 1
    event.beats = half if gap <= 2.01 else _on_grid(gap - 1, piece.steps)
    return 1


def _on_grid(beats: float, steps: int) -> float:
    """The longest duration on half beats (thirds), or on the grid, that is not longer."""
    coarse = steps // 2
    return int(beats * coarse + 1e-6) / coarse or int(beats * steps + 1e-6) / steps
