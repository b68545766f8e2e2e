"""The command: what it writes, what it refuses, and texts and styles by a stand-in embedder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from pentatonic.cli import BatchReport
from pentatonic.errors import IncompatibleVectors
from rc_audioldm.evaluation.commands import app
from rc_audioldm.evaluation.embedders import MelEmbedder
from rc_audioldm.evaluation.evaluate import STYLE, TEXT, evaluate_systems
from rc_audioldm.evaluation.sounds import Preparation
from rc_audioldm.evaluation.systems import read_system

RATE = 16_000


def write_run(folder: Path, pitch: float, count: int = 4) -> Path:
    (folder / "wav").mkdir(parents=True)
    time = np.arange(RATE) / RATE
    rows = []
    for i in range(count):
        noise = 0.01 * np.random.default_rng(i).normal(size=RATE)
        soundfile.write(
            folder / "wav" / f"{i}.wav", 0.2 * np.sin(2 * np.pi * pitch * (1 + i) * time) + noise, RATE
        )
        rows.append(json.dumps({"id": i, "file": f"wav/{i}.wav", "prompt": f"tone <b> | {i}"}))
    (folder / "items.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return folder


class Stub(MelEmbedder):
    """Two dimensions: pitched below or above 500 Hz; texts with 'high' are above."""

    def describe(self) -> dict[str, object]:
        return {"kind": "stub"}

    def embed(self, samples: np.ndarray) -> np.ndarray:
        peak = np.abs(np.fft.rfft(samples)).argmax() * RATE / len(samples)
        return np.array([[1, 0] if peak < 500 else [0, 1]], np.float32)

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        return np.array([[0, 1] if "high" in text else [1, 0] for text in texts], np.float32)


def test_runs_are_measured_compared_and_reported(tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "one", 200), write_run(tmp_path / "two", 400)
    (two / "wav" / "3.wav").write_bytes(b"broken")
    out = tmp_path / "out"
    options = ["--out", str(out), "--few", "shrink", "--resamples", "20", "--players", "1"]
    result = CliRunner().invoke(app, ["runs", str(one), f"B={two}", "--reference", str(one), *options])
    assert type(result.exception).__name__ == "PartialFailure"
    found = json.loads((out / "evaluation.json").read_text())
    assert found["means"].keys() == {"one", "B"}
    assert found["to_reference"]["one"]["frechet"] == pytest.approx(0, abs=1e-9)
    assert found["to_reference"]["B"]["frechet"] > 0
    assert found["to_reference"]["one"]["header"]["loudness"] == "-23 LUFS"
    assert {each["items"] for each in found["differences"]} == {3}
    assert found["report"]["counts"]["failed"] == 1
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 7 and rows[0]["centroid_hz"] > 0
    page, text = ((out / name).read_text() for name in ("report.html", "evaluation.md"))
    assert page.count("<audio") == 2 and "<b>" not in page
    assert "| centroid\\_hz |" in text
    stored = CliRunner().invoke(
        app,
        ["runs", str(one), "--reference", str(out / "reference.safetensors"), *options, "--loudness", "-20"],
    )
    assert isinstance(stored.exception, IncompatibleVectors)
    assert "loudness" in str(stored.exception)


def test_similarity_to_prompts_and_styles(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 200)
    np.save(run / "style_vectors.npy", np.array([[0, 2.0], [1, 0], [1, 1], [0, 0]]))
    prompts = ["low", "low", "high", "low"]
    rows = [{"id": i, "file": f"wav/{i}.wav", "prompt": prompts[i]} for i in range(4)]
    (run / "items.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = evaluate_systems(
        [read_system("run", run)], Stub(), Preparation(RATE), BatchReport(), resamples=10, few="shrink"
    )
    # 200 and 400 Hz are low, 600 and 800 Hz high.
    assert [row[TEXT] for row in found.items] == pytest.approx([1, 1, 1, 0])
    assert [row[STYLE] for row in found.items] == pytest.approx([0, 1, 0.5**0.5, np.nan], nan_ok=True)
    assert found.means["run"][TEXT].value == 0.75
    np.save(run / "style_vectors.npy", np.ones((4, 3)))
    with pytest.raises(IncompatibleVectors, match="3 dimensions"):
        evaluate_systems([read_system("run", run)], Stub(), Preparation(RATE), BatchReport())


def test_a_test_is_made_and_its_answers_analysed(tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "one", 200), write_run(tmp_path / "two", 400)
    out = tmp_path / "test"
    made = CliRunner().invoke(app, ["listening-test", str(one), str(two), "--out", str(out)])
    assert made.exit_code == 0, made.exception
    key = json.loads((out / "key.json").read_text())["trials"]
    lines = [f"{row['pair_id']},{'A' if row['system_a'] == 'one' else 'B'}" for row in key]
    (tmp_path / "Ann.csv").write_text("\n".join(["pair_id,preference", *lines]), encoding="utf-8")
    result = CliRunner().invoke(app, ["answers", str(out / "key.json"), str(tmp_path / "Ann.csv"), "--json"])
    assert result.exit_code == 0, result.exception
    preferences = json.loads(result.stdout)["result"]["preferences"]
    assert [(each["first"], each["wins"]["count"], each["wins"]["total"]) for each in preferences] == [
        ("one", 4, 4)
    ] * 3
