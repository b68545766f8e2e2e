"""Models and maps for the tests of the fault finder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cm3p.inference.loading import LoadedModel, load

GOLDENS = Path(__file__).parent.parent / "goldens"


@pytest.fixture(scope="session")
def full() -> LoadedModel:
    """A tiny full model with a decoder head; types do not say whether a combo starts."""
    return load(GOLDENS / "saved_full")


@pytest.fixture(scope="session")
def masked_lm() -> LoadedModel:
    """A tiny masked language model."""
    return load(GOLDENS / "saved_mlm")


@pytest.fixture
def maps(tmp_path: Path, save_map: Any) -> Path:
    """A folder of three maps of two sets."""
    save_map(tmp_path / "maps" / "one" / "a.osu", objects=24)
    save_map(tmp_path / "maps" / "one" / "b.osu", objects=24, x=40)
    save_map(tmp_path / "maps" / "two" / "c.osu", objects=24, x=300)
    return tmp_path / "maps"
