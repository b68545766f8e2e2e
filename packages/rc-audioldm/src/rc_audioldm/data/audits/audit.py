"""Audit the clips of a manifest, several at a time, each decoded in a process of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pentatonic.child_process import ChildFailure, ChildPool, Message
from pentatonic.cli import BatchReport
from pentatonic.errors import CorruptAudio, FormatError, InputError
from pentatonic.folder_run import write_json
from pentatonic.untrusted.files import read_json
from rc_audioldm.data.audits.measures import DeepMeasures, FastMeasures, measure
from rc_audioldm.data.audits.verdicts import AuditRow, Thresholds, audit_row
from rc_audioldm.data.batch import run_rows
from rc_audioldm.data.manifest import Manifest, ManifestRow

Depth = Literal["none", "suspects", "all"]
_SECONDS = 300.0
_MEMORY_BYTES = 4 << 30
_MOST_BYTES = 4 << 30


@dataclass(frozen=True)
class Audit:
    """An audit.

    Attributes:
        rows: In the order of the manifest.
        thresholds: Of its verdicts.
        legacy_floor: The floor is that of the original.
        report: What became of each row.
    """

    rows: tuple[AuditRow, ...]
    thresholds: Thresholds
    legacy_floor: bool
    report: BatchReport

    @property
    def counts(self) -> dict[str, int]:
        """Fault -> number of clips that have it, and ``good`` for those that have none."""
        faults = [row.faults(self.thresholds) for row in self.rows]
        counts = Counter(fault for each in faults for fault in each)
        names = ("unreadable", "silent", "noisy", "suspect")
        return {"good": sum(not each for each in faults)} | {name: counts[name] for name in names}

    def write(self, path: Path) -> None:
        """Write the audit as JSON, for :func:`read_audit`.

        Raises:
            CheckpointError: The file cannot be written.
        """
        rows = [row.to_json(self.thresholds) for row in self.rows]
        settings = {"thresholds": asdict(self.thresholds), "legacy_floor": self.legacy_floor}
        write_json(path, {"settings": settings, "counts": self.counts, "rows": rows})


def audit_manifest(
    manifest: Manifest,
    *,
    deep: Depth = "suspects",
    thresholds: Thresholds | None = None,
    legacy_floor: bool = False,
    workers: int = 2,
) -> Audit:
    """Measure every clip of a manifest; one that cannot be read is a row with the reason.

    Args:
        manifest: Rows and their root.
        deep: Whose spectrum is measured: of no clip, of those whose level is suspect, or of all.
        thresholds: Of the verdicts.
        legacy_floor: As for :class:`~rc_audioldm.data.audits.measures.DeepMeter`.
        workers: Clips at a time.

    Raises:
        Interrupted: Ctrl-C.
    """
    limits = thresholds or Thresholds()
    request = {"deep": deep, "legacy_floor": legacy_floor, "thresholds": asdict(limits)}
    with ChildPool(f"{__name__}:answer", workers, seconds=_SECONDS, memory_bytes=_MEMORY_BYTES) as pool:

        def work(row: ManifestRow) -> AuditRow:
            file = manifest.file(row)
            try:
                value = pool.answers(Message({"path": str(file.absolute()), **request}))[0].value
            except ChildFailure as failure:
                raise CorruptAudio(row.path, f"the decoder {failure}") from failure
            found = value["deep"]
            return AuditRow(
                row.id,
                row.path,
                FastMeasures(**value["fast"]),
                None if found is None else DeepMeasures(**found),
            )

        results, report = run_rows(manifest.rows, work, description="audit", workers=workers)
    rows = [
        AuditRow(row.id, row.path, error=entry["error"], reason=entry["reason"]) if result is None else result
        for row, result, entry in zip(manifest.rows, results, report.entries, strict=True)
    ]
    return Audit(tuple(rows), limits, legacy_floor, report)


def answer(request: Message) -> Message:
    """Measure ``request.value["path"]``, in the child.

    Raises:
        AudioError: The file cannot be read.
    """
    value = request.value
    thresholds = Thresholds(**value["thresholds"])
    fast, deep = measure_file(
        Path(value["path"]), deep=value["deep"], thresholds=thresholds, legacy_floor=value["legacy_floor"]
    )
    return Message({"fast": asdict(fast), "deep": None if deep is None else asdict(deep)})


def measure_file(
    path: Path, *, deep: Depth = "all", thresholds: Thresholds | None = None, legacy_floor: bool = False
) -> tuple[FastMeasures, DeepMeasures | None]:
    """Measure a file in this process, at its own rate, mixed to mono; arguments as for :func:`audit_manifest`.

    Raises:
        AudioError: It cannot be read.
    """
    from pentatonic.audio.decoding import BLOCK_S, Decoding, mono_blocks
    from pentatonic.audio.limits import AudioLimits
    from pentatonic.audio.sources import open_source, probe

    limits = AudioLimits()
    with open_source(path, *probe(path, limits.max_bytes)) as source:
        rate = source.sample_rate

    def once(*, spectrum: bool) -> tuple[FastMeasures, DeepMeasures | None]:
        decoding = Decoding(path, None, True, 0.0, None, True, "raise", limits)
        return measure(mono_blocks(decoding, BLOCK_S), rate, deep=spectrum, legacy_floor=legacy_floor)

    fast, found = once(spectrum=deep == "all")
    if deep == "suspects" and (thresholds or Thresholds()).is_suspect(fast):
        return once(spectrum=True)
    return fast, found


def read_audit(path: Path) -> Audit:
    """Read what :meth:`Audit.write` wrote; its report is empty.

    Raises:
        InputError: There is no such file.
        FormatError: It is not an audit.
    """
    value: Any = read_json(path, max_bytes=_MOST_BYTES, error=InputError)
    try:
        settings, rows = value["settings"], value["rows"]
        thresholds, legacy_floor = Thresholds(**settings["thresholds"]), settings["legacy_floor"]
    except (TypeError, KeyError, ValueError) as error:
        raise FormatError(f"not an audit of this command ({error})", path=path) from error
    if not isinstance(rows, Sequence) or isinstance(rows, str) or not isinstance(legacy_floor, bool):
        raise FormatError("not an audit of this command; needed: settings and rows", path=path)
    found = tuple(audit_row(row, f"{path}: row {number}") for number, row in enumerate(rows, start=1))
    return Audit(found, thresholds, legacy_floor, BatchReport())
