"""What a line of music must be like, known before its bars are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction


@dataclass(frozen=True)
class BarPlan:
    """Requirements for a line that replaces another one.

    Args:
        length: Length of its bars, in units of ``L:``.
        left: Barline before the bars; empty for none.
        right: Barline after the bars.
        compound: Whether the meter is 6/8, 9/8 or 12/8.
        voices: The voices on the line, in order; empty: any.
        kept: Voice -> bar that is kept, without the barline after it.
        fields: Voice -> fields such as ``[K:D]`` that a new bar starts with.
        slurs_after: Voice -> slurs that must be open at the end of a new bar.
    """

    length: Fraction
    left: str
    right: str
    compound: bool = False
    voices: tuple[str, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    slurs_after: Mapping[str, int] = field(default_factory=dict)


@dataclass
class LinePlan:
    """What all voices of the current line must agree on, decided by its plan or else by its first voice.

    Attributes:
        plan: Requirements for the line; ``None``: the first voice decides.
        final: Whether it is the last line of the piece.
        length: Length of its bars, in units of ``L:``; ``None`` until it is known.
        left: Barline before the bars; empty for none.
        right: Barline after the bars; empty until it is known.
        changes: Kind and value of each field that the other voices must have too.
        needed: Voices that must be on the line.
    """

    plan: BarPlan | None
    final: bool
    length: Fraction | None = None
    left: str = ""
    right: str = ""
    changes: list[tuple[str, str]] = field(default_factory=list)
    needed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.plan:
            self.length, self.left, self.right = self.plan.length, self.plan.left, self.plan.right
