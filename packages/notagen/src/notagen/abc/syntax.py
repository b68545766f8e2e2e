"""The syntax tree of a tune. All nodes are immutable and compare by value.

Nodes keep what the source spells (``c/`` and ``c1/2`` differ), so that printing gives the source back. Lengths are
exact fractions in units of the ``L:`` field. Positions in the source, where a node has them, do not take part in
comparisons.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

from pentatonic.errors import FormatError

MAX_LENGTH_DIGITS = 4  # bounds the size of the exact sums
MAX_LENGTH_SLASHES = 8


@lru_cache(maxsize=4096)
def length_of(text: str) -> Fraction:
    """Return the length that the text after a note stands for.

    Args:
        text: One of ``""`` (1), ``n``, ``n/m``, ``/m``, ``n/`` (n/2), ``n//`` (n/4), ``/`` (1/2) and so on.

    Raises:
        FormatError: ``text`` is none of these, divides by zero, or is out of bounds.
    """
    over, slash, under = text.partition("/")
    digits = under.lstrip("/")
    if max(len(over), len(digits)) > MAX_LENGTH_DIGITS or len(under) - len(digits) >= MAX_LENGTH_SLASHES:
        raise FormatError(
            f"length {text[:40]!r} is out of bounds: at most {MAX_LENGTH_DIGITS} digits a number"
        )
    if not all(part == "" or (part.isascii() and part.isdigit()) for part in (over, digits)):
        raise FormatError(f"length {text!r} is not a number, n/m, /n, or slashes")
    numerator = int(over) if over else 1
    if under.startswith("/") and digits:
        raise FormatError(f"length {text!r} mixes several slashes and a divisor; write n/m")
    denominator = int(digits) if digits else 2 ** (len(under) + 1 if slash else 0)
    if denominator == 0:
        raise FormatError(f"length {text!r} divides by zero")
    return Fraction(numerator, denominator)


@dataclass(frozen=True, slots=True)
class Space:
    """Blanks, tabs and back quotes between notes: they end a beam and take no time."""

    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """One note.

    Args:
        accidental: ``""``, ``"^"``, ``"^^"``, ``"="``, ``"_"`` or ``"__"``.
        letter: ``C``-``B`` from middle C up, ``c``-``b`` an octave higher.
        marks: Octave marks: each ``'`` is one up, each ``,`` one down.
        length_text: See :func:`length_of`.
        tie: Whether ``-`` follows.
    """

    accidental: str
    letter: str
    marks: str = ""
    length_text: str = ""
    tie: bool = False

    @property
    def length(self) -> Fraction:
        """Length in units of ``L:``, without the effect of tuplets and broken rhythm."""
        return length_of(self.length_text)

    @property
    def octave(self) -> int:
        """Octave number; 4 starts at middle C."""
        return 4 + self.letter.islower() + self.marks.count("'") - self.marks.count(",")


@dataclass(frozen=True, slots=True)
class Rest:
    """``z`` or, invisible, ``x``; the capitals ``Z`` and ``X`` count whole bars."""

    letter: str
    length_text: str = ""

    @property
    def length(self) -> Fraction:
        """Length in units of ``L:``, or in bars where :attr:`whole_bars` holds."""
        return length_of(self.length_text)

    @property
    def whole_bars(self) -> bool:
        """Whether the length counts bars."""
        return self.letter.isupper()


@dataclass(frozen=True, slots=True)
class Spacer:
    """``y``: room in the engraving, no time."""

    length_text: str = ""


@dataclass(frozen=True, slots=True)
class Chord:
    """``[CEG]2-``: notes, perhaps with decorations, other marks and rests of no effect between them."""

    elements: tuple[Element, ...]
    length_text: str = ""
    tie: bool = False

    @property
    def notes(self) -> tuple[Note, ...]:
        """The notes, of which there is at least one."""
        return tuple(element for element in self.elements if isinstance(element, Note))

    @property
    def length(self) -> Fraction:
        """The length of the first note times that of the chord."""
        return self.notes[0].length * length_of(self.length_text)


@dataclass(frozen=True, slots=True)
class Grace:
    """``{/ga}``: grace notes, which take no time; with ``slash`` an acciaccatura."""

    elements: tuple[Element, ...]
    slash: bool = False


@dataclass(frozen=True, slots=True)
class Tuplet:
    """``(p:q:r``: the next ``r`` notes, chords and rests take the time of ``q`` where they would take ``p``.

    ``None`` stands for the default, which for ``q`` depends on the meter; ``colons`` of no effect may follow.
    """

    p: int
    q: int | None = None
    r: int | None = None
    colons: int = 0


@dataclass(frozen=True, slots=True)
class Broken:
    """Broken rhythm between two notes: a run of ``>`` or a run of ``<``."""

    text: str


@dataclass(frozen=True, slots=True)
class Slur:
    """The start ``(``, dotted ``.(``, or the end ``)`` of a slur."""

    text: str


@dataclass(frozen=True, slots=True)
class Tie:
    """A ``-`` that does not follow its note directly."""


@dataclass(frozen=True, slots=True)
class Decoration:
    """``!name!``, ``+name+``, or one of ``. ~ H-W h-w``, perhaps with digits that have no meaning."""

    text: str


@dataclass(frozen=True, slots=True)
class QuotedText:
    """A quoted string, with its quotes: a chord symbol, or text placed by ``^ _ < > @``."""

    text: str


@dataclass(frozen=True, slots=True)
class InlineField:
    """``[K:D]``: a field inside a line of music."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Overlay:
    """``&``: what follows starts again at the beginning of the bar."""


@dataclass(frozen=True, slots=True)
class LineBreak:
    r"""``$`` (break the line here), ``!`` or ``*`` (the same, in old tunes) or ``\`` (do not)."""

    text: str


Element = (
    Space | Note | Rest | Spacer | Chord | Grace | Tuplet | Broken | Slur | Tie | Decoration | QuotedText
    | InlineField | Overlay | LineBreak
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Barline:
    """A barline, and the ending that starts at it.

    Args:
        sign: ``|``, ``||``, ``|]``, ``|:``, ``:|``, ``::`` and so on; empty where an ending starts without one.
        volta: Numbers of the ending, such as ``1`` or ``1,3``; empty where none starts.
        gap: What stands between the two: blanks and perhaps ``[``.
    """

    sign: str
    volta: str = ""
    gap: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of one voice, or the part of it on one line of text.

    Args:
        elements: What stands between the barlines.
        right: The barline at its end; ``None`` where the line ends first.
        prefix: Fields before the left barline.
        left: A barline before the first bar of a line.
        line: 1-based line of its first character in the source.
        column: 1-based column of its first character.
    """

    elements: tuple[Element, ...]
    right: Barline | None = None
    prefix: tuple[Element, ...] = ()
    left: Barline | None = None
    line: int = field(default=1, compare=False)
    column: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class VoiceLine:
    """The bars of one voice on one line; ``voice`` is the value of its ``[V:…]``, ``None`` without one."""

    voice: str | None
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class MusicLine:
    """One line of music.

    Args:
        voices: One voice in plain ABC, all that play in interleaved ABC.
        progress: The ``[r:done/left]`` field at its start.
        comment: Text from ``%`` on; empty without one.
        line: 1-based line number in the source.
    """

    voices: tuple[VoiceLine, ...]
    progress: InlineField | None = None
    comment: str = ""
    line: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class Field:
    """A line ``X:value``; the value is kept as it stands, blanks included."""

    name: str
    value: str
    line: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class Comment:
    """A line that starts with ``%``; instructions such as ``%%score`` too."""

    text: str
    line: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class Header:
    """All lines before the music: fields, instructions, prompts, and the declarations of the voices."""

    lines: tuple[Field | Comment, ...]

    def fields(self, name: str) -> Iterator[Field]:
        """Yield the fields with this letter, in order."""
        return (line for line in self.lines if isinstance(line, Field) and line.name == name)


@dataclass(frozen=True, slots=True)
class Tune:
    """A piece: its header, then music and the fields and comments between."""

    header: Header
    body: tuple[MusicLine | Field | Comment, ...]
