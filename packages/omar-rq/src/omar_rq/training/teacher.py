"""What a teacher says about crops of a prepared folder (:mod:`pentatonic.training.teacher`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omar_rq.training.data import MANIFEST, Track, read_manifest
from pentatonic.errors import InputError
from pentatonic.training.teacher import TeacherTargets


class Teacher:
    """Targets of a teacher for the tracks of a folder that ``omar-rq prepare`` has written.

    Args:
        root: The folder.
        name: Of the teacher.

    Attributes:
        targets: Widths and statistics of what it says.

    Raises:
        InputError: The folder is not prepared, has no targets of this teacher, or was prepared again since.
        FormatError: A file is damaged.
    """

    def __init__(self, root: str | Path, name: str) -> None:
        root = Path(root)
        if not (root / MANIFEST).is_file():
            raise InputError(
                f"targets of a teacher need a folder of omar-rq prepare; {root} has no {MANIFEST}"
            )
        self.targets = TeacherTargets(root, name, index=MANIFEST)
        self._numbers = {track.path: number for number, track in enumerate(read_manifest(root))}

    def of_crop(self, track: Track, start_s: float, end_s: float) -> dict[str, NDArray[np.float32]]:
        """Return ``vectors`` ``(V,)`` and, where the teacher has tags, ``tags`` ``(K,)``; NaN where it heard nothing.

        Args:
            track: One of the folder.
            start_s: Start of the crop in the track.
            end_s: Its end.
        """
        return self.targets.of_crop(self._numbers[track.path], start_s, end_s)
