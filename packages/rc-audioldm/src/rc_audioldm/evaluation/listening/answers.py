"""Answers of listeners, from filled sheets or from the files of the page."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pentatonic.errors import FormatError
from pentatonic.untrusted.files import read_text
from rc_audioldm.evaluation.listening.sheet import MAX_ROWS, read_sheet
from rc_audioldm.evaluation.listening.trials import SIDES

CSV_COLUMNS = ("pair_id", "criterion", "preference", "confidence", "listener_id")
_FROM_SHEET = {
    "Pair ID": "pair_id",
    "Criterion": "criterion",
    "Preference (A/B)": "preference",
    "Confidence (1-5)": "confidence",
    "Listener ID": "listener_id",
}
_MAX_CSV_BYTES = 64 << 20
_CONFIDENCES = range(1, 6)


@dataclass(frozen=True)
class Answer:
    """What a listener prefers.

    Args:
        pair_id: The trial.
        preference: ``A`` or ``B``.
        listener: Who answered.
        confidence: 1 to 5; None if not given.
    """

    pair_id: str
    preference: str
    listener: str
    confidence: int | None = None


def read_answers(paths: Sequence[Path]) -> tuple[list[Answer], list[str]]:
    """Read files of answers, ``.xlsx`` or ``.csv``.

    Args:
        paths: The files. Where a row names no listener, the name of the file does.

    Returns:
        The answers, the last one of each listener and trial; and notes about rows that do not count.

    Raises:
        FormatError: A file is not one of answers.
        MissingExtra: It is an Excel file, and openpyxl is not installed.
    """
    answers: dict[tuple[str, str], Answer] = {}
    notes = []
    for path in paths:
        empty = wrong = again = 0
        for row in _rows(path):
            preference = row.get("preference", "").strip().upper()
            if preference not in SIDES:
                empty, wrong = (empty + 1, wrong) if not preference else (empty, wrong + 1)
                continue
            confidence = row.get("confidence", "").strip()
            given = int(confidence) if confidence.isdecimal() and len(confidence) == 1 else 0
            listener = row.get("listener_id", "").strip() or path.stem
            key = listener, row["pair_id"].strip()
            again += key in answers
            answers[key] = Answer(key[1], preference, listener, given if given in _CONFIDENCES else None)
        counts = (
            (empty, "without an answer"),
            (wrong, "with another answer than A or B"),
            (again, "answered again"),
        )
        notes += [f"{path.name}: {count} rows {what}" for count, what in counts if count]
    return list(answers.values()), notes


def _rows(path: Path) -> list[Mapping[str, str]]:
    if path.suffix.lower() == ".xlsx":
        return [
            {_FROM_SHEET.get(name, name): value for name, value in row.items()} for row in read_sheet(path)
        ]
    text = read_text(path, max_bytes=_MAX_CSV_BYTES, error=FormatError).removeprefix("\ufeff")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        names = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = [_FROM_SHEET.get(name, name) for name in names]
        if missing := {"pair_id", "preference"} - set(reader.fieldnames):
            raise FormatError(f"has no column {', '.join(sorted(missing))}", path=path)
        rows = [{name: value for name, value in row.items() if isinstance(value, str)} for row in reader]
    except csv.Error as error:
        raise FormatError(f"is not a table of commas: {error}", path=path) from error
    if len(rows) > MAX_ROWS:
        raise FormatError(f"has more than {MAX_ROWS} rows", path=path)
    return [row for row in rows if row.get("pair_id", "").strip()]
