"""Folders of recordings to evaluate, such as the runs of several models, and which of their recordings belong together.

A run has ``items.jsonl``: one JSON object a line, with ``id`` (text or a whole number) and ``file`` (relative to the
folder), and perhaps ``prompt``. In other folders the audio files of ``wav/``, or of the folder itself, are the items in
their natural order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pentatonic.audio import AUDIO_SUFFIXES
from pentatonic.errors import FormatError, InputError
from pentatonic.folder_run import find_files
from pentatonic.untrusted.files import file_inside, read_json, regular_file_size, shortened
from rc_audioldm.json_lines import read_json_lines

ITEMS, STYLES, WAV, RUN_CONFIG = "items.jsonl", "style_vectors.npy", "wav", "run_config.json"
_LONGEST_ID = 200
_NAMES_OF_FILE = ("file", "path", "wav")


@dataclass(frozen=True)
class Item:
    """A recording of a system.

    Args:
        id: Unique in the system.
        path: Its file.
        prompt: The text it was made from; None if unknown.
    """

    id: str
    path: Path
    prompt: str | None = None


@dataclass(frozen=True)
class StyleModel:
    """The CLAP model that made style vectors.

    Args:
        name: Its name.
        weights: SHA-256 of its weights.
    """

    name: str
    weights: str


@dataclass(frozen=True)
class System:
    """A folder of recordings.

    Args:
        name: Of the system.
        folder: Its folder.
        items: Its recordings, in order.
        listed: Whether they are those of ``items.jsonl``.
        styles: (N, D) the style vectors that were used, in the order of the items; None if there are none.
        style_model: The CLAP model of these vectors, where a run says it.
    """

    name: str
    folder: Path
    items: tuple[Item, ...]
    listed: bool
    styles: NDArray[np.floating] | None = None
    style_model: StyleModel | None = None


@dataclass(frozen=True)
class Pairing:
    """Which recordings of several systems belong together.

    Args:
        keys: What the systems have in common, in the order of the first one.
        items: System -> key -> item, for the keys.
        rule: How they were found.
        notes: What a reader has to know.
    """

    keys: tuple[str, ...]
    items: Mapping[str, Mapping[str, Item]]
    rule: str
    notes: tuple[str, ...]


def read_system(
    name: str, folder: Path, *, prompts: Sequence[str] | None = None, styles: Path | None = None
) -> System:
    """Find the recordings of a system.

    Args:
        name: Of the system.
        folder: Its folder.
        prompts: Prompts in the order of the recordings, for folders that do not say them.
        styles: A ``.npy`` file of the style vectors in that order; that of the folder if there is one.

    Raises:
        FormatError: ``items.jsonl`` cannot be used; the message names the line.
        InputError: There are no recordings, or not as many as prompts or style vectors.
        ConfigError: A file is outside the folder.
    """
    listed = (folder / ITEMS).is_file()
    items = _listed_items(folder) if listed else _found_items(folder)
    if not items:
        raise InputError(f"{folder}: has no recordings; allowed: audio files in it or in {WAV}/, or {ITEMS}")
    if prompts is not None and any(item.prompt is None for item in items):
        if len(prompts) != len(items):
            raise InputError(f"{folder}: has {len(items)} recordings, and there are {len(prompts)} prompts")
        items = [replace(item, prompt=prompt) for item, prompt in zip(items, prompts, strict=True)]
    made_by = None
    if styles is None and (folder / STYLES).is_file():
        styles, made_by = folder / STYLES, _style_model(folder / RUN_CONFIG)
    vectors = None if styles is None else _read_styles(styles, len(items))
    return System(name, folder, tuple(items), listed, vectors, made_by)


def pair_items(systems: Sequence[System]) -> Pairing:
    """Find the recordings that belong together: by id, by file name, or by position.

    Args:
        systems: Systems of different names.

    Returns:
        Without keys where the systems have nothing in common.

    Raises:
        InputError: Recordings that belong together have different prompts.
    """
    if all(system.listed for system in systems):
        rule, keyed = "id", {system.name: {item.id: item for item in system.items} for system in systems}
    else:
        rule = "file name"
        keyed = {system.name: {item.path.stem: item for item in system.items} for system in systems}
        whole = all(len(keyed[system.name]) == len(system.items) for system in systems)
        if not whole or len({frozenset(items) for items in keyed.values()}) > 1:
            rule = "position in the natural order"
            keyed = {system.name: {str(i): item for i, item in enumerate(system.items)} for system in systems}
            if len({len(items) for items in keyed.values()}) > 1:
                counts = ", ".join(f"{name} {len(items)}" for name, items in keyed.items())
                note = f"recordings are not paired: neither ids, names nor numbers agree ({counts})"
                return Pairing((), {name: {} for name in keyed}, "none", (note,))
    notes = (
        [] if rule == "id" or len(systems) == 1 else [f"recordings are paired by their {rule}, not by ids"]
    )
    first = keyed[systems[0].name]
    keys = tuple(key for key in first if all(key in items for items in keyed.values()))
    for name, items in keyed.items():
        if left := len(items) - len(keys):
            notes.append(f"{left} of {len(items)} recordings of {name} have no partner in every other system")
    for key in keys:
        prompts = {items[key].prompt for items in keyed.values()} - {None}
        if len(prompts) > 1:
            raise InputError(
                f"recordings that are paired by their {rule} {shortened(key)} have different prompts: "
                f"{', '.join(map(shortened, sorted(map(str, prompts))))}"
            )
    kept = {name: {key: items[key] for key in keys} for name, items in keyed.items()}
    return Pairing(keys, kept, rule, tuple(notes))


def natural_order(names: Iterable[str]) -> list[str]:
    """Sort names so that whole numbers in them count as numbers, and letters of both cases are equal."""

    def key(name: str) -> tuple[list[tuple[bool, int, str]], str]:
        parts = [part for part in re.split(r"([0-9]{1,18})", name.lower()) if part]
        numbered = [(not _is_number(part), int(part) if _is_number(part) else 0, part) for part in parts]
        return numbered, name

    return sorted(names, key=key)


def _is_number(part: str) -> bool:
    return part.isascii() and part.isdecimal()


def _listed_items(folder: Path) -> list[Item]:
    path = folder / ITEMS
    items: dict[str, Item] = {}
    for line, values in read_json_lines(path):
        if not isinstance(values, dict):
            raise FormatError(f"is {shortened(values)}; allowed: an object", path=path, line=line)
        identity = values.get("id")
        if isinstance(identity, bool) or not isinstance(identity, str | int) or not str(identity).strip():
            raise FormatError(
                f"id is {shortened(identity)}; allowed: text, or a whole number", path=path, line=line
            )
        file = next((values[name] for name in _NAMES_OF_FILE if name in values), None)
        if not isinstance(file, str):
            raise FormatError(f"file is {shortened(file)}; allowed: text", path=path, line=line)
        prompt = values.get("prompt")
        if prompt is not None and not isinstance(prompt, str):
            raise FormatError(f"prompt is {shortened(prompt)}; allowed: text", path=path, line=line)
        item = Item(
            str(identity)[:_LONGEST_ID], file_inside(folder, file, where=f"{path}:{line}: file"), prompt
        )
        if item.id in items:
            raise FormatError(f"has the id {shortened(item.id)} again", path=path, line=line)
        items[item.id] = item
    return list(items.values())


def _found_items(folder: Path) -> list[Item]:
    root = folder / WAV if (folder / WAV).is_dir() else folder
    files = {path.relative_to(root).as_posix(): path for path in find_files([root], AUDIO_SUFFIXES)}
    return [Item(name, files[name]) for name in natural_order(files)]


def _style_model(run_config: Path) -> StyleModel | None:
    """Return what a run says of the CLAP model of its style vectors; None where it says nothing."""
    if not run_config.is_file():
        return None
    values: Any = read_json(run_config)
    for key in ("settings", "clap"):
        values = values.get(key) if isinstance(values, dict) else None
    if not isinstance(values, dict):
        return None
    return StyleModel(str(values.get("model", "")), str(values.get("weights", "")))


def _read_styles(path: Path, count: int) -> NDArray[np.floating]:
    regular_file_size(path, error=InputError)
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: is not an array of NumPy: {error}") from error
    if not isinstance(vectors, np.ndarray) or vectors.dtype.kind != "f" or vectors.ndim != 2:
        raise InputError(
            f"{path}: is not an array of style vectors; allowed: (recordings, dimensions), floats"
        )
    if len(vectors) != count:
        raise InputError(f"{path}: has {len(vectors)} style vectors, and there are {count} recordings")
    if not np.isfinite(vectors).all():
        raise InputError(f"{path}: has numbers that are not finite")
    return vectors
