"""Model cards: what is read from a run, and what is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pentatonic.checkpoint import atomic_directory
from pentatonic.errors import CheckpointError
from pentatonic.model_card import Training, model_card, read_training


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with checkpoints of steps 2 and 4, and the best model of step 2."""
    run = tmp_path / "run"
    for step in (2, 4):
        with atomic_directory(run / "checkpoints" / f"step-{step:08d}") as folder:
            (folder / "state.json").write_text(json.dumps({"step": step}))
    with atomic_directory(run / "best") as folder:
        (folder / "best.json").write_text(json.dumps({"step": 2, "val_loss": 0.5}))
    lines = [{"step": step, "loss": 1 / step, "note": "text"} for step in range(1, 5)]
    lines.insert(2, {"step": 2, "val_loss": 0.5})
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    described = {"command": "train a=1", "batch_size": 4, "world_size": 2, "git_commit": "abc"}
    (run / "run.json").write_text(
        json.dumps(
            described | {"trainer": {"grad_accumulation": 3}, "versions": {"some": "1.0", "other": "2"}}
        )
    )
    return run


@pytest.mark.parametrize(
    ("source", "step", "loss"),
    [("", 4, 0.25), ("checkpoints/step-00000002", 2, 0.5), ("best", 2, 0.5)],
)
def test_a_run_its_checkpoints_and_its_best_model_are_read(
    run: Path, source: str, step: int, loss: float
) -> None:
    training = read_training(run / source)
    assert (training.step, training.run["command"]) == (step, "train a=1")
    assert training.metrics == {"step": step, "loss": loss, "val_loss": 0.5}


def test_other_models_have_no_training(run: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for source in (tmp_path / "model", "owner/name", tmp_path / "missing"):
        assert read_training(source) == Training()
    (run / "metrics.jsonl").write_text('{"step": 1}\n{"ste')
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl:2: not JSON"):
        read_training(run)


def bomb(levels: int) -> str:
    """YAML of a few lines that stands for 2**levels values."""
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("config.yaml", bomb(40), "is not YAML"),
        ("config.yaml", "[" * 100_000, "is not YAML"),
        ("config.yaml", "a: " + "9" * 5000, "is not YAML"),
        ("config.yaml", "a: 2026-99-99", "is not YAML"),
        ("config.yaml", " " * (2**17 + 1), "at most 131072 are read"),
        ("run.json", "9" * 5000, "not JSON"),
        ("run.json", "[" * 100_000, "not JSON"),
        ("metrics.jsonl", '{"step": ' + "9" * 5000, "metrics.jsonl:1: not JSON"),
        ("best/best.json", '{"step": "2"}', "step of the training is '2'"),
        ("best/best.json", '{"step": true}', "step of the training is True"),
        ("best/best.json", '{"step": [1]}', "step of the training is [1]"),
    ],
)
def test_hostile_run_folders_are_refused(run: Path, name: str, text: str, says: str) -> None:
    (run / name).write_text(text)
    with pytest.raises(CheckpointError) as caught:
        read_training(run / "best")
    assert says in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "values",
    [
        {"batch_size": "x" * 1000, "world_size": 10**9},
        {"batch_size": 4, "world_size": 10**9, "trainer": {"grad_accumulation": "x"}},
        {"batch_size": -1, "trainer": [1], "versions": "some"},
        {"trainer": None, "versions": {"some": [1]}, "git_commit": {"a": 1}, "command": 7},
    ],
)
def test_a_card_shows_no_nonsense_of_a_run(run: Path, values: dict) -> None:
    (run / "run.json").write_text(json.dumps(values))
    text = card(read_training(run))
    assert "items per step" not in text and len(text) < 3000


def card(training: Training) -> str:
    return model_card(
        "my-model",
        package="some",
        task="audio-classification",
        tags=("music", "test"),
        about="About it.",
        example="\nprint(1)\n",
        facts={"size": "1 | 2"},
        training=training,
        quality="\nNot measured.\n",
    )


def test_a_card_states_the_facts_and_the_run(run: Path) -> None:
    text = card(read_training(run))
    assert text.startswith(
        "---\nlibrary_name: some\npipeline_tag: audio-classification\ntags: [music, test]\n---\n# my-model\n"
    )
    assert "```python\nprint(1)\n```" in text and text.endswith("## Quality\n\nNot measured.\n")
    for row in ("size | 1 \\| 2", "steps | 4", "command | `train a=1`", "items per step | 24", "loss | 0.25"):
        assert f"| {row} |" in text
    assert "| versions | some 1.0 |" in text and "| commit | abc |" in text
    assert "Nothing is known about it." in card(Training())
