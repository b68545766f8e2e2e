"""Hit sounds of objects: what they are at the volume and sample set of the timing point that holds."""

from __future__ import annotations

from cm3p.beatmap.timing import Timing

_REFERENCE_OFFSET_US = 5000
_BASE_SET = 2  # of points that leave the sample set to the map
_SOUND_BITS = 14

HitSound = tuple[int, int, int, int]
"""Bits, sample set, addition, volume."""


class HitSounds:
    """Hit sounds of a map, each distinct one worked out once.

    Args:
        timing: Timing points of the map.
        strict: Raise for a sample that lacks parts or has other text than numbers; else its parts have defaults.
    """

    def __init__(self, timing: Timing, *, strict: bool) -> None:
        self._index_at, self._strict = timing.index_at, strict
        self._bases = [(point.sample_set or _BASE_SET, point.volume) for point in timing.points]
        self._known: dict[tuple[tuple[int, int], int, str], HitSound] = {}

    def at(self, time_us: int, sound: int, sample: str) -> HitSound:
        """Return the hit sound at a time.

        Args:
            time_us: Reference time in microseconds; the point 5 ms later holds.
            sound: Bit field of the file.
            sample: ``normal set:addition set:index:volume:file name``; later parts may be missing.

        Raises:
            IndexError, ValueError: The sample cannot be read, in strict mode.
        """
        key = (self._bases[self._index_at(time_us + _REFERENCE_OFFSET_US)], sound, sample)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._read(*key)
        return known

    def _read(self, base: tuple[int, int], sound: int, sample: str) -> HitSound:
        base_set, base_volume = base
        parts = sample.split(":")
        if not self._strict:
            parts = [part if _is_number(part) else "0" for part in parts[:4]] + ["0"] * (2 - len(parts))
        sample_set = int(parts[0]) if parts[0] != "0" else base_set
        addition = int(parts[1]) if parts[1] != "0" else sample_set
        volume = int(parts[3]) if len(parts) > 3 and parts[3] != "0" else base_volume
        return (
            sound & _SOUND_BITS,
            sample_set if 1 <= sample_set <= 3 else 1,
            addition if 1 <= addition <= 3 else 1,
            min(max(volume, 0), 100),
        )


def _is_number(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True
