"""Training of encoders through the real command line: the three tasks on a toy scale, resume included."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from notagen import cli
from notagen.clamp2.weights import from_pretrained, m3_from_pretrained
from notagen.training.preprocess import PreprocessConfig, preprocess

pytest.importorskip("accelerate")
TUNE = "X:1\nL:1/8\nM:4/4\nK:{key}\n" + "CDEF GABc|c2B2 A2G2|FEDC EFGA|{key}4 c4|" * 3 + "\n"
KEYS = ("C", "D", "F", "G", "A")


@pytest.fixture
def command(monkeypatch, capsys):
    """``command(*arguments) -> (exit code, standard output, standard error)``."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["notagen", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        return (exit.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Scores, an index of them, and pieces with descriptions."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "source").mkdir()
    for key in KEYS:
        (folder / "source" / f"{key}.abc").write_text(TUNE.format(key=key))
    config = PreprocessConfig(jobs=1)
    config.data.source, config.data.out = str(folder / "source"), str(folder / "set")
    config.data.min_bars, config.data.eval_share = 1, 0.0
    preprocess(config)
    lines = [
        {"title": f"Tune in {key}", "summary_en": f"A piece in {key}", "filepaths": [f"source/{key}.abc"]}
        for key in KEYS
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def words(data) -> dict[str, list[str]]:
    """Experiment -> where its data are."""
    index = data / "set" / "augmented.jsonl"
    found = {
        "m3-debug": [f"data.train={data / 'source'}", f"data.val={data / 'source'}"],
        "scorer-debug": [f"data.train={index}", f"data.val={index}"],
    }
    pairs = data / "pairs.jsonl"
    tokenizer = data / "tokenizer.json"
    found["clamp2-debug"] = [f"data.train={pairs}", f"data.val={pairs}", f"data.tokenizer={tokenizer}"]
    return found


@pytest.mark.parametrize("experiment", ["m3-debug", "clamp2-debug", "scorer-debug"])
def test_a_stopped_run_equals_one_that_was_not(command, data, words, tmp_path, experiment):
    if experiment == "clamp2-debug":
        pytest.importorskip("transformers")
        from notagen.clamp2.tokens import train_tokenizer

        train_tokenizer(["A piece in C", "Tune in D"], 270).save(str(data / "tokenizer.json"))

    def train(run: Path, *more: str) -> None:
        given = [f"experiment={experiment}", *words[experiment], f"run_dir={run}", *more]
        code, out, err = command("train-encoder", *given)
        assert code == 0, err
        assert f"{run} is finished" in out

    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    train(straight)
    shutil.copytree(straight, stopped)
    for checkpoint in sorted((stopped / "checkpoints").glob("step-*"))[-1:]:
        shutil.rmtree(checkpoint)
    train(stopped)
    logs = [(run / "metrics.jsonl").read_text() for run in (straight, stopped)]
    assert logs[0] == logs[1]
    steps = [json.loads(line) for line in logs[0].splitlines()]
    assert [line["step"] for line in steps if "loss" in line] == list(range(1, 9))
    assert [line["step"] for line in steps if "val_loss" in line] == [4, 8]
    newest = [
        sorted((run / "checkpoints").glob("step-*"))[-1] / "model.safetensors" for run in (straight, stopped)
    ]
    tensors = [load_file(path) for path in newest]
    assert all(torch.equal(tensors[0][key], tensors[1][key]) for key in tensors[0])
    best = straight / "best"
    model = m3_from_pretrained(best) if experiment == "m3-debug" else from_pretrained(best)
    assert not model.training
    assert json.loads((best / "best.json").read_text())["step"] in (4, 8)


def test_a_wrong_task_and_missing_data_are_named(command, words, tmp_path):
    given = ("experiment=scorer-debug", *words["scorer-debug"], f"run_dir={tmp_path / 'run'}")
    code, _, err = command("train-encoder", *given, "task=strange")
    assert code == 1 and "allowed: masked, pairs, parts" in err
    code, _, err = command("train-encoder", *given, f"data.train={tmp_path / 'none.jsonl'}")
    assert code == 1 and "none.jsonl" in err
    code, _, err = command("train-encoder", *given, "data.typo=1")
    assert code == 1 and "typo" in err
