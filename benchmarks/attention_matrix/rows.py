"""Rows of the table: one opponent in one case and direction."""

from __future__ import annotations

from typing import Any

from attention_matrix.cases import OURS, Case
from attention_matrix.opponents import OPPONENTS
from attention_matrix.problem import Problem

Row = dict[str, Any]
# Columns of every row; what was not measured is None.
COLUMNS = (
    *("case", "direction", "opponent", "path", "time_ms", "p10_ms", "p90_ms", "times_ours", "tflops"),
    *("gb_s", "live", "memory_mb", "error", "runs", "first_call_s", "reason"),
)
FORWARD, BACKWARD, BOTH, HOST = "forward", "backward", "forward+backward", "host"


def new_row(case: Case, name: str, direction: str, **known: Any) -> Row:
    """A row with all columns, of which these are known."""
    return dict.fromkeys(COLUMNS) | {"case": case.name, "opponent": name, "direction": direction} | known


def not_run(case: Case, reason: str) -> list[Row]:
    """Rows for a case that was left out."""
    return [new_row(case, name, HOST if case.dispatch else FORWARD, reason=reason) for name in case.opponents]


def rated(row: Row, problem: Problem, live: float | None, cost: float) -> Row:
    """Add rates: of all scores, those that ours skipped included, which is why ``live`` stands beside them."""
    case = problem.case
    if not OPPONENTS[row["opponent"]].whole:
        return row
    row["tflops"] = cost * problem.forward_flops / row["time_ms"] / 1e9
    if case.decode:
        moved = sum(x.numel() * x.element_size() for x in (problem.k, problem.v))
        row["gb_s"] = moved / row["time_ms"] / 1e6
    if row["opponent"] in (OURS, "flex live blocks"):
        row["live"] = live
    return row


def compared(rows: list[Row]) -> list[Row]:
    """How many times faster ours is than each opponent, in the same direction."""
    ours = {row["direction"]: row["time_ms"] for row in rows if row["opponent"] == OURS}
    for row in rows:
        if row["time_ms"] and ours.get(row["direction"]):
            row["times_ours"] = row["time_ms"] / ours[row["direction"]]
    return rows


def why(error: BaseException) -> str:
    """The first lines of a message, without the advice that follows."""
    first = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {first}"[:160]
