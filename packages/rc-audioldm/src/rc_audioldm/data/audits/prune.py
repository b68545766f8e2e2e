"""Manifests without the clips that an audit speaks against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pentatonic.errors import FormatError, InputError
from pentatonic.folder_run import write_json
from pentatonic.untrusted.files import read_json
from rc_audioldm.data.audits.verdicts import AuditRow, Thresholds
from rc_audioldm.data.manifest import ManifestRow, write_manifest
from rc_audioldm.json_lines import write_json_lines

NOT_AUDITED = "not_audited"
_MOST_BYTES = 1 << 30
_NUMBERS = ("rms", "hf_ratio", "spectral_flatness_mean", "floor_db")


@dataclass(frozen=True)
class Pruned:
    """Rows of a manifest, apart.

    Attributes:
        kept: Unchanged, in their order.
        dropped: With the reasons, in their order.
    """

    kept: tuple[ManifestRow, ...]
    dropped: tuple[tuple[ManifestRow, tuple[str, ...]], ...]

    @property
    def counts(self) -> dict[str, Any]:
        """``total_rows``, ``kept``, ``dropped``, and how many rows each reason dropped."""
        reasons = Counter(reason for _, reasons in self.dropped for reason in reasons)
        n_kept, n_dropped = len(self.kept), len(self.dropped)
        return {
            "total_rows": n_kept + n_dropped,
            "kept": n_kept,
            "dropped": n_dropped,
            "dropped_breakdown": dict(sorted(reasons.items())),
        }

    def write(self, path: Path, **about: object) -> None:
        """Write the manifest, and beside it ``<path>.stats.json`` and ``<path>.dropped.jsonl``.

        Args:
            path: The manifest.
            about: Further values of the statistics.

        Raises:
            CheckpointError: A file cannot be written.
        """
        write_manifest(path, self.kept)
        dropped = ({**row.to_json(), "drop_reason": ",".join(reasons)} for row, reasons in self.dropped)
        write_json_lines(path.with_name(f"{path.name}.dropped.jsonl"), dropped)
        write_json(path.with_name(f"{path.name}.stats.json"), {**about, **self.counts})


def prune(
    rows: Sequence[ManifestRow], audit: Iterable[AuditRow], thresholds: Thresholds | None = None
) -> Pruned:
    """Drop the rows that an audit speaks against, and those that it does not know.

    Args:
        rows: Of the manifest.
        audit: Rows of an audit, found by their id.
        thresholds: Of the verdicts; they may differ from those of the audit.

    Raises:
        InputError: A row and the audit give an id to different files.
    """
    limits = thresholds or Thresholds()
    by_id = {found.id: found for found in audit}
    kept, dropped = [], []
    for row in rows:
        found = by_id.get(row.id)
        if found is not None and found.path != row.path:
            raise InputError(
                f"row {row.id}: the audit has {found.path} and the manifest {row.path}; audit it again"
            )
        reasons = (NOT_AUDITED,) if found is None else found.faults(limits)
        if reasons:
            dropped.append((row, reasons))
        else:
            kept.append(row)
    return Pruned(tuple(kept), tuple(dropped))


def prune_like_the_original(
    rows: Sequence[ManifestRow],
    fast: Iterable[Mapping[str, Any]],
    plus: Iterable[Mapping[str, Any]] = (),
    suspects: Collection[str] = (),
    thresholds: Thresholds | None = None,
) -> Pruned:
    """Drop rows by the original's audits, and by its rules.

    Files are the same if their base names are, without a leading number and two underscores; so a bad file drops every
    row with its name, in whatever folder. Rows that no audit knows are kept.

    Args:
        rows: Of the manifest.
        fast: Rows of ``audit_fast.json``; one without ``rms`` could not be read, and counts as silent.
        plus: Rows of ``audit_plus.json``.
        suspects: Lines of ``suspects.txt``; those without a row in ``plus`` are dropped.
        thresholds: Of the verdicts.
    """
    limits = thresholds or Thresholds()
    measured = {_base_name(str(row["file"])): row for row in plus}
    silent = {
        _base_name(str(row["file"]))
        for row in fast
        if row.get("silent") or row.get("rms", float("-inf")) <= limits.rms_silent
    }
    noisy = {name for name, row in measured.items() if _is_bad(row, limits)}
    unmeasured = {_base_name(name) for name in suspects} - measured.keys()
    groups = {
        "fast_silent": silent,
        "plus_noisy_or_floor_or_silent": noisy,
        "missing_deep": unmeasured,
    }
    kept, dropped = [], []
    for row in rows:
        reasons = tuple(reason for reason, names in groups.items() if _base_name(row.path) in names)
        if reasons:
            dropped.append((row, reasons))
        else:
            kept.append(row)
    return Pruned(tuple(kept), tuple(dropped))


def read_original_rows(path: Path) -> list[dict[str, Any]]:
    """Read ``audit_fast.json`` or ``audit_plus.json`` of the original.

    Raises:
        InputError: There is no such file, or it is not JSON.
        FormatError: It is not a list of rows with ``file`` and numbers.
    """
    rows = read_json(path, max_bytes=_MOST_BYTES, error=InputError)
    right = isinstance(rows, list) and all(
        isinstance(row, dict)
        and isinstance(row.get("file"), str)
        and all(isinstance(row[name], int | float) for name in _NUMBERS if name in row)
        for row in rows
    )
    if not right:
        reason = f"not an audit of the original; needed: a list of rows with file and {', '.join(_NUMBERS)}"
        raise FormatError(reason, path=path)
    return rows


def _is_bad(row: Mapping[str, Any], limits: Thresholds) -> bool:
    flat = (
        row.get("hf_ratio", 0.0) >= limits.hf_ratio
        and row.get("spectral_flatness_mean", 0.0) >= limits.flatness
    )
    floor = row.get("floor_db", float("-inf")) >= limits.floor_db_min
    return bool(row.get("silent") or row.get("noisy")) or floor or flat


def _base_name(text: str) -> str:
    name = PurePosixPath(text.strip().replace("\\", "/")).name
    number, separator, rest = name.partition("__")
    return rest if separator and number.isdecimal() and rest else name
