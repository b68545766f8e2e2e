"""Star ratings of maps, by rosu-pp-py where it can be imported."""

from __future__ import annotations

from collections.abc import Sequence

SPEEDS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
_SPEED_EXPONENT = 0.8  # of the rough estimate


def star_ratings(text: str, stars: float) -> list[float]:
    """Return the star ratings of a map at the seven speeds of a data set.

    Args:
        text: The ``.osu`` file.
        stars: What the map was made for, from which a rough estimate is made where rosu-pp-py is missing.
    """
    try:
        import rosu_pp_py as rosu
    except ImportError:
        return [stars * speed**_SPEED_EXPONENT for speed in SPEEDS]
    beatmap = rosu.Beatmap(content=text)
    return [rosu.Difficulty(clock_rate=speed).calculate(beatmap).stars for speed in SPEEDS]


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Spearman's rank correlation of two sequences without ties; NaN for fewer than two values."""
    import numpy as np

    ranks = np.array([np.argsort(np.argsort(values)) for values in (first, second)], dtype=float)
    return float(np.corrcoef(ranks)[0, 1]) if len(first) > 1 else float("nan")
