"""A data set of small maps, and models, for the tests of the quality suite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cm3p.inference.loading import LoadedModel, load

GOLDENS = Path(__file__).parent.parent / "goldens"
SPEEDS = (0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8)


@pytest.fixture(scope="session")
def full() -> LoadedModel:
    """A tiny full model."""
    return load(GOLDENS / "saved_full")


@pytest.fixture
def data_set(tmp_path: Path, save_map: Any) -> Path:
    """Six sets of two maps in Mapperator's format; the last two are the split ``test``."""
    rows = []
    for number in range(6):
        for place in range(2):
            folder, name = f"set {number}", f"{place}.osu"
            path = tmp_path / "data set" / "data" / folder / name
            mode = (0, 1, 3)[number % 3]
            save_map(
                path, mode=mode, map_id=100 + 2 * number + place, set_id=number + 1, x=30 * number, objects=12
            )
            stars = 1.5 + place + number / 10
            rows.append(
                {
                    "Id": 100 + 2 * number + place,
                    "BeatmapSetId": number + 1,
                    "BeatmapSetFolder": folder,
                    "BeatmapFile": name,
                    "AudioFile": "song.wav",
                    "ModeInt": mode,
                    "UserId": (2, 12346)[number % 2] if number < 5 else 999,
                    "Creator": f"mapper {number % 2}",
                    "Status": ("ranked", "loved")[number % 2],
                    "SubmittedDate": f"{2010 + number % 3}-05-01",
                    "DifficultyRating": stars,
                    "StarRating": [stars * speed for speed in SPEEDS],
                    "TopTagIds": [number % 2, 2],
                    "Split": "test" if number >= 4 else "train",
                }
            )
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data set" / "metadata.parquet")
    return tmp_path / "data set"
