"""What the commands of ``rc-audioldm evaluate`` check of their options before any work."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pentatonic.errors import UsageError


def named_folders(systems: Sequence[str], names: Sequence[str]) -> dict[str, Path]:
    """Return the folders of systems by their names: those that are given, or those of the folders.

    Args:
        systems: Folders, at least one.
        names: As many, or none.

    Raises:
        UsageError: There are no systems, the numbers differ, or a name is empty or taken.
    """
    if not systems:
        raise UsageError("there is nothing to evaluate; give systems=[FOLDER,...]")
    if names and len(names) != len(systems):
        raise UsageError(f"names are {len(names)} and systems {len(systems)}; allowed: as many, or none")
    found: dict[str, Path] = {}
    for folder, name in zip(systems, names or [Path(each).resolve().name for each in systems], strict=True):
        if not name or name in found:
            raise UsageError(
                f"{folder}: the name {name!r} is empty or taken; give others with names=[NAME,...]"
            )
        found[name] = Path(folder)
    return found


def required(value: str | None, option: str) -> Path:
    """Return a path that has to be given.

    Args:
        value: As it was given.
        option: As a user writes it, such as ``out=FOLDER``.

    Raises:
        UsageError: It was not given.
    """
    if value is None:
        raise UsageError(f"give {option}")
    return Path(value)


def check_ranges(
    config: Any, least: Mapping[str, float], allowed: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Check numbers and choices of a configuration.

    Args:
        config: The configuration; values that are None are not checked.
        least: Key -> its smallest value.
        allowed: Key -> its values.

    Raises:
        UsageError: A value is out of its range; the message names it.
    """
    for name, smallest in least.items():
        value = getattr(config, name)
        if value is not None and not (math.isfinite(value) and value >= smallest):
            raise UsageError(f"{name} is {value}; allowed: {smallest} or more")
    for name, values in (allowed or {}).items():
        if (value := getattr(config, name)) not in values:
            raise UsageError(f"{name} is {value!r}; allowed: {', '.join(values)}")
