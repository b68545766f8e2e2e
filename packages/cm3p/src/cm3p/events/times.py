"""Times of events. They are counted in whole microseconds, and become milliseconds in the groups."""

from __future__ import annotations

_TRUNCATION_GUARD_MS = 1e-5


def group_time(time_us: int) -> int:
    """Return the time of a group in ms, truncated towards zero: -100 ms becomes -99."""
    return int(time_us / 1_000_000 * 1000 + _TRUNCATION_GUARD_MS)


def divided(time_us: int, parts: int) -> int:
    """Return a part of a duration in whole microseconds, halves to even.

    Raises:
        ZeroDivisionError: ``parts`` is 0.
    """
    if parts < 0:
        time_us, parts = -time_us, -parts
    quotient, rest = divmod(time_us, parts)
    return quotient + (2 * rest > parts or (2 * rest == parts and quotient % 2 == 1))
