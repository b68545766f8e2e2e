"""``cm3p faults``: what it prints and writes, bad files, planted faults."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

GOLDENS = Path(__file__).parent.parent / "goldens"
Command = Callable[..., tuple[int, str, str]]
TIMESTAMP = re.compile(r"\d\d:\d\d:\d{3} \([\d,]+\) - ")


def faults(command: Command, *arguments: object, model: str = "saved_full") -> tuple[int, str, str]:
    return command("faults", *arguments, "--model", GOLDENS / model, "--no-audio")


@pytest.mark.parametrize("model", ["saved_full", "saved_mlm"])
def test_lists_objects_with_timestamps(maps: Path, cm3p_command: Command, model: str) -> None:
    status, out, _ = faults(cm3p_command, maps, "--count", 3, model=model)
    assert status == 0
    lines = out.splitlines()
    assert len(lines) == 3 * 4 and lines[0].endswith("a.osu  (24 objects)")
    assert all(TIMESTAMP.search(line) and " bits): " in line for line in lines if line.startswith("    "))


def test_json_is_sorted_by_score_and_the_same_for_any_batch_size(maps: Path, cm3p_command: Command) -> None:
    found = [
        json.loads(faults(cm3p_command, maps, "--json", "--batch-size", size)[1])["maps"] for size in (1, 16)
    ]
    for one, other in zip(*found, strict=True):
        scores = [each["score"] for each in one["doubtful"]]
        assert scores == sorted(scores, reverse=True) and len(scores) == 10
        assert scores == pytest.approx([each["score"] for each in other["doubtful"]], abs=1e-4)
        first = one["doubtful"][0]
        assert first["aspects"][0]["deviation"] == first["score"]
        assert first["aspects"][0]["aspect"] in (
            "type",
            "time",
            "end time",
            "position",
            "scroll speed",
            "hit sound",
        )


def test_files(maps: Path, tmp_path: Path, cm3p_command: Command) -> None:
    texts = {}
    for suffix in ("json", "csv", "md", "html"):
        out = tmp_path / "made" / f"found.{suffix}"
        assert faults(cm3p_command, maps, "--count", 2, "--out", out)[0] == 0
        texts[suffix] = out.read_text(encoding="utf-8")
    assert [each["objects"] for each in json.loads(texts["json"])["maps"]] == [24, 24, 24]
    table = list(csv.DictReader(texts["csv"].splitlines()))
    assert len(table) == 6 and all(TIMESTAMP.fullmatch(row["timestamp"]) for row in table)
    assert len(re.findall(r"\]\(osu://edit/\d\d:\d\d:\d{3}%20%28\d+%29\)", texts["md"])) == 6
    assert len(re.findall(r'href="osu://edit/\d\d:\d\d:\d{3}%20\(\d+\)"', texts["html"])) == 6
    assert "<script" not in texts["html"]


def test_names_of_maps_are_escaped(tmp_path: Path, save_map: Any, cm3p_command: Command) -> None:
    folder = tmp_path / "<b>[x](y)</b>".replace("/", "")
    save_map(folder / "=a.osu", objects=8)
    for suffix in ("html", "md", "csv"):
        assert faults(cm3p_command, folder, "--out", tmp_path / f"found.{suffix}")[0] == 0
    assert "<b>[x]" not in (tmp_path / "found.html").read_text(encoding="utf-8")
    assert "\\<b\\>\\[x\\]" in (tmp_path / "found.md").read_text(encoding="utf-8")


def test_a_bad_map_does_not_stop_the_others(maps: Path, cm3p_command: Command) -> None:
    (maps / "one" / "bad.osu").write_text("no map", encoding="utf-8")
    status, out, messages = faults(cm3p_command, maps, "--json")
    assert status == 3 and "bad.osu" in messages
    assert len(json.loads(out)["maps"]) == 3 and json.loads(out)["counts"]["failed"] == 1


def test_planted_faults(maps: Path, cm3p_command: Command) -> None:
    planted = maps / "planted.jsonl"
    lines = [{"file": f"{name}.osu", "object": 4, "kind": "unsnapped"} for name in ("one/a", "two/c")]
    planted.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    status, out, _ = faults(cm3p_command, maps, "--planted", planted, "--resamples", 20, "--count", 0)
    assert status == 0
    rows = [line for line in out.splitlines() if line.startswith("| unsnapped")]
    assert len(rows) == 9 and all("| 2 |" in row for row in rows)
    document = json.loads(faults(cm3p_command, maps, "--planted", planted, "--resamples", 20, "--json")[1])
    assert {each["kind"] for each in document["planted"]} == {"all kinds", "unsnapped"}
    assert document["planted"][0]["objects"] == 72


def test_wrong_use(maps: Path, tmp_path: Path, cm3p_command: Command) -> None:
    status, _, message = faults(cm3p_command, maps, model="saved_classifier")
    assert status == 2 and "predicts no tokens" in message
    assert faults(cm3p_command, maps, "--out", tmp_path / "found.txt")[0] == 2
    assert faults(cm3p_command, tmp_path / "nowhere")[0] == 2
    (tmp_path / "empty").mkdir()
    assert faults(cm3p_command, tmp_path / "empty")[0] == 1
