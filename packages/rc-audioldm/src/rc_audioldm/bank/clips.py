"""The rows of a bank's mapping: what is known of each clip. JSON lines, in the order of the vectors."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Self

from pentatonic.errors import FormatError
from pentatonic.untrusted.files import shortened
from rc_audioldm.json_lines import read_json_lines
from rc_audioldm.licences import UNKNOWN, licence_name, plain

_LONGEST_PATH = 4096
_MOST_TAGS = 64


@dataclass(frozen=True)
class BankClip:
    """A clip.

    Args:
        path: Relative to the root of the bank, with forward slashes; of banks of the original whatever they say.
        licence: Its name, or ``unknown``; never empty.
        source: Who made it or where it is from, or ``unknown``.
        tags: What it is, such as names of instruments.
        sha256: Of its file; empty for banks that do not say it.
        duration_s: Length in seconds; None where a bank does not say it.
        windows: Windows that its vector is the mean of; None where a bank does not say it.
        duplicate_of: Row of the first clip that sounds nearly the same; None if there is none before it.
        id: Its id in the data set.
    """

    path: str
    licence: str = UNKNOWN
    source: str = UNKNOWN
    tags: tuple[str, ...] = ()
    sha256: str = ""
    duration_s: float | None = None
    windows: int | None = None
    duplicate_of: int | None = None
    id: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values; those without a value are left out."""
        values = {name: value for name, value in vars(self).items() if value not in (None, "", ())}
        return {**values, **({"tags": list(self.tags)} if self.tags else {})}

    @classmethod
    def from_json(cls, values: object, *, path: str | Path, line: int) -> Self:
        """Read a line of a mapping, ours or the original's.

        Args:
            values: JSON values.
            path: The mapping, for messages.
            line: Number of the line.

        Raises:
            FormatError: It has no path, or a field is of another type.
        """
        if not isinstance(values, dict):
            raise FormatError(f"is {shortened(values)}; allowed: an object with a path", path=path, line=line)
        name = values.get("path")
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_PATH:
            raise FormatError(f"path is {shortened(name)}; allowed: text", path=path, line=line)
        tags = values.get("tags") or ()
        if isinstance(tags, str):
            tags = tags.replace(";", ",").split(",")
        if not isinstance(tags, list | tuple):
            raise FormatError(f"tags is {shortened(tags)}; allowed: a list of texts", path=path, line=line)
        sha256, duration = values.get("sha256", ""), values.get("duration_s")
        identity = values.get("id")
        return cls(
            path=name,
            licence=licence_name(values.get("licence") or values.get("license")),
            source=_text(values.get("source")) or UNKNOWN,
            tags=tuple(text for each in tags[:_MOST_TAGS] if (text := _text(each))),
            sha256=sha256 if isinstance(sha256, str) else "",
            duration_s=float(duration) if isinstance(duration, int | float) else None,
            windows=_count(values, "windows", path, line),
            duplicate_of=_count(values, "duplicate_of", path, line),
            id=None if identity is None else plain(str(identity)),
        )


def write_clips(file: IO[Any], clips: Iterable[BankClip]) -> None:
    """Write a mapping as text lines."""
    for row, clip in enumerate(clips):
        file.write(f"{json.dumps({'row': row, **clip.to_json()})}\n")


def read_clips(path: Path) -> list[BankClip]:
    """Read a mapping.

    Raises:
        FormatError: It is missing, or a line is not a clip; the message names the line.
    """
    clips = [BankClip.from_json(values, path=path, line=line) for line, values in read_json_lines(path)]
    for row, clip in enumerate(clips):
        if clip.duplicate_of is not None and clip.duplicate_of >= row:
            reason = f"duplicate_of is {clip.duplicate_of}; allowed: rows before {row}"
            raise FormatError(reason, path=path, line=row + 1)
    return clips


def renumbered(clips: list[BankClip], kept: list[int]) -> list[BankClip]:
    """Return some clips of a mapping; near-duplicates of a clip that is left out refer to the first that is kept."""
    first: dict[int, int] = {}
    chosen = []
    for row, old in enumerate(kept):
        clip = clips[old]
        group = old if clip.duplicate_of is None else clip.duplicate_of
        chosen.append(replace(clip, duplicate_of=first.get(group)))
        first.setdefault(group, row)
    return chosen


def _text(value: object) -> str:
    return plain(value) if isinstance(value, str) else ""


def _count(values: dict[str, Any], name: str, path: str | Path, line: int) -> int | None:
    value = values.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 40:
        raise FormatError(
            f"{name} is {shortened(value)}; allowed: whole numbers from 0", path=path, line=line
        )
    return value
