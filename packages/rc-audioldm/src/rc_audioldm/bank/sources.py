"""Which clips a bank is made of: a folder, a manifest in JSON lines, or a list of paths. Rows keep their order."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from pentatonic.audio import AUDIO_SUFFIXES
from pentatonic.errors import ConfigError, FormatError, InputError, UsageError
from pentatonic.folder_run import search_files
from pentatonic.untrusted.files import file_inside, read_text, shortened
from rc_audioldm.bank.information import NOTHING, Information, Table, find_tables, information_of, read_tables
from rc_audioldm.json_lines import read_json_lines

_MAX_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Clip:
    """A clip that is to go into a bank.

    Args:
        path: Its file.
        name: The same, relative to the root, with forward slashes.
        information: What is known of it from beside it.
    """

    path: Path
    name: str
    information: Information = NOTHING


@dataclass
class Clips:
    """What a bank is to be made of.

    Args:
        root: Folder that the names are relative to.
        clips: In the order of the rows.
        refused: Name of an entry of a list -> why it is none.
        passed_over: Suffix -> files of a folder that are no audio.
        tables: What the licences are from.
    """

    root: Path
    clips: list[Clip] = field(default_factory=list)
    refused: dict[str, Exception] = field(default_factory=dict)
    passed_over: dict[str, int] = field(default_factory=dict)
    tables: list[Path] = field(default_factory=list)


def find_clips(source: Path, *, root: Path | None = None, tables: list[Path] | None = None) -> Clips:
    """Find the clips of a bank.

    Args:
        source: A folder, which is searched; a manifest ``.jsonl`` whose rows have a ``path``; or a text file with a
            path on each line, in which empty lines and those that start with ``#`` do not count.
        root: Folder that paths of a manifest or a list are relative to, and out of which they must not lead; its own by
            default.
        tables: Tables of licences; those that lie in or beside the folder by default.

    Raises:
        InputError: The source is missing, or there are no clips.
        FormatError: The manifest or a table cannot be read.
        UsageError: A root was given for a folder.
    """
    if source.is_dir():
        if root is not None:
            raise UsageError("a root is for the paths of a manifest or a list, and the source is a folder")
        found = search_files([source], AUDIO_SUFFIXES)
        clips = Clips(source, passed_over=found.passed_over)
        table = _table(tables, source, clips)
        for file in found.files:
            name = Path(os.path.relpath(file, source)).as_posix()
            clips.clips.append(Clip(file, name, table.find(name)))
    elif source.is_file():
        clips = Clips(source.parent if root is None else root)
        table = _table(tables, clips.root, clips)
        for name, information in _listed(source):
            _add(clips, name, information, table)
    else:
        raise InputError(f"{source}: is missing; allowed: a folder of clips, a manifest, or a list of paths")
    if not clips.clips and not clips.refused:
        raise InputError(f"{source}: has no audio files, so the bank would be empty")
    return clips


def _table(tables: list[Path] | None, folder: Path, clips: Clips) -> Table:
    clips.tables = find_tables(folder) if tables is None else tables
    return read_tables(clips.tables)


def _listed(source: Path) -> list[tuple[str, Information]]:
    if source.suffix.lower() == ".jsonl":
        rows = []
        for line, values in read_json_lines(source):
            name = values.get("path") if isinstance(values, dict) else None
            if not isinstance(name, str) or not name:
                raise FormatError(f"path is {shortened(name)}; allowed: text", path=source, line=line)
            rows.append((name, information_of(values)))
        return rows
    text = read_text(source, max_bytes=_MAX_BYTES, error=FormatError).lstrip("\ufeff")
    lines = (line.strip() for line in text.splitlines())
    return [(line, NOTHING) for line in lines if line and not line.startswith("#")]


def _add(clips: Clips, name: str, information: Information, table: Table) -> None:
    """Add an entry of a list; one that leads out of the root is refused by itself."""
    try:
        inside = name
        if Path(name).is_absolute():  # lists of the original are; inside the root they mean the same
            inside = os.path.relpath(name, Path(os.path.abspath(clips.root)))  # noqa: PTH100 - links are for file_inside
        path = file_inside(clips.root, inside, where="path")
        relative = Path(inside).as_posix()
        clips.clips.append(Clip(path, relative, information.or_else(table.find(relative))))
    except (ConfigError, ValueError) as error:
        clips.refused[shortened(name).strip("'\"")] = InputError(str(error))
