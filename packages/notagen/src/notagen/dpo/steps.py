"""Steps of a run that are done once: each leaves a mark with a hash of what it was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pentatonic.errors import FormatError, UsageError
from pentatonic.folder_run import write_json
from pentatonic.progress import printable
from pentatonic.untrusted.files import read_json

MARKS_FILE = "steps.json"


class Steps:
    """The finished steps of a folder.

    Args:
        folder: Its marks are in :data:`MARKS_FILE`; created when missing.
        say: Gets a line about each step.

    Raises:
        FormatError: The marks are not of this module.
    """

    def __init__(
        self, folder: Path, say: Callable[[str], None] = lambda line: print(printable(line))
    ) -> None:
        self.folder, self._say, self._file = folder, say, folder / MARKS_FILE
        folder.mkdir(parents=True, exist_ok=True)
        self.marks: dict[str, str] = {}
        if self._file.is_file():
            found = read_json(self._file, error=FormatError)
            if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
                raise FormatError("not an object of steps and their hashes", path=self._file)
            self.marks = found

    def run(self, name: str, made_from: Any, work: Callable[[], None]) -> str:
        """Do a step unless it is done already.

        Args:
            name: Its name.
            made_from: JSON values that decide what it makes: settings, and the results of this method for the steps
                whose outputs it reads.
            work: Writes its outputs. After a kill it is called again, and goes on from what there is or starts anew.

        Returns:
            A hash that later steps name as what they are made from.

        Raises:
            UsageError: The step was done from something else.
        """
        wanted = hashlib.sha256(json.dumps([name, made_from], sort_keys=True).encode()).hexdigest()
        done = self.marks.get(name)
        if done is not None and done != wanted:
            raise UsageError(
                f"{self.folder}: the step {name!r} was made from other music, models or settings; choose "
                "another run_dir"
            )
        if done is None:
            self._say(f"{self.folder.name}: {name}")
            work()
            self.marks[name] = wanted
            write_json(self._file, self.marks)
        return wanted
