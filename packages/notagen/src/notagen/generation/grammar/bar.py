"""The automaton of one bar of one voice: what may come next, so that the bar can still get its length.

Left out, because the data does not have it or because a bar could then not be proven to close: nested tuplets, lengths
inside chords, whole-bar rests ``Z``, overlays ``&``, spacers ``y``, fields between the notes, parts of a unit length
finer than 1/32, and marks (decorations, text, grace notes) without a note or rest after them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from notagen.generation.grammar.durations import (
    TICKS,
    State,
    Tuplet,
    continued,
    fillable,
    shortest_length,
    spend,
    ticks_of,
)
from notagen.generation.grammar.rules import DIGITS, MUSIC_TEXT, Rule, Step, bits, free_text, spell

MAX_TUPLET = 15
MAX_SLURS = 4
MAX_BLANKS = 8
MAX_BROKEN = 3
MAX_CHORD_NOTES = 10
MAX_GRACE_NOTES = 12
MAX_TEXT = 37  # with quotes and sign what cleaning keeps

#: What a chord or a grace note starts with.
PITCHES = bits("ABCDEFGabcdefg^_=")
_LETTERS = bits("ABCDEFGabcdefg")
_BLANK = bits(" ")
_MARKS = bits('"!{')  # which, as a blank, may stand at the end of a bar
_SIGNS = bits(".~HLMOPSTuv")
_LENGTHS = bits(DIGITS + "/")
_C, _Z, _COLON, _TIE = map(ord, "Cz:-")
_TUPLET_TIMES = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}
_OCTAVE_MARKS = {"'": 3, ",": 4}  # c''' is the highest C of a piano, A,,,, its lowest A
_DYNAMICS = ("p", "pp", "ppp", "pppp", "mp", "mf", "f", "ff", "fff", "ffff", "sf", "sfz", "fp", "fz")
_SPANS = (
    "<(",
    "<)",
    ">(",
    ">)",
    "crescendo(",
    "crescendo)",
    "diminuendo(",
    "diminuendo)",
    "trill(",
    "trill)",
)
_ORNAMENTS = (
    "trill",
    "turn",
    "invertedturn",
    "mordent",
    "lowermordent",
    "uppermordent",
    "pralltriller",
    "roll",
)
_ARTICULATIONS = ("wedge", "tenuto", "accent", "emphasis", ">", "^", "fermata", "breath", "slide", "arpeggio")
_TECHNIQUES = (
    "upbow",
    "downbow",
    "open",
    "plus",
    "snap",
    "thumb",
    "ped",
    "ped-up",
    "0",
    "1",
    "2",
    "3",
    "4",
    "5",
)
_JUMPS = ("segno", "coda", "fine", "D.C.", "D.S.", "dacapo", "dacoda", "D.C.alfine", "D.C.alcoda", "D.S.alfine",
    "D.S.alcoda")  # fmt: skip
_DECORATIONS = tuple(
    f"{name}!" for name in (*_DYNAMICS, *_SPANS, *_ORNAMENTS, *_ARTICULATIONS, *_TECHNIQUES, *_JUMPS)
)
_NOTHING = Step(0, 0)


class Content:
    """The content of one bar of one voice.

    Args:
        ticks: Of the full bar, at least 1.
        rate: Ticks of a unit length, a multiple of :data:`~notagen.generation.grammar.durations.TICKS`.
        compound: Whether the meter is 6/8, 9/8 or 12/8, which decides what ``(5`` means.
        slurs: Open slurs of the voice.
        slurs_after: Slurs that must be open at the end; ``None``: any number.
        ends: Whether the bar is full -> the step of its end, :data:`None` where it may not end.
    """

    def __init__(
        self,
        ticks: int,
        rate: int,
        *,
        compound: bool,
        slurs: int,
        slurs_after: int | None,
        ends: Callable[[bool], Step | None],
    ) -> None:
        self.ticks, self.rate, self.coarse, self.compound = ticks, rate, rate // TICKS, compound
        self.slurs_after, self.ends = slurs_after, ends
        self.state = State(ticks, slurs=slurs)
        self._rules: dict[int, Callable[[int], Rule[int]]] = {}
        for characters, rule in (
            ("ABCDEFGabcdefg^_=", self._note),
            ("zx", self._rest),
            ("[", self._bracket),
            ("(", self._parenthesis),
            (")", self._slur_end),
            ("{", self._grace),
            ('"', self._text),
            ("!", self._decoration),
            (".~HLMOPSTuv", self._sign),
            (" ", self._space),
        ):
            self._rules |= dict.fromkeys(map(ord, characters), rule)

    @property
    def written(self) -> int:
        """Ticks written."""
        return self.ticks - self.state.room

    def rule(self, chosen: int) -> Rule[int]:
        """Write the bar from its first id on; return the id after it."""
        while (rule := self._rules.get(chosen)) is not None:
            chosen = yield from rule(chosen)
        return chosen

    def open_slurs(self, count: int) -> Rule[None]:
        """Start slurs that must remain open; a count below 1 is none."""
        for _ in range(count):
            yield Step(bits("("), ord("("))
        if count > 0:
            self.state = replace(self.state, slurs=self.state.slurs + count, waits=True, note_waits=True)

    def step(self, state: State | None = None) -> Step:
        """Return what may follow in a state, between two elements."""
        state = state or self.state
        floor = self.slurs_after or 0
        must_close = self.slurs_after is not None and state.slurs > floor
        # Where a slur has to end, the last note must not be followed by anything else.
        blank = 0 if state.spaces == MAX_BLANKS or state.note_waits else _BLANK
        allowed, close = 0 if must_close else _MARKS | blank, 0
        if state.room:
            allowed = PITCHES | _MARKS | _SIGNS | blank | bits("[")
            close = _C if state.note_waits or state.slurs > floor else _Z
            allowed |= 0 if state.note_waits or must_close else bits("zx")
            allowed |= bits("(") if self._takes_slur(state) or self._takes_tuplet(state) else 0
        if state.slurs > floor and state.sounding:
            allowed |= bits(")")
            close = ord(")")
        if self._complete(state) and (end := self.ends(state.room == 0)):
            allowed |= end.allowed
            close = close or end.close
        return Step(allowed, close)

    def _complete(self, state: State) -> bool:
        slurs = self.slurs_after is None or state.slurs == self.slurs_after
        return slurs and not state.waits and state.tuplet is None and state.room < self.ticks

    def _takes_slur(self, state: State) -> bool:
        return state.room > 0 and state.slurs < MAX_SLURS + (self.slurs_after or 0)

    def _takes_tuplet(self, state: State) -> bool:
        return state.tuplet is None and state.room >= self.coarse

    # Each of the rules below starts at the id after the one it is found by.

    def _note(self, chosen: int) -> Rule[int]:
        chosen = yield from _pitch(chosen, lambda: self._length_step("", True))
        return (yield from self._timed(chosen, True))

    def _rest(self, _: int) -> Rule[int]:
        chosen = yield self._length_step("", False)
        return (yield from self._timed(chosen, False))

    def _bracket(self, _: int) -> Rule[int]:
        return (yield from self.chord((yield Step(PITCHES, _C))))

    def chord(self, chosen: int) -> Rule[int]:
        """Write a chord from the first id after its bracket on; return the id after it."""
        end = ord("]")
        for notes in range(1, MAX_CHORD_NOTES + 1):
            after = Step(1 << end | (PITCHES if notes < MAX_CHORD_NOTES else 0), end)
            tied = Step(after.allowed | 1 << _TIE, end)
            chosen = yield from _pitch(chosen, lambda tied=tied: tied)
            if chosen == _TIE:
                chosen = yield after
            if chosen == end:
                break
        chosen = yield self._length_step("", True)
        return (yield from self._timed(chosen, True))

    def _timed(self, chosen: int, sounding: bool) -> Rule[int]:
        """Read length, tie and broken rhythm; ``chosen`` is the first id after the pitch."""
        text = ""
        while _LENGTHS >> chosen & 1:
            text += chr(chosen)
            chosen = yield self._length_step(text, sounding)
        after = self._after(text, sounding)
        assert after is not None, "the step before allowed no end of the length"
        self.state = after
        if chosen == _TIE:
            chosen = yield self._with_broken(after)
        if chosen in (ord("<"), ord(">")):
            return (yield from self._broken(chosen))
        return chosen

    def _broken(self, sign: int) -> Rule[int]:
        self.state = replace(self.state, waits=True, sounding=False)
        step = self.step()
        for _ in range(MAX_BROKEN - 1):
            chosen = yield Step(step.allowed | 1 << sign, step.close)
            if chosen != sign:
                return chosen
        return (yield step)

    def _space(self, _: int) -> Rule[int]:
        self.state = replace(self.state, spaces=self.state.spaces + 1, sounding=False)
        return (yield self.step())

    def _sign(self, _: int) -> Rule[int]:
        self.state = replace(self.state, waits=True, sounding=False, spaces=0)
        return (yield self.step())

    def _beside(self) -> Step:
        """Go on after a mark that needs no note after it, if nothing else waits for one."""
        self.state = replace(self.state, sounding=False, spaces=0)
        return self.step()

    def _decoration(self, _: int) -> Rule[int]:
        yield from spell(_DECORATIONS)
        return (yield self._beside())

    def _text(self, _: int) -> Rule[int]:
        chosen = chr((yield Step(MUSIC_TEXT & ~bits(" "), _C)))
        yield from free_text(MUSIC_TEXT, MAX_TEXT, '"', start=chosen)
        return (yield self._beside())

    def _grace(self, _: int) -> Rule[int]:
        end = ord("}")
        chosen = yield Step(PITCHES | bits("/"), _C)
        if chosen == ord("/"):
            chosen = yield Step(PITCHES, _C)
        for notes in range(1, MAX_GRACE_NOTES + 1):
            after = Step(1 << end | (PITCHES if notes < MAX_GRACE_NOTES else 0), end)
            long = Step(after.allowed | bits("234/"), end)
            chosen = yield from _pitch(chosen, lambda long=long: long)
            if chr(chosen) in "234/":
                part = bits("248") if chosen == ord("/") else 0
                chosen = yield Step(after.allowed | part, end)
                if part >> chosen & 1:
                    chosen = yield after
            if chosen == end:
                break
        return (yield self._beside())

    def _slur_end(self, _: int) -> Rule[int]:
        self.state = replace(self.state, slurs=self.state.slurs - 1)
        return (yield self.step())

    def _parenthesis(self, _: int) -> Rule[int]:
        state = self.state
        slur = replace(state, slurs=state.slurs + 1, waits=True, note_waits=True, spaces=0, sounding=False)
        inside = self.step(slur) if self._takes_slur(state) else _NOTHING
        digits = bits("123456789") if self._takes_tuplet(state) else 0
        chosen = yield Step(inside.allowed | digits, inside.close or ord("3"))
        if digits >> chosen & 1:
            return (yield from self._tuplet(chosen))
        self.state = slur
        return chosen

    def _tuplet(self, chosen: int) -> Rule[int]:
        """Write ``p`` or ``p:q:r`` from the first digit on; the three are at most 15."""
        p = int(chr(chosen))
        if p == 1:
            p = 10 + int(chr((yield Step(bits("012345"), ord("2")))))
        q, r = _TUPLET_TIMES.get(p) or (3 if self.compound else 2), p
        chosen = yield self._tuplet_step(Tuplet(p, q, r), Step(1 << _COLON, _COLON))
        if chosen == _COLON:
            room = self.state.room // self.coarse
            q, chosen = yield from _count(min(MAX_TUPLET, room), lambda _, more: more, ":")
            most = min(MAX_TUPLET, p * self.coarse * (room // q))
            r, chosen = yield from _count(most, lambda r, more: self._tuplet_step(Tuplet(p, q, r), more))
        self.state = self._opened(Tuplet(p, q, r))
        return chosen

    def _opened(self, tuplet: Tuplet) -> State:
        return replace(self.state, tuplet=tuplet, waits=True, spaces=0, sounding=False)

    def _tuplet_step(self, tuplet: Tuplet, others: Step) -> Step:
        """Return what may follow a tuplet mark: its notes, where there is room for them, or the ``others``."""
        if not fillable(self.state.room, tuplet, self.coarse):
            return others
        step = self.step(self._opened(tuplet))
        return Step(step.allowed | others.allowed, step.close)

    def _after(self, text: str, sounding: bool) -> State | None:
        """Return the state after a note or rest with this length, None where the length is unfinished or wrong."""
        ticks = ticks_of(text, self.rate)
        spent = ticks and spend(self.state.room, self.state.tuplet, ticks, self.coarse)
        return State(spent[0], spent[1], self.state.slurs, sounding) if spent else None

    def _length_step(self, text: str, sounding: bool) -> Step:
        """Return what may follow the length so far: more of it, or what follows the note."""
        room, tuplet = self.state.room, self.state.tuplet
        more = continued(text, room, tuplet, self.rate)
        after = self._after(text, sounding)
        if after is None:
            step = more
        else:
            step = self._with_broken(after)
            step = Step(step.allowed | more.allowed | (1 << _TIE if sounding else 0), step.close)
        target = shortest_length(room, tuplet, self.rate)
        if target.startswith(text) and target != text:
            return Step(step.allowed, ord(target[len(text)]))
        return step

    def _with_broken(self, after: State) -> Step:
        step = self.step(after)
        return Step(step.allowed | bits("<>"), step.close) if after.room else step


def _pitch(chosen: int, after: Callable[[], Step]) -> Rule[int]:
    """Read accidentals, letter and octave marks from the first of them on; return the id after them."""
    if not _LETTERS >> chosen & 1:
        sign, twice = chosen, 1 << chosen if chosen != ord("=") else 0
        chosen = yield Step(_LETTERS | twice, _C)
        if chosen == sign:
            chosen = yield Step(_LETTERS, _C)
    mark = "'" if chr(chosen).islower() else ","
    for _ in range(_OCTAVE_MARKS[mark]):
        step = after()
        chosen = yield Step(step.allowed | bits(mark), step.close)
        if chosen != ord(mark):
            return chosen
    return (yield after())


def _count(most: int, after: Callable[[int, Step], Step], end: str = "") -> Rule[tuple[int, int]]:
    """Read a number of a tuplet.

    Args:
        most: 1 to 15.
        after: Number so far, and the step of what continues it -> what may come next.
        end: What must follow the number; the empty text: what ``after`` says.

    Returns:
        The number, and the id after it.
    """
    stop = Step(bits(end), ord(end)) if end else _NOTHING
    count = int(chr((yield Step(bits("123456789"[:most]), ord("1")))))
    second = "012345"[: max(most - 9, 0)] if count == 1 else ""
    chosen = yield after(count, Step(bits(second) | stop.allowed, stop.close))
    if bits(second) >> chosen & 1:
        count = 10 + int(chr(chosen))
        chosen = yield after(count, stop)
    return count, chosen
