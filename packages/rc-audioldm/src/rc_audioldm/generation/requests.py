"""What is asked for: a prompt each, from the command line, a file of prompts, or a file of JSON lines."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pentatonic.errors import FormatError, UsageError
from pentatonic.untrusted.files import shortened
from rc_audioldm.json_lines import read_json_lines
from rc_audioldm.licences import UNKNOWN, licence_name
from rc_audioldm.prompts.files import MAX_PROMPT_CHARACTERS, read_prompts

DEFAULT_STRENGTH = 0.35
_KEYS = ("prompt", "negative", "strength", "reference", "reference_licence")


@dataclass(frozen=True)
class Request:
    """A prompt, and what goes with it.

    Args:
        prompt: What to make.
        index: Place in the run, on which the noise depends.
        negative: What it shall not be; may be empty.
        strength: Of the style, 0 to 1; 0 makes what the prompt alone makes.
        reference: A clip that it shall sound like, or whose neighbours in the bank are the style.
        reference_licence: Of that clip.

    Raises:
        UsageError: A value is out of its range.
    """

    prompt: str
    index: int = 0
    negative: str = ""
    strength: float = DEFAULT_STRENGTH
    reference: Path | None = None
    reference_licence: str = UNKNOWN

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise UsageError(f"prompt {self.index} is empty")
        if max(len(self.prompt), len(self.negative)) > MAX_PROMPT_CHARACTERS:
            raise UsageError(
                f"prompt {self.index} or its negative has more than {MAX_PROMPT_CHARACTERS} characters"
            )
        if not (math.isfinite(self.strength) and 0 <= self.strength <= 1):
            raise UsageError(f"strength is {self.strength}; allowed: 0 to 1")


@dataclass(frozen=True)
class Defaults:
    """What requests have that do not say it themselves; fields as of :class:`Request`."""

    negative: str = ""
    strength: float = DEFAULT_STRENGTH
    reference: Path | None = None
    reference_licence: str = UNKNOWN


def requests_of(prompts: Iterable[str], defaults: Defaults | None = None, *, first: int = 0) -> list[Request]:
    """Return a request for each prompt, numbered in order.

    Args:
        prompts: The prompts.
        defaults: All else of the requests.
        first: Number of the first one.

    Raises:
        UsageError: A prompt is empty or too long.
    """
    rest = vars(defaults or Defaults())
    return [Request(prompt.strip(), index, **rest) for index, prompt in enumerate(prompts, first)]


def read_requests(path: Path, defaults: Defaults | None = None, *, first: int = 0) -> list[Request]:
    """Read requests from a file: of JSON lines where its name ends in ``.jsonl``, of prompts otherwise.

    A JSON line is an object with ``prompt`` and, if wanted, ``negative``, ``strength``, ``reference`` (a path,
    relative to the folder of the file) and ``reference_licence``.

    Args:
        path: The file.
        defaults: What lines have that do not say it.
        first: Number of the first request.

    Raises:
        FormatError: A line cannot be used; the message names it.
        InputError: There are no prompts.
    """
    defaults = defaults or Defaults()
    if path.suffix.lower() != ".jsonl":
        return requests_of(read_prompts(path), defaults, first=first)
    found: list[Request] = []
    for line, values in read_json_lines(path):
        found.append(_request(values, defaults, first + len(found), path, line))
    if not found:
        raise FormatError("has no requests", path=path)
    return found


def _request(values: Any, defaults: Defaults, index: int, path: Path, line: int) -> Request:
    def refuse(reason: str) -> FormatError:
        return FormatError(reason, path=path, line=line)

    if not isinstance(values, dict) or not isinstance(values.get("prompt"), str):
        raise refuse(f"is {shortened(values)}; allowed: an object with the text 'prompt'")
    if unknown := [key for key in values if key not in _KEYS]:
        raise refuse(f"has {shortened(unknown[0])}; allowed: {', '.join(_KEYS)}")
    given = vars(defaults) | {key: value for key, value in values.items() if value is not None}
    strength = given["strength"]
    if isinstance(strength, bool) or not isinstance(strength, int | float):
        raise refuse(f"strength is {shortened(strength)}; allowed: 0 to 1")
    for key in ("negative", "reference_licence"):
        if not isinstance(given[key], str):
            raise refuse(f"{key} is {shortened(given[key])}; allowed: text")
    reference = given["reference"]
    if isinstance(reference, str) and reference:
        reference = path.parent / reference
    elif not (reference is None or isinstance(reference, Path)):
        raise refuse(f"reference is {shortened(reference)}; allowed: the path of a clip")
    licence = licence_name(given["reference_licence"])
    try:
        return Request(
            values["prompt"].strip(), index, given["negative"], float(strength), reference, licence
        )
    except UsageError as error:
        raise refuse(str(error)) from error
