"""Numbers that the original programs made: a folder for each case, with ``meta.json`` and tensors."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

GOLDENS = Path(__file__).parent / "goldens"


@dataclass(frozen=True)
class Golden:
    """A case: what was computed, and the tensors that went in and came out."""

    folder: Path
    meta: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def tolerance(self) -> float:
        return self.meta["tolerance"]


@pytest.fixture
def golden() -> Callable[[str], Golden]:
    def load(case: str) -> Golden:
        folder = GOLDENS / case
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        file = folder / "io.safetensors"
        return Golden(folder, meta, load_file(file) if file.is_file() else {})

    return load
