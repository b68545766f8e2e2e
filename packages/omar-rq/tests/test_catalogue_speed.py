"""What is said before a long run, and what --threads and --nice do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from omar_rq.catalogue.commands import be_modest
from omar_rq.catalogue.speed import Speed, announce_speed
from omar_rq.weights import from_pretrained
from pentatonic import audio
from pentatonic.audio_folder.reading import ReadOptions


@pytest.fixture
def music(tmp_path) -> Path:
    folder = tmp_path / "music"
    folder.mkdir()
    (folder / "00.wav").write_text("not audio")
    for i in range(1, 4):
        audio.save(folder / f"{i:02}.wav", 0.1 * torch.randn(60 * 16000), 16000)
    return folder


def test_speed_and_expected_time_are_measured_and_printed_before_a_long_run(music, capsys):
    model = from_pretrained("omar-rq-tiny")
    speed = announce_speed(model, [music], [4], ReadOptions(), workers=2, long_minutes=1.0)
    assert speed is not None
    assert speed.minutes == pytest.approx(3.0, rel=0.02)  # from the headers: their sizes alone would say half
    assert speed.cpu_s > 0
    assert speed.expected_s == pytest.approx(speed.minutes * speed.wall_s / 2)
    said = capsys.readouterr().err
    assert "minutes of music per CPU minute" in said
    assert "4 files, about 3 min of music" in said
    assert "in each of 2 workers" in said
    part = announce_speed(model, [music], [4], ReadOptions(duration_s=20.0), long_minutes=0.5)
    assert part is not None
    assert part.minutes == pytest.approx(1.0, rel=0.02)
    capsys.readouterr()
    assert announce_speed(model, [music], [4], ReadOptions()) is None
    assert capsys.readouterr().err == ""


def test_the_line_says_what_a_reader_wants_to_know():
    line = Speed(cpu_s=2.0, wall_s=1.5, minutes=6000.0, files=1500, threads=1).line()
    assert line == (
        "speed: 30 minutes of music per CPU minute; 1500 files, about 100 h 0 min of music: "
        "about 2 h 30 min with 1 thread"
    )


def test_threads_and_niceness_are_set():
    code = (
        "import json, os, torch; from omar_rq.catalogue.commands import be_modest; be_modest(1, 7); "
        "print(json.dumps([torch.get_num_threads(), os.nice(0)]))"
    )
    before = os.nice(0)
    variables = os.environ | {"OMP_NUM_THREADS": "4"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, check=True, env=variables, text=True
    )
    assert json.loads(done.stdout) == [1, min(before + 7, 19)]
    be_modest(None, None)
    assert os.nice(0) == before
