"""What a benchmark ran on, and where its results go: ``benchmarks/results/<processor>/<subject>.{json,md}``."""

from __future__ import annotations

import json
import os
import platform
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
_LOAD_BEFORE = os.getloadavg()[0]
_NOTE = "A load before of more than a few tenths means that other programs shared the cores."


def describe_machine() -> dict[str, Any]:
    """The facts that timings depend on. Loads are means over one minute, of programs that run or wait."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "os": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "load_before": round(_LOAD_BEFORE, 1),
        "load_after": round(os.getloadavg()[0], 1),
    }


def write_results(subject: str, rows: Sequence[Mapping[str, Any]], *, command: str) -> Path:
    """Write the rows with command, time and machine, as JSON and as a Markdown page beside it.

    Args:
        subject: Name of the files.
        rows: One mapping per line of the table; all with the same keys.
        command: How to make these numbers again.

    Returns:
        The JSON file.
    """
    machine = describe_machine()
    folder = RESULTS / re.sub(r"[^a-z0-9]+", "-", machine["cpu"].lower()).strip("-")
    folder.mkdir(parents=True, exist_ok=True)
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    result = {"subject": subject, "command": command, "time": when, "machine": machine, "rows": list(rows)}
    path = folder / f"{subject}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    facts = ", ".join(f"{name} {value}" for name, value in machine.items() if value is not None)
    page = f"# {subject}\n\n`{command}`, {when}\n\n{facts}\n\n{_NOTE}\n\n{markdown_table(rows)}\n"
    path.with_suffix(".md").write_text(page, encoding="utf-8")
    return path


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a Markdown table; numbers to three significant digits, absent values empty."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([_cell(row[name]) for name in names] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()
