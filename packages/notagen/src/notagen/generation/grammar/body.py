"""The automaton of the music: lines of tag and voices, barlines, repeats, and changes of key and meter.

The first voice of a line decides its length and barlines; the others follow. A bar lasts as long as the meter says; it
may be shorter where it can be a pick-up or what precedes one: the first and the last bar, next to a repeat, and before
a double bar, after which the rest of it follows. A slur that crosses a barline keeps its voice on the next line, so
that all are closed when the piece ends.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from notagen.abc.duration import Meter, parse_meter, parse_unit_length, total_duration
from notagen.abc.parser import parse_bar
from notagen.abc.syntax import InlineField, Slur
from notagen.codec import BOS, EOS, bar_units
from notagen.generation.grammar.bar import PITCHES, Content
from notagen.generation.grammar.barlines import Barlines
from notagen.generation.grammar.durations import tick_rate
from notagen.generation.grammar.header import KEYS, METERS, TEMPOS, Header, lines_of
from notagen.generation.grammar.plan import BarPlan, LinePlan
from notagen.generation.grammar.rules import (
    EOS_BIT,
    Patch,
    Rule,
    Step,
    bits,
    first_characters,
    literal,
    number,
    spell,
)
from notagen.notation.bars import voice_segments
from notagen.notation.validation import barlines_of
from pentatonic.errors import FormatError

MAX_BARS = 9999
_MAX_UNITS = 9999  # of a bar, which one rest can have
_LONGEST_METER = 24  # in whole notes, of those that are written
_FREE_BAR = Fraction(4)  # longest bar without a meter, in whole notes
_TAG = re.compile(r"\[r:([0-9]{1,9})/([0-9]{1,9})\]")
_OPEN, _C = map(ord, "[C")
_CUT_TIME = "C"  # and perhaps `|`, before which a unit of the text ends
_VALUES = {
    "K": lines_of(KEYS, "]"),
    "M": (*lines_of(tuple(meter for meter in METERS if meter != _CUT_TIME), "]"), _CUT_TIME),
    "Q": lines_of(TEMPOS, "]"),
}


class Body:
    """The music.

    Args:
        header: The complete header.
        patch: Where the next id stands.
        bars: Bars that the first tag announces; ``None``: any number.
        plans: What the next lines must be like; after them nothing may follow.

    Attributes:
        barlines: So far.
        slurs: Voice -> slurs that are open.
        meter: In force.
        unit: Note length in force, in whole notes.
    """

    def __init__(self, header: Header, patch: Patch, bars: int | None, plans: Sequence[BarPlan]) -> None:
        self.header, self.patch, self.plans = header, patch, list(plans)
        self._planned = bool(plans)
        self.barlines = Barlines()
        self.slurs: dict[str, int] = {}
        self.meter: Meter | None = None
        self.unit = Fraction(1, 8)
        self._tagged, self._left = True, None if bars is None else bars - 1
        self._lines = 0  # so far
        self._done = 0  # of the next tag
        self._lack = Fraction(0)  # what a bar before a double bar was too short by

    # -- given music ---------------------------------------------------------------------------------------------------

    def read(self, line: str, number: int) -> None:
        """Take a complete line that is given, and check what the automaton goes on from.

        Args:
            line: The line without its line end.
            number: Of the line in the text, for messages.

        Raises:
            FormatError: A bar is no ABC, or there are more lines than a tag says.
        """
        self._begin()
        tag = _TAG.match(line)
        self.begin(tagged=tag is not None)
        if tag:
            self._done, self._left = int(tag[1]), int(tag[2])
        left, right, length = "", "", None
        for index, (name, content) in enumerate(voice_segments(line)):
            try:
                bar = parse_bar(content.strip())
            except FormatError as error:
                raise FormatError(f"voice {name}: {error.reason}", line=number) from None
            slurs = self.slurs.get(name, 0)
            for element in bar.elements:
                if isinstance(element, Slur):
                    slurs = max(slurs - 1, 0) if element.text == ")" else slurs + 1
            self.slurs[name] = slurs
            if index == 0:
                left, right = barlines_of(bar)
                for element in (*bar.prefix, *bar.elements):
                    if isinstance(element, InlineField) and element.name == "M":
                        self.meter = parse_meter(element.value, line=number)
                    elif isinstance(element, InlineField) and element.name == "L":
                        self.unit = parse_unit_length(element.value, line=number)
                try:
                    length = total_duration(bar, meter=self.meter, bar_length=self._expected)
                except FormatError:
                    length = None
        self._finish(left, right, length)
        if self._is_over and not self._may_end:
            reason = "by its tag this is the last bar, but the piece does not end with '|]' or ':|'"
            raise FormatError(f"{reason}, or a repeat or slur is open", line=number)

    def begin(self, *, tagged: bool) -> None:
        """Take over from given music whether lines have tags; the first one is then not ours."""
        self._tagged, self._left = tagged, None

    def _begin(self) -> None:
        """Take from the header, now complete, what is in force at the start."""
        if self._lines == 0:
            self.meter, self.unit = self.header.meter, self.header.unit_length

    def _finish(self, left: str, right: str, length: Fraction | None) -> None:
        """Go on to the next line after one with these barlines and bars of this length."""
        self._lack = self._lack_of(right, length)
        self.barlines.add(left, right)
        self._lines += 1
        self._done += 1
        if self._left is not None:
            self._left -= 1

    # -- lines ---------------------------------------------------------------------------------------------------------

    @property
    def patches_to_close(self) -> int:
        """Most patches of a short way to the end, also after another patch."""
        return 14 + 3 * len(self.header.voices)

    @property
    def _may_end(self) -> bool:
        return self.barlines.may_end and not any(self.slurs.values())

    @property
    def _is_over(self) -> bool:
        return self._tagged and self._left is not None and self._left < 0

    def rule(self, opened: bool) -> Rule[None]:
        """Write lines up to the end of the piece.

        Args:
            opened: Whether the ``[`` of the first line is there already.
        """
        while opened or (yield from self._starts()):
            opened = False
            yield from self._line()
            yield from self.patch.cut()

    def _starts(self) -> Rule[bool]:
        """Begin a line, or end the piece; return which."""
        if self._planned and not self.plans:
            return False
        last = self._is_over
        ends = 1 << BOS if self._may_end and (last or not self._tagged) else 0
        close = BOS if self._may_end else _OPEN
        if (yield Step(ends | (0 if last else bits("[")), close)) == _OPEN:
            return True
        yield Step(EOS_BIT, EOS)
        return False

    def _line(self) -> Rule[None]:
        self._begin()
        if self._tagged:
            yield from literal(f"r:{self._done}/")
            if self._left is None:
                self._left = yield from number(MAX_BARS - 1, "]")
            else:
                yield from literal(f"{self._left}]")
            yield from literal("[")
        plan = self.plans.pop(0) if self.plans else None
        line = LinePlan(plan, final=self._tagged and self._left == 0 and plan is None)
        slurs = (*self.slurs.items(), *(plan.slurs_after.items() if plan else ()))
        line.needed = {voice for voice, count in slurs if count}
        yield from literal("V:")
        name = yield from self._voice_name(line, -1)
        first = True
        while name:
            name = yield from self._voice(line, name, first)
            first = False
        self._finish(line.left, line.right, line.length)

    def _voice_name(self, line: LinePlan, after: int) -> Rule[str]:
        names = self._candidates(line, after)
        needed = [name for name in names if name in line.needed]
        word = yield from spell(lines_of(tuple(names), "]"), close=f"{(needed or names)[0]}]")
        return word[:-1]

    def _candidates(self, line: LinePlan, after: int) -> list[str]:
        """Return the voices that may come next on the line, after the one with this index."""
        voices = self.header.voices
        if line.plan and line.plan.voices:
            return [name for name in line.plan.voices if voices.index(name) > after][:1]
        candidates: list[str] = []
        for name in voices[after + 1 :]:
            candidates.append(name)
            if name in line.needed:
                break
        return candidates

    def _is_needed(self, line: LinePlan, candidates: list[str]) -> bool:
        """Whether one of the candidates has to come."""
        planned = bool(line.plan and line.plan.voices)
        return any(planned or name in line.needed for name in candidates)

    # -- one voice -----------------------------------------------------------------------------------------------------

    def _voice(self, line: LinePlan, name: str, first: bool) -> Rule[str]:
        """Write what follows ``[V:n]``, and what comes before the next content; return the next voice, if any."""
        index = self.header.voices.index(name)
        after = self._candidates(line, index)
        if line.plan and name in line.plan.kept:
            yield from self._verbatim(line.plan.kept[name])
            full, length = True, line.length
            chosen = yield self._end(line, name, after, full) or Step(0, 0)
            self.slurs[name] = line.plan.slurs_after.get(name, 0)
        else:
            chosen, content = yield from self._content(line, name, after, first)
            full, length = content.state.room == 0, Fraction(content.written, content.rate)
            self.slurs[name] = content.state.slurs
        following = yield from self._barline(line, name, after, chosen, full)
        line.length = length
        return following

    def _verbatim(self, text: str) -> Rule[None]:
        """Write a bar as it is given, in the units that the codec cuts it into."""
        # Something and another voice behind it, so that no unit is taken for the last one of the line.
        *units, _ = bar_units(f"{text}c|[V:")
        for position, unit in enumerate(units):
            if position:
                yield from self.patch.cut()
            yield from literal(unit[:-1] if position == len(units) - 1 else unit)

    def _content(self, line: LinePlan, name: str, after: list[str], first: bool) -> Rule[tuple[int, Content]]:
        """Write fields, the barline before the bar, and the bar; return the id after it."""
        changes = self._changes_of(line, name)
        for change in changes:
            yield from self._verbatim(change)
        deciding = first and line.plan is None
        content = self._new_content(line, name, after)
        kinds = self._kinds(name) if deciding else ""
        takes_left = deciding and self._lines == 0
        if line.left and not deciding:
            yield from self.patch.cut()
            yield from literal(line.left)
        yield from content.open_slurs((content.slurs_after or 0) - content.state.slurs)
        while True:
            step = content.step()
            left = (EOS_BIT if self.patch.place else bits("|")) if takes_left else 0
            chosen = yield Step(step.allowed | left, step.close)
            if left >> chosen & 1:
                chosen = yield from self._left_barline(line, content, chosen)
                kinds, takes_left = "", False
            if chosen == _OPEN:
                chosen = yield Step(PITCHES | bits(kinds), _C)
                if chr(chosen) not in kinds or not kinds:
                    chosen = yield from content.chord(chosen)
                    break
                yield from self._change(line, name, chr(chosen))
                kinds = kinds.replace(chr(chosen), "")
                content = self._new_content(line, name, after)
            else:
                break
        chosen = yield from content.rule(chosen)
        return chosen, content

    def _left_barline(self, line: LinePlan, content: Content, chosen: int) -> Rule[int]:
        """Write the barline before the first bar, from the end of the unit before it or its first sign on."""
        if chosen == EOS:
            yield from literal("|")
        line.left = "|"
        step = content.step()
        chosen = yield Step(step.allowed | bits("|:"), step.close)
        if chr(chosen) in "|:":
            line.left += chr(chosen)
            chosen = yield content.step()
        return chosen

    def _new_content(self, line: LinePlan, name: str, after: list[str]) -> Content:
        length = line.length or self._lack or self._expected or _FREE_BAR / self.unit
        if length > _MAX_UNITS:
            raise FormatError(f"a bar of {length} units of L: is too long; at most {_MAX_UNITS}")
        rate = tick_rate(length)
        slurs_after = 0 if line.final else None
        compound = self.meter is not None and self.meter.compound
        if line.plan:
            slurs_after, compound = line.plan.slurs_after.get(name, 0), line.plan.compound
        return Content(
            int(length * rate),
            rate,
            compound=compound,
            slurs=self.slurs.get(name, 0),
            slurs_after=slurs_after,
            ends=lambda full: self._end(line, name, after, full),
        )

    @property
    def _expected(self) -> Fraction | None:
        return self.meter.length / self.unit if self.meter else None

    def _lack_of(self, right: str, length: Fraction | None) -> Fraction:
        """Return what a bar before a double bar lacks, which is what the pick-up after it lasts; 0 for nothing."""
        target = self._lack or self._expected
        # The first bar of a piece or of a repeat may be a pick-up itself.
        if not target or not length or self._lines == 0 or ":" in self.barlines.before:
            return Fraction(0)
        return max(target - length, Fraction(0)) if right in ("||", "|]") else Fraction(0)

    # -- changes -------------------------------------------------------------------------------------------------------

    def _kinds(self, name: str) -> str:
        """Return the fields that the first voice of a line may have: those that all voices can follow in."""
        voices, keyless = self.header.voices, self.header.keyless
        keyed = [voice for voice in voices if voice not in keyless]
        opening = self._lines == 0
        key = name not in keyless and (opening or name == keyed[0])
        meter = (opening or name == voices[0]) and _LONGEST_METER / self.unit <= _MAX_UNITS
        return ("K" if key else "") + ("M" if meter else "") + "Q"

    def _change(self, line: LinePlan, name: str, kind: str) -> Rule[None]:
        """Write a field of the first voice, from its colon on."""
        yield from literal(":")
        close = {"K": "C]", "M": "4/4]", "Q": "1/4=100]"}[kind]
        value = yield from spell(_VALUES[kind], close=close)
        value = value[:-1] if value != _CUT_TIME else (yield from self._common_time())
        if kind == "M":
            self.meter, self._lack = parse_meter(value), Fraction(0)
        if kind == "Q":
            return
        line.changes.append((kind, value))
        if self._lines:
            others = self.header.keyless if kind == "K" else set()
            line.needed |= {voice for voice in self.header.voices if voice not in others} - {name}

    def _common_time(self) -> Rule[str]:
        """Complete the meter C or C|."""
        cut = EOS_BIT if self.patch.place else bits("|")
        chosen = yield Step(cut | bits("]"), ord("]"))
        if chosen == ord("]"):
            return "C"
        yield from literal("|]" if chosen == EOS else "]")
        return "C|"

    def _changes_of(self, line: LinePlan, name: str) -> list[str]:
        """Return the fields that a voice must start with."""
        if line.plan:
            return [text for text in (line.plan.fields.get(name, ""),) if text]
        return [
            f"[{kind}:{value}]"
            for kind, value in line.changes
            if kind != "K" or name not in self.header.keyless
        ]

    # -- ends of bars --------------------------------------------------------------------------------------------------

    def _end(self, line: LinePlan, name: str, after: list[str], full: bool) -> Step | None:
        """Return how a bar may end: a new unit where a voice follows, else the barline, which belongs to this one."""
        signs = self._signs(line, full)
        if not signs:
            return None
        needed, inside = self._is_needed(line, after), self.patch.place
        allowed = EOS_BIT if inside and after else 0
        if not needed or not inside:
            allowed |= first_characters(signs)
        close = EOS if needed and inside else ord(self.barlines.closing(signs)[0])
        return Step(allowed, close)

    def _barline(self, line: LinePlan, name: str, after: list[str], chosen: int, full: bool) -> Rule[str]:
        """Write a barline, and the start of the next voice or the line end; return the voice."""
        needed = self._is_needed(line, after)
        if chosen == EOS:
            ends, start = "[", ""
        else:
            # The one id of a unit in a fresh patch leaves open to which unit it belongs.
            ends = "" if needed else "\n"
            ends += "[" if after and self.patch.place == 1 else ""
            start = chr(chosen)
        signs = tuple(sign for sign in self._signs(line, full) if sign.startswith(start))
        closing = self.barlines.closing(signs) + ends[0]
        word = yield from spell(lines_of(signs, ends), start, close=closing)
        line.right = word[:-1]
        if word[-1] == "\n":
            return ""
        yield from literal("V:")
        return (yield from self._voice_name(line, self.header.voices.index(name)))

    def _signs(self, line: LinePlan, full: bool) -> tuple[str, ...]:
        """Return the barlines that the bar may end with."""
        if line.right:
            return (line.right,) if full else ()
        if line.length is not None and not full:
            return ()
        if line.final:
            return self.barlines.final(line.left)
        short = not (full or self._lines == 0 or self._expected is None)
        return self.barlines.inner(line.left, short=short)
