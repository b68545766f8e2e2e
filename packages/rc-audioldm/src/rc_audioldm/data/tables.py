"""Tables of strangers: CSV files, read in bounds."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from pentatonic.errors import FormatError, InputError
from pentatonic.untrusted.files import read_text

MOST_BYTES = 256 << 20


def read_rows(path: str | Path) -> list[list[str]]:
    """Read a CSV file as rows of cells, without empty lines.

    Args:
        path: UTF-8, with or without a byte-order mark.

    Raises:
        InputError: There is no such file, it is too large, or not UTF-8.
        FormatError: It is not CSV.
    """
    text = read_text(path, max_bytes=MOST_BYTES, error=InputError).removeprefix("\ufeff")
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        return [row for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise FormatError(f"not CSV ({error})", path=path, line=reader.line_num) from error


def read_table(path: str | Path, needed: tuple[str, ...] = ()) -> list[dict[str, str]]:
    """Read a CSV file with a header.

    Args:
        path: As for :func:`read_rows`.
        needed: Columns that it must have.

    Returns:
        Column in lower case -> cell without spaces around it, for each row; cells that a short row lacks are empty.

    Raises:
        InputError: As for :func:`read_rows`.
        FormatError: It is not CSV, has no header, or lacks a column.
    """
    rows = read_rows(path)
    if not rows:
        raise FormatError(f"the table is empty; needed: a header{_listed(needed)}", path=path)
    header = [name.strip().lower() for name in rows[0]]
    if missing := [name for name in needed if name not in header]:
        found = ", ".join(header)
        raise FormatError(f"no column {', '.join(missing)}; there are: {found}", path=path, line=1)
    blank = [""] * len(header)
    return [dict(zip(header, [cell.strip() for cell in row] + blank, strict=False)) for row in rows[1:]]


def first_cell(row: dict[str, str], columns: tuple[str, ...]) -> str:
    """Return the first cell among some columns that is not empty, or an empty text."""
    return next((cell for column in columns if (cell := row.get(column, ""))), "")


def _listed(names: tuple[str, ...]) -> str:
    return f" with {', '.join(names)}" if names else ""
