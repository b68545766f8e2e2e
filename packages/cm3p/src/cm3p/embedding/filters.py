"""Which maps are taken, by what their rows say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cm3p.embedding.columns import Row


@dataclass(frozen=True)
class MapFilter:
    """Limits for maps. A map whose value is not known is left out where there is a limit for it.

    Args:
        modes: Rulesets by number; None: all.
        min_year: First year of submission.
        max_year: Last year.
        min_difficulty: Lowest star rating.
        max_difficulty: Highest star rating.
    """

    modes: frozenset[int] | None = None
    min_year: int | None = None
    max_year: int | None = None
    min_difficulty: float | None = None
    max_difficulty: float | None = None

    def refusal(self, row: Row) -> str:
        """Return why a map is left out; empty if it is taken."""
        if self.modes is not None and row.get("ModeInt") not in self.modes:
            return "mode"
        if not _within(year_of(row), self.min_year, self.max_year):
            return "year"
        if not _within(row.get("DifficultyRating"), self.min_difficulty, self.max_difficulty):
            return "difficulty"
        return ""


def year_of(row: Row) -> int | None:
    """Return the year in which a map was submitted; None if it is not known."""
    submitted = row.get("SubmittedDate")
    return None if submitted is None else int(submitted[:4])


def _within(value: Any, low: float | None, high: float | None) -> bool:
    if low is None and high is None:
        return True
    return value is not None and (low is None or value >= low) and (high is None or value <= high)
