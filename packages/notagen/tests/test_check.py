"""Files checked and repaired, in any layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from notagen.files.check import check, check_files
from notagen.notation.validation import validate

TUNE = "X:1\nT:Café\nL:1/8\nM:4/4\nK:C\nCDEF GABc|c4|d8|]\n"


def test_standard_layout_is_repaired(tmp_path: Path) -> None:
    path = tmp_path / "tune.abc"
    path.write_text(TUNE, encoding="utf-8")
    (result,), outcome = check_files([path], tmp_path / "out")
    assert outcome.count("done") == 1 and not result["valid"] and len(result["changes"]) == 2
    repaired = (tmp_path / "out" / "tune.abc").read_text(encoding="utf-8")
    assert validate(repaired).valid and "[V:1]c4 z4|\n" in repaired and "T:Café\n" in repaired


@pytest.mark.parametrize(
    ("text", "count"), [(TUNE, "1 error, "), (TUNE.replace("d8|]", "d|e8|]"), "2 errors, ")]
)
def test_errors_are_counted(tmp_path: Path, text: str, count: str) -> None:
    (tmp_path / "tune.abc").write_text(text, encoding="utf-8")
    _, outcome = check_files([tmp_path / "tune.abc"])
    assert outcome.entries[0]["reason"].startswith(count)
    assert all(issue.line is None for issue in check(text).issues)
