"""Where a result comes from: command, versions, commit and hardware, without secrets.

Use :func:`run_manifest` through :mod:`pentatonic.cli`.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["distribution_version", "hide_secrets", "run_manifest"]

_HIDDEN = "***"
_SENSITIVE = (
    r"(?:token|secret|password|passwd|passphrase|credentials?|authorization"
    r"|(?:api|access|private)[_-]?key)"
)
_VARIABLE = re.compile(rf"(?:{_SENSITIVE}|_key)$", re.IGNORECASE)
_OPTION = re.compile(rf"--?[\w.-]*{_SENSITIVE}", re.IGNORECASE)
_ASSIGNMENT = re.compile(rf"({_SENSITIVE}[\"']?\s*[=:]).+", re.IGNORECASE | re.DOTALL)
_URL_LOGIN = re.compile(r"(\w://)[^/@\s]+@")


def run_manifest() -> dict[str, Any]:
    """Describe this run, for storage with its results.

    Returns:
        ``command``: one line for a shell, in which the values of options, overrides and environment variables
        that are named like secrets are replaced by ``***``. ``time``: UTC, ISO 8601. ``versions``: Python, the
        installed packages of this workspace and what they require. ``git_commit``: of the code, with ``-dirty`` where
        it was changed, or None outside a checkout. ``hardware``: platform, processor, number of CPUs, memory and GPUs.
    """
    return {
        "command": _command_line(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
        "git_commit": _git_commit(),
        "hardware": _hardware(),
    }


def hide_secrets(text: str) -> str:
    """Replace the values of environment variables that are named like secrets by ``***``."""
    for name, value in os.environ.items():
        if len(value) >= 6 and _VARIABLE.search(name):
            text = text.replace(value, _HIDDEN)
    return text


def distribution_version(name: str) -> str | None:
    """Version of an installed distribution, or None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _command_line() -> str:
    program = Path(sys.argv[0])
    if program.suffix == ".py" or program.name in ("", "-c", "-m"):
        words = [Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]]
    else:
        words = [program.name, *sys.argv[1:]]
    shown, previous = [], ""
    for word in words:
        shown.append(_HIDDEN if _OPTION.fullmatch(previous) else _hide_in_word(word))
        previous = word
    return shlex.join(shown)


def _hide_in_word(word: str) -> str:
    word = _ASSIGNMENT.sub(rf"\1{_HIDDEN}", hide_secrets(word))
    return _URL_LOGIN.sub(rf"\1{_HIDDEN}@", word)


def _versions() -> dict[str, str]:
    """Python, the distributions of the project and all that they require."""
    wanted = {"pentatonic"}
    for distribution in importlib.metadata.distributions():
        # There may be hundreds of distributions, and it takes half a millisecond to parse the metadata of one.
        if "pentatonic" not in (distribution.read_text("METADATA") or ""):
            continue
        name, requirements = distribution.metadata["Name"], distribution.requires or ()
        matches = (re.match(r"[\w.-]+", requirement) for requirement in requirements)
        required = {match.group().lower() for match in matches if match}
        if name == "pentatonic" or "pentatonic" in required:
            wanted |= {name, *required}
    found = {name: distribution_version(name) for name in sorted(wanted)}
    return {"python": platform.python_version()} | {name: v for name, v in found.items() if v is not None}


def _git_commit() -> str | None:
    here = Path(__file__).resolve()

    def git(*arguments: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # The environment may be inside an unrelated checkout: only a repository that tracks this file counts.
        git("ls-files", "--error-unmatch", here.name)
        return git("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")
    except (OSError, subprocess.SubprocessError):
        return None


def _hardware() -> dict[str, Any]:
    import torch

    gpus = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(index)
            gpus.append({"name": gpu.name, "memory_bytes": gpu.total_memory})
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": len(affinity(0)) if affinity else os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "cuda": torch.version.cuda,
        "gpus": gpus,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match.group(1) if match else platform.processor() or platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return None
