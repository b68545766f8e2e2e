"""Describe the machine of a benchmark, and write ``benchmarks/results/<processor or GPU>/<subject>.{json,md}``."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
_LOAD_BEFORE = os.getloadavg()[0]
_NOTE = "A load of more than a few tenths before the run means that other programs shared the cores."


def describe_machine(*, gpu: bool = False) -> dict[str, Any]:
    """Properties of the machine that timings depend on; loads are averages over one minute.

    Args:
        gpu: Add the properties of the GPU.
    """
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "gpu": _gpu_name(),
        "os": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "load_before": round(_LOAD_BEFORE, 1),
        "load_after": round(os.getloadavg()[0], 1),
        **(_gpu_facts() if gpu else {}),
    }


def results_folder(*, gpu: bool = False, root: Path = RESULTS) -> Path:
    """Create and return the results folder of this processor, or with ``gpu`` of this GPU."""
    name = (_gpu_name() if gpu else None) or _cpu_model()
    folder = root / re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_results(
    subject: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    command: str,
    gpu: bool = False,
    root: Path = RESULTS,
    tables: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    picture: str | None = None,
) -> Path:
    """Write the rows with command, time and machine, as JSON and as a Markdown page beside it.

    Args:
        subject: Name of the files.
        rows: One mapping per line of the table; all with the same keys.
        command: The command that reproduces these results.
        gpu: Whether the GPU was measured: its properties are added, and the folder is named after it.
        root: Where the folders of the machines are.
        tables: Further tables, such as conclusions from the rows; on the page they come before the rows.
        picture: Image in the same folder, to show on the page.

    Returns:
        The JSON file.
    """
    machine = describe_machine(gpu=gpu)
    tables = {name: list(table) for name, table in (tables or {}).items() if table}
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    result = {"subject": subject, "command": command, "time": when, "machine": machine, **tables}
    path = results_folder(gpu=gpu, root=root) / f"{subject}.json"
    _replace(path, json.dumps(result | {"rows": list(rows)}, indent=1) + "\n")
    facts = ", ".join(f"{name} {value}" for name, value in machine.items() if value is not None)
    parts = [f"# {subject}", f"`{command}`, {when}", facts, _NOTE]
    parts += [f"![{subject}]({picture})"] if picture else []
    parts += [f"## {name}\n\n{markdown_table(table)}" for name, table in tables.items()]
    parts += ["## rows"] if tables else []
    _replace(path.with_suffix(".md"), "\n\n".join([*parts, markdown_table(rows)]) + "\n")
    return path


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a Markdown table; numbers to three significant digits, absent values empty."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([_cell(row[name]) for name in names] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def _replace(path: Path, text: str) -> None:
    """Write a file atomically, so that an interrupted run leaves the previous one."""
    sibling = path.with_name(f".{path.name}.tmp")
    sibling.write_text(text, encoding="utf-8")
    sibling.replace(path)


@cache
def _gpu_name() -> str | None:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


@cache
def _gpu_facts() -> dict[str, Any]:
    import triton

    properties = torch.cuda.get_device_properties()
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        driver = None
    return {
        "driver": driver,
        "cuda": torch.version.cuda,
        "triton": triton.__version__,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "gpu_memory_gb": round(properties.total_memory / 2**30),
        "l2_mb": round(properties.L2_cache_size / 2**20),
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()
