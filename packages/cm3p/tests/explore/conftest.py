"""Files of embeddings for the tests of the map of maps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

MODES = ("osu", "taiko", "fruits", "mania")


def _write(path: Path, columns: dict[str, Any], vectors: Any) -> Path:
    if isinstance(vectors, np.ndarray):
        vectors = pa.array(list(vectors.astype(np.float32)), pa.list_(pa.float32()))
    parquet.write_table(pa.table({**columns, "embedding": vectors}), path)
    return path


@pytest.fixture(scope="session")
def write_embeddings() -> Callable[..., Path]:
    """``write_embeddings(path, columns, vectors)`` writes a file; vectors are an array (maps, n) or of pyarrow."""
    return _write


@pytest.fixture(scope="session")
def make_maps() -> Callable[..., tuple[dict[str, list[Any]], np.ndarray]]:
    """``make_maps(count, dimension)`` returns columns and vectors in eight groups."""

    def make(count: int, dimension: int) -> tuple[dict[str, list[Any]], np.ndarray]:
        random = np.random.default_rng(7)
        group = random.integers(8, size=count)
        centres = random.normal(size=(8, dimension))
        vectors = centres[group] + random.normal(size=(count, dimension)) * 0.4
        stars = np.round(random.gamma(6, 0.7, count), 2)
        years = random.integers(2007, 2026, count)
        columns = {
            "Id": [100 + i for i in range(count)],
            "Artist": [("Camellia", "xi", "Émile")[i % 3] for i in range(count)],
            "Title": [f"Song {i // 4}" for i in range(count)],
            "Version": [("Easy", "Hard")[i % 2] for i in range(count)],
            "Creator": [None if i % 11 == 0 else f"mapper {i % 17}" for i in range(count)],
            "BeatmapSetId": [i // 4 + 1 for i in range(count)],
            "Mode": [MODES[each // 2] for each in group],
            "Status": [("ranked", "loved")[i % 5 == 0] for i in range(count)],
            "DifficultyRating": [None if i % 13 == 0 else float(each) for i, each in enumerate(stars)],
            "RankedDate": [None if i % 7 == 0 else f"{year}-05-01T00:00:00Z" for i, year in enumerate(years)],
            "Tags": ["stream jump" if i % 3 else "tech stream" for i in range(count)],
        }
        return columns, vectors

    return make
