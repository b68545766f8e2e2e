"""Texts about recordings: what a video site and a catalogue of releases say of them, as YAML.

Three JSONL files: entries of the video site (``id`` and further fields), entries of the catalogue (likewise), and
objects that map an id of the first to a list of ids of the second.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pentatonic.errors import FormatError, InputError

BLOCKS = ("youtube_metadata", "discogs_metadata")


@dataclass(frozen=True)
class Metadata:
    """What is known of the recordings.

    Args:
        videos: Id -> its chosen fields that are not empty.
        releases: Id -> likewise.
        id_map: Id of a video -> ids of releases that are known.
    """

    videos: Mapping[str, dict[str, Any]]
    releases: Mapping[str, dict[str, Any]]
    id_map: Mapping[str, tuple[str, ...]]

    def text(self, name: str, rng: np.random.Generator | None = None, dropout: float = 0.0) -> str:
        """Return the text of a recording.

        Args:
            name: Id of the video.
            rng: Draws one of several releases, and whether a block is left out; None: the first release, and nothing
                is left out.
            dropout: Probability that one of two blocks is left out.

        Raises:
            InputError: Nothing is known of it.
        """
        blocks = {}
        if video := self.videos.get(name):
            blocks[BLOCKS[0]] = video
        if releases := self.id_map.get(name, ()):
            chosen = 0 if rng is None else int(rng.integers(len(releases)))
            blocks[BLOCKS[1]] = self.releases[releases[chosen]]
        if not blocks:
            raise InputError(f"nothing is known of {name!r}")
        if rng is not None and len(blocks) == 2 and rng.random() < dropout:
            del blocks[BLOCKS[int(rng.integers(2))]]
        return yaml.safe_dump(blocks, sort_keys=False, allow_unicode=True, width=10_000)


def read_metadata(
    youtube: Path,
    discogs: Path,
    id_map: Path,
    *,
    youtube_fields: Sequence[str],
    discogs_fields: Sequence[str],
) -> Metadata:
    """Read the three files.

    Raises:
        InputError: A file is missing.
        FormatError: A line is not a JSON object, or has no id; the message has file and line.
    """
    videos = {name: entry for name, entry in _entries(youtube, youtube_fields) if entry}
    releases = {name: entry for name, entry in _entries(discogs, discogs_fields) if entry}
    mapped: dict[str, tuple[str, ...]] = {}
    for number, line in _objects(id_map):
        for name, found in line.items():
            if not isinstance(found, list):
                raise FormatError(f"{name!r} is not mapped to a list of ids", path=id_map, line=number)
            mapped[name] = tuple(text for text in map(str, found) if text in releases)
    return Metadata(videos, releases, mapped)


def _entries(path: Path, fields: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, entry in _objects(path):
        name = entry.get("id")
        if not isinstance(name, str | int) or name == "":
            raise FormatError("the entry has no id", path=path, line=number)
        yield (
            str(name),
            {field: entry[field] for field in fields if entry.get(field) not in (None, "", [], {})},
        )


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if not path.is_file():
        raise InputError(f"{path} is not a file")
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise FormatError(f"not JSON ({error})", path=path, line=number) from None
            if not isinstance(entry, dict):
                raise FormatError("not a JSON object", path=path, line=number)
            yield number, entry
