"""Manifests: one JSON object on each line for each clip, in an order that counts.

A row names a file relative to a folder, the root: the folder of the manifest, unless the caller names another one::

    {"id": "fsd50k-100", "path": "FSD50K.dev_audio/100.wav", "source": "FSD50K", "licence": "CC BY 3.0",
     "caption": "", "labels": ["piano", "music"]}

``id`` and ``path`` are required. Other keys are kept as they are. Rows of the original's manifests, with whole numbers
as ids and absolute paths, are read too, as long as the paths lie in the root.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pentatonic.errors import ConfigError, FormatError, InputError
from pentatonic.untrusted.files import file_inside, shortened
from rc_audioldm.json_lines import read_json_lines, write_json_lines
from rc_audioldm.licences import licence_name

MOST_ROWS = 10_000_000
_MOST_CHARACTERS = {"id": 500, "path": 4096, "source": 1000, "licence": 200, "caption": 4000}
_MOST_LABELS, _MOST_LABEL_CHARACTERS = 256, 200
_MOST_ID_DIGITS = 18


@dataclass(frozen=True)
class ManifestRow:
    """One clip.

    Args:
        id: Unique in the manifest.
        path: Of the file, with ``/``, relative to the root of the manifest.
        source: Where the clip comes from: a data set, an author, an address; may be empty.
        licence: Name of its licence; ``unknown`` where nothing says it, never empty.
        caption: What it sounds like, in words; may be empty.
        labels: Its classes or tags.
        more: Further JSON values by key, kept when the row is written.
    """

    id: str
    path: str
    source: str = ""
    licence: str = "unknown"
    caption: str = ""
    labels: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON values, in a fixed order of keys."""
        own = {
            **{"id": self.id, "path": self.path, "source": self.source, "licence": self.licence},
            **{"caption": self.caption, "labels": list(self.labels)},
        }
        return own | {key: value for key, value in self.more.items() if key not in own}


@dataclass(frozen=True)
class Manifest:
    """Rows and the folder that their paths are relative to.

    Args:
        rows: In the order that counts.
        root: The folder.
    """

    rows: tuple[ManifestRow, ...]
    root: Path

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[ManifestRow]:
        return iter(self.rows)

    def file(self, row: ManifestRow) -> Path:
        """Return the path of a row's file, which may be missing.

        Raises:
            InputError: A link leads out of the root, or the name cannot be a file's.
        """
        try:
            return file_inside(self.root, row.path, where="path")
        except ConfigError as error:
            raise InputError(f"row {shortened(row.id)}: {error}") from error


def read_manifest(path: str | Path, root: str | Path | None = None) -> Manifest:
    """Read a manifest.

    Args:
        path: The file: UTF-8, with or without a byte-order mark; empty lines are left out.
        root: Folder that its paths are relative to; None: the folder of the manifest.

    Raises:
        InputError: There is no such file, or it is not a regular one.
        FormatError: A line is not a row, is too long, or repeats an id; the message has file and line.
    """
    path = Path(path)
    folder = path.parent if root is None else Path(root)
    rows: list[ManifestRow] = []
    lines: dict[str, int] = {}
    for number, values in read_json_lines(path):
        row = _row(values, path, number, folder)
        if row.id in lines:
            reason = f"id {shortened(row.id)} is on line {lines[row.id]} too; each row needs its own"
            raise FormatError(reason, path=path, line=number)
        lines[row.id] = number
        rows.append(row)
        if len(rows) > MOST_ROWS:
            raise FormatError(f"more than {MOST_ROWS:,} rows", path=path, line=number)
    return Manifest(tuple(rows), folder)


def write_manifest(path: str | Path, rows: Iterable[ManifestRow]) -> None:
    """Write a manifest, whole or not at all.

    Raises:
        InputError: Two rows have the same id.
        CheckpointError: The file cannot be written.
    """
    write_json_lines(path, (row.to_json() for row in unique(rows)))


def unique(rows: Iterable[ManifestRow]) -> Iterator[ManifestRow]:
    """Yield rows, and refuse an id that comes again.

    Raises:
        InputError: Two rows have the same id.
    """
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise InputError(f"two rows have the id {shortened(row.id)}; each row needs its own")
        seen.add(row.id)
        yield row


def place_under(root: Path, file: Path) -> str:
    """Return a file's place below the root, as rows name it. Links are not resolved.

    Raises:
        InputError: The file is elsewhere.
    """
    relative = os.path.relpath(os.path.abspath(file), os.path.abspath(root))  # noqa: PTH100 - keeps links
    place = PurePosixPath(Path(relative).as_posix())
    if ".." in place.parts:
        raise InputError(f"{file} is not in {root}; name a root that holds all files")
    return str(place)


def root_for(manifest: Path, folders: Sequence[Path]) -> Path:
    """Return the root for a new manifest: its own folder if that holds the data, else the folder of the data.

    Args:
        manifest: Where the manifest will be written.
        folders: Folders that hold the files.
    """
    absolute = [Path(os.path.abspath(folder)) for folder in folders]  # noqa: PTH100 - keeps links
    beside = Path(os.path.abspath(manifest.parent))  # noqa: PTH100
    if all(folder.is_relative_to(beside) for folder in absolute):
        return beside
    return Path(os.path.commonpath(absolute))


def _row(value: Any, path: Path, line: int, root: Path) -> ManifestRow:
    def wrong(reason: str) -> FormatError:
        return FormatError(reason, path=path, line=line)

    if not isinstance(value, dict):
        raise wrong(f"{shortened(value)} is not a row; allowed: a JSON object with id and path")
    given = dict(value)
    identity = given.get("id")
    if isinstance(identity, int) and not isinstance(identity, bool) and abs(identity) < 10**_MOST_ID_DIGITS:
        given["id"] = str(identity)
    texts = {}
    for name, longest in _MOST_CHARACTERS.items():
        text = given.pop(name, None)
        if text is None and name not in ("id", "path"):
            text = ""
        if not isinstance(text, str) or len(text) > longest or (name in ("id", "path") and not text):
            allowed = f"allowed: text of {'1' if name in ('id', 'path') else '0'} to {longest} characters"
            raise wrong(f"{name} is {shortened(text)}; {allowed}")
        texts[name] = text
    labels = given.pop("labels", None)
    labels = [] if labels is None else labels
    right_labels = isinstance(labels, list) and len(labels) <= _MOST_LABELS
    if not right_labels or not all(isinstance(x, str) and len(x) <= _MOST_LABEL_CHARACTERS for x in labels):
        allowed = f"at most {_MOST_LABELS} texts of at most {_MOST_LABEL_CHARACTERS} characters"
        raise wrong(f"labels is {shortened(labels)}; allowed: a list of {allowed}")
    if not _is_finite(given):
        raise wrong("it has NaN or an infinite number; allowed: finite numbers")
    texts["path"] = _place(texts["path"], root, wrong)
    texts["licence"] = licence_name(texts["licence"])
    return ManifestRow(**texts, labels=tuple(labels), more=given)


def _place(text: str, root: Path, wrong: Any) -> str:
    """The path of a row relative to the root, by name alone; :meth:`Manifest.file` looks at links."""
    place = PurePosixPath(text)
    if place.is_absolute():
        absolute = PurePosixPath(Path(os.path.abspath(root)).as_posix())  # noqa: PTH100 - keeps links
        if not place.is_relative_to(absolute):
            raise wrong(f"path is {shortened(text)}; allowed: a file in {root}; another root can be named")
        place = place.relative_to(absolute)
    if ".." in place.parts or "\0" in text:
        raise wrong(f"path is {shortened(text)}; allowed: a file in {root}, without '..'")
    return str(place)


def _is_finite(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return False
    return True
