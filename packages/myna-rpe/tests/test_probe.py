"""``myna-rpe probe`` on a small data set in a published layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("hydra")

from myna_rpe.config import EncoderConfig, PositionConfig
from myna_rpe.model import MynaEncoder
from myna_rpe.probe import main
from myna_rpe.weights import save_pretrained
from pentatonic.cli import PartialFailure
from pentatonic.errors import ConfigError

RATE = 44100
GENRES = {"low": 200.0, "high": 3000.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GTZAN with two genres of tones, a file that is no audio, and a small model with random weights."""
    root = tmp_path_factory.mktemp("gtzan")
    generator = np.random.default_rng(0)
    times_s = np.arange(RATE // 4) / RATE
    for split, count in (("train", 8), ("valid", 4), ("test", 4)):
        names = []
        for genre, pitch in GENRES.items():
            (root / genre).mkdir(exist_ok=True)
            for number in range(count):
                tone = np.sin(2 * np.pi * pitch * generator.uniform(0.8, 1.2) * times_s)
                names.append(f"{genre}/{genre}.{split}{number}.wav")
                noise = 0.01 * generator.standard_normal(len(tone))
                soundfile.write(root / names[-1], 0.3 * tone + noise, RATE)
        (root / f"{split}_filtered.txt").write_text("\n".join(names) + "\n")
    torch.manual_seed(0)
    model = MynaEncoder(
        EncoderConfig(
            dim=24,
            depth=1,
            heads=2,
            dim_head=8,
            mlp_dim=32,
            out_dim=0,
            positions=PositionConfig(bias="alibi"),
        )
    )
    save_pretrained(model, root / "model")
    return root


def run(folder: Path, *more: str) -> None:
    main([f"data.root={folder}", f"encoder={folder / 'model'}", "epochs=3", "device=cpu", *more])


def test_probes_of_a_data_set(folder: Path, tmp_path: Path) -> None:
    run(folder, "data.name=gtzan", f"out={tmp_path / 'result.json'}")
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["tracks"] == {"train": 16, "valid": 8, "test": 8}
    assert result["data"] == "gtzan" and 0 <= result["test"]["accuracy"]["value"] <= 1


def test_a_data_set_through_mirdata(folder: Path, tmp_path: Path) -> None:
    """The same files as mirdata places them give the same numbers."""
    pytest.importorskip("mirdata")
    home = tmp_path / "gtzan_genre"
    tracks = {}
    for genre in GENRES:
        place = Path("gtzan_genre", "genres", genre)
        shutil.copytree(folder / genre, home / place)
        for path in (folder / genre).iterdir():
            files = {"audio": str(place / path.name), "beats": None, "tempo": None}
            tracks[path.stem] = {kind: [file, None] for kind, file in files.items()}
    for table in folder.glob("*_filtered.txt"):
        shutil.copy(table, home)
    (home / "gtzan_genre_index_1.0.json").write_text(json.dumps({"version": "1.0", "tracks": tracks}))
    run(folder, "data.name=gtzan", f"out={tmp_path / 'folder.json'}")
    more = ["data.name=gtzan", "data.source=mirdata", f"data.root={tmp_path}"]
    run(folder, *more, f"out={tmp_path / 'mirdata.json'}")
    expected, found = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("folder", "mirdata"))
    assert found == {**expected, "data_source": "mirdata"} and expected["data_source"] == "folder"


def test_a_recording_that_cannot_be_read_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "low" / "low.train0.wav"
    content = file.read_bytes()
    file.write_bytes(b"no audio")
    try:
        with pytest.raises(PartialFailure):
            run(folder, "data.name=gtzan")
    finally:
        file.write_bytes(content)
    printed = capsys.readouterr()
    assert json.loads(printed.out)["tracks"]["train"] == 15 and "low.train0.wav" in printed.err


def test_a_grid_that_does_not_exist(folder: Path) -> None:
    with pytest.raises(ConfigError, match="allowed: quick, full"):
        run(folder, "data.name=gtzan", "grid=large")
