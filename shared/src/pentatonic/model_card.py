"""Model cards: facts about an exported model and about the training run it comes from. A card makes no other claims."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import yaml  # comes with huggingface-hub

from pentatonic.checkpoint import model_directory
from pentatonic.errors import CheckpointError
from pentatonic.untrusted.files import parse_json, read_json, read_text, shortened

_MAX_LOG_BYTES = 256 * 2**20
_MAX_YAML_BYTES = 2**17
_MOST = 10**15
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
        CheckpointError: A file is too large, or not JSON or YAML, or a run folder has no intact checkpoint.
    """
    model = model_directory(Path(source).expanduser())
    best = _json(model / "best.json")
    step = best.get("step", _json(model / "state.json").get("step"))
    if step is None:
        return Training()
    if not _is_count(step):
        raise CheckpointError(f"{model}: the step of the training is {shortened(step)}; allowed: 0 and more")
    run = model.parent if best else model.parent.parent
    metrics: dict[str, float] = {}
    log = run / "metrics.jsonl"
    lines = read_text(log, max_bytes=_MAX_LOG_BYTES, error=CheckpointError) if log.is_file() else ""
    for number, line in enumerate(lines.splitlines(), 1):
        values = _mapping(parse_json(line, where=f"{log}:{number}", error=CheckpointError))
        logged = values.get("step", 0)
        if _is_count(logged) and logged <= step:
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
    trainer, versions = _mapping(run.get("trainer")), _mapping(run.get("versions"))
    rows = {"steps": f"{training.step:,}"}
    if "command" in run:
        rows["command"] = f"`{run['command']}`"
    sizes = (run.get("batch_size"), trainer.get("grad_accumulation", 1), run.get("world_size", 1))
    counts = [size for size in sizes if _is_count(size)]
    if len(counts) == len(sizes):
        rows["items per step"] = str(math.prod(counts))
    # Runs of earlier versions only say what was asked for.
    if precision := run.get("precision", trainer.get("precision")):
        rows["precision"] = str(precision)
    rows |= {key: f"{training.metrics[key]:.4g}" for key in _METRICS if key in training.metrics}
    if versions:
        rows["versions"] = ", ".join(
            f"{name} {versions[name]}" for name in (package, "torch") if name in versions
        )
    if commit := run.get("git_commit"):
        rows["commit"] = str(commit)
    return _table("training", rows)


def _table(head: str, rows: Mapping[str, str]) -> list[str]:
    cells = [(head, ""), ("---", "---"), *rows.items()]
    return [f"| {key} | {value.replace('|', chr(92) + '|')} |" for key, value in cells]


class _PlainLoader(yaml.SafeLoader):
    """Reads YAML without aliases, which let a short text stand for a very long one."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias")
        return super().compose_node(parent, index)


def _yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    text = read_text(path, max_bytes=_MAX_YAML_BYTES, error=CheckpointError)
    try:
        return _mapping(_PlainLoader(text).get_single_data())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: is not YAML") from error


def _json(path: Path) -> dict[str, Any]:
    return _mapping(read_json(path, error=CheckpointError)) if path.is_file() else {}


def _mapping(values: Any) -> dict[str, Any]:
    return values if isinstance(values, dict) else {}


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST
