"""What a conversion cannot keep, counted by kind.

Readers and writers call :func:`lost` where they leave something out; whoever wants the counts opens :func:`losses`
around the conversion. Without that the calls have no effect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pentatonic.progress import printable

_open: ContextVar[Counter[str] | None] = ContextVar("losses", default=None)


@contextmanager
def losses() -> Iterator[Counter[str]]:
    """Count what the conversions inside the block leave out: kind, a few words such as ``octave line`` -> number."""
    counts: Counter[str] = Counter()
    token = _open.set(counts)
    try:
        yield counts
    finally:
        _open.reset(token)


def lost(kind: str, count: int = 1) -> None:
    """Count something that is left out.

    Args:
        kind: A few words in the singular, such as ``octave line``; control characters of a file are escaped.
        count: How many.
    """
    counts = _open.get()
    if counts is not None and count > 0:
        counts[printable(kind)] += count
