"""What a run folder says: its settings, clips, metrics, ledgers, records of the knob, and matches of the copy detector.

The folder may come from a stranger: files are read in bounds, and only those inside the folder. Only ``items.jsonl`` is
needed; a part that cannot be read is left out, and the page says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pentatonic.errors import FormatError, PentatonicError
from pentatonic.untrusted.files import file_inside, read_json, shortened
from rc_audioldm.json_lines import read_json_lines
from rc_audioldm.knob.dose_response import DoseResponse
from rc_audioldm.ledger.files import FoundLedger, find_ledger

ITEMS, CONFIG, HARDWARE = "items.jsonl", "run_config.json", "hardware.json"
SUMMARY, PER_ITEM, KNOB, COPIES = "metrics/summary.json", "metrics/per_item.json", "knob.json", "copies.json"

_MAX_BYTES = 64 << 20
_LONGEST_TEXT = 2000
_NUMBERS = ("clap_text", "clap_style", "cos_text", "cos_style", "seconds_taken", "gain")


@dataclass(frozen=True)
class RunItem:
    """A clip of a run.

    Args:
        id: Unique in the run.
        path: Of its sound.
        texts: Prompt, prompt as used, negative prompt, mode; empty where nobody says.
        numbers: Cosines, strength, seed, gain and seconds, where they are known.
        metrics: Its row of the metrics.
        ledger: What shaped it; None where it cannot be read.
        joints: Of a long clip: one mapping for each.
    """

    id: str
    path: Path
    texts: Mapping[str, str]
    numbers: Mapping[str, float]
    metrics: Mapping[str, Any]
    ledger: FoundLedger | None
    joints: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class RunFiles:
    """A run.

    Args:
        folder: Its folder.
        items: Its clips, in order.
        config: Settings, command and versions.
        hardware: Machine and libraries.
        summary: Of the metrics.
        knob: Records of the knob, by id.
        copies: Matches of the copy detector, by id.
        problems: What could not be read.
    """

    folder: Path
    items: tuple[RunItem, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    knob: Mapping[str, DoseResponse] = field(default_factory=dict)
    copies: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def read_run(folder: Path) -> RunFiles:
    """Read a run folder.

    Raises:
        FormatError: ``items.jsonl`` is missing, has no clips, or has a line that cannot be used.
        ConfigError: A clip is outside the folder.
    """
    problems: list[str] = []
    config, hardware, summary, knob, copies = (
        _mapping(folder, name, problems) for name in (CONFIG, HARDWARE, SUMMARY, KNOB, COPIES)
    )
    rows = _json(folder, PER_ITEM, problems)
    metrics = {
        str(row["id"]): row
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict) and "id" in row
    }
    path = folder / ITEMS
    items: dict[str, RunItem] = {}
    for line, values in read_json_lines(path):
        item = _item(folder, values, path, line, metrics, problems)
        if item.id in items:
            raise FormatError(f"has the id {shortened(item.id)} again", path=path, line=line)
        items[item.id] = item
    if not items:
        raise FormatError("has no clips", path=path)
    return RunFiles(
        folder,
        tuple(items.values()),
        config,
        hardware,
        summary,
        _knob(knob, problems),
        {str(key): _mappings(value) for key, value in copies.items()},
        tuple(problems),
    )


def knob_sound(run: RunFiles, item: str, strength: float) -> Path | None:
    """Return the sound of a clip at a strength of its knob, or None where it was not kept."""
    try:
        path = file_inside(run.folder, f"knob/{item}__{strength:.2f}.wav", where="id")
    except PentatonicError:
        return None
    return path if path.is_file() else None


def finite(value: object) -> float | None:
    """Return a value as a number, or None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _item(
    folder: Path, values: object, path: Path, line: int, metrics: Mapping[str, Any], problems: list[str]
) -> RunItem:
    if not isinstance(values, dict) or not isinstance(values.get("file"), str):
        raise FormatError(
            f"is {shortened(values)}; allowed: an object with id and file", path=path, line=line
        )
    identity = values.get("id")
    if not isinstance(identity, str | int) or isinstance(identity, bool) or not str(identity):
        raise FormatError(f"id is {shortened(identity)}; allowed: text", path=path, line=line)
    identity = str(identity)[:200]
    sound = file_inside(folder, values["file"], where=f"{path}:{line}: file")
    texts = {name: _text(values.get(name)) for name in ("prompt", "prompt_used", "negative", "mode")}
    numbers = {
        name: number
        for name in (*_NUMBERS, "strength", "seed")
        if (number := finite(values.get(name))) is not None
    }
    try:
        ledger = find_ledger(sound)
    except (PentatonicError, OSError) as error:
        ledger = None
        problems.append(f"{identity}: no ledger: {error}")
    row = metrics.get(identity, {})
    return RunItem(identity, sound, texts, numbers, row, ledger, _mappings(values.get("joints")))


def _knob(records: Mapping[str, Any], problems: list[str]) -> dict[str, DoseResponse]:
    found = {}
    for key, record in records.items():
        try:
            found[str(key)] = DoseResponse.from_dict(record, f"{KNOB}: {shortened(key)}")
        except FormatError as error:
            problems.append(str(error))
    return found


def _mapping(folder: Path, name: str, problems: list[str]) -> Mapping[str, Any]:
    values = _json(folder, name, problems)
    if values is None or isinstance(values, dict):
        return values or {}
    problems.append(f"{name}: is {shortened(values)}; allowed: an object")
    return {}


def _json(folder: Path, name: str, problems: list[str]) -> Any:
    try:
        path = file_inside(folder, name, where=name)
        return read_json(path, max_bytes=_MAX_BYTES, error=FormatError) if path.exists() else None
    except PentatonicError as error:
        problems.append(str(error))
        return None


def _mappings(value: object) -> tuple[Mapping[str, Any], ...]:
    if isinstance(value, dict):  # of the joints of a clip, or of a single match
        value = value.get("joints", [value])
    return tuple(each for each in value if isinstance(each, dict)) if isinstance(value, list) else ()


def _text(value: object) -> str:
    return value[:_LONGEST_TEXT] if isinstance(value, str) else ""
