"""Damages for texts, with which the fuzz tools make their inputs: bits, cuts, repetitions, foreign pieces, words."""

from __future__ import annotations

import random
from collections.abc import Sequence

MOST_DAMAGES = 3
MOST_REPETITIONS = 200


def damaged(data: bytes, others: Sequence[bytes], words: Sequence[str], rng: random.Random) -> bytes:
    """Return a text with one to ``MOST_DAMAGES`` damages.

    Args:
        data: The text.
        others: Texts, of which pieces are copied into it.
        words: Words that may have a meaning where they are put.
        rng: Source of chance.
    """
    for _ in range(rng.randint(1, MOST_DAMAGES)):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + int(rng.expovariate(1 / 8)))
        kind = rng.randrange(7)
        if kind == 0 and start < len(data):  # a bit
            data = data[:start] + bytes([data[start] ^ 1 << rng.randrange(8)]) + data[start + 1 :]
        elif kind == 1:
            data = data[:start] + data[end:]
        elif kind == 2:
            data = data[:start] if rng.random() < 0.3 else data[start:]
        elif kind == 3:
            data = data[:start] + data[start:end] * rng.randint(2, MOST_REPETITIONS) + data[end:]
        elif kind == 4:
            other = rng.choice(others)
            cut = rng.randrange(len(other) + 1)
            data = data[:start] + other[cut : cut + int(rng.expovariate(1 / 60))] + data[end:]
        elif kind == 5:  # two spans change places
            after = min(len(data), end + int(rng.expovariate(1 / 8)))
            data = data[:start] + data[end:after] + data[start:end] + data[after:]
        else:
            data = data[:start] + rng.choice(words).encode() + data[end:]
    return data
