"""What is known of clips from beside them: a table in CSV or JSON lines, or the clip information of FSD50K."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pentatonic.errors import FormatError
from pentatonic.untrusted.files import read_json, read_text
from rc_audioldm.json_lines import read_json_lines
from rc_audioldm.licences import UNKNOWN, licence_name, plain

TABLES = (
    "licences.csv",
    "licenses.csv",
    "licences.jsonl",
    "licenses.jsonl",
    "metadata.csv",
    "metadata.jsonl",
)
"""Names of tables that are looked for in a folder of clips."""
FSD50K = ("dev_clips_info_FSD50K.json", "eval_clips_info_FSD50K.json")
"""Names of the clip information of FSD50K, in the folder of clips, its parent, or ``FSD50K.metadata`` there."""

_MAX_BYTES = 256 * 2**20
_PATH = ("path", "file", "filename", "fname", "name")
_LICENCE = ("licence", "license")
_SOURCE = ("source", "url", "author", "artist", "uploader", "title")


@dataclass(frozen=True)
class Information:
    """What is known of a clip from beside it; empty texts where nothing is.

    Args:
        licence: Name of the licence.
        source: Who made it or where it is from.
        tags: What it is.
        id: Its id in a data set.
    """

    licence: str = UNKNOWN
    source: str = ""
    tags: tuple[str, ...] = ()
    id: str | None = None

    def or_else(self, other: Information) -> Information:
        """Return this, with what is not known taken from another."""
        licence = other.licence if self.licence == UNKNOWN else self.licence
        return Information(licence, self.source or other.source, self.tags or other.tags, self.id or other.id)


NOTHING = Information()


@dataclass
class Table:
    """Information by path of a file or a folder, or by name of a file.

    Args:
        by_path: Relative path of a file or a folder, with forward slashes, or name or stem of a file -> what is known.
        files: What it was read from.
    """

    by_path: dict[str, Information] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)

    def find(self, name: str) -> Information:
        """Return what is known of a clip: of its path, else its name, else its stem, and then of the folders around.

        Args:
            name: Relative path of the clip.
        """
        path = PurePosixPath(name)
        found = NOTHING
        for key in (str(path), path.name, path.stem, *map(str, path.parents)):
            if key in self.by_path:
                found = found.or_else(self.by_path[key])
        return found


def find_tables(folder: Path) -> list[Path]:
    """Return the tables that lie in or beside a folder of clips."""
    beside = [folder, folder.parent, folder.parent / "FSD50K.metadata", folder / "FSD50K.metadata"]
    found = [folder / name for name in TABLES] + [place / name for place in beside for name in FSD50K]
    return [path for path in dict.fromkeys(found) if path.is_file()]


def read_tables(paths: Iterable[Path]) -> Table:
    """Read tables; of two that know a clip, the first counts.

    Raises:
        FormatError: A file is none of these tables.
    """
    table = Table()
    for path in paths:
        table.files.append(path)
        for name, information in _read(path):
            table.by_path[name] = table.by_path.get(name, NOTHING).or_else(information)
    return table


def information_of(values: Mapping[str, Any]) -> Information:
    """Return what a row of a table or a manifest says of a clip."""
    tags = values.get("tags", values.get("labels"))
    if isinstance(tags, str):
        tags = tags.replace(";", ",").split(",")
    return Information(
        licence_name(_first(values, _LICENCE)),
        plain(_first(values, _SOURCE)),
        tuple(plain(str(tag)) for tag in tags if str(tag).strip()) if isinstance(tags, list) else (),
        None if values.get("id") is None else plain(str(values["id"])),
    )


def _read(path: Path) -> Iterable[tuple[str, Information]]:
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        rows: Iterable[Any] = (values for _, values in read_json_lines(path))
    elif suffix == ".csv":
        text = read_text(path, max_bytes=_MAX_BYTES, error=FormatError).removeprefix("\ufeff")
        rows = csv.DictReader(io.StringIO(text, newline=""))
    elif suffix == ".json":
        values = read_json(path, max_bytes=_MAX_BYTES, error=FormatError)
        if not isinstance(values, dict):
            raise FormatError("allowed: an object with the clips by name, as in FSD50K", path=path)
        rows = [{"path": name, "id": name, **row} for name, row in values.items() if isinstance(row, dict)]
    else:
        raise FormatError("allowed: tables in .csv, .jsonl or .json", path=path)
    found = 0
    try:
        for row in rows:
            name = _first(
                {key.strip().lower(): value for key, value in row.items() if isinstance(key, str)}, _PATH
            )
            if name:
                found += 1
                yield (
                    _key(name),
                    information_of({str(key).strip().lower(): value for key, value in row.items()}),
                )
    except (csv.Error, AttributeError) as error:
        raise FormatError(f"is no table of clips ({error})", path=path) from error
    if not found:
        raise FormatError(f"has no clips; allowed: rows with one of {', '.join(_PATH)}", path=path)


def _key(name: str) -> str:
    return str(PurePosixPath(name.strip().replace("\\", "/")))


def _first(values: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((str(values[name]) for name in names if values.get(name) not in (None, "")), "")
