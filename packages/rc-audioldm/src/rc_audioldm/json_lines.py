"""Files with a JSON value on each line: UTF-8, with or without a byte-order mark; empty lines are left out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pentatonic.checkpoint import atomic_file
from pentatonic.errors import FormatError, InputError
from pentatonic.untrusted.files import regular_file_size

MOST_LINE_BYTES = 1 << 16


def write_json_lines(path: str | Path, values: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object on each line, whole or not at all, in ASCII, so that names of any encoding survive.

    Raises:
        CheckpointError: The file cannot be written.
    """
    with atomic_file(path, "w") as file:
        for value in values:
            file.write(json.dumps(value, allow_nan=False) + "\n")


def read_json_lines(path: str | Path) -> Iterator[tuple[int, Any]]:
    """Yield line numbers and values of a file with JSON on each line.

    Raises:
        FormatError: There is no such file, or it is not a regular one; or a line is too long, or not JSON in UTF-8.
        InputError: The disk does not give it.
    """
    path = Path(path)
    for number, line in _lines(path):
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, too deep, or no JSON
            raise FormatError(f"not JSON ({error})", path=path, line=number) from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    regular_file_size(path, error=FormatError)
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MOST_LINE_BYTES + 1):
                number += 1
                if len(line) > MOST_LINE_BYTES:
                    reason = f"longer than {MOST_LINE_BYTES:,} bytes, the longest line allowed"
                    raise FormatError(reason, path=path, line=number)
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                except UnicodeDecodeError as error:
                    raise FormatError(f"not UTF-8 ({error.reason})", path=path, line=number) from error
                if text:
                    yield number, text
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
