"""The command: what it writes, what it refuses, and texts and styles by a stand-in embedder."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from pentatonic.cli import BatchReport
from pentatonic.errors import ConfigError, IncompatibleVectors, UsageError
from rc_audioldm.evaluation.commands import app
from rc_audioldm.evaluation.embedders import MelEmbedder
from rc_audioldm.evaluation.evaluate import STYLE, TEXT, evaluate_systems
from rc_audioldm.evaluation.main import RunsConfig
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
    options = [f"out={out}", "few=shrink", "resamples=20", "players=1"]
    systems = [f"systems=[{one},{two}]", "names=[one,B]"]
    result = CliRunner().invoke(app, ["runs", *systems, f"reference={one}", *options])
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
    assert found["config"] == asdict(
        RunsConfig(
            systems=[str(one), str(two)],
            names=["one", "B"],
            out=str(out),
            reference=str(one),
            few="shrink",
            players=1,
            resamples=20,
        )
    )
    again = [f"systems=[{one}]", f"reference={out}/reference.safetensors", *options]
    stored = CliRunner().invoke(app, ["runs", *again, "loudness=-20"])
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


def test_style_vectors_of_another_model_are_noted_and_not_compared(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 200)
    np.save(run / "style_vectors.npy", np.ones((4, 2)))
    for clap, compared in (({"model": "small", "weights": "ab"}, False), (None, True)):
        (run / "run_config.json").write_text(json.dumps({"settings": {"clap": clap}}), encoding="utf-8")
        system = read_system("run", run)
        found = evaluate_systems([system], Stub(), Preparation(RATE), BatchReport(), few="shrink")
        assert all((STYLE in row) == compared for row in found.items)
        assert any("model=small compares with them" in note for note in found.notes) != compared


def test_a_run_with_a_bank_is_evaluated_by_the_plain_command(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 200)
    np.save(run / "style_vectors.npy", np.ones((4, 64)))
    config = {"settings": {"clap": {"model": "rc-audioldm-tiny", "weights": "ab"}}}
    (run / "run_config.json").write_text(json.dumps(config), encoding="utf-8")
    result = CliRunner().invoke(app, ["runs", f"systems=[{run}]", f"out={tmp_path}/out", "few=shrink"])
    assert result.exit_code == 0, result.exception
    assert "model=rc-audioldm-tiny compares with them" in result.stdout


def test_a_test_is_made_and_its_answers_analysed(tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "one", 200), write_run(tmp_path / "two", 400)
    out = tmp_path / "test"
    made = CliRunner().invoke(app, ["listening-test", f"systems=[{one},{two}]", f"out={out}"])
    assert made.exit_code == 0, made.exception
    key = json.loads((out / "key.json").read_text())["trials"]
    lines = [f"{row['pair_id']},{'A' if row['system_a'] == 'one' else 'B'}" for row in key]
    (tmp_path / "Ann.csv").write_text("\n".join(["pair_id,preference", *lines]), encoding="utf-8")
    key_and_sheets = [f"key={out}/key.json", f"sheets=[{tmp_path}/Ann.csv]"]
    result = CliRunner().invoke(app, ["answers", *key_and_sheets, "json=true"])
    assert result.exit_code == 0, result.exception
    preferences = json.loads(result.stdout)["result"]["preferences"]
    assert [(each["first"], each["wins"]["count"], each["wins"]["total"]) for each in preferences] == [
        ("one", 4, 4)
    ] * 3
    # A folder stands for the sheets in it.
    folder = CliRunner().invoke(app, ["answers", key_and_sheets[0], f"sheets=[{tmp_path}]", "json=true"])
    assert json.loads(folder.stdout) == json.loads(result.stdout)


def test_a_reference_is_embedded_once_and_gives_the_same_distances(tmp_path: Path) -> None:
    one, two, file = (
        write_run(tmp_path / "one", 200),
        write_run(tmp_path / "two", 400),
        tmp_path / "r.safetensors",
    )
    made = CliRunner().invoke(app, ["reference", f"recordings={two}", f"out={file}", "json=true"])
    assert made.exit_code == 0, made.exception
    assert json.loads(made.stdout)["recordings"] == 4
    distances = []
    for place, name in ((two, "folder"), (file, "file")):
        options = [f"reference={place}", f"out={tmp_path}/{name}", "few=shrink", "resamples=5", "json=true"]
        result = CliRunner().invoke(app, ["runs", f"systems=[{one}]", *options])
        assert result.exit_code == 0, result.exception
        distances.append(json.loads(result.stdout)["to_reference"]["one"])
    assert distances[0] == distances[1] and distances[0]["frechet"] > 0


def test_loudness_null_leaves_recordings_as_they_are(tmp_path: Path) -> None:
    one, file = write_run(tmp_path / "one", 200), tmp_path / "r.safetensors"
    made = CliRunner().invoke(
        app, ["reference", f"recordings={one}", f"out={file}", "loudness=null", "json=true"]
    )
    assert json.loads(made.stdout)["loudness"] == "as it is"


def test_folders_whose_names_need_quotes(tmp_path: Path) -> None:
    places = [write_run(tmp_path / "one, two" / name, 200, 2) for name in ("a = [1]", "café (2)")]
    quoted = ",".join(f'"{place}"' for place in places)
    result = CliRunner().invoke(app, ["listening-test", f"systems=[{quoted}]", f"out={tmp_path}/test"])
    assert result.exit_code == 0, result.exception


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("runs out=o", "there is nothing to evaluate; give systems="),
        ("runs systems=[{run}]", "give out=FOLDER"),
        ("runs systems=[{run},{run}] out=o", "the name 'run' is empty or taken; give others with names="),
        (
            "runs systems=[{run},{run}] names=[A] out=o",
            "names are 1 and systems 2; allowed: as many, or none",
        ),
        ("runs systems=[nowhere] out=o", "no such file or folder: nowhere"),
        ("runs systems=[{run}] out=o few=many", "few is 'many'; allowed: refuse, shrink"),
        ("runs systems=[{run}] out=o rate=10", "rate is 10; allowed: 1000 or more"),
        ("runs systems=[{run}] out=o players=-1", "players is -1; allowed: 0 or more"),
        ("runs systems=[{run}] out=o resamples=0", "resamples is 0; allowed: 1 or more"),
        ("runs systems=[{run}] out=o device=tpu", "device is 'tpu'; allowed: auto, cpu, cuda, mps"),
        ("runs systems=[{run}] out=o loudness=1", "loudness is 1.0; allowed"),
        ("reference out=o.safetensors", "give recordings=FOLDER"),
        ("reference recordings={run}", "give out=FILE"),
        ("listening-test systems=[{run}] out=o criteria=[]", "criteria are none"),
        ("answers sheets=[{run}]", "give key=FILE"),
        ("answers key={run}/items.jsonl sheets=[]", "there are no answers; give sheets="),
    ],
    ids=lambda each: each,
)
def test_wrong_use(words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", 200, 1)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, words.format(run=run).split())
    assert isinstance(result.exception, UsageError) and said in str(result.exception)
    assert not Path("o").exists()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("nope=1", "unknown key 'nope'; the configuration has systems, names, out, "),
        ("resamples=many", "'resamples': "),
        ("systems=run", "'systems': "),
        ("--out", "--out"),
    ],
)
def test_a_wrong_override_is_named(override: str, said: str) -> None:
    result = CliRunner().invoke(app, ["runs", override])
    if override.startswith("--"):
        assert result.exit_code == 2 and said in result.output
    else:
        assert isinstance(result.exception, ConfigError) and said in str(result.exception)
