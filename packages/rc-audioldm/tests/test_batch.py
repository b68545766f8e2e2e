"""Work for each row of a manifest: order, failures by name, full disks."""

from __future__ import annotations

import errno
import threading
import warnings

import pytest

from pentatonic.errors import AudioError, InputError
from pentatonic.folder_run import OutputError
from rc_audioldm.data.batch import AlreadyDone, Skipped, run_rows
from rc_audioldm.data.manifest import ManifestRow

ROWS = [ManifestRow(str(i), f"{i}.wav") for i in range(4)]


def test_results_are_in_the_order_of_the_rows_whoever_is_first() -> None:
    later_done = threading.Event()

    def work(row: ManifestRow) -> str:
        if row.id == "0":
            assert later_done.wait(60)
        elif row.id == "2":
            later_done.set()
        return row.id

    results, report = run_rows(ROWS, work, description="test", workers=2)
    assert results == ["0", "1", "2", "3"]
    assert [entry["id"] for entry in report.entries] == results


def test_what_becomes_of_a_row_is_said_under_its_name() -> None:
    def work(row: ManifestRow) -> str | AlreadyDone[str] | Skipped:
        match row.id:
            case "0":
                raise AudioError("/somewhere/else/0.wav", "is broken")
            case "1":
                return Skipped("too short")
            case "2":
                return AlreadyDone("two")
        warnings.warn("careful", stacklevel=1)
        return "three"

    results, report = run_rows(ROWS, work, description="test")
    assert results == [None, None, "two", "three"]
    assert report.counts == {"done": 1, "skipped": 2, "failed": 1}
    assert [entry.get("reason") for entry in report.entries] == [
        "is broken",
        "too short",
        "already done",
        None,
    ]
    assert [entry["path"] for entry in report.entries] == [row.path for row in ROWS]
    assert report.entries[3]["warnings"] == ["careful"]


def test_a_full_disk_ends_the_run_and_other_errors_do_not() -> None:
    def work(row: ManifestRow) -> str:
        if row.id == "1":
            raise InputError("cannot write") from OSError(errno.EACCES, "no permission")
        if row.id == "2":
            raise InputError("cannot write") from OSError(errno.ENOSPC, "disk full")
        return row.id

    with pytest.raises(OutputError, match="the same command continues") as caught:
        run_rows(ROWS, work, description="test")
    assert [entry["status"] for entry in caught.value.report.entries] == ["done", "failed"]
