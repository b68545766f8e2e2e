"""Which hit sounds objects have: those that the drums or the melody play, by the mapper's habit."""

from __future__ import annotations

import random
from dataclasses import dataclass

from beatmap_generator.music import CRASH, KICK, SNARE, Piece, Slot
from beatmap_generator.style import Style

WHISTLE, FINISH, CLAP = 2, 4, 8


@dataclass
class HitSounds:
    """Decides the sounds of one map.

    Args:
        piece: The music.
        style: ``hit_sounds`` and the persona's habit.
        rng: Which sounds are left out.
    """

    piece: Piece
    style: Style
    rng: random.Random

    def at(self, slot: Slot) -> int:
        """Return the bit field of an object's head or end at a slot."""
        habit = self.style.persona.hit_sounds
        sound = 0
        if habit in ("drums", "both"):
            backbeat = slot.level == 0 and slot.beat % 2 == 1
            sound |= CLAP if SNARE in slot.drums or backbeat else 0
            sound |= FINISH if CRASH in slot.drums else 0
            sound |= WHISTLE if KICK in slot.drums and habit == "drums" else 0
        if habit in ("melody", "both") and slot.held:
            sound |= WHISTLE
        if habit == "downbeats" and slot.level == 0:
            sound |= FINISH if slot.beat % (2 * self.piece.meter) == 0 else WHISTLE
        return sound if sound and self.rng.random() < self.style.hit_sounds else 0
