"""The run's log of metrics: one JSON object per line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path


class MetricsLog:
    """A JSON Lines file that can be truncated to its length at a checkpoint.

    A resumed run repeats the steps after its checkpoint and writes their lines again; truncating the file first keeps
    it equal to that of an uninterrupted run.

    Args:
        path: The file; created when missing.
        position: Length in bytes to which it is truncated.
    """

    def __init__(self, path: Path, position: int) -> None:
        self._file = path.open("ab")
        self._file.truncate(min(position, self._file.tell()))

    def write(self, record: Mapping[str, float]) -> None:
        """Appends one line; a killed process loses none of the lines written.

        Args:
            record: Names and numbers, which read back unchanged; NaN and infinities become null.
        """
        finite = {name: value if math.isfinite(value) else None for name, value in record.items()}
        self._file.write((json.dumps(finite) + "\n").encode())
        self._file.flush()

    def sync(self) -> int:
        """Makes the file durable.

        Returns:
            Its length in bytes, as ``position`` of a later log.
        """
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
