"""Values of the cells of a table."""

from __future__ import annotations

from typing import Any


def plain_value(value: Any) -> str | int | float | None:
    """Convert a value to one that JSON can hold."""
    if hasattr(value, "item"):  # NumPy and torch scalars
        value = value.item()
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if value is None or isinstance(value, str | int | float) else str(value)


def is_number(value: object) -> bool:
    """Whether a plain value is a number."""
    return isinstance(value, int | float)


def shown(value: str | int | float | None) -> str:
    """Return the text of a plain value in a cell."""
    if value is None:
        return "\N{EN DASH}"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"
