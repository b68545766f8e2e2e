"""Fixtures of the package's tests."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

GOLDENS = Path(__file__).parent / "goldens"


@pytest.fixture(scope="session")
def real_maps() -> Path:
    """A folder with ``osu/`` (real maps, which are not shipped) and ``goldens/`` (numbers made from them)."""
    folder = os.environ.get("CM3P_REAL_MAPS")
    if not folder:
        pytest.skip("CM3P_REAL_MAPS is not set to a folder of real maps")
    return Path(folder)


@pytest.fixture(scope="session")
def golden_cases() -> Any:
    """``golden_cases(name)`` returns the cases of a golden, each with its text as ``osu_text``."""

    def load(name: str) -> list[dict[str, Any]]:
        content = json.loads((GOLDENS / name / "cases.json").read_text(encoding="utf-8"))
        texts = content.get("osu_texts", {})
        return [
            case if "osu_text" in case else {**case, "osu_text": texts[case["osu_text_ref"]]}
            for case in content["cases"]
        ]

    return load
