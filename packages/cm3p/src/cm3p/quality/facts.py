"""What is known of the maps that are evaluated: the labels that embeddings should reflect.

Shapes: N maps, T tags.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cm3p.beatmap import RULESETS
from cm3p.embedding.columns import Row
from cm3p.embedding.filters import year_of
from cm3p.metadata import STAR_RATING_SPEEDS
from pentatonic.statistics import set_groups

_SPEED_1 = STAR_RATING_SPEEDS.index(1.0)


@dataclass(frozen=True)
class MapFacts:
    """Labels of N maps; None, NaN or no tag where one is not known.

    Args:
        groups: (N,) number of each map's set, from 0.
        mode: Names of the rulesets.
        year: Of submission.
        mapper: Ids of users, or names where there is no id.
        status: Of the map.
        stars: (N,) float64 star rating.
        tags: Ids of the tags, the most voted first.
    """

    groups: np.ndarray
    mode: list[str | None]
    year: list[int | None]
    mapper: list[int | str | None]
    status: list[str | None]
    stars: np.ndarray
    tags: list[tuple[int, ...]]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> MapFacts:
        """Read labels from rows as files of embeddings have them."""
        return cls(
            groups=set_groups([row.get("BeatmapSetId") for row in rows]),
            mode=[_mode(row) for row in rows],
            year=[year_of(row) for row in rows],
            mapper=[row.get("UserId") or row.get("Creator") for row in rows],
            status=[row.get("Status") for row in rows],
            stars=np.array([_stars(row) for row in rows], np.float64),
            tags=[tuple(row.get("TopTagIds") or ()) for row in rows],
        )

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def sets(self) -> int:
        """Number of sets."""
        return int(self.groups.max()) + 1 if len(self.groups) else 0

    def tag_matrix(self) -> tuple[np.ndarray, list[int]]:
        """Return (N, T) bool, which map has which tag, and the ids of the T tags."""
        names = sorted({tag for tags in self.tags for tag in tags})
        places = {tag: place for place, tag in enumerate(names)}
        matrix = np.zeros((len(self), len(names)), dtype=bool)
        for number, tags in enumerate(self.tags):
            matrix[number, [places[tag] for tag in tags]] = True
        return matrix, names

    def counts(self) -> dict[str, Any]:
        """Return how many maps have which label, as JSON values."""
        known = self.stars[~np.isnan(self.stars)]
        return {
            "maps": len(self),
            "sets": self.sets,
            "mode": _counted(self.mode),
            "year": _counted(self.year),
            "mapper": _counted(self.mapper),
            "status": _counted(self.status),
            "tags": _counted([tag for tags in self.tags for tag in tags]),
            "stars": [float(known.min()), float(known.max())] if len(known) else None,
        }


def _mode(row: Row) -> str | None:
    number = row.get("ModeInt")
    if number is not None and 0 <= number < len(RULESETS):
        return RULESETS[number]
    return row.get("Mode")


def _stars(row: Row) -> float:
    """Star rating; NaN where it is not known."""
    stars, ratings = row.get("DifficultyRating"), row.get("StarRating")
    if stars is None and ratings is not None and len(ratings) == len(STAR_RATING_SPEEDS):
        stars = ratings[_SPEED_1]
    return float("nan") if stars is None else float(stars)


def _counted(values: Sequence[Any]) -> dict[str, int]:
    return {
        "unknown" if value is None else str(value): count for value, count in Counter(values).most_common()
    }
