"""Which files of a folder ``notagen convert`` wrote itself, so that it never replaces any other file.

The record is a hidden file in the output folder with the hash of each file as it was written. A file that was changed
since then counts as somebody else's.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from pentatonic.checkpoint import atomic_file
from pentatonic.errors import InputError

RECORD = ".notagen-convert.json"
_MOST_BYTES = 64 << 20


class OutputRecord:
    """The files that a command wrote into a folder, in this run and in earlier ones; safe to use from threads.

    Args:
        folder: The output folder; it need not exist. A record that cannot be read counts as empty.
        overwrite: Whether any file may be replaced.
    """

    def __init__(self, folder: Path, *, overwrite: bool = False) -> None:
        self.folder, self.overwrite = folder, overwrite
        self._lock = threading.Lock()
        self._hashes = _read(folder / RECORD)
        self._changed = False

    def check(self, files: Mapping[Path, bytes]) -> None:
        """Check that files may be written.

        Args:
            files: Path below the folder -> content.

        Raises:
            InputError: A file exists, has another content, and is not as this command wrote it.
        """
        for path, content in {} if self.overwrite else files.items():
            if not path.exists():
                continue
            try:
                found = sha256(path.read_bytes()).hexdigest()
            except OSError as error:
                raise InputError(f"{path} exists and cannot be read ({error.strerror})") from error
            if found not in (_hash(content), self._hashes.get(self._name(path))):
                raise InputError(
                    f"{path} exists and is not as this command wrote it; choose another folder, or give --overwrite "
                    "to replace it"
                )

    def add(self, files: Mapping[Path, bytes]) -> None:
        """Record files that were written: path below the folder -> content."""
        with self._lock:
            self._hashes |= {self._name(path): _hash(content) for path, content in files.items()}
            self._changed |= bool(files)

    def save(self) -> None:
        """Write the record, if anything was added.

        Raises:
            CheckpointError: It cannot be written.
        """
        if self._changed:
            with atomic_file(self.folder / RECORD) as file:
                file.write(json.dumps({"files": self._hashes}, indent=1, sort_keys=True).encode())

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


def _hash(content: bytes) -> str:
    return sha256(content).hexdigest()


def _read(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            files = json.loads(file.read(_MOST_BYTES))["files"]
        return {str(name): str(digest) for name, digest in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
