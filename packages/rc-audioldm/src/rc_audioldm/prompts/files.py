"""Files of prompts: one a line, in UTF-8, with empty lines and lines of comments between them."""

from __future__ import annotations

from pathlib import Path

from pentatonic.errors import InputError
from pentatonic.untrusted.files import regular_file_size

MAX_FILE_BYTES = 16 * 2**20
"""Largest file of prompts that is read."""
MAX_PROMPT_CHARACTERS = 10_000
"""Longest prompt of a file."""

_BOM = "\ufeff"


def read_prompts(path: str | Path) -> list[str]:
    """Read the prompts of a file.

    A byte order mark and spaces around a prompt are dropped, bytes that are not UTF-8 are left out, and so are empty
    lines and lines that start with ``#``.

    Args:
        path: The file.

    Raises:
        InputError: The file is missing or too large, or has no prompt or one that is too long.
    """
    if (size := regular_file_size(path, error=InputError)) > MAX_FILE_BYTES:
        raise InputError(f"{path}: has {size} bytes; at most {MAX_FILE_BYTES} are read")
    try:
        text = Path(path).read_bytes().decode("utf-8", errors="ignore")
    except OSError as problem:
        raise InputError(f"{path}: cannot be read: {problem.strerror or problem}") from problem
    lines = enumerate((line.replace(_BOM, "").strip() for line in text.splitlines()), start=1)
    prompts = {number: line for number, line in lines if line and not line.startswith("#")}
    if not prompts:
        raise InputError(f"{path}: has no prompts, only empty lines and lines that start with '#'")
    for number, prompt in prompts.items():
        if len(prompt) > MAX_PROMPT_CHARACTERS:
            raise InputError(
                f"{path}:{number}: the prompt has {len(prompt)} characters; allowed: {MAX_PROMPT_CHARACTERS}"
            )
    return list(prompts.values())
