"""Stored processors: JSON files of their parts, and where the models are that come with the package."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pentatonic.checkpoint.atomic import atomic_file
from pentatonic.errors import ConfigError
from pentatonic.untrusted.files import read_json

BUNDLED: Mapping[str, Path] = {"cm3p-tiny": Path(__file__).parent / "checkpoints" / "cm3p-tiny"}
"""Name to directory of the models that come with the package."""

_MAX_FILE_BYTES = 256 << 20  # a vocabulary with all mappers of the game has some MB


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        ConfigError: It is missing, is not JSON, or holds something else.
    """
    content = read_json(path, max_bytes=_MAX_FILE_BYTES)
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold a JSON object")
    return content


def write_json(path: Path, content: Mapping[str, Any], *, compact: bool = False) -> Path:
    """Write a JSON file as transformers does; its folder is made if it is missing.

    Args:
        path: The file.
        content: What it holds.
        compact: One line, keys in their order; else sorted keys and two spaces of indentation.

    Returns:
        ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    layout: dict[str, Any] = {} if compact else {"indent": 2, "sort_keys": True}
    with atomic_file(path, "w") as file:
        file.write(json.dumps(content, ensure_ascii=False, **layout) + ("" if compact else "\n"))
    return path


class StoredInOneFile(ABC):
    """A part of the processor that is stored as one JSON file of its constructor's arguments."""

    CONFIG_FILE = "preprocessor_config.json"

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """The content of the configuration file."""

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> list[str]:
        """Write the configuration into a folder, which is made if it is missing; returns the path of the file."""
        return [str(write_json(Path(save_directory) / self.CONFIG_FILE, self.to_dict()))]

    @classmethod
    def from_pretrained(cls, directory: str | Path, *, subfolder: str = "") -> Self:
        """Read a configuration.

        Args:
            directory: A folder on this machine.
            subfolder: Folder inside it.

        Raises:
            ConfigError: The file is missing, or a value is out of range.
        """
        return cls(**read_json_object(Path(directory) / subfolder / cls.CONFIG_FILE))
