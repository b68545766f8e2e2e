"""The rules that keep a generated piece out of the chosen ones, each from its text alone."""

from __future__ import annotations

import re
from dataclasses import dataclass

from notagen.dpo.alignment import AlignmentReport, check_alignment
from notagen.evaluation.novelty import KnownMusic
from notagen.notation.countdown import without_countdown
from notagen.notation.lines import is_music
from pentatonic.errors import FormatError

_NAME = re.compile(r'nm="([^"]+)"')
_NO_NOTES = re.compile(r'"[^"]*"|![^!]*!|\{[^}]*\}|\[[A-Za-z]:[^\]]*\]')
_NOTE = re.compile("[A-Ga-g]")
_BARLINE_OR_BLANK = re.compile(r"\|\]|[|:\s]")


@dataclass(frozen=True)
class RuleSettings:
    """Limits of the rules.

    Args:
        strict_alignment: Whether bars must also fit the meter, see :func:`notagen.dpo.alignment.check_alignment`.
        similarity: Greatest cosine similarity to a single reference; above it a piece counts as a copy.
        copied_notes: A passage of at least so many notes that are known, in any key, counts as copied.
        different_bars: Smallest share of a piece's bars that are different from each other.
        sounding_bars: Fewest bars with notes.
    """

    strict_alignment: bool = False
    similarity: float = 0.95
    copied_notes: int = 24
    different_bars: float = 0.3
    sounding_bars: int = 2


@dataclass(frozen=True)
class TextFindings:
    """What the text of a piece says about the rules.

    Args:
        alignment: Whether the voices agree.
        split_instrument: Instrument whose staves another one separates; None: all are together.
        known_notes: Notes of the longest passage that occurs in the known music; 0 without any.
        copied: Whether the piece copies known music: such a passage, or all of its voices.
        bars: Number of bars with notes.
        different_bars: How many of them are different.
    """

    alignment: AlignmentReport
    split_instrument: str | None
    known_notes: int
    copied: bool
    bars: int
    different_bars: int


def examine(text: str, settings: RuleSettings, known: KnownMusic | None = None) -> TextFindings:
    """Examine one piece.

    Args:
        text: Interleaved text with all rests written.
        settings: Limits.
        known: The music that must not be copied; None: nothing is known.

    Returns:
        The findings; nothing is raised.
    """
    longest, whole = 0, False
    if known is not None:
        try:
            novelty = known.novelty(text)
        except FormatError:
            pass  # no tune; its voices do not agree either
        else:
            longest, whole = novelty.longest_known, novelty.copy
    bars = sounding_bars(text)
    return TextFindings(
        check_alignment(text, strict=settings.strict_alignment),
        split_instrument(text),
        longest,
        whole or longest >= settings.copied_notes,
        len(bars),
        len(set(bars)),
    )


def split_instrument(text: str) -> str | None:
    """Return the first instrument whose staves are not together, or None.

    Names are those of ``nm="…"`` in lines ``V:``, the first non-empty one of a line (also of ``snm="…"``), and are
    compared as they are written. Voices without a name do not count.
    """
    before = ""
    seen: set[str] = set()
    for line in text.split("\n"):
        match = _NAME.search(line) if line.startswith("V:") else None
        if match is None:
            continue
        if match[1] != before and match[1] in seen:
            return match[1]
        before = match[1]
        seen.add(before)
    return None


def sounding_bars(text: str) -> list[str]:
    """Return the lines of music that have notes, without countdown tags, barlines and blanks."""
    lines = (without_countdown(line) for line in text.split("\n") if is_music(line.strip()))
    return [_BARLINE_OR_BLANK.sub("", line) for line in lines if _NOTE.search(_NO_NOTES.sub("", line))]
