"""Which saved probes a command uses: by folder, or by the name of one that the package ships."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from pentatonic.errors import UsageError
from pentatonic.untrusted.files import local_path

if TYPE_CHECKING:
    from omar_rq.probing.saved import SavedProbe

BUNDLED = "probes"
"""Folder of the package with a folder for each probe that it ships."""


def bundled_probes() -> dict[str, Path]:
    """Name -> folder of the probes that the package ships; there may be none."""
    folder = Path(str(resources.files("omar_rq") / BUNDLED))
    return {path.parent.name: path.parent for path in sorted(folder.glob("*/config.json"))}


def find_probe(name: str) -> Path:
    """Return the folder of a probe.

    Args:
        name: A folder, or the name of a probe that the package ships.

    Raises:
        UsageError: There is no such folder, and no such probe.
    """
    shipped = bundled_probes()
    if name in shipped:
        return shipped[name]
    path = local_path(name)
    if path is None or not path.is_dir():
        names = f", or one of {', '.join(shipped)}" if shipped else ""
        raise UsageError(
            f"--probe {name}: no such probe; allowed: a folder that omar-rq probe has written{names}"
        )
    return path


def load_probes(
    names: Sequence[str], tasks: Collection[str], needed: Collection[str]
) -> dict[str, SavedProbe]:
    """Load the probes of a command; what is not given is taken from those that the package ships, by task.

    Args:
        names: What the user gave.
        tasks: Tasks that the command can use; of a name that is not given, the shipped probe for it, if there is one.
        needed: Tasks that the command cannot do without, or of which it needs one where none is in ``tasks``.

    Returns:
        Task -> probe; all belong to one encoder.

    Raises:
        UsageError: A probe is for another task, two are for the same one, one is missing, or they belong to different
            encoders.
        ConfigError: A probe cannot be read.
        CheckpointError: Likewise.
    """
    from omar_rq.probing.saved import SavedProbe

    probes: dict[str, SavedProbe] = {}
    for name in names:
        probe = SavedProbe.load(find_probe(name))
        if probe.task not in tasks:
            raise UsageError(f"--probe {name} is for the task {probe.task}; allowed: {', '.join(tasks)}")
        if probe.task in probes:
            raise UsageError(
                f"--probe {name}: there is another one for {probe.task}; allowed: one for each task"
            )
        probes[probe.task] = probe
    for task in needed:
        if task not in probes and task in (shipped := bundled_probes()):
            probes[task] = SavedProbe.load(shipped[task])
    if missing := [task for task in needed if task not in probes]:
        raise UsageError(
            f"--probe is missing: this command needs a probe for {' and for '.join(missing)}; "
            f"omar-rq probe task={missing[0]} makes one"
        )
    encoders = {probe.encoder.sha256: probe.encoder.model for probe in probes.values()}
    if len(encoders) > 1:
        raise UsageError(
            f"the probes belong to different encoders ({', '.join(encoders.values())}); allowed: all to one"
        )
    return probes
