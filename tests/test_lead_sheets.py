"""Lead sheets of omar-rq are legal for notagen: one command writes the file, the other checks it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("omar_rq")
pytest.importorskip("notagen")


def command(package: str, *words: object) -> subprocess.CompletedProcess[str]:
    start = f"from {package}.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-P", "-c", start, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def write_sheets(folder: Path, count: int) -> None:
    """Write lead sheets of beats that slip, pause and begin anywhere, in many meters and keys."""
    from omar_rq.annotations.events import Beat, Beats, Meter, Score, Span
    from omar_rq.annotations.pitch_names import PITCHES
    from omar_rq.reading.lead_sheet import lead_sheet

    generator = np.random.default_rng(0)
    for number in range(count):
        meter = Meter(int(generator.integers(1, 13)), int(generator.choice([2, 4, 8])))
        n_beats = int(generator.integers(2, 60))
        times = np.cumsum(generator.choice([0.4, 0.5, 0.52, 3.0], n_beats))
        positions = (np.arange(n_beats) + generator.integers(0, 12)) % meter.beats + 1
        slips = generator.random(n_beats) < 0.1
        positions[slips] = generator.integers(1, meter.beats + 1, slips.sum())
        beats = tuple(
            Beat(float(time), int(position), float(generator.uniform(60, 180)), 0.5)
            for time, position in zip(times, positions, strict=True)
        )
        names = generator.choice(["C:maj", "F#:min", "N", "Bb:maj", "D#:min7", "G:7"], n_beats)
        chords = [
            Span(float(time), float(time) + 1, str(name)) for time, name in zip(times, names, strict=True)
        ]
        pitch = str(generator.choice(PITCHES))
        mode = str(generator.choice(["major", "minor"]))
        keys = (Span(0, 10, f"{pitch} {mode}"), Span(10, 1000, "A# minor")) if number % 2 else ()
        text = lead_sheet(
            Beats(beats, meter, 120.0, 0.5, 0.5, 0.0, 0.0),
            chords,
            title=f"Sheet {number}: [K:D] | x4",
            key=(Score(f"{pitch} {mode}", 0.5),),
            keys=keys,
            notes=["a note: with | signs"],
        )
        (folder / f"{number}.abc").write_text(text, encoding="utf-8")


def test_notagen_finds_no_fault(tmp_path: Path) -> None:
    write_sheets(tmp_path, 60)
    done = command("notagen", "validate", tmp_path, "--level", "bars")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(": valid") == 60


def test_notagen_would_find_a_fault(tmp_path: Path) -> None:
    write_sheets(tmp_path, 1)
    path = tmp_path / "0.abc"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[-3] += " x | x |"
    path.write_text("\n".join(lines), encoding="utf-8")
    assert command("notagen", "validate", path, "--level", "bars").returncode == 3
