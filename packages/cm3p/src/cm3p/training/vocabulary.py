"""Names of modes, statuses, mappers and tags for the vocabulary of metadata, from the maps of training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pentatonic.errors import ConfigError
from pentatonic.untrusted.files import read_json

TAGS_FILE = "tags.json"


def vocabulary_tables(maps: pa.Table, tags: Iterable[dict[str, Any]]) -> dict[str, dict[int, Any]]:
    """Return ``modes``, ``statuses``, ``mappers`` and ``tags``.

    As in the original, names are in the order of their first map, and a name that changes is the last one. Of the tags,
    those that a map has are kept, in the order of ``tags``.

    Args:
        maps: The maps of training.
        tags: All tags, as :func:`read_tags` returns them.
    """
    used = {tag for row in maps["TopTagIds"].to_pylist() for tag in row or ()}
    known = {
        int(tag["id"]): {
            "name": str(tag["name"]),
            "ruleset_id": tag.get("ruleset_id"),
            "description": str(tag.get("description") or ""),
        }
        for tag in tags
        if int(tag["id"]) in used
    }
    # Tags without a name are called by their ids, as nothing else is known of them.
    unnamed = {
        tag: {"name": str(tag), "ruleset_id": None, "description": ""} for tag in sorted(used - set(known))
    }
    return {
        "modes": _names(maps, "ModeInt", "Mode"),
        "statuses": _names(maps, "Ranked", "Status"),
        "mappers": _names(maps, "UserId", "Creator"),
        "tags": known | (unnamed if not known else {}),
    }


def _names(maps: pa.Table, key: str, name: str) -> dict[int, str]:
    pairs = zip(maps[key].to_pylist(), maps[name].to_pylist(), strict=True)
    return {key: name for key, name in pairs if key is not None and name is not None}


def read_tags(file: str | None, roots: Sequence[str]) -> list[dict[str, Any]]:
    """Read the list of tags.

    Args:
        file: JSON file with a list of tags, or an object with such a list as ``tags``; None: ``tags.json`` of the
            first root that has one.
        roots: Data sets.

    Returns:
        Tags with ``id``, ``name``, ``ruleset_id`` and ``description``; empty if there is no file.

    Raises:
        ConfigError: The file is missing, or is no such list.
    """
    found = (Path(root) / TAGS_FILE for root in roots)
    path = Path(file) if file else next((each for each in found if each.is_file()), None)
    if path is None:
        return []
    content: Any = read_json(path)
    tags = content.get("tags") if isinstance(content, dict) else content
    if not isinstance(tags, list) or not all(
        isinstance(tag, dict) and isinstance(tag.get("id"), int) and "name" in tag for tag in tags
    ):
        raise ConfigError(f"{path}: must hold a list of tags with id and name")
    return tags
