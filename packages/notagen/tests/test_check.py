"""Files checked and repaired, in any layout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from notagen.files.check import check, check_files
from notagen.notation.validation import validate
from pentatonic.errors import UsageError

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
    assert all(issue.line is None or issue.level == "bars" for issue in check(text).issues)


VOICES = "X:1\nL:1/4\nM:4/4\nK:C\nV:1\nV:2\n"


@pytest.mark.parametrize(
    ("text", "level", "found"),
    [
        (VOICES + "V:1\nCDEF|c4|]\nV:2\nc4|c4|]\n", "bars", [("score", "dialect")]),
        (VOICES + "V:1\nCDEF|c4|]\nV:2\nZ2|]\n", "bars", [("score", "dialect")]),
        (VOICES + "[V:1] CDEF | c4 |]\n[V:2] c4 | d4 |]\n", "bars", [("score", "dialect")]),
        (VOICES + "V:1\nCDEF|c4|]\nV:2\nc4|]\n", "abc", [("unparsable", "bars")]),
        (VOICES + "V:1\nCDEF|c4|]\nV:2\nc4|c3|]\n", "abc", [("duration", "bars"), ("score", "dialect")]),
        (VOICES + "V:1\nCDE|c4?|]\nV:2\nc4|c4|]\n", None, [("unparsable", "abc")]),
        ("X:1\nL:1/4\nM:4/4\nK:C\nCDEF|CDE|c4&c3|]\n", "abc", [("meter", "bars"), ("duration", "bars")]),
        ("%%score 1\nL:1/4\nM:4/4\nK:C\nV:1\n[V:1]Z2|\n[V:1]c4|]\n", "bars", [("layout", "dialect")]),
        ("L:1/4\nM:4/4\nK:C\nV:1\nV:2\n[V:1]c4|[V:2]c3|\n[V:1]c4|][V:2]c4|]\n", "abc",
         [("score", "dialect"), ("duration", "bars")]),
        ("hello", None, [("unparsable", "abc")]),
        (TUNE.replace("c4|d8", "c8|d8"), "dialect", []),
    ],
)  # fmt: skip
def test_each_level(text: str, level: str | None, found: list[tuple[str, str]]) -> None:
    report = check(text)
    assert report.level == level
    levels = [(issue.kind, issue.level) for issue in report.issues]
    assert [each for each in found if each not in levels] == [], levels
    assert report.valid == (level == "dialect") == (not found)


def test_repair_keeps_rests_of_several_bars(tmp_path: Path) -> None:
    path = tmp_path / "rests.abc"
    path.write_text(VOICES + "V:1\nCDEF|c4|]\nV:2\nZ2|]\n")
    (result,), _ = check_files([path], tmp_path / "out")
    text = Path(result["output"]).read_text()
    assert "[V:1]CDEF|[V:2]Z|\n[V:1]c4|][V:2]Z|]\n" in text and check(text).valid


def test_folders_are_searched_and_a_bad_file_stops_nothing(tmp_path: Path) -> None:
    scores = tmp_path / "scores"
    (scores / "deep").mkdir(parents=True)
    (scores / "a.abc").write_text("no tune")
    (scores / "b.musicxml").write_bytes(b"<score")
    (scores / "deep" / "a.ABC").write_text(TUNE, encoding="utf-8")
    os.mkfifo(scores / "pipe.abc")
    (scores / "notes.txt").write_text("not a score")
    results, outcome = check_files([scores], level="abc")
    states = {Path(entry["path"]).name: entry["status"] for entry in outcome.entries}
    assert states == {"a.abc": "failed", "b.musicxml": "failed", "pipe.abc": "failed", "a.ABC": "done"}
    assert [Path(result["path"]).name for result in results] == ["a.abc", "a.ABC"]
    assert outcome.passed_over == {".txt": 1}
    _, outcome = check_files([scores], tmp_path / "out")
    assert [path.relative_to(tmp_path / "out").as_posix() for path in tmp_path.glob("out/**/*.abc")] == [
        "deep/a.abc"
    ]
    (scores / "deep" / "a.xml").write_bytes(b"<score")
    with pytest.raises(UsageError, match=r"more than one file would be .*deep/a\.abc"):
        check_files([scores], tmp_path / "other")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no \.abc, .* files in"):
        check_files([tmp_path / "empty"])
