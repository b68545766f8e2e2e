"""``rc-audioldm info``: models by name, and what a directory holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pentatonic.cli import run
from rc_audioldm.cli import app


def info(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        run(app, ["info", *map(str, arguments)])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_known_models_have_their_licence(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = info(capsys, "--json")
    models = {each["model"]: each for each in json.loads(out)}
    assert status == 0 and {"cvssp/audioldm", "cvssp/audioldm2", "cvssp/audioldm2-music"} <= models.keys()
    assert all("NC" in each["licence"] for each in models.values() if each["kind"] == "released")


@pytest.mark.parametrize(("family", "steered"), [("audioldm", 3), ("audioldm2", 4)])
def test_a_directory_is_described(
    directories: Any, capsys: pytest.CaptureFixture[str], family: str, steered: int
) -> None:
    status, out, err = info(capsys, directories(family), "--json")
    assert status == 0, err
    about = json.loads(out)
    assert about["family"] == family and about["sample_rate"] == 16000
    assert about["parameters"] == sum(about["components"].values()) > 0
    assert len(about["steered_by"]) == steered and about["licence"] == "not stated"
    status, out, _ = info(capsys, directories(family))
    assert status == 0 and "not stated" in out


def test_what_is_no_model_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = info(capsys, tmp_path)
    assert status == 1 and "model_index.json" in err
