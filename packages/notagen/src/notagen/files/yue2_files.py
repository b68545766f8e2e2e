"""``--dialect yue2`` of ``notagen validate`` and ``notagen repair``: judge files in that dialect, and repair them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from notagen.files.reading import LATIN_1_NOTE, Tune
from notagen.yue2 import check
from notagen.yue2.repairing import repair_yue2
from pentatonic.checkpoint import atomic_file
from pentatonic.errors import FormatError

_LONGEST_S = 360.0
_MOST_CHARACTERS = 20_000


def judge_yue2(path: Path, tune: Tune) -> dict[str, Any]:
    """Judge a text in the dialect; the keys are those of :meth:`notagen.notation.validation.Report.to_dict`."""
    song, errors = check(tune.text)
    issues = [
        {
            "line": error.line,
            "column": error.column,
            "group": error.group,
            "bar": error.bar,
            "voice": error.voice,
            "kind": error.kind,
            "message": error.reason,
            "level": "yue2",
            "warning": False,
        }
        for error in errors
    ]
    if LATIN_1_NOTE in tune.notes:
        issues.insert(0, _encoding_issue())
    notes = []
    if song is not None and song.duration_s > _LONGEST_S:
        notes.append(
            f"the nominal length is {song.duration_s:.0f} s; the model writes at most {_LONGEST_S:.0f} s"
        )
    if len(tune.text) > _MOST_CHARACTERS:
        notes.append(f"{len(tune.text)} characters; the model's context holds about {_MOST_CHARACTERS}")
    return {
        "path": str(path),
        "valid": not issues,
        "level": "yue2" if not issues else None,
        "bars": len(song.voices["Vocal"].bars) if song else 0,
        "notes": notes,
        "issues": issues,
    }


def _encoding_issue() -> dict[str, Any]:
    reason = "the file is not UTF-8, as the dialect is"
    place = dict.fromkeys(("line", "column", "group", "bar", "voice"))
    return {**place, "kind": "encoding", "message": reason, "level": "yue2", "warning": False}


def write_repaired_yue2(path: Path, tune: Tune, target: Path, *, cut: bool = False) -> list[str]:
    """Write a repaired copy, of accepted text byte for byte, and return the changes.

    Args:
        path: The file that was read.
        tune: What was read of it.
        target: The copy.
        cut: As for :func:`notagen.yue2.repairing.repair_yue2`.

    Raises:
        FormatError: The text cannot be repaired.
        CheckpointError: The copy cannot be written.
    """
    try:
        repaired = repair_yue2(tune.text, cut=cut)
    except FormatError as error:
        reason = (
            f"{error.reason} (a piece that is not in the dialect: notagen convert --to abc --dialect yue2)"
        )
        raise FormatError(reason, line=error.line, column=error.column) from error
    untouched = not repaired.changes and not tune.name and not tune.notes
    with atomic_file(target) as file:
        file.write(path.read_bytes() if untouched else repaired.text.encode())
    return repaired.changes
