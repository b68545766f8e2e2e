"""Made-up vectors: recordings and captions that share a hidden direction, as seen through two rotations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rc_audioldm.adapters.pair_vectors import PairVectors, write_pairs

WIDTH, ROWS = 16, 64


def make_pairs(rows: int = ROWS, *, states: bool = False, seed: int = 0) -> PairVectors:
    """Two rows in each group; a text is a fixed rotation of its audio, so only an adapter can pair them."""
    random = np.random.default_rng(seed)
    audio = random.normal(size=(rows, WIDTH))
    rotation = np.linalg.qr(np.random.default_rng(99).normal(size=(WIDTH, WIDTH)))[0]
    text = audio @ rotation
    made = (audio @ np.random.default_rng(98).normal(size=(WIDTH, 3 * 8))).reshape(rows, 3, 8)
    # As states behind a layer norm.
    made = (made - made.mean(-1, keepdims=True)) / made.std(-1, keepdims=True)
    return PairVectors(
        audio=audio.astype(np.float32),
        text=text.astype(np.float32),
        captions=[f"clip {row}" for row in range(rows)],
        groups=[f"piece {row // 2}" for row in range(rows)],
        states=made.astype(np.float32) if states else None,
    )


@pytest.fixture
def pairs_folder(tmp_path: Path) -> Callable[..., Path]:
    def write(rows: int = ROWS, **options: bool) -> Path:
        write_pairs(tmp_path / "pairs", make_pairs(rows, **options))
        return tmp_path / "pairs"

    return write
