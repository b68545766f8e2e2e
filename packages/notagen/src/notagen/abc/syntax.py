"""The syntax tree of a tune. All nodes are immutable and compare by value.

Nodes keep the spelling of the source (``c/`` and ``c1/2`` differ), so that printing reproduces it. Lengths are exact
fractions in units of the ``L:`` field. Positions in the source are ignored when nodes are compared.
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
    """Return the value of the length written after a note.

    Args:
        text: One of ``""`` (1), ``n``, ``n/m``, ``/m``, ``n/`` (n/2), ``n//`` (n/4), ``/`` (1/2) and so on.

    Raises:
        FormatError: ``text`` has another form, divides by zero, or is out of bounds.
    """
    over, slash, under = text.partition("/")
    digits = under.lstrip("/")
    if max(len(over), len(digits)) > MAX_LENGTH_DIGITS or len(under) - len(digits) >= MAX_LENGTH_SLASHES:
        raise FormatError(
            f"length {text[:40]!r} is out of bounds: at most {MAX_LENGTH_DIGITS} digits per number"
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
    """Blanks, tabs and back quotes between notes; they end a beam and take no time."""

    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """One note.

    Args:
        accidental: ``""``, ``"^"``, ``"^^"``, ``"="``, ``"_"`` or ``"__"``, and for quarter tones ``"^/"``, ``"^3/2"``
            and the like; see :func:`notagen.abc.accidentals.alteration_of`.
        letter: ``C``-``B`` from middle C up, ``c``-``b`` an octave higher.
        marks: Octave marks: each ``'`` is one up, each ``,`` one down.
        length_text: See :func:`length_of`.
        tie: Whether ``-`` follows directly.
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
    """A rest: ``z`` or, invisible, ``x``; with the capitals ``Z`` and ``X`` the length counts whole bars."""

    letter: str
    length_text: str = ""

    @property
    def length(self) -> Fraction:
        """Length in units of ``L:``, or in bars if :attr:`whole_bars` is true."""
        return length_of(self.length_text)

    @property
    def whole_bars(self) -> bool:
        """Whether the length counts bars."""
        return self.letter.isupper()


@dataclass(frozen=True, slots=True)
class Spacer:
    """A spacer ``y``: extra space in print, which takes no time."""

    length_text: str = ""


@dataclass(frozen=True, slots=True)
class Chord:
    """A chord such as ``[CEG]2-``: notes, possibly with decorations and other marks; rests in it have no effect."""

    elements: tuple[Element, ...]
    length_text: str = ""
    tie: bool = False

    @property
    def notes(self) -> tuple[Note, ...]:
        """The notes; there is at least one."""
        return tuple(element for element in self.elements if isinstance(element, Note))

    @property
    def length(self) -> Fraction:
        """Length of the first note times the length after the bracket."""
        return self.notes[0].length * length_of(self.length_text)


@dataclass(frozen=True, slots=True)
class Grace:
    """Grace notes such as ``{/ga}``, which take no time; with ``slash`` they are an acciaccatura."""

    elements: tuple[Element, ...]
    slash: bool = False


@dataclass(frozen=True, slots=True)
class Tuplet:
    """A tuplet mark ``(p:q:r``: the next ``r`` notes, chords and rests last q/p of their written length.

    ``None`` stands for the default, which for ``q`` depends on the meter; ``colons`` counts trailing colons, which have
    no effect.
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
    """The start ``(`` or ``.(`` (dotted), or the end ``)``, of a slur."""

    text: str


@dataclass(frozen=True, slots=True)
class Tie:
    """A tie ``-`` that does not follow its note directly."""


@dataclass(frozen=True, slots=True)
class Decoration:
    """A decoration: ``!name!``, ``+name+``, or one of ``. ~ H-W h-w``, possibly with digits, which have no meaning."""

    text: str


@dataclass(frozen=True, slots=True)
class QuotedText:
    """A quoted string, with its quotes: a chord symbol, or text placed by ``^ _ < > @``."""

    text: str


@dataclass(frozen=True, slots=True)
class InlineField:
    """A field inside a line of music, such as ``[K:D]``."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Overlay:
    """An overlay ``&``: the elements after it start again at the beginning of the bar."""


@dataclass(frozen=True, slots=True)
class LineBreak:
    r"""``$``, or in old tunes ``!`` or ``*`` (a line break in print), or ``\`` (no line break)."""

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
        gap: Text between the two: blanks and possibly ``[``.
    """

    sign: str
    volta: str = ""
    gap: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of one voice, or the part of it on one line of text.

    Args:
        elements: Elements between the barlines.
        right: The barline at its end; ``None`` where the line ends before one.
        prefix: Fields before the left barline.
        left: The barline before the first bar of a line; ``None`` without one.
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
        countdown: The countdown tag ``[r:done/left]`` at its start; ``None`` without one.
        comment: Text from ``%`` on; empty without one.
        line: 1-based line number in the source.
    """

    voices: tuple[VoiceLine, ...]
    countdown: InlineField | None = None
    comment: str = ""
    line: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class Field:
    """A line such as ``X:value``; the value is kept unchanged, with its blanks."""

    name: str
    value: str
    line: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class Comment:
    """A line that starts with ``%``, including instructions such as ``%%score``."""

    text: str
    line: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class Header:
    """All lines before the music: fields, instructions, prompts, and declarations of voices."""

    lines: tuple[Field | Comment, ...]

    def fields(self, name: str) -> Iterator[Field]:
        """Yield the fields with this letter, in order."""
        return (line for line in self.lines if isinstance(line, Field) and line.name == name)


@dataclass(frozen=True, slots=True)
class Tune:
    """A tune: its header, then lines of music, with fields and comments between them."""

    header: Header
    body: tuple[MusicLine | Field | Comment, ...]
