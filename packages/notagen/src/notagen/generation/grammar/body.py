"""The rules of the music: countdown tags, voices, barlines, repeats, and changes of key and meter.

The first voice of a line decides its length and barlines, and the others follow. A bar is as long as the meter says. It
may be shorter where it can be a pick-up or come before one: the first and the last bar, a bar next to a repeat, and a
bar before a double bar, after which a pick-up with the missing length follows. A voice with an open slur must be on the
next line, so that all slurs are closed when the piece ends.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from fractions import Fraction

from notagen.abc.duration import parse_meter
from notagen.abc.syntax import Slur
from notagen.codec import BOS, EOS, bar_units
from notagen.generation.grammar.bar import PITCHES, BarRules
from notagen.generation.grammar.barlines import LEFT_SIGNS, BarlineRules
from notagen.generation.grammar.durations import tick_rate
from notagen.generation.grammar.header import KEYS, METERS, TEMPOS, HeaderRules, lines_of
from notagen.generation.grammar.plan import BarPlan, LinePlan
from notagen.generation.grammar.rules import (
    EOS_BIT,
    NextIds,
    PatchCursor,
    Rule,
    bits,
    first_characters,
    literal,
    number,
    spell,
)
from notagen.generation.grammar.words import Words
from notagen.notation.countdown import read_countdown, without_countdown
from notagen.notation.lines import InterleavedReader, VoiceOnLine, is_music
from notagen.notation.validation import line_issues
from pentatonic.errors import FormatError

MAX_BARS = 9999
_MAX_UNITS = 9999  # longest bar, in units of L: that a single rest can fill
_LONGEST_METER = 24  # longest of METERS, in whole notes
_FREE_BAR = Fraction(4)  # longest bar without a meter, in whole notes
_OPEN, _C = map(ord, "[C")
_CUT_TIME = "C"  # C, or the start of C|, where the codec cuts before the |
_VALUES = {
    "K": lines_of(KEYS, "]"),
    "M": (*lines_of(tuple(meter for meter in METERS if meter != _CUT_TIME), "]"), _CUT_TIME),
    "Q": lines_of(TEMPOS, "]"),
}


class BodyRules:
    """The rules of the music.

    Args:
        header: The complete header.
        cursor: Position of the next id in its patch.
        words: What the vocabulary allows.
        bars: Bars that the first countdown tag announces; ``None``: any number.
        plans: What the next lines must be like; after them nothing may follow.

    Attributes:
        planned: Whether there are or were plans.
        barlines: BarlineRules of the lines so far.
        reader: Meter, note length and open slurs.
    """

    def __init__(
        self,
        header: HeaderRules,
        cursor: PatchCursor,
        words: Words,
        bars: int | None,
        plans: Sequence[BarPlan],
    ) -> None:
        self.header, self.cursor, self.words, self.plans = header, cursor, words, list(plans)
        self.planned = bool(plans)
        self.barlines = BarlineRules()
        self.reader = InterleavedReader()
        self._tagged, self._left = True, None if bars is None else bars - 1
        self._lines = 0  # number of lines so far
        self._done = 0  # first number of the next countdown tag
        self._pickup = Fraction(
            0
        )  # length of the pick-up that the next line starts a section with; 0 for none

    def copy(self, header: HeaderRules, cursor: PatchCursor) -> BodyRules:
        """Return a copy between two lines, for another header and cursor."""
        other = copy.copy(self)
        other.header, other.cursor, other.plans = header, cursor, list(self.plans)
        other.barlines, other.reader = copy.copy(self.barlines), self.reader.copy()
        return other

    @property
    def begun(self) -> bool:
        """Whether there is a complete line."""
        return self._lines > 0

    # -- given music ---------------------------------------------------------------------------------------------------

    def read(self, line: str, number: int) -> None:
        """Read a complete line of the prompt, and check that the piece can be continued after it.

        Args:
            line: The line without its line end.
            number: Number of the line in the text, for messages.

        Raises:
            FormatError: A bar cannot be parsed, or there are more lines than a countdown tag says.
        """
        self._take_header()
        counts = read_countdown(line)
        self.take_tags(tagged=counts is not None)
        if counts:
            self._done, self._left = counts
        left, right, length = "", "", None
        voices = self.reader.read(line)
        for voice in voices:
            try:
                voice.parsed()
            except FormatError as error:
                raise FormatError(f"voice {voice.name}: {error.reason}", line=number) from None
        for voice in voices[:1]:
            for change in voice.changes:
                if change.error:
                    raise FormatError(change.error.reason, line=number)
            left, right, length = voice.left, voice.right, voice.length
        self._end_line(left, right, length)
        if self._is_over and not self._may_end:
            reason = "its countdown tag makes this the last bar, but the piece does not end with '|]' or ':|'"
            raise FormatError(f"{reason}, or a repeat or slur is open", line=number)

    def judge(self, line: str) -> None:
        """Read a complete line that these rules do not write, and hold it to what they demand of those they write.

        Its bars must have the length that the meter or a pick-up demands, and end with a barline that may follow;
        whatever comes after it, the line then stays valid.

        Args:
            line: The line without its line end.

        Raises:
            FormatError: What is wrong with it.
        """
        self._take_header()
        if not is_music(line):
            raise FormatError("the line has no voice")
        counts = read_countdown(line)
        follows = counts is not None and counts[0] == self._done and self._left in (None, counts[1])
        if follows != self._tagged:
            raise FormatError("the countdown tag does not follow")
        if counts:
            self._left = counts[1]
        for issue in line_issues(
            line, self._lines + 1, self.reader.copy(), self.header.voices, self.header.keyless
        ):
            raise FormatError(issue.message)
        before = dict(self.reader.slurs)
        voices = self.reader.read(without_countdown(line))
        self._judge_slurs(voices, before)
        first, plan = voices[0], LinePlan(None, final=self._tagged and self._left == 0, left=voices[0].left)
        if first.left and (self._lines or first.left not in LEFT_SIGNS):
            raise FormatError(f"{first.left!r} cannot stand before the bar")
        if any(change.name == "M" and change.leading for change in first.changes):
            self._pickup = Fraction(0)
        target, length = self._bar_length, first.length
        if length is None or not 0 < length <= target:
            raise FormatError(f"the bar does not last {target} units of L: at most")
        if first.right not in self._signs(plan, length == target):
            raise FormatError(f"a bar of {length} units of L: cannot end with {first.right!r}")
        if plan.final and any(self.reader.slurs.values()):
            raise FormatError("a slur is open at the end of the piece")
        self._end_line(first.left, first.right, length)

    def _judge_slurs(self, voices: Sequence[VoiceOnLine], before: Mapping[str, int]) -> None:
        """Refuse a line without a voice that has open slurs, or with ends of slurs that have no start."""
        missing = {name for name, count in before.items() if count} - {voice.name for voice in voices}
        if missing:
            raise FormatError(f"the slurs of voice {', '.join(sorted(missing))} are open")
        for voice in voices:
            opened = before.get(voice.name, 0)
            for slur in (each for each in voice.parsed().elements if isinstance(each, Slur)):
                opened += -1 if slur.text == ")" else 1
                if opened < 0:
                    raise FormatError(f"voice {voice.name}: a slur ends that has no start")

    def take_tags(self, *, tagged: bool) -> None:
        """Follow the prompt in whether lines have countdown tags; ``bars`` then has no effect."""
        self._tagged, self._left = tagged, None

    def _take_header(self) -> None:
        """Before the first line: put the meter and note length of the header, now complete, in force."""
        if self._lines == 0:
            self.reader = InterleavedReader(self.header.meter, self.header.unit_length)

    def _end_line(self, left: str, right: str, length: Fraction | None) -> None:
        """Go on to the next line after one with these barlines and bars of this length."""
        self._pickup = self._pickup_length(right, length)
        self.reader.end_line()
        self.barlines.add(left, right)
        self._lines += 1
        self._done += 1
        if self._left is not None:
            self._left -= 1

    # -- lines ---------------------------------------------------------------------------------------------------------

    @property
    def patches_to_close(self) -> int:
        """Upper bound for the patches of the short path to the end, now and after one more patch."""
        return 14 + 3 * len(self.header.voices)

    @property
    def _may_end(self) -> bool:
        return self.barlines.may_end and not any(self.reader.slurs.values())

    @property
    def _is_over(self) -> bool:
        return self._tagged and self._left is not None and self._left < 0

    def rule(self, opened: bool) -> Rule[None]:
        """Write lines up to the end of the piece.

        Args:
            opened: Whether the ``[`` of the first line is already written.
        """
        while opened or (yield from self._begin_line()):
            opened = False
            yield from self._line()
            yield from self.cursor.cut()

    def _begin_line(self) -> Rule[bool]:
        """Begin a line or end the piece; return whether a line begins."""
        if self.planned and not self.plans:
            return False
        last = self._is_over
        ends = 1 << BOS if self._may_end and (last or not self._tagged) else 0
        close = BOS if self._may_end else _OPEN
        if (yield NextIds(ends | (0 if last else bits("[")), close)) == _OPEN:
            return True
        yield NextIds(EOS_BIT, EOS)
        return False

    def _line(self) -> Rule[None]:
        self._take_header()
        if self._tagged:
            yield from literal(f"r:{self._done}/")
            if self._left is None:
                self._left = yield from number(MAX_BARS - 1, "]")
            else:
                yield from literal(f"{self._left}]")
            yield from literal("[")
        plan = self.plans.pop(0) if self.plans else None
        line = LinePlan(plan, final=self._tagged and self._left == 0 and plan is None)
        slurs = (*self.reader.slurs.items(), *(plan.slurs_after.items() if plan else ()))
        line.needed = {voice for voice, count in slurs if count}
        yield from literal("V:")
        name = yield from self._voice_name(line, -1)
        first = True
        while name:
            name = yield from self._voice(line, name, first)
            first = False
        self._end_line(line.left, line.right, line.length)

    def _voice_name(self, line: LinePlan, after: int) -> Rule[str]:
        names = self._candidates(line, after)
        needed = [name for name in names if name in line.needed]
        word = yield from spell(lines_of(tuple(names), "]"), close=f"{(needed or names)[0]}]")
        return word[:-1]

    def _candidates(self, line: LinePlan, after: int) -> list[str]:
        """Return the voices that may come next on the line, after the voice with this index."""
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
        """Whether one of the candidates must come."""
        planned = bool(line.plan and line.plan.voices)
        return any(planned or name in line.needed for name in candidates)

    # -- one voice -----------------------------------------------------------------------------------------------------

    def _voice(self, line: LinePlan, name: str, first: bool) -> Rule[str]:
        """Write the bar after ``[V:n]``, its barline, and the next ``[V:n]``; return the next voice, empty for none."""
        index = self.header.voices.index(name)
        after = self._candidates(line, index)
        if line.plan and name in line.plan.kept:
            yield from self._verbatim(line.plan.kept[name])
            full, length = True, line.length
            chosen = yield self._end(line, name, after, full) or NextIds(0, 0)
            self.reader.slurs[name] = line.plan.slurs_after.get(name, 0)
        else:
            chosen, content = yield from self._content(line, name, after, first)
            full, length = content.state.room == 0, Fraction(content.written, content.rate)
            self.reader.slurs[name] = content.state.slurs
        following = yield from self._barline(line, name, after, chosen, full)
        line.length = length
        return following

    def _verbatim(self, text: str) -> Rule[None]:
        """Write a given text, cut as the codec cuts it."""
        # With a note and another voice after it, because the last unit of a line is cut differently.
        *units, _ = bar_units(f"{text}c|[V:")
        for position, unit in enumerate(units):
            if position:
                yield from self.cursor.cut()
            yield from literal(unit[:-1] if position == len(units) - 1 else unit)

    def _content(
        self, line: LinePlan, name: str, after: list[str], first: bool
    ) -> Rule[tuple[int, BarRules]]:
        """Write the fields, the left barline and the bar of a voice; return the id after the bar."""
        changes = self._changes_of(line, name)
        for change in changes:
            yield from self._verbatim(change)
        deciding = first and line.plan is None
        content = self._new_content(line, name, after)
        kinds = self._kinds(name) if deciding else ""
        takes_left = deciding and self._lines == 0
        if line.left and not deciding:
            yield from self.cursor.cut()
            yield from literal(line.left)
        yield from content.open_slurs((content.slurs_after or 0) - content.state.slurs)
        while True:
            next_ids = content.between()
            left = (EOS_BIT if self.cursor.position else bits("|")) if takes_left else 0
            chosen = yield NextIds(next_ids.allowed | left, next_ids.close)
            if left >> chosen & 1:
                chosen = yield from self._left_barline(line, content, chosen)
                kinds, takes_left = "", False
            if chosen == _OPEN:
                chosen = yield NextIds(PITCHES | bits(kinds), _C)
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

    def _left_barline(self, line: LinePlan, content: BarRules, chosen: int) -> Rule[int]:
        """Write the left barline of the first bar, from its first sign or the end of the unit before it."""
        if chosen == EOS:
            yield from literal("|")
        line.left = "|"
        next_ids = content.between()
        chosen = yield NextIds(next_ids.allowed | bits("|:"), next_ids.close)
        if chr(chosen) in "|:":
            line.left += chr(chosen)
            chosen = yield content.between()
        return chosen

    @property
    def _bar_length(self) -> Fraction:
        """The longest that the next bar may be, in units of L:."""
        return self._pickup or self.reader.bar_length or _FREE_BAR / self.reader.unit

    def _new_content(self, line: LinePlan, name: str, after: list[str]) -> BarRules:
        length = line.length or self._bar_length
        if length > _MAX_UNITS:
            raise FormatError(f"a bar of {length} units of L: is too long; at most {_MAX_UNITS} are allowed")
        rate = tick_rate(length)
        slurs_after = 0 if line.final else None
        compound = self.reader.meter is not None and self.reader.meter.compound
        if line.plan:
            slurs_after, compound = line.plan.slurs_after.get(name, 0), line.plan.compound
        return BarRules(
            int(length * rate),
            rate,
            compound=compound,
            slurs=self.reader.slurs.get(name, 0),
            slurs_after=slurs_after,
            words=self.words,
            ends=lambda full: self._end(line, name, after, full),
        )

    def _pickup_length(self, right: str, length: Fraction | None) -> Fraction:
        """Return the length of the pick-up after a double bar: the length that the bar before it lacks; 0 for none."""
        target = self._pickup or self.reader.bar_length
        # The first bar of a piece or of a repeat may be a pick-up itself.
        if not target or not length or self._lines == 0 or ":" in self.barlines.before:
            return Fraction(0)
        return max(target - length, Fraction(0)) if right in ("||", "|]") else Fraction(0)

    # -- changes -------------------------------------------------------------------------------------------------------

    def _kinds(self, name: str) -> str:
        """Return the kinds of fields that the first voice of a line may have: those that all voices can repeat."""
        voices, keyless = self.header.voices, self.header.keyless
        keyed = [voice for voice in voices if voice not in keyless]
        opening = self._lines == 0
        key = name not in keyless and (opening or name == keyed[0])
        meter = (opening or name == voices[0]) and _LONGEST_METER / self.reader.unit <= _MAX_UNITS
        return ("K" if key else "") + ("M" if meter else "") + "Q"

    def _change(self, line: LinePlan, name: str, kind: str) -> Rule[None]:
        """Write a field of the first voice, starting with its colon."""
        yield from literal(":")
        close = {"K": "C]", "M": "4/4]", "Q": "1/4=100]"}[kind]
        value = yield from spell(_VALUES[kind], close=close)
        value = value[:-1] if value != _CUT_TIME else (yield from self._common_time())
        if kind == "M":
            self.reader.meter, self._pickup = parse_meter(value), Fraction(0)
        if kind == "Q":
            return
        line.changes.append((kind, value))
        if self._lines:
            others = self.header.keyless if kind == "K" else set()
            line.needed |= {voice for voice in self.header.voices if voice not in others} - {name}

    def _common_time(self) -> Rule[str]:
        """Complete the meter after its C; return C or C|."""
        cut = EOS_BIT if self.cursor.position else bits("|")
        chosen = yield NextIds(cut | bits("]"), ord("]"))
        if chosen == ord("]"):
            return "C"
        yield from literal("|]" if chosen == EOS else "]")
        return "C|"

    def _changes_of(self, line: LinePlan, name: str) -> list[str]:
        """Return the fields that the bar of a voice must start with."""
        if line.plan:
            return [text for text in (line.plan.fields.get(name, ""),) if text]
        return [
            f"[{kind}:{value}]"
            for kind, value in line.changes
            if kind != "K" or name not in self.header.keyless
        ]

    # -- ends of bars --------------------------------------------------------------------------------------------------

    def _end(self, line: LinePlan, name: str, after: list[str], full: bool) -> NextIds | None:
        """Return the ids that may end a bar: the end of the unit where a voice follows, else the barline."""
        signs = self._signs(line, full)
        if not signs:
            return None
        needed, inside = self._is_needed(line, after), self.cursor.position
        allowed = EOS_BIT if inside and after else 0
        if not needed or not inside:
            allowed |= first_characters(signs)
        close = EOS if needed and inside else ord(self.barlines.closing(signs)[0])
        return NextIds(allowed, close)

    def _barline(self, line: LinePlan, name: str, after: list[str], chosen: int, full: bool) -> Rule[str]:
        """Write a barline, and the start of the next voice or the line end; return the voice, empty for none."""
        needed = self._is_needed(line, after)
        if chosen == EOS:
            ends, start = "[", ""
        else:
            # The first sign in a new patch may end this unit (before a line end) or start the next (before a voice).
            ends = "" if needed else "\n"
            ends += "[" if after and self.cursor.position == 1 else ""
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
        short = not (full or self._lines == 0 or self.reader.bar_length is None)
        return self.barlines.inner(line.left, short=short)
