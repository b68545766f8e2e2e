"""Twelve invented mappers, each a consistent set of habits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Persona:
    """Habits of a mapper. Shares are from 0 to 1.

    Args:
        id: User id.
        name: User name.
        turn: How osu! patterns turn: ``flow``, ``sharp``, ``square``, ``triangle``, ``star`` or ``line``.
        spacing: Factor on distances.
        curve: How distances follow intensity: 0 not at all, 1 strongly.
        shapes: Weights of slider shapes: line, arc, curve, zigzag, wave.
        sliders: Factor on the share of sliders.
        repeats: Share of sliders that go back and forth.
        streams: Share of objects spent on runs at the finest snap.
        mirror: How often a combo starts at the mirror image of the last one.
        stacks: How often an object stays where the last one was.
        combo_bars: Bars per combo.
        hit_sounds: What is sounded: ``drums``, ``melody``, ``both`` or ``downbeats``.
        sample_set: 1 normal, 2 soft, 3 drum.
        sv_changes: How many bars change the slider or scroll speed.
        kiai: ``climax``, ``late`` (its second half) or ``never``.
        spinner_end: Whether a map ends with a spinner.
        kats: In taiko, share of the pitch range that is a kat.
        finishers: In taiko, how often a strong beat is a large note.
        holds: In mania, share of long melody notes that are held.
        chords: In mania, factor on the number of simultaneous notes.
        anchors: In mania, how often a column is used again at once.
        ticks: Slider tick rate.
    """

    id: int
    name: str
    turn: str
    spacing: float
    curve: float
    shapes: tuple[float, float, float, float, float]
    sliders: float
    repeats: float
    streams: float
    mirror: float
    stacks: float
    combo_bars: float
    hit_sounds: str
    sample_set: int
    sv_changes: float
    kiai: str
    spinner_end: bool
    kats: float
    finishers: float
    holds: float
    chords: float
    anchors: float
    ticks: float


# fmt: off
# In two lines: id, name, turn, spacing, curve, shapes (line, arc, curve, zigzag, wave), sliders, repeats, streams,
# mirror, stacks; then combo bars, hit sounds, sample set, speed changes, kiai, spinner end, kats, finishers, holds,
# chords, anchors, ticks.
PERSONAS = (
    Persona(70001, "Aldermere", "flow", 1.00, 0.3, (1, 6, 3, 0, 0), 1.10, 0.10, 0.20, 0.0, 0.05,
            1.0, "both", 2, 0.05, "climax", False, 0.5, 0.10, 0.5, 1.0, 0.05, 1),
    Persona(70002, "BrickLayer", "square", 1.10, 0.1, (8, 1, 0, 3, 0), 0.80, 0.05, 0.15, 0.5, 0.00,
            0.5, "drums", 3, 0.00, "climax", True, 0.4, 0.30, 0.2, 1.3, 0.00, 2),
    Persona(70003, "cyanotype", "sharp", 1.25, 0.7, (5, 2, 1, 1, 0), 0.65, 0.05, 0.10, 0.1, 0.00,
            1.0, "drums", 2, 0.10, "climax", False, 0.6, 0.15, 0.3, 0.8, 0.10, 1),
    Persona(70004, "Drumlin", "line", 0.80, 0.2, (2, 3, 1, 0, 0), 0.70, 0.05, 0.60, 0.0, 0.05,
            2.0, "downbeats", 3, 0.00, "late", True, 0.5, 0.05, 0.1, 0.7, 0.00, 1),
    Persona(70005, "Estuary", "flow", 0.75, 0.5, (0, 2, 6, 0, 5), 1.35, 0.15, 0.10, 0.0, 0.10,
            2.0, "melody", 2, 0.30, "climax", False, 0.3, 0.05, 0.9, 0.8, 0.05, 1),
    Persona(70006, "Fenwick37", "triangle", 1.05, 0.4, (4, 3, 0, 0, 0), 0.90, 0.10, 0.15, 0.7, 0.00,
            1.0, "both", 1, 0.00, "climax", True, 0.5, 0.20, 0.4, 1.0, 0.20, 1),
    Persona(70007, "GreyHeron", "star", 1.15, 0.9, (3, 3, 3, 0, 1), 0.80, 0.00, 0.20, 0.2, 0.00,
            0.5, "melody", 2, 0.20, "late", False, 0.7, 0.10, 0.6, 1.1, 0.00, 1),
    Persona(70008, "Hexabit", "sharp", 0.90, 0.8, (2, 1, 2, 6, 2), 1.15, 0.15, 0.25, 0.0, 0.05,
            0.5, "both", 2, 0.60, "climax", False, 0.5, 0.15, 0.7, 0.9, 0.10, 2),
    Persona(70009, "Inkwell", "flow", 0.90, 0.1, (5, 5, 0, 0, 0), 1.20, 0.30, 0.05, 0.3, 0.40,
            2.0, "downbeats", 1, 0.00, "never", True, 0.4, 0.00, 0.3, 0.9, 0.00, 1),
    Persona(70010, "Juniper Q", "triangle", 1.20, 0.6, (1, 4, 4, 1, 2), 0.95, 0.05, 0.30, 0.4, 0.00,
            1.0, "drums", 3, 0.15, "climax", False, 0.6, 0.25, 0.2, 1.5, 0.00, 1),
    Persona(70011, "Kelpie", "line", 1.05, 0.5, (6, 0, 1, 2, 0), 0.85, 0.20, 0.35, 0.0, 0.20,
            1.0, "melody", 1, 0.05, "late", True, 0.2, 0.10, 0.5, 1.2, 0.40, 2),
    Persona(70012, "Lodestone", "star", 0.95, 0.3, (0, 8, 1, 0, 0), 1.00, 0.00, 0.45, 0.3, 0.00,
            2.0, "drums", 2, 0.40, "never", False, 0.5, 0.35, 0.8, 0.7, 0.00, 1),
)
# fmt: on
