"""Melodies to search for, written in ABC."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

from notagen.clamp2.melody.lines import Line, LineNote, lines_of
from notagen.score.reader import read_score
from pentatonic.errors import FormatError, UsageError

By = Literal["interval", "contour", "rhythm"]
BY: tuple[By, ...] = get_args(By)

MAX_NOTES = 200
"""Most notes of a melody to search for."""


@dataclass(frozen=True)
class MelodyQuery:
    """A melody, and what of it must be found.

    Args:
        notes: Its notes.
        by: ``interval``: the steps between its notes, in semitones; ``contour``: whether they go up, down or stay;
            ``rhythm``: the proportions of their times, at any speed. Of several, all must agree.
        starts: Whether a voice must start with it; otherwise it may be anywhere.
        same_key: Whether it must be in the key in which it is written, in any octave; otherwise in any key. Only by
            interval.

    Raises:
        UsageError: A setting is out of range, or there are too few or too many notes.
    """

    notes: tuple[LineNote, ...]
    by: frozenset[By] = frozenset({"interval"})
    starts: bool = False
    same_key: bool = False

    def __post_init__(self) -> None:
        if not self.by or not self.by <= set(BY):
            given = ", ".join(sorted(self.by)) or "nothing"
            raise UsageError(
                f"a melody is searched by {given}; allowed: {', '.join(BY)}, and several of them"
            )
        if self.same_key and "interval" not in self.by:
            raise UsageError("only a search by interval can be in the same key")
        if not 2 <= len(self.notes) <= MAX_NOTES:
            raise UsageError(
                f"a melody to search for has 2 to {MAX_NOTES} notes; this one has {len(self.notes)}"
            )

    @property
    def line(self) -> Line:
        """The notes as a line."""
        return Line("", self.notes)


def parse_melody(
    text: str, *, by: Collection[By] = ("interval",), starts: bool = False, same_key: bool = False
) -> MelodyQuery:
    """Read a melody.

    Args:
        text: One voice of ABC, such as ``G A B c`` or ``[K:D] F2 G A4``; barlines do not matter. Notes are those of C
            major where there is no ``[K:…]``.
        by: As in :class:`MelodyQuery`.
        starts: As there.
        same_key: As there.

    Raises:
        FormatError: It is not ABC, or has more than one voice.
        UsageError: There are too few or too many notes, or ``by`` has an unknown word.
    """
    try:
        lines = lines_of(read_score(melody_tune(text))) if text.strip() else []
    except FormatError as error:
        raise FormatError(f"the melody {text[:80]!r} is not ABC: {error.reason}") from error
    if len(lines) > 1:
        raise FormatError(f"the melody {text[:80]!r} has several voices; one can be searched for")
    notes = lines[0].notes if lines else ()
    return MelodyQuery(notes, frozenset(by), starts, same_key)


def melody_tune(text: str) -> str:
    """Return a melody as a tune in ABC, in C major and eighths where it says nothing else."""
    return f"X:1\nL:1/8\nM:none\nK:C\n{' '.join(text.split())} |\n"
