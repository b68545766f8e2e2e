"""Collects the bars of each voice from the lines of a tune in either layout."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import dropwhile

from notagen.abc.syntax import (
    Bar,
    Barline,
    Chord,
    Comment,
    Element,
    Field,
    Header,
    InlineField,
    MusicLine,
    Note,
    Overlay,
    Rest,
    Space,
    Tune,
    VoiceLine,
)
from notagen.notation.bars import UnequalVoicesError
from notagen.score.losses import lost
from notagen.score.lyrics import MAX_VERSES, read_verse
from notagen.score.model import Syllable
from pentatonic.errors import FormatError

MAX_VOICES = 128
#: Most bars of all voices together, including bars of rest that the source does not spell out.
MAX_BARS = 1 << 16

_INLINE_KINDS = "KLMPQ"


@dataclass
class Passage:
    """The bars of one voice, while they are collected.

    Args:
        declaration: Value of its ``V:`` field after the name.
        bars: Bars without barlines; None where the source leaves the voice out because it rests.
        barlines: Barline before the first bar, then after each bar; None for none.
        pending: Elements after the last bar.
        sounds: Whether ``pending`` has a note or a rest.
        line: Line of the first pending element.
        column: Column of the first pending element.
        lyrics: (bar, note of the bar) -> the syllable of each verse, None for a verse without one.
    """

    declaration: str = ""
    bars: list[Bar | None] = field(default_factory=list)
    barlines: list[Barline | None] = field(default_factory=lambda: [None])
    pending: list[Element] = field(default_factory=list)
    sounds: bool = False
    line: int = 1
    column: int = 1
    lyrics: dict[tuple[int, int], list[Syllable | None]] = field(default_factory=dict)
    _sung: list[tuple[int, int]] = field(default_factory=list)  # notes of the last line of music
    _notes: int = 0  # in the pending bar
    _verse: int = 0  # of the last w: line since the music

    def feed(self, elements: Iterable[Element], line: int, column: int) -> None:
        """Add elements of the current bar."""
        if not self.pending:
            self.line, self.column = line, column
        else:
            self.pending.append(Space(" "))  # a line end separates beams
        overlay = any(isinstance(element, Overlay) for element in self.pending)
        for element in elements:
            self.pending.append(element)
            self.sounds |= isinstance(element, (Note, Chord, Rest))
            overlay |= isinstance(element, Overlay)
            if isinstance(element, (Note, Chord)) and not overlay:
                self._sung.append((len(self.bars), self._notes))
                self._notes += 1

    def verse(self, text: str) -> None:
        """Add a ``w:`` line, which is about the line of music before it; further ones are further verses."""
        self._verse += 1
        if self._verse > MAX_VERSES:
            lost("verse of lyrics beyond the 32nd")
            return
        for note, syllable in read_verse(text, [bar for bar, _ in self._sung]):
            verses = self.lyrics.setdefault(self._sung[note], [])
            verses += [None] * (self._verse - len(verses))
            verses[self._verse - 1] = syllable

    def barline(self, barline: Barline | None) -> None:
        """End the bar; without notes and rests since the last barline, merge the two barlines.

        A bar that is only the rest ``Zn`` or ``Xn`` becomes ``n`` bars.
        """
        if self.sounds:
            bars = self._spelled_out(Bar(tuple(self.pending), line=self.line, column=self.column))
            self.bars += bars
            self.barlines += [Barline("|")] * (len(bars) - 1) + [barline]
            self.pending, self.sounds, self._notes = [], False, 0
        elif barline is not None:
            self.barlines[-1] = _joined(self.barlines[-1], barline)

    def _spelled_out(self, bar: Bar) -> list[Bar]:
        timed = [e for e in bar.elements if isinstance(e, (Note, Chord, Rest, Overlay))]
        rest = timed[0] if len(timed) == 1 else None
        if not (isinstance(rest, Rest) and rest.whole_bars and rest.length > 1):
            return [bar]
        count = int(rest.length)
        if len(self.bars) + count > MAX_BARS:
            raise FormatError(f"more than {MAX_BARS} bars", line=bar.line, column=bar.column)
        single = Rest(rest.letter)
        first = tuple(single if element is rest else element for element in bar.elements)
        following = Bar((single,), line=bar.line, column=bar.column)
        return [Bar(first, line=bar.line, column=bar.column), *[following] * (count - 1)]

    def line_of_voice(self, voice: VoiceLine, line: int) -> None:
        """Add the bars of the voice on one line of the source."""
        self._sung, self._verse = [], 0
        for bar in voice.bars:
            if bar.left is not None:
                self.feed(bar.prefix, line, bar.column)
                self.barline(bar.left)
            self.feed(bar.elements, line, bar.column)
            if bar.right is not None:
                self.barline(bar.right)

    def end(self) -> None:
        """End the music: the last bar needs no barline, and trailing marks belong to the bar before."""
        self.barline(None)
        last = self.bars[-1] if self.bars else None
        if last is not None and self.pending:
            self.bars[-1] = Bar((*last.elements, *self.pending), line=last.line, column=last.column)
            self.pending = []


def collect(tune: Tune, *, interleaved: bool) -> dict[str, Passage]:
    """Sort the music of a tune by voice.

    Args:
        tune: The tune.
        interleaved: Whether it is in interleaved layout: then voices that are not on a line rest.

    Returns:
        Voice name -> its bars, in the order of declarations; all have the same number of bars.

    Raises:
        FormatError: There is no music, the voices have different numbers of bars, or there are more than
            ``MAX_VOICES`` voices or ``MAX_BARS`` bars.
    """
    collector = _Collector()
    for line in tune.header.fields("V"):
        collector.declare(line.value, line.line)
    collector.current = _opening_voice(tune)
    for line in _labels_after_key(tune.header):
        collector.field(line)
    for line in tune.body:
        if isinstance(line, Field):
            collector.field(line)
        elif isinstance(line, Comment):
            if line.text.startswith("%%") and line.text[2:].strip():
                lost(f"instruction %%{line.text[2:].split()[0][:20]}")
        else:
            (collector.interleaved if interleaved else collector.standard)(line)
    passages = collector.passages
    for passage in passages.values():
        passage.end()
    if not interleaved:
        passages = {name: passage for name, passage in passages.items() if passage.bars}
    _check(passages)
    return passages


def _check(passages: dict[str, Passage]) -> None:
    counts = {name: len(passage.bars) for name, passage in passages.items()}
    if not any(counts.values()):
        raise FormatError("there is no music: no note and no rest")
    if len(set(counts.values())) > 1:
        listing = ", ".join(f"V:{name} {count}" for name, count in counts.items())
        raise UnequalVoicesError(f"voices have different numbers of bars ({listing}); they must be equal")
    if sum(counts.values()) > MAX_BARS:
        raise FormatError(f"more than {MAX_BARS} bars in all voices together")


def _labels_after_key(header: Header) -> Iterator[Field]:
    """Yield the ``P:`` fields after the key: the label of the first section; before it they are the order of parts."""
    fields = [line for line in header.lines if isinstance(line, Field)]
    after_key = dropwhile(lambda line: line.name != "K", fields)
    return (line for line in after_key if line.name == "P")


def _opening_voice(tune: Tune) -> str:
    """Return the voice of music in the body before any ``V:``."""
    seen_key = False
    voice = ""
    for line in tune.header.lines:
        if isinstance(line, Field) and line.name == "K":
            seen_key = True
        elif isinstance(line, Field) and line.name == "V" and line.value.split():
            # Before the key the voices are only declared.
            voice = line.value.split()[0] if seen_key or not voice else "1"
    return voice or "1"


class _Collector:
    """Collects the bars of all voices from the lines of the body, in order."""

    def __init__(self) -> None:
        self.passages: dict[str, Passage] = {}
        self.current = "1"
        self.bars = 0  # of an interleaved tune, per voice

    def declare(self, value: str, line: int) -> str:
        """Return the name in the value of a ``V:`` field, and keep the rest of the value."""
        name, _, declaration = value.strip().partition(" ")
        if not name:
            raise FormatError("V: needs a name, such as V:1", line=line)
        passage = self.voice(name, line)
        passage.declaration = passage.declaration or declaration
        return name

    def voice(self, name: str, line: int) -> Passage:
        if name not in self.passages:
            if len(self.passages) == MAX_VOICES:
                raise FormatError(f"more than {MAX_VOICES} voices", line=line)
            self.passages[name] = Passage()
        return self.passages[name]

    def field(self, line: Field) -> None:
        if line.name == "V":
            self.current = self.declare(line.value, line.line)
        elif line.name == "w":
            self.voice(self.current, line.line).verse(line.value)
        elif line.name in _INLINE_KINDS:
            field_ = InlineField(line.name, line.value.partition("%")[0].strip())
            self.voice(self.current, line.line).feed([field_], line.line, 1)
        elif line.name not in "Xr":
            lost(f"field {line.name}: between lines of music")

    def standard(self, line: MusicLine) -> None:
        for part in line.voices:
            if part.voice is not None:
                self.current = self.declare(part.voice, line.line)
            self.voice(self.current, line.line).line_of_voice(part, line.line)

    def interleaved(self, line: MusicLine) -> None:
        playing: list[Passage] = []
        for part in line.voices:
            timed = any(
                isinstance(element, (Note, Chord, Rest)) for bar in part.bars for element in bar.elements
            )
            if part.voice is None:
                if timed:
                    raise FormatError("music without [V:…] among lines that have it", line=line.line)
                continue  # blanks before the first [V:n]
            self.current = self.declare(part.voice, line.line)
            passage = self.voice(self.current, line.line)
            if not timed:
                passage.feed((element for bar in part.bars for element in bar.elements), line.line, 1)
                continue
            if any(passage is other for other in playing):
                raise FormatError(f"voice {self.current} is on the line twice", line=line.line)
            self._rest(passage)
            passage.line_of_voice(part, line.line)
            passage.barline(None)
            playing.append(passage)
        if not playing:
            return
        counts = [len(passage.bars) - self.bars for passage in playing]
        if len(set(counts)) > 1:
            raise UnequalVoicesError(f"the voices have different numbers of bars: {counts}", line=line.line)
        self.bars += counts[0]
        if self.bars * len(self.passages) > MAX_BARS:
            raise FormatError(f"more than {MAX_BARS} bars in all voices together", line=line.line)
        for passage in self.passages.values():
            if len(passage.bars) < self.bars:
                self._copy_barlines(passage, playing[-1])

    def _rest(self, passage: Passage) -> None:
        """Add rests for the lines so far on which the voice was left out."""
        missing = self.bars - len(passage.bars)
        passage.bars += [None] * missing
        passage.barlines += [None] * missing

    def _copy_barlines(self, passage: Passage, other: Passage) -> None:
        start = len(passage.bars)
        passage.bars += [None] * (self.bars - start)
        passage.barlines += other.barlines[start + 1 :]
        if start == 0:
            passage.barlines[0] = other.barlines[0]


def _joined(before: Barline | None, after: Barline) -> Barline:
    """Merge two barlines with nothing between them."""
    if before is None:
        return after
    first, second = before.sign, after.sign
    if first.startswith(":") and second.endswith(":") and not first.endswith(":"):
        sign = first + second
    else:
        sign = max(first, second, key=lambda item: (item.count(":"), len(item)))
    return Barline(sign, after.volta or before.volta)
