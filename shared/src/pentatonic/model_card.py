"""Model cards: facts about an exported model and about the training run it comes from. A card makes no other claims."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # comes with huggingface-hub

from pentatonic.checkpoint import model_directory
from pentatonic.errors import CheckpointError

# Logged by the trainers; a card shows the last value of each.
_METRICS = ("loss", "accuracy", "val_loss", "val_accuracy")


@dataclass(frozen=True)
class Training:
    """What a run folder says about the training of a checkpoint.

    Args:
        step: Optimizer steps done; ``None`` when unknown.
        run: Content of ``run.json``: command, versions, hardware, trainer settings.
        metrics: The last logged value of each metric up to ``step``.
        config: Content of ``config.yaml``: the whole configuration.
    """

    step: int | None = None
    run: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


def read_training(source: str | Path) -> Training:
    """Read what a trainer wrote about a model; files that are missing are passed over.

    Args:
        source: A run folder (its newest checkpoint counts), a checkpoint in its ``checkpoints`` folder, or its folder
            ``best``. Any other model gives an empty :class:`Training`.

    Raises:
        CheckpointError: A file is not JSON or YAML, or a run folder has no intact checkpoint.
    """
    model = model_directory(Path(source).expanduser())
    best = _json(model / "best.json")
    step = best.get("step", _json(model / "state.json").get("step"))
    if step is None:
        return Training()
    run = model.parent if best else model.parent.parent
    metrics: dict[str, float] = {}
    log = run / "metrics.jsonl"
    for number, line in enumerate(log.read_text(encoding="utf-8").splitlines() if log.is_file() else (), 1):
        values = _parsed(line, f"{log}:{number}")
        if values.get("step", 0) <= step:
            metrics |= {key: value for key, value in values.items() if isinstance(value, int | float)}
    return Training(
        step=step, run=_json(run / "run.json"), metrics=metrics, config=_yaml(run / "config.yaml")
    )


def model_card(
    name: str,
    *,
    package: str,
    task: str,
    tags: Sequence[str],
    about: str,
    example: str,
    facts: Mapping[str, str],
    training: Training,
    quality: str,
) -> str:
    """Write the card of a model, in the form that model hubs read.

    Args:
        name: Name of the model.
        package: Distribution that loads it, such as ``omar-rq``.
        task: The hub's name of the task (``pipeline_tag``).
        tags: Further tags for the hub.
        about: One sentence: what the model does, and where the method is described.
        example: Python code that loads and uses it.
        facts: Rows of the table of its properties.
        training: How it was trained.
        quality: What is known about its quality.

    Returns:
        Markdown with a YAML head. It states no licence: the author of the model chooses one.
    """
    lines = [
        "---",
        f"library_name: {package}",
        f"pipeline_tag: {task}",
        f"tags: [{', '.join(tags)}]",
        "---",
        f"# {name}",
        "",
        about,
        "",
        "```python",
        *example.strip().splitlines(),
        "```",
        "",
        *_table("model", facts),
        "",
        "## Training",
        "",
        *_training_lines(training, package),
        "",
        "## Quality",
        "",
        *quality.strip().splitlines(),
    ]
    return "\n".join(lines) + "\n"


def _training_lines(training: Training, package: str) -> list[str]:
    if training.step is None:
        return ["Nothing is known about it."]
    run = training.run
    rows = {"steps": f"{training.step:,}"}
    if "command" in run:
        rows["command"] = f"`{run['command']}`"
    if "batch_size" in run:
        accumulation = run.get("trainer", {}).get("grad_accumulation", 1)
        rows["items per step"] = str(run["batch_size"] * accumulation * run.get("world_size", 1))
    # Runs of earlier versions only say what was asked for.
    if precision := run.get("precision", run.get("trainer", {}).get("precision")):
        rows["precision"] = precision
    rows |= {key: f"{training.metrics[key]:.4g}" for key in _METRICS if key in training.metrics}
    if versions := run.get("versions"):
        rows["versions"] = ", ".join(
            f"{name} {versions[name]}" for name in (package, "torch") if name in versions
        )
    if commit := run.get("git_commit"):
        rows["commit"] = commit
    return _table("training", rows)


def _table(head: str, rows: Mapping[str, str]) -> list[str]:
    cells = [(head, ""), ("---", "---"), *rows.items()]
    return [f"| {key} | {value.replace('|', chr(92) + '|')} |" for key, value in cells]


def _yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: is not YAML") from error
    return found if isinstance(found, dict) else {}


def _json(path: Path) -> dict[str, Any]:
    return _parsed(path.read_text(encoding="utf-8"), str(path)) if path.is_file() else {}


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{where}: not JSON ({error})") from error
    return values if isinstance(values, dict) else {}
