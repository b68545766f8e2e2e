"""``omar-rq predict``: chunks that are embedded alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from omar_rq import cli
from omar_rq.weights import from_pretrained
from pentatonic import audio

pytestmark = pytest.mark.usefixtures("decode_here")


@pytest.fixture
def predict(monkeypatch, tmp_path, capsys):
    """``predict(*arguments) -> (exit code, standard error)`` on a folder with two recordings."""
    generator = torch.Generator().manual_seed(0)
    for name, seconds in (("one/a.wav", 2.65), ("two/a.wav", 0.5)):
        (tmp_path / "music" / name).parent.mkdir(parents=True, exist_ok=True)
        samples = 0.1 * torch.randn(round(seconds * 16_000), generator=generator)
        audio.save(tmp_path / "music" / name, samples, 16_000, subtype="FLOAT")

    def run(*arguments: str) -> tuple[int, str]:
        words = ["omar-rq", "predict", str(tmp_path / "music"), "--out", str(tmp_path / "out"), *arguments]
        monkeypatch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return run


def test_chunks_are_written_where_the_recordings_were(predict, tmp_path: Path) -> None:
    assert predict("--chunk", "1", "--layers", "0,-1")[0] == 0
    model = from_pretrained("omar-rq-tiny")
    samples = audio.load(tmp_path / "music" / "one" / "a.wav").samples[0]
    with np.load(tmp_path / "out" / "one" / "a.wav.npz") as stored:
        assert stored["offsets_s"].tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
        assert stored["layers"].tolist() == [0, 4]
        assert stored["embeddings"].shape == (2, 5, 15, 144)
        for number, start in ((1, 8000), (4, 32_000)):
            chunk = torch.nn.functional.pad(
                samples[start : start + 16_000], (0, max(0, start + 16_000 - 42_400))
            )
            alone = model.extract_embeddings(chunk, [0, 4], sample_rate=16_000)[:, 0]
            assert np.array_equal(stored["embeddings"][:, number], alone.numpy())
    with np.load(tmp_path / "out" / "two" / "a.wav.npz") as stored:
        assert stored["embeddings"].shape == (2, 1, 15, 144)
        assert float(stored["duration_s"]) == 0.5
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [each["chunks"] for each in report["inputs"]] == [5, 1]
    assert report["inputs"][1]["flags"] == ["short (0.50 s)"]


def test_a_second_run_continues_and_other_settings_are_refused(predict, tmp_path: Path) -> None:
    (tmp_path / "music" / "bad.wav").write_bytes(b"RIFF")
    code, errors = predict("--chunk", "1", "--pool", "mean", "--overlap", "0", "--store", "float16")
    assert code == 3 and "bad.wav" in errors and "2 done" in errors
    with np.load(tmp_path / "out" / "one" / "a.wav.npz") as stored:
        assert stored["embeddings"].shape == (1, 3, 144) and stored["embeddings"].dtype == np.float16
        assert stored["offsets_s"].tolist() == [0.0, 1.0, 2.0]
    code, errors = predict("--chunk", "1", "--pool", "mean", "--overlap", "0", "--store", "float16")
    assert code == 3 and "2 skipped" in errors
    code, errors = predict("--chunk", "2", "--pool", "mean", "--overlap", "0", "--store", "float16")
    assert code == 2 and "chunk_s 1.0, not 2.0" in errors


def test_words_that_are_not_allowed(predict) -> None:
    code, errors = predict("--layers", "9")
    assert code == 2 and "layer 9 of a trunk with 5 layers" in errors
    assert predict("--overlap", "1")[0] == 2
