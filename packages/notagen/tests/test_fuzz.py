"""Damaged pieces through every reader: what escapes is an `InputError`. The tool does the same for longer."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[3] / "tools" / "fuzz" / "fuzz_notagen.py"


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz_notagen", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def run(fuzz, count, seed):
    outcomes = Counter()
    assert [finding for finding in fuzz.findings(count, seed, 5.0, outcomes)] == []
    kinds = Counter()
    for (_, kind), number in outcomes.items():
        kinds[kind] += number
    assert min(kinds["read"], kinds["refused"]) > count / 2
    assert {reader for reader, _ in outcomes} == {*fuzz.TEXT_READERS, *fuzz.XML_READERS, *fuzz.YUE2_READERS}


def test_some_inputs(fuzz):
    run(fuzz, 200, seed=1)


def test_repairs_of_lead_sheets_are_read_and_not_only_refused(fuzz):
    outcomes = Counter()
    assert [finding for finding in fuzz.findings(150, 2, 5.0, outcomes, "yue2")] == []
    assert outcomes["yue2 repair", "read"] > 15
    assert 0 < outcomes["yue2 strip chords", "read"] < outcomes["yue2 repair", "read"]
    assert outcomes["yue2 repair with cuts", "read"] >= outcomes["yue2 repair", "read"]
    assert outcomes["yue2 repair", "refused"] > 15
    assert not any(name == "validate" for name, _ in outcomes)


@pytest.mark.slow
def test_a_hundred_thousand_inputs(fuzz):
    run(fuzz, 100_000, seed=0)


@pytest.mark.parametrize("error", [KeyError("x"), RecursionError("deep")])
def test_what_escapes_is_found(fuzz, error, monkeypatch):
    def reader(text):
        raise error

    monkeypatch.setattr(fuzz, "TEXT_READERS", {"broken": reader})
    outcomes = Counter()
    found = list(fuzz.findings(20, 0, 5.0, outcomes))
    assert len(found) == outcomes["broken", "failed"] > 0
    assert found[0].reader == "broken"
    assert type(error).__name__ in found[0].error


def test_what_takes_too_long_is_found(fuzz, monkeypatch):
    def reader(text):
        while True:
            pass

    monkeypatch.setattr(fuzz, "TEXT_READERS", {"endless": reader})
    outcomes = Counter()
    assert "took longer than 0.01 s" in next(iter(fuzz.findings(20, 0, 0.01, outcomes))).error
