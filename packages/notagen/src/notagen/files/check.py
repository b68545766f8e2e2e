"""``notagen validate``: check ABC and MusicXML files bar by bar, and write repaired copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from notagen.files.reading import read_piece
from notagen.notation.layout import is_interleaved
from notagen.notation.repair import repair
from notagen.notation.tunebook import interleaved_tune
from notagen.notation.validation import Report, validate
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import BatchReport, keep_inputs
from pentatonic.errors import PentatonicError, UsageError


def check_files(paths: Sequence[Path], out: Path | None = None) -> tuple[list[dict[str, Any]], BatchReport]:
    """Check files; with an output folder, also write repaired copies.

    Args:
        paths: ABC in any layout, as generated or not, or MusicXML.
        out: Folder for repaired copies, in interleaved layout, ``<name>.abc``.

    Returns:
        For each file that could be read, the result of :meth:`notagen.notation.validation.Report.to_dict` with its
        ``path``, and if repaired ``output`` and ``changes``; and the outcome of each file. A file fails that cannot
        be read or repaired or, without ``out``, has errors.

    Raises:
        UsageError: Two files would have the same name in ``out``, or a copy would replace a file.
        CheckpointError: ``out`` cannot be written.
    """
    if out is not None:
        if repeated := {path.stem for path in paths if [each.stem for each in paths].count(path.stem) > 1}:
            raise UsageError(f"more than one file would be {out / min(repeated)}.abc; repair them one by one")
        for path in paths:
            keep_inputs(out / f"{path.stem}.abc", paths)
        out.mkdir(parents=True, exist_ok=True)
    results, outcome = [], BatchReport()
    with outcome.interruptible(paths):
        for path in paths:
            try:
                text = read_piece(path)
                report = check(text)
                results.append(result := {"path": str(path), **report.to_dict()})
                if out is not None:
                    repaired = repair(text)
                    target = out / f"{path.stem}.abc"
                    with atomic_file(target) as file:
                        file.write(repaired.text.encode())
                    result |= {"output": str(target), "changes": list(repaired.changes)}
            except (PentatonicError, OSError) as error:
                outcome.failed(path, error)
                continue
            if out is None and not report.valid:
                outcome.failed(path, _errors_of(report))
            else:
                outcome.done(path)
    return results, outcome


def _errors_of(report: Report) -> str:
    errors = [issue for issue in report.issues if not issue.warning]
    return f"{len(errors)} {'error' if len(errors) == 1 else 'errors'}, the first: {errors[0].message}"


def check(text: str) -> Report:
    """Validate a piece in any layout; if it is not interleaved, its issues name bars and voices, but not lines.

    Raises:
        FormatError: The text is not interleaved and cannot be cut in voices and bars.
    """
    if is_interleaved(text):
        return validate(text)
    report = validate(interleaved_tune(text))
    return replace(report, issues=tuple(replace(issue, line=None) for issue in report.issues))
