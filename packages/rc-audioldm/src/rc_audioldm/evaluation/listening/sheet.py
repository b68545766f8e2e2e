"""The answer sheet as an Excel file, in the original's layout."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pentatonic.archive import Archive, ArchiveLimits
from pentatonic.checkpoint import atomic_file
from pentatonic.errors import FormatError, MissingExtra
from rc_audioldm.evaluation.listening.trials import Trial

SHEET = "Audio Evaluation"
COLUMNS = (
    "Pair ID",
    "Prompt",
    "Audio A",
    "Audio B",
    "Criterion",
    "Preference (A/B)",
    "Confidence (1-5)",
    "Comments",
    "Listener ID",
)
MAX_ROWS = 100_000
_LIMITS = ArchiveLimits(members=200, member_bytes=64 << 20, total_bytes=128 << 20)
_WIDEST = 50
_GREY = "FFCCCCCC"
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
_LONGEST_CELL = 32_767


def write_sheet(path: Path, trials: Sequence[Trial]) -> None:
    """Write a sheet with a row for each trial and empty columns for the listener.

    Raises:
        MissingExtra: openpyxl is not installed.
        CheckpointError: The file cannot be written.
    """
    openpyxl = _openpyxl()
    from openpyxl.styles import Font, PatternFill

    book = openpyxl.Workbook()
    sheet: Any = book.active
    sheet.title = SHEET
    rows = [(t.pair_id, t.prompt, Path(t.audio_a).name, Path(t.audio_b).name, t.criterion) for t in trials]
    for number, row in enumerate((COLUMNS, *rows), 1):
        for column, value in enumerate(row, 1):
            cell = sheet.cell(
                number, column, _CONTROL.sub("\N{REPLACEMENT CHARACTER}", value)[:_LONGEST_CELL]
            )
            cell.data_type = "s"  # a prompt that starts with "=" is not a formula
            if number == 1:
                cell.font, cell.fill = Font(bold=True), PatternFill("solid", fgColor=_GREY)
    for column, letter in enumerate("ABCDEFGHI"):
        longest = max(len(row[column]) for row in (COLUMNS, *rows) if column < len(row))
        sheet.column_dimensions[letter].width = min(longest + 2, _WIDEST)
    content = io.BytesIO()
    book.save(content)
    with atomic_file(path) as file:
        file.write(content.getvalue())


def read_sheet(path: Path) -> list[dict[str, str]]:
    """Read a sheet that a listener filled in: ours or the original's.

    Returns:
        One mapping from column to text for each row that has a pair; numbers are texts too.

    Raises:
        MissingExtra: openpyxl is not installed.
        FormatError: It is not such a sheet, or is too large.
    """
    openpyxl = _openpyxl()
    with Archive(path, limits=_LIMITS) as archive:  # openpyxl itself reads members of any size
        for name in archive.names:
            archive.read(name)
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
    except Exception as error:  # of many kinds in a damaged file
        raise FormatError(f"is not an Excel file: {error}", path=path) from error
    try:
        if SHEET not in book.sheetnames:
            raise FormatError(f"has no sheet {SHEET!r}", path=path)
        lines = book[SHEET].iter_rows(max_row=MAX_ROWS + 2, max_col=len(COLUMNS) + 10, values_only=True)
        names = [str(value or "").strip() for value in next(lines, ())]
        if missing := [name for name in COLUMNS if name not in names and name not in ("Prompt", "Comments")]:
            raise FormatError(f"has no column {', '.join(missing)}", path=path)
        rows = []
        for line in lines:
            row = {name: _text(value) for name, value in zip(names, line, strict=False) if name}
            if row.get("Pair ID"):
                rows.append(row)
        if len(rows) > MAX_ROWS:
            raise FormatError(f"has more than {MAX_ROWS} rows", path=path)
        return rows
    except FormatError:
        raise
    except Exception as error:  # rows are parsed only now
        raise FormatError(f"is damaged: {error}", path=path) from error
    finally:
        book.close()


def _text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # spreadsheets store 4 as 4.0
    return "" if value is None else str(value).strip()


def _openpyxl() -> Any:
    try:
        import openpyxl
    except ImportError as error:
        raise MissingExtra("An answer sheet", "rc-audioldm[eval]") from error
    return openpyxl
