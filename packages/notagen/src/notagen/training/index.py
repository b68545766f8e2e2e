"""Index files: the pieces of a data set, one JSON object per line.

A piece is stored once per key, as ``<folder>/<KEY>/<name>_<KEY>.abc``; its ``path`` in the index is
``<folder>/<name>``. ``key`` is the value of its own ``K:`` field. Files of the original project have only
these two fields; ours add the ``prompt`` that precedes the piece and the ``group`` that is never split between training
and evaluation.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from notagen.notation.keys import MAJOR_KEYS, major_key
from notagen.prompts import Prompt
from pentatonic.checkpoint import atomic_file
from pentatonic.errors import FormatError, InputError

_CHORD_SYMBOL = re.compile('"[A-G]')


@dataclass(frozen=True)
class Entry:
    """One piece of a data set.

    Args:
        path: ``<folder>/<name>``, relative to the folder of the index (or absolute).
        key: Value of the piece's own ``K:`` field.
        prompt: Lines that precede the piece, without their ``%``: period, composer and instrumentation, or others.
        group: Name shared by pieces that belong together, such as the movements of a work.
    """

    path: str
    key: str
    prompt: tuple[str, ...] = ()
    group: str = ""

    @property
    def prompt_text(self) -> str:
        """The prompt as comment lines, empty without one."""
        return "".join(f"%{line}\n" for line in self.prompt)

    def file(self, key: str) -> Path:
        """Return the file of the piece in a major key, relative to the same folder as ``path``."""
        folder, _, name = self.path.rpartition("/")
        return Path(folder) / key / f"{name}_{key}.abc"


class Index:
    """The pieces of one index file.

    Args:
        path: The file.

    Attributes:
        entries: Its pieces, in order.

    Raises:
        FormatError: A line is not an entry; the error has file and line.
        InputError: The file cannot be read, or is empty.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"index {self.path} cannot be read ({error})") from error
        self.entries = [self._entry(number, line) for number, line in enumerate(lines, 1) if line.strip()]
        if not self.entries:
            raise InputError(f"index {self.path} has no pieces")

    def __len__(self) -> int:
        return len(self.entries)

    def read(self, index: int, key: str | None = None) -> str:
        """Return a piece in a major key, preceded by its prompt.

        Args:
            index: Number of the entry.
            key: One of :data:`notagen.notation.keys.MAJOR_KEYS`; ``None``: that of the piece's own key signature.

        Raises:
            InputError: The file is missing, or is not text.
        """
        entry = self.entries[index]
        file = entry.file(major_key(entry.key) if key is None else key)
        path = self.path.parent / file
        if not path.is_file() and file.is_file():
            path = file  # paths of the original are relative to the folder in which its scripts run
        try:
            return entry.prompt_text + path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path} cannot be read ({error})") from error

    def _entry(self, number: int, line: str) -> Entry:
        try:
            values: Any = json.loads(line)
            prompt = values.get("prompt", [])
            entry = Entry(
                _text(values["path"]), _text(values["key"]), _lines(prompt), _text(values.get("group", ""))
            )
            major_key(entry.key)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise FormatError(
                f"not an entry ({error}); allowed: an object with path and key, and optionally prompt and group",
                path=self.path,
                line=number,
            ) from error
        return entry


def write_index(path: str | Path, entries: Iterable[Entry]) -> None:
    """Write an index file; on an error no partial file is left.

    Raises:
        CheckpointError: It cannot be written.
    """
    with atomic_file(path) as file:
        for entry in entries:
            values = {"path": entry.path, "key": entry.key}
            more = {"prompt": list(entry.prompt), "group": entry.group}
            line = values | {name: value for name, value in more.items() if value}
            file.write(f"{json.dumps(line)}\n".encode())


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def index_prompts(index: Index) -> tuple[Prompt, ...]:
    """Return the prompts of three lines that the pieces of an index have; those of most pieces come first."""
    counts = Counter(entry.prompt for entry in index.entries if len(entry.prompt) == 3)
    return tuple(Prompt(*lines) for lines in sorted(counts, key=lambda lines: (-counts[lines], lines)))


def index_texts(index: Index) -> Iterator[str]:
    """Yield the pieces of an index; those with chord symbols, which differ between keys, in each key that there is.

    Raises:
        InputError: The file of a piece in its own key is missing, or is not text.
    """
    for number, entry in enumerate(index.entries):
        text = index.read(number)
        yield text
        own = major_key(entry.key)
        for key in MAJOR_KEYS if _CHORD_SYMBOL.search(text) else ():
            if key != own and (index.path.parent / entry.file(key)).is_file():
                yield index.read(number, key)


def _lines(value: Any) -> tuple[str, ...]:
    """Return the lines of a prompt, which may also be one text with ``%`` before each line, as for the original."""
    lines: Sequence[Any] = value.splitlines() if isinstance(value, str) else value
    return tuple(_text(line).removeprefix("%") for line in lines)
