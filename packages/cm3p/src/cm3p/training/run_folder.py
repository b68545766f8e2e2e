"""The run folder: what is written before the first step, complete checkpoints, and the model that they leave.

::

    run.json  config.yaml     command, versions, commit, hardware; the whole configuration
    metrics.jsonl             one line for each log of the Trainer
    checkpoint-<step>/        model and processor, optimiser, schedule, random generators, state of the loader
    config.json, model.safetensors, processor_config.json, …   the model of the newest checkpoint; at the end, the best
    left_out.json             maps that could not be read, with the reasons
    example_data/             made-up maps, where no others were given
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.trainer_utils import rotate_checkpoints

from pentatonic.checkpoint import atomic_file
from pentatonic.cli import run_manifest
from pentatonic.errors import ConfigError
from pentatonic.processes.run_lock import LOCK_FILE
from pentatonic.training.interruption import INTERRUPTED_FILE
from pentatonic.untrusted.files import read_json

MANIFEST_FILE, CONFIG_FILE, METRICS_FILE, LEFT_OUT_FILE = (
    "run.json",
    "config.yaml",
    "metrics.jsonl",
    "left_out.json",
)
EXAMPLE_DATA = "example_data"
_TRAINER_STATE = "trainer_state.json"  # the last file of a checkpoint that the Trainer writes
_MODEL_FILES = ("config.json", "model.safetensors")
_MOST_BYTES = 256 << 20


def checkpoints(run_dir: Path) -> list[Path]:
    """Return the complete checkpoints, oldest first."""
    found = []
    for path in run_dir.glob("checkpoint-*"):
        match = re.fullmatch(r"checkpoint-(\d+)", path.name)
        if match and _is_complete(path):
            found.append((int(match[1]), path))
    return [path for _, path in sorted(found)]


def _is_complete(checkpoint: Path) -> bool:
    try:
        read_json(checkpoint / _TRAINER_STATE, max_bytes=_MOST_BYTES)
    except ConfigError:
        return False
    return True


def newest_checkpoint(run_dir: Path, wanted: str | None = None) -> Path | None:
    """Return the checkpoint to go on from: the one that is asked for, or the newest; None where there is none.

    Raises:
        ConfigError: The one that is asked for is not complete, or the folder holds other things and no run.
    """
    if wanted is not None:
        if not _is_complete(Path(wanted)):
            raise ConfigError(f"training.resume_from_checkpoint={wanted} is not a complete checkpoint")
        return Path(wanted)
    if found := checkpoints(run_dir):
        return found[-1]
    ours = {LOCK_FILE, INTERRUPTED_FILE, EXAMPLE_DATA}
    present = {path.name for path in run_dir.iterdir()} if run_dir.is_dir() else set()
    if MANIFEST_FILE not in present and (others := sorted(present - ours)):
        raise ConfigError(
            f"run_dir={run_dir} holds {', '.join(others[:3])} and no run; allowed: a new or empty folder, or that of a "
            "run"
        )
    return None


def remove_checkpoints(run_dir: Path) -> None:
    """Remove the checkpoints and the log of a run that begins anew."""
    for path in run_dir.glob("checkpoint-*"):
        shutil.rmtree(path)
    (run_dir / METRICS_FILE).unlink(missing_ok=True)


def describe_run(run_dir: Path, config_text: str, more: Mapping[str, Any]) -> None:
    """Write ``run.json`` and ``config.yaml``."""
    with atomic_file(run_dir / MANIFEST_FILE, "w") as file:
        file.write(json.dumps(run_manifest() | dict(more), indent=2) + "\n")
    with atomic_file(run_dir / CONFIG_FILE, "w") as file:
        file.write(config_text)


def loader_state_file(checkpoint: Path, rank: int) -> Path:
    """Return where a process keeps the state of its loader."""
    return checkpoint / f"loader_state_{rank}.json"


def write_loader_state(checkpoint: Path, rank: int, state: Mapping[str, Any]) -> None:
    """Write the state of the loader of a process into a checkpoint."""
    with atomic_file(loader_state_file(checkpoint, rank), "w") as file:
        file.write(json.dumps(state) + "\n")


def read_loader_state(checkpoint: Path, rank: int) -> dict[str, Any] | None:
    """Read what :func:`write_loader_state` wrote; the first process's where this one has none."""
    for each in (rank, 0):
        if (path := loader_state_file(checkpoint, each)).is_file():
            return read_json(path)  # type: ignore[return-value]
    return None


def publish_model(run_dir: Path, checkpoint: Path) -> None:
    """Let the run folder load as the model of a checkpoint."""
    for name in _MODEL_FILES:
        if (checkpoint / name).is_file():
            with atomic_file(run_dir / name) as target, (checkpoint / name).open("rb") as source:
                shutil.copyfileobj(source, target)


def keep_newest(run_dir: Path, limit: int | None, best: str | None) -> None:
    """Remove old checkpoints beyond a number, but never the best one."""
    if limit is not None:
        rotate_checkpoints(
            output_dir=str(run_dir), save_total_limit=limit, best_model_checkpoint=best, use_mtime=False
        )


def write_left_out(run_dir: Path, failures: Mapping[str, str]) -> None:
    """Write which maps could not be read; no file where all could."""
    path = run_dir / LEFT_OUT_FILE
    if not failures:
        path.unlink(missing_ok=True)
        return
    with atomic_file(path, "w") as file:
        file.write(json.dumps(dict(sorted(failures.items())), indent=2) + "\n")
