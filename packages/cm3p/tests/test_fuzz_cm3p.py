"""Damaged maps through everything that reads them. The tool does the same for longer."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest

from cm3p.beatmap import read_beatmap

TOOLS = Path(__file__).parents[3] / "tools" / "fuzz"
sys.path.append(str(TOOLS))

from fuzz_maps import inputs, made_map  # noqa: E402


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_cm3p", TOOLS / "fuzz_cm3p.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_some_inputs(fuzz: ModuleType) -> None:
    report = fuzz.Report()
    found = [finding for data in inputs(30, 1, []) for finding in fuzz.findings(data, 5.0, report)]
    assert found == []
    assert {reader for reader, _ in report.outcomes} == {
        "read_beatmap",
        *fuzz.CONTENT_READERS,
        *fuzz.MAP_READERS,
    }
    assert report.outcomes["read_beatmap", "read"] > 20
    assert report.outcomes["read_beatmap strict", "refused"] > 10
    assert len(report.slowest) == fuzz.SLOWEST_NAMED


def test_made_maps_have_everything() -> None:
    rng = random.Random(3)
    maps = [read_beatmap(made_map(rng)) for _ in range(60)]
    assert {beatmap.mode for beatmap in maps} == {0, 1, 2, 3}
    objects = [item for beatmap in maps for item in beatmap.hit_objects]
    assert {type(item).__name__ for item in objects} == {"Circle", "Slider", "Spinner", "Hold"}
    assert any(len(item.segments) > 1 for item in objects if hasattr(item, "segments"))
    assert not any("left out" in warning.message for beatmap in maps for warning in beatmap.warnings)


@pytest.mark.parametrize("error", [KeyError("x"), RecursionError("deep")])
def test_what_escapes_is_found(fuzz: ModuleType, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def reader(beatmap: object) -> None:
        raise error

    monkeypatch.setattr(fuzz, "MAP_READERS", {"broken": reader})
    report = fuzz.Report()
    found = [finding for data in inputs(20, 0, []) for finding in fuzz.findings(data, 5.0, report)]
    assert len(found) == report.outcomes["broken", "failed"] > 0
    assert type(error).__name__ in found[0].error


def test_what_takes_too_long_is_found(fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def reader(data: bytes) -> None:
        while True:
            pass

    monkeypatch.setattr(fuzz, "CONTENT_READERS", {"endless": reader})
    monkeypatch.setattr(fuzz, "MAP_READERS", {})
    (found,) = fuzz.findings(b"osu file format v14\n", 0.01, fuzz.Report())
    assert "took longer than 0.01 s" in found.error
