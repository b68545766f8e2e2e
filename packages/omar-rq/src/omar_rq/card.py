"""The card of an exported model: what it hears and returns, and what its run left behind. It claims nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from omar_rq.config import ConformerConfig
from omar_rq.describe import describe
from omar_rq.model import OmarRQ
from pentatonic.errors import CheckpointError


@dataclass(frozen=True)
class Training:
    """What a run folder says about the training of a checkpoint.

    Args:
        step: Optimizer steps done; ``None`` when unknown.
        run: Content of ``run.json``: command, versions, hardware, trainer settings.
        metrics: The last logged value of each metric up to ``step``.
    """

    step: int | None = None
    run: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


def read_training(checkpoint: Path) -> Training:
    """Read what lies beside a checkpoint; what is missing stays out.

    Args:
        checkpoint: A ``step-…`` folder, in the ``checkpoints`` folder of its run.

    Raises:
        CheckpointError: A file is no JSON.
    """
    step = _json(checkpoint / "state.json").get("step")
    run = checkpoint.parent.parent
    metrics: dict[str, float] = {}
    if (run / "metrics.jsonl").is_file():
        for number, line in enumerate((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines(), 1):
            values = _parsed(line, f"{run / 'metrics.jsonl'}:{number}")
            if step is None or values.get("step", 0) <= step:
                metrics |= {key: value for key, value in values.items() if isinstance(value, int | float)}
    return Training(step=step, run=_json(run / "run.json"), metrics=metrics)


def model_card(model: OmarRQ, training: Training, *, name: str, dtype: torch.dtype = torch.float32) -> str:
    """Write the card of a model, in the form that model hubs read.

    Args:
        model: The model.
        training: How it was trained.
        name: What to call it.
        dtype: Number type of the stored weights.

    Returns:
        Markdown with a YAML head. It states no licence, which is for its author to choose.
    """
    facts = describe(model.config)
    net = model.config.net
    rows = {
        "input": f"{facts['input']}, mono, {facts['sample_rate']} Hz",
        "embeddings per second": f"{facts['eps']:.6g}",
        "layers / width / heads": f"{net.depth} / {net.embed_dim} / {net.num_heads}",
        "trunk": f"{net.name}, {'causal' if net.causal else 'bidirectional'}",
        "DeepNorm alpha / beta": f"{net.alpha_deepnorm} / {net.beta_deepnorm}" if _deepnorm(net) else "off",
        "parameters": f"{facts['parameters']:,}",
        "weights": str(dtype).removeprefix("torch."),
        "targets": ", ".join(facts["targets"]) or "none",
        "codebooks per target": " x ".join(map(str, _codebooks(facts["codebooks"]))) or "none",
    }
    lines = [
        "---",
        "library_name: omar-rq",
        "pipeline_tag: feature-extraction",
        "tags: [music, audio, embeddings]",
        "---",
        f"# {name}",
        "",
        "Music audio embeddings by masked token prediction (OMAR-RQ, arXiv 2507.03482).",
        "",
        "```python",
        "from omar_rq import from_pretrained",
        "",
        f'model = from_pretrained("{name}")',
        f"embeddings = model.extract_embeddings(audio, sample_rate={facts['sample_rate']})",
        f"print(embeddings.shape)  # (layers, batch, tokens, {net.embed_dim})",
        "```",
        "",
        *_table(("model", ""), rows),
        "",
        "## Training",
        "",
        *_training_lines(training),
        "",
        "## Quality",
        "",
        "Not measured by the export. A loss says how well hidden tokens are predicted, not what the embeddings",
        "are good for: probe them on your task beside an untrained network and plain log-mel.",
    ]
    return "\n".join(lines) + "\n"


def _training_lines(training: Training) -> list[str]:
    if training.step is None:
        return ["Nothing is known about it."]
    run = training.run
    rows = {"steps": f"{training.step:,}"}
    if "command" in run:
        rows["command"] = f"`{run['command']}`"
    if "batch_size" in run:
        accumulation = run.get("trainer", {}).get("grad_accumulation", 1)
        rows["items per step"] = str(run["batch_size"] * accumulation * run.get("world_size", 1))
    if "precision" in run.get("trainer", {}):
        rows["precision"] = run["trainer"]["precision"]
    for key in ("loss", "accuracy", "val_loss", "val_accuracy"):
        if key in training.metrics:
            rows[key] = f"{training.metrics[key]:.4g}"
    if versions := run.get("versions"):
        rows["versions"] = ", ".join(
            f"{package} {versions[package]}" for package in ("omar-rq", "torch") if package in versions
        )
    if commit := run.get("git_commit"):
        rows["commit"] = commit
    return _table(("training", ""), rows)


def _table(head: tuple[str, str], rows: Mapping[str, str]) -> list[str]:
    cells = [head, ("---", "---"), *rows.items()]
    return [f"| {key} | {value.replace('|', chr(92) + '|')} |" for key, value in cells]


def _deepnorm(net: Any) -> bool:
    return net.use_deepnorm if isinstance(net, ConformerConfig) else net.do_deepnorm


def _codebooks(sizes: list[int]) -> tuple[int, ...]:
    return (len(sizes), sizes[0]) if sizes else ()


def _json(path: Path) -> dict[str, Any]:
    return _parsed(path.read_text(encoding="utf-8"), str(path)) if path.is_file() else {}


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{where}: no JSON ({error})") from error
    return values if isinstance(values, dict) else {}
