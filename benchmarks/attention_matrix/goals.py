"""What ours should reach, and by how much it did.

Every goal compares rows of one run. ``got / wanted`` above 1 means met, whichever way the quantity runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any, Literal

from attention_matrix.cases import OURS
from attention_matrix.rows import BACKWARD, BOTH, FORWARD, HOST, Row

BIAS_FREE = ("sdpa flash", "sdpa cudnn", "flash-attn 2", "flash-attn 3")
EXPLICIT = ("sdpa bias efficient", "sdpa bias cudnn", "sdpa bias math")
# Larger than rounding in bfloat16 makes it, gradients included: a result so far off counts for nobody.
LARGEST_ERROR = 0.05
# No slower: the same work differs by that much from one measurement to the next.
LEVEL = 0.97
SDPA = ("sdpa", "sdpa flash", "sdpa cudnn", "sdpa efficient", "sdpa math")


@dataclass(frozen=True)
class Goal:
    """A bound on one quantity of ours.

    Attributes:
        cases: Pattern of case names.
        direction: Which rows.
        quantity: ``speed``: time of the fastest rival over ours, at least. ``memory``: ours over the rival's, at most.
            ``memory_mb``: ours, at most. ``skipping``: our time over that of the dense computation, less the live
            fraction, at most. ``bandwidth``: share of a large copy's rate, at least. ``overhead_us``: our host time
            less the rival's, at most. ``share``: time of the rival, a part of ours, over the dense time, at most.
        rivals: Opponents; those that did not run do not count.
        wanted: The bound.
    """

    cases: str
    direction: str
    quantity: Literal["speed", "memory", "memory_mb", "skipping", "bandwidth", "overhead_us", "share"]
    rivals: tuple[str, ...]
    wanted: float


GPU_GOALS = (
    Goal("alibi2d-*", FORWARD, "speed", ("flex",), 1.3),
    Goal("alibi2d-*", BACKWARD, "speed", ("flex",), 1.3),
    Goal("alibi2d-*", FORWARD, "speed", ("sdpa flash",), 0.7),
    Goal("alibi2d-*", BACKWARD, "speed", ("sdpa flash",), 0.7),
    Goal("alibi2d-*", BOTH, "memory", ("sdpa flash",), 1.1),
    Goal("alibi2d-30001", FORWARD, "speed", EXPLICIT, 5.0),
    Goal("alibi2d-9369", FORWARD, "speed", EXPLICIT, 5.0),
    Goal("skip-press-*", FORWARD, "speed", ("flex",), 3.5),
    Goal("skip-press-*", BOTH, "speed", ("flex",), 3.5),
    Goal("skip-halving-*", FORWARD, "speed", ("flex",), 1.8),
    Goal("skip-halving-*", BOTH, "speed", ("flex",), 1.8),
    Goal("skip-press-*", FORWARD, "speed", BIAS_FREE, 1.0),
    Goal("skip-*", FORWARD, "skipping", ("pentatonic dense",), 0.1),
    Goal("skip-*", FORWARD, "share", ("key_intervals",), 0.03),
    Goal("varlen-window", FORWARD, "speed", ("flex",), 1.5),
    Goal("varlen-window", BACKWARD, "speed", ("flex",), 1.3),
    Goal("varlen-window", FORWARD, "speed", ("varlen_attn",), 1.15),
    Goal("varlen-window", BOTH, "speed", ("varlen_attn",), 1.15),
    Goal("varlen-global", FORWARD, "speed", ("flex",), 1.1),
    Goal("varlen-global", FORWARD, "speed", ("varlen_attn",), 0.95),
    Goal("decode-*-4096", FORWARD, "bandwidth", (), 0.8),
    Goal("decode-*-8192", FORWARD, "bandwidth", (), 0.8),
    Goal("decode-*", FORWARD, "speed", SDPA, LEVEL),
    Goal("learned-*", BACKWARD, "speed", ("flex",), 1.3),
    Goal("patchout-7501", FORWARD, "speed", ("flex",), 1.3),
    Goal("patchout-skip-*", FORWARD, "speed", ("flex",), 1.8),
    Goal("alibi1d-*", FORWARD, "speed", ("flex",), 1.2),
    Goal("alibi1d-*", FORWARD, "speed", ("flash-attn 2 alibi",), 1.0),
    Goal("dispatch-*", HOST, "overhead_us", ("sdpa",), 5.0),
)
CPU_GOALS = (
    Goal("alibi2d-2048", FORWARD, "speed", ("sdpa bias built",), 1.0),
    Goal("alibi2d-8192", FORWARD, "speed", ("sdpa bias written",), 3.0),
    Goal("alibi2d-8192", FORWARD, "speed", ("sdpa bias built",), 3.0),
    Goal("skip-press-*", FORWARD, "speed", ("pentatonic dense",), 1.5),
    Goal("skip-*", FORWARD, "skipping", ("pentatonic dense",), 0.1),
    Goal("skip-*", FORWARD, "share", ("key_intervals",), 0.03),
    Goal("track-30001", FORWARD, "memory_mb", (), 1024.0),
    Goal("decode-*", FORWARD, "speed", ("sdpa",), LEVEL),
    Goal("dispatch-16", HOST, "overhead_us", ("sdpa",), 5.0),
)


def evaluate(
    goals: Sequence[Goal], rows: Sequence[Row], ceilings: Mapping[str, float]
) -> list[dict[str, Any]]:
    """One line per goal and case: wanted, got, met (``None`` if it cannot be told), margin in percent, and a note."""
    cases = dict.fromkeys(row["case"] for row in rows)
    return [
        _line(goal, case, rows, ceilings) for goal in goals for case in cases if fnmatch(case, goal.cases)
    ]


def _line(goal: Goal, case: str, rows: Sequence[Row], ceilings: Mapping[str, float]) -> dict[str, Any]:
    at_least = goal.quantity in ("speed", "bandwidth")
    rivals = f" of {' / '.join(goal.rivals)}" if goal.rivals else ""
    line: dict[str, Any] = {
        "case": case,
        "direction": goal.direction,
        "goal": f"{goal.quantity}{rivals} {'>=' if at_least else '<='} {goal.wanted:g}",
        "got": None,
        "met": None,
        "margin_percent": None,
        "note": None,
    }
    here = {row["opponent"]: row for row in rows if (row["case"], row["direction"]) == (case, goal.direction)}
    if OURS in here and not _right(here[OURS]):
        return line | {"met": False, "note": f"ours is wrong: error {here[OURS]['error']:.2g}"}
    try:
        got = _quantity(goal, here, ceilings)
    except LookupError as missing:
        return line | {"note": str(missing.args[0])}
    margin = got / goal.wanted if at_least else 2 - got / goal.wanted
    return line | {"got": got, "met": margin >= 1, "margin_percent": 100 * (margin - 1)}


def _quantity(goal: Goal, here: Mapping[str, Row], ceilings: Mapping[str, float]) -> float:
    ours = next(_known(here, (OURS,), "memory_mb" if goal.quantity.startswith("memory") else "time_ms"))
    rivals = "memory_mb" if goal.quantity == "memory" else "time_ms"
    match goal.quantity:
        case "memory_mb":
            return ours["memory_mb"]
        case "bandwidth":
            if "copy_gb_s" not in ceilings:
                raise LookupError("no ceiling was measured")
            return ours["gb_s"] / ceilings["copy_gb_s"]
    best = min(row[rivals] for row in _known(here, goal.rivals, rivals))
    match goal.quantity:
        case "speed":
            return best / ours["time_ms"]
        case "memory":
            return ours["memory_mb"] / best
        case "overhead_us":
            return 1e3 * (ours["time_ms"] - best)
        case "skipping":
            if ours["live"] is None:
                raise LookupError("no live fraction was measured")
            return ours["time_ms"] / best - ours["live"]
    dense = next(_known(here, ("pentatonic dense",), "time_ms"))
    return best / dense["time_ms"]


def _known(here: Mapping[str, Row], names: Sequence[str], key: str) -> Iterator[Row]:
    """Rows that hold a value and are right; without any, why they do not."""
    found = [here[name] for name in names if name in here and here[name][key] is not None]
    found = [row for row in found if _right(row)]
    if not found:
        reasons = [f"{name}: {here[name]['reason'] or 'no time, or wrong'}" for name in names if name in here]
        raise LookupError("; ".join(reasons) or f"no row of {' / '.join(names)}")
    return iter(found)


def _right(row: Row) -> bool:
    return row["error"] is None or row["error"] <= LARGEST_ERROR
