"""Pieces made by simple rules, in two styles that a judge should tell apart."""

import random

from notagen.notation.transposed_text import Interval, transpose_text

NOTES = ["C", "D", "E", "F", "G", "A", "B", "c", "d", "e", "f", "g", "a", "b"]


def walk(number, bars=8):
    """A tune in steps that goes on across barlines, so that shuffled bars break it."""
    rng, place, way, lines = random.Random(number), number % 5, 1, []
    for bar in range(bars):
        notes = []
        for _ in range(8):
            if not 0 <= place + way < len(NOTES):
                way = -way
            elif rng.random() < 0.1:
                way = -way if 0 <= place - way < len(NOTES) else way
            place += way
            notes.append(NOTES[place])
        lines.append(f"[V:1]{''.join(notes[:4])} {''.join(notes[4:])}{'|]' if bar == bars - 1 else '|'}\n")
    tune = "%%score 1\nL:1/8\nM:4/4\nK:C\nV:1 treble\n" + "".join(lines)
    return transpose_text(tune, Interval(semitones=rng.randrange(-5, 7)))


def leaps(number, bars=8):
    """A tune of leaps in another meter."""
    rng = random.Random(number)
    lines = [f"[V:1]{rng.choice('CE')}3 {rng.choice('cg')}3|\n" for _ in range(bars)]
    return "%%score 1\nL:1/8\nM:6/8\nK:C\nV:1 treble\n" + "".join(lines)
