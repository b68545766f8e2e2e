"""Verdicts on what was measured: silent, suspect, noisy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pentatonic.errors import ConfigError, FormatError
from pentatonic.untrusted.config import Range, check_fields, read_fields
from rc_audioldm.data.audits.measures import DeepMeasures, FastMeasures

Decibels = Annotated[float, Range(-300, 300)]
Share = Annotated[float, Range(0, 1)]

# Of the middle rule for suspects, which the thresholds do not move.
_MIDDLE_DBFS = (-40.0, -12.0)
_LOUD_PEAK_DBFS, _QUIET_RMS_DBFS = -1.0, -30.0


@dataclass(frozen=True)
class Thresholds:
    """Limits of the verdicts.

    Args:
        rms_silent: A clip of this level, in dBFS, or below is silent.
        rms_noise: Above this level, in dBFS, a clip with many changes of sign is suspect.
        zcr_noise: That many, as a share.
        zcr_mid: The share for clips of middle level.
        hf_ratio: A clip with such a share of high frequencies, that is also flat, is noisy.
        flatness: From here on a clip is flat.
        floor_db_min: A clip with a floor from here on is noisy.

    Raises:
        ConfigError: A value is out of range.
    """

    rms_silent: Decibels = -60.0
    rms_noise: Decibels = -12.0
    zcr_noise: Share = 0.18
    zcr_mid: Share = 0.20
    hf_ratio: Share = 0.35
    flatness: Annotated[float, Range(0, 2)] = 0.40
    floor_db_min: Decibels = -40.0

    def __post_init__(self) -> None:
        check_fields(self, "thresholds")

    def is_silent(self, fast: FastMeasures) -> bool:
        """Whether a clip is silent."""
        return fast.rms_dbfs <= self.rms_silent

    def is_suspect(self, fast: FastMeasures) -> bool:
        """Whether the level alone gives reason to look at the spectrum: noise-like, or loud peaks in quiet sound."""
        if self.is_silent(fast):
            return False
        low, high = _MIDDLE_DBFS
        return (
            (fast.rms_dbfs > self.rms_noise and fast.zcr >= self.zcr_noise)
            or (low <= fast.rms_dbfs <= high and fast.zcr >= self.zcr_mid)
            or (fast.peak_dbfs >= _LOUD_PEAK_DBFS and fast.rms_dbfs <= _QUIET_RMS_DBFS)
        )

    def is_noisy(self, deep: DeepMeasures) -> bool:
        """Whether the spectrum is that of noise; the original calls digital silence noisy as well."""
        flat = deep.hf_ratio >= self.hf_ratio and deep.flatness >= self.flatness
        return flat or deep.floor_db >= self.floor_db_min


@dataclass(frozen=True)
class AuditRow:
    """What an audit says about one row of a manifest.

    Args:
        id: Of the row.
        path: Of the row.
        fast: Level; None where the file cannot be read.
        deep: Spectrum, where it was measured.
        error: Class of the error of an unreadable file.
        reason: Why it cannot be read.
    """

    id: str
    path: str
    fast: FastMeasures | None = None
    deep: DeepMeasures | None = None
    error: str = ""
    reason: str = ""

    def faults(self, thresholds: Thresholds) -> tuple[str, ...]:
        """Return what speaks against the clip, among ``unreadable``, ``silent``, ``noisy`` and ``suspect``.

        ``suspect`` is a clip whose spectrum was not measured, though its level gives reason to.
        """
        if self.fast is None:
            return ("unreadable",)
        if thresholds.is_silent(self.fast):
            return ("silent",)
        if self.deep is not None:
            return ("noisy",) if thresholds.is_noisy(self.deep) else ()
        return ("suspect",) if thresholds.is_suspect(self.fast) else ()

    def to_json(self, thresholds: Thresholds) -> dict[str, Any]:
        """Return measures and faults as JSON values."""
        values: dict[str, Any] = {"id": self.id, "path": self.path}
        if self.fast is None:
            return values | {"faults": ["unreadable"], "error": self.error, "reason": self.reason}
        deep = {} if self.deep is None else {"deep": asdict(self.deep)}
        return values | {"faults": list(self.faults(thresholds)), "fast": asdict(self.fast), **deep}


@dataclass(frozen=True)
class _StoredRow:
    id: str
    path: str
    error: str = ""
    reason: str = ""


def audit_row(value: Any, where: str) -> AuditRow:
    """Read what :meth:`AuditRow.to_json` gave.

    Raises:
        FormatError: It is something else.
    """
    if not isinstance(value, Mapping):
        raise FormatError(f"{where} is not a row of an audit; needed: an object with id, path and fast")
    given = dict(value)
    fast, deep = given.pop("fast", None), given.pop("deep", None)
    given.pop("faults", None)
    try:
        own = read_fields(_StoredRow, given, where)
        return AuditRow(
            **asdict(own),
            fast=None if fast is None else _measures(FastMeasures, fast, f"{where}.fast"),
            deep=None if deep is None else _measures(DeepMeasures, deep, f"{where}.deep"),
        )
    except (ConfigError, TypeError) as error:
        raise FormatError(str(error)) from error


def _measures(kind: type[Any], values: object, where: str) -> Any:
    found = read_fields(kind, values, where)
    check_fields(found, where)
    return found
