"""Which kernel variants have agreed with the reference on this machine, in a file that outlives the process."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch


class Record:
    """The variants that agreed on a device, in a file.

    Args:
        path: The file, or ``None`` where there is no folder for it.
        machine: What the agreement depends on: GPU, driver and versions.
    """

    def __init__(self, path: Path | None, machine: dict[str, str]) -> None:
        self.path, self.machine = path, machine

    @staticmethod
    def of(device: torch.device) -> Record:
        """The record of a device of this machine."""
        machine = {"device": _device_name(device), **_versions()}
        digest = hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()[:16]
        folder = _cache_folder()
        return Record(None if folder is None else folder / f"{digest}.json", machine)

    def read(self) -> set[str]:
        """The variants; none from a file that is missing, damaged or of another machine."""
        try:
            written: Any = json.loads(self.path.read_text(encoding="utf-8")) if self.path else {}
            if written["machine"] == self.machine:
                return set(written["agreed"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return set()

    def add(self, variant: str) -> None:
        """Add a variant; a file that cannot be written is left as it is."""
        if self.path is None:
            return
        written = {"machine": self.machine, "agreed": sorted(self.read() | {variant})}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self.path.parent, suffix=".tmp", delete=False) as file:
                json.dump(written, file, indent=1)
            Path(file.name).replace(self.path)
        except OSError:
            pass


def _cache_folder() -> Path | None:
    """``pentatonic/attention`` in the user's folder for caches."""
    root = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (root if root.is_absolute() else Path.home() / ".cache") / "pentatonic" / "attention"
    except RuntimeError:  # no home
        return None


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@cache
def _versions() -> dict[str, str]:
    """Driver, compiler and package; the kernels' text stands for what a version number does not tell."""
    import triton

    try:
        driver = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").split("\n")[0]
    except OSError:
        driver = "unknown"
    text = hashlib.sha256()
    for part in sorted(files("pentatonic.attention.kernels").iterdir(), key=lambda part: part.name):
        if part.is_file():
            text.update(part.read_bytes())
    return {
        "driver": driver,
        "cuda": str(torch.version.cuda),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "pentatonic": version("pentatonic"),
        "kernels": text.hexdigest()[:16],
    }
