"""The rules of one bar of one voice: what may come next, so that the bar can still get its length.

Not written, because the training data lacks it or because the bar could not be guaranteed to end: nested tuplets,
lengths inside chords, whole-bar rests ``Z``, overlays ``&``, spacers ``y``, fields between notes, and lengths finer
than 1/32 of the unit length. (A line with some of these that a model draws freely is read as a prompt is; see
:mod:`notagen.generation.bar_drawing`.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from notagen.generation.grammar.durations import (
    TICKS,
    BarState,
    OpenTuplet,
)
from notagen.generation.grammar.lengths import Lengths, lengths_of
from notagen.generation.grammar.rules import (
    DIGITS,
    MUSIC_TEXT,
    NextIds,
    Rule,
    bits,
    first_bit,
    free_text,
    spell_in,
)
from notagen.generation.grammar.words import Words

MAX_TUPLET = 15
MAX_SLURS = 4
MAX_BLANKS = 8
MAX_BROKEN = 3
MAX_CHORD_NOTES = 10
MAX_GRACE_NOTES = 12
MAX_MARKS = 8  # texts, decorations and grace notes before one note
MAX_TEXT = 37  # with quotes and placement sign the 40 characters that cleaning keeps

#: First characters of a note, also inside chords and grace notes.
PITCHES = bits("ABCDEFGabcdefg^_=")
_LETTERS = bits("ABCDEFGabcdefg")
_BLANK = bits(" ")
_GRACE = bits("{")  # like text, decorations and blanks, it may also end a bar
_LENGTHS = bits(DIGITS + "/")
_C, _Z, _COLON, _TIE = map(ord, "Cz:-")
_TUPLET_TIMES = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}
_OCTAVE_MARKS = {"'": 3, ",": 4}  # c''' is the highest C of a piano, A,,,, its lowest A
_NOTHING = NextIds(0, 0)


class BarRules:
    """The rules of one bar of one voice, between its barlines.

    Args:
        ticks: Ticks of the full bar, at least 1.
        rate: Ticks of a unit length, a multiple of :data:`~notagen.generation.grammar.durations.TICKS`.
        compound: Whether the meter is 6/8, 9/8 or 12/8, which decides the default time of a tuplet such as ``(5``.
        slurs: Number of open slurs of the voice.
        slurs_after: Number of slurs that must be open at the end; ``None``: any number.
        words: What the vocabulary allows.
        ends: Whether the bar is full -> the ids that may end it; ``None`` where it must not end.
    """

    def __init__(
        self,
        ticks: int,
        rate: int,
        *,
        compound: bool,
        slurs: int,
        slurs_after: int | None,
        words: Words,
        ends: Callable[[bool], NextIds | None],
    ) -> None:
        self.ticks, self.rate, self.coarse, self.compound = ticks, rate, rate // TICKS, compound
        self.slurs_after, self.ends = slurs_after, ends
        self.words = words
        self.lengths, self.rests = lengths_of(words.lengths, words.rests, rate, ticks)
        self._marks = _GRACE | words.marks
        self.state = BarState(ticks, slurs=slurs)
        self._tuplets: dict[int, dict[str, OpenTuplet]] = {}
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
            (words.sign_letters, self._sign),
            (" ", self._space),
        ):
            self._rules |= dict.fromkeys(map(ord, characters), rule)

    @property
    def written(self) -> int:
        """Ticks written."""
        return self.ticks - self.state.room

    def rule(self, chosen: int) -> Rule[int]:
        """Write the bar, given its first id; return the id after it."""
        while (rule := self._rules.get(chosen)) is not None:
            chosen = yield from rule(chosen)
        return chosen

    def open_slurs(self, count: int) -> Rule[None]:
        """Start this number of slurs, which must stay open; none where the count is below 1."""
        for _ in range(count):
            yield NextIds(bits("("), ord("("))
        if count > 0:
            self.state = replace(self.state, slurs=self.state.slurs + count, waits=True, note_waits=True)

    def between(self, state: BarState | None = None) -> NextIds:
        """Return the ids that may start the next element, or end the bar, in a state."""
        state = state or self.state
        floor = self.slurs_after or 0
        must_close = self.slurs_after is not None and state.slurs > floor
        # A slur that must end has to end directly after the last note.
        blank = 0 if state.spaces == MAX_BLANKS or state.note_waits else _BLANK
        marked = state.marks == MAX_MARKS
        allowed, close = 0 if must_close else (0 if marked else self._marks) | blank, 0
        if state.room:
            allowed = PITCHES | blank | bits("[") | (0 if marked else self._marks | self.words.signs)
            rests = "" if state.note_waits or must_close else self._starting_rests(state)
            close = _Z if "z" in rests and state.slurs <= floor else _C
            allowed |= bits(rests)
            allowed |= bits("(") if self._takes_slur(state) or self._takes_tuplet(state) else 0
        if state.slurs > floor and state.sounding:
            allowed |= bits(")")
            close = ord(")")
        if self._complete(state) and (end := self.ends(state.room == 0)):
            allowed |= end.allowed
            close = close or end.close
        return NextIds(allowed, close)

    def _complete(self, state: BarState) -> bool:
        slurs = self.slurs_after is None or state.slurs == self.slurs_after
        return slurs and not state.waits and state.tuplet is None and state.room < self.ticks

    def _takes_slur(self, state: BarState) -> bool:
        return state.room > 0 and state.slurs < MAX_SLURS + (self.slurs_after or 0)

    def _takes_tuplet(self, state: BarState) -> bool:
        if state.tuplet is not None or state.room < self.coarse:
            return False
        return self.words.tuplets is None or bool(self._fitting_tuplets(state.room))

    def _starting_rests(self, state: BarState) -> str:
        """Return the letters of the rests that may come next."""
        return "".join(
            letter for letter, lengths in self.rests.items() if lengths.starts(state.room, state.tuplet)
        )

    # Each rule below is given the first id of its element, and writes the ids after it.

    def _note(self, chosen: int) -> Rule[int]:
        chosen = yield from _pitch(chosen, lambda: self._after_length("", self.lengths, True))
        return (yield from self._timed(chosen, self.lengths, True))

    def _rest(self, letter: int) -> Rule[int]:
        lengths = self.rests[chr(letter)]
        chosen = yield self._after_length("", lengths, False)
        return (yield from self._timed(chosen, lengths, False))

    def _bracket(self, _: int) -> Rule[int]:
        return (yield from self.chord((yield NextIds(PITCHES, _C))))

    def chord(self, chosen: int) -> Rule[int]:
        """Write a chord, given the first id after its bracket; return the id after it."""
        end = ord("]")
        for notes in range(1, MAX_CHORD_NOTES + 1):
            after = NextIds(1 << end | (PITCHES if notes < MAX_CHORD_NOTES else 0), end)
            tied = NextIds(after.allowed | 1 << _TIE, end)
            chosen = yield from _pitch(chosen, lambda tied=tied: tied)
            if chosen == _TIE:
                chosen = yield after
            if chosen == end:
                break
        chosen = yield self._after_length("", self.lengths, True)
        return (yield from self._timed(chosen, self.lengths, True))

    def _timed(self, chosen: int, lengths: Lengths, sounding: bool) -> Rule[int]:
        """Write length, tie and broken rhythm; ``chosen`` is the first id after the pitch."""
        text = ""
        while _LENGTHS >> chosen & 1:
            text += chr(chosen)
            chosen = yield self._after_length(text, lengths, sounding)
        after = self._after(text, lengths, sounding)
        assert after is not None, "a length may only end where the bar has room for it"
        self.state = after
        if chosen == _TIE:
            chosen = yield self._with_broken(after)
        if chosen in (ord("<"), ord(">")):
            return (yield from self._broken(chosen))
        return chosen

    def _broken(self, sign: int) -> Rule[int]:
        self.state = replace(self.state, waits=True, sounding=False)
        next_ids = self.between()
        for _ in range(MAX_BROKEN - 1):
            chosen = yield NextIds(next_ids.allowed | 1 << sign, next_ids.close)
            if chosen != sign:
                return chosen
        return (yield next_ids)

    def _space(self, _: int) -> Rule[int]:
        self.state = replace(self.state, spaces=self.state.spaces + 1, sounding=False)
        return (yield self.between())

    def _sign(self, _: int) -> Rule[int]:
        marks = self.state.marks + 1
        self.state = replace(self.state, waits=True, sounding=False, spaces=0, marks=marks)
        return (yield self.between())

    def _after_mark(self) -> NextIds:
        """Return the ids that may follow text, a decoration or grace notes, which need no note after them."""
        self.state = replace(self.state, sounding=False, spaces=0, marks=self.state.marks + 1)
        return self.between()

    def _decoration(self, _: int) -> Rule[int]:
        assert self.words.decorations is not None, "a ! is allowed only where there are decorations"
        yield from spell_in(self.words.decorations)
        return (yield self._after_mark())

    def _text(self, _: int) -> Rule[int]:
        if self.words.texts is not None:
            yield from spell_in(self.words.texts)
            return (yield self._after_mark())
        chosen = chr((yield NextIds(MUSIC_TEXT & ~bits(" "), _C)))
        yield from free_text(MUSIC_TEXT, MAX_TEXT, '"', start=chosen)
        return (yield self._after_mark())

    def _grace(self, _: int) -> Rule[int]:
        end = ord("}")
        chosen = yield NextIds(PITCHES | bits("/"), _C)
        if chosen == ord("/"):
            chosen = yield NextIds(PITCHES, _C)
        for notes in range(1, MAX_GRACE_NOTES + 1):
            after = NextIds(1 << end | (PITCHES if notes < MAX_GRACE_NOTES else 0), end)
            long = NextIds(after.allowed | bits("234/"), end)
            chosen = yield from _pitch(chosen, lambda long=long: long)
            if chr(chosen) in "234/":
                part = bits("248") if chosen == ord("/") else 0
                chosen = yield NextIds(after.allowed | part, end)
                if part >> chosen & 1:
                    chosen = yield after
            if chosen == end:
                break
        return (yield self._after_mark())

    def _slur_end(self, _: int) -> Rule[int]:
        self.state = replace(self.state, slurs=self.state.slurs - 1)
        return (yield self.between())

    def _parenthesis(self, _: int) -> Rule[int]:
        state = self.state
        slur = replace(state, slurs=state.slurs + 1, waits=True, note_waits=True, spaces=0, sounding=False)
        inside = self.between(slur) if self._takes_slur(state) else _NOTHING
        digits = bits("123456789") if self._takes_tuplet(state) else 0
        listed = self._fitting_tuplets(state.room) if digits and self.words.tuplets is not None else {}
        if listed:
            digits = bits("".join(mark[0] for mark in listed))
        chosen = yield NextIds(
            inside.allowed | digits, inside.close or (first_bit(digits) if listed else ord("3"))
        )
        if digits >> chosen & 1:
            return (yield from self._listed_tuplet(chosen, listed) if listed else self._tuplet(chosen))
        self.state = slur
        return chosen

    def _tuplet(self, chosen: int) -> Rule[int]:
        """Write ``p`` or ``p:q:r``, each at most 15, given the first digit."""
        p = int(chr(chosen))
        if p == 1:
            p = 10 + int(chr((yield NextIds(bits("012345"), ord("2")))))
        q, r = self._default_time(p), p
        chosen = yield self._after_tuplet(OpenTuplet(p, q, r), NextIds(1 << _COLON, _COLON))
        if chosen == _COLON:
            room = self.state.room // self.coarse
            q, chosen = yield from _count(min(MAX_TUPLET, room), lambda _, more: more, ":")
            most = min(MAX_TUPLET, p * self.coarse * (room // q))
            r, chosen = yield from _count(most, lambda r, more: self._after_tuplet(OpenTuplet(p, q, r), more))
        self.state = self._opened(OpenTuplet(p, q, r))
        return chosen

    def _listed_tuplet(self, chosen: int, fitting: Mapping[str, OpenTuplet]) -> Rule[int]:
        """Write one of the tuplet marks of the vocabulary, given the first character after its parenthesis."""
        written = chr(chosen)
        while True:
            more = bits("".join(m[len(written)] for m in fitting if m.startswith(written) and m != written))
            others = NextIds(more, first_bit(more))
            tuplet = fitting.get(written)
            chosen = yield others if tuplet is None else self._after_tuplet(tuplet, others)
            if not more >> chosen & 1:
                assert tuplet is not None, "a mark may only end where it is one of the list"
                self.state = self._opened(tuplet)
                return chosen
            written += chr(chosen)

    def _fitting_tuplets(self, room: int) -> dict[str, OpenTuplet]:
        """Return the tuplet marks of the vocabulary for which there is room, without their parenthesis."""
        if room not in self._tuplets:
            opened = {mark: self._tuplet_of(mark) for mark in self.words.tuplets or ()}
            self._tuplets[room] = {
                mark: tuplet for mark, tuplet in opened.items() if self.lengths.fillable(room, tuplet)
            }
        return self._tuplets[room]

    def _tuplet_of(self, mark: str) -> OpenTuplet:
        p, q, r = (int(part or 0) for part in (*mark.split(":"), "", "")[:3])
        return OpenTuplet(p, q or self._default_time(p), r or p)

    def _default_time(self, p: int) -> int:
        return _TUPLET_TIMES.get(p) or (3 if self.compound else 2)

    def _opened(self, tuplet: OpenTuplet) -> BarState:
        return replace(self.state, tuplet=tuplet, waits=True, spaces=0, sounding=False)

    def _after_tuplet(self, tuplet: OpenTuplet, others: NextIds) -> NextIds:
        """Return the ids that may follow a tuplet mark: ``others`` and, where there is room, its first note."""
        if not self.lengths.fillable(self.state.room, tuplet):
            return others
        next_ids = self.between(self._opened(tuplet))
        return NextIds(next_ids.allowed | others.allowed, next_ids.close)

    def _after(self, text: str, lengths: Lengths, sounding: bool) -> BarState | None:
        """Return the state after a note or rest of this length; None where the length is unfinished or does not fit."""
        spent = lengths.spend(self.state.room, self.state.tuplet, text)
        return BarState(spent[0], spent[1], self.state.slurs, sounding) if spent else None

    def _after_length(self, text: str, lengths: Lengths, sounding: bool) -> NextIds:
        """Return the ids that may follow the length so far: more of the length, or what may follow the note."""
        room, tuplet = self.state.room, self.state.tuplet
        more = lengths.continued(text, room, tuplet)
        after = self._after(text, lengths, sounding)
        if after is None:
            next_ids = more
        else:
            next_ids = self._with_broken(after)
            next_ids = NextIds(
                next_ids.allowed | more.allowed | (1 << _TIE if sounding else 0), next_ids.close
            )
        target = lengths.closing(room, tuplet)
        if target.startswith(text) and target != text:
            return NextIds(next_ids.allowed, ord(target[len(text)]))
        return next_ids

    def _with_broken(self, after: BarState) -> NextIds:
        next_ids = self.between(after)
        return NextIds(next_ids.allowed | bits("<>"), next_ids.close) if after.room else next_ids


def _pitch(chosen: int, after: Callable[[], NextIds]) -> Rule[int]:
    """Write accidentals, letter and octave marks, given the first id; return the id after them."""
    if not _LETTERS >> chosen & 1:
        sign, twice = chosen, 1 << chosen if chosen != ord("=") else 0
        chosen = yield NextIds(_LETTERS | twice, _C)
        if chosen == sign:
            chosen = yield NextIds(_LETTERS, _C)
    mark = "'" if chr(chosen).islower() else ","
    for _ in range(_OCTAVE_MARKS[mark]):
        next_ids = after()
        chosen = yield NextIds(next_ids.allowed | bits(mark), next_ids.close)
        if chosen != ord(mark):
            return chosen
    return (yield after())


def _count(most: int, after: Callable[[int, NextIds], NextIds], end: str = "") -> Rule[tuple[int, int]]:
    """Write a number of a tuplet.

    Args:
        most: Greatest number allowed, 1 to 15.
        after: Number so far, and the ids that continue it -> the ids that may come next.
        end: Character that must follow the number; empty: whatever ``after`` allows.

    Returns:
        The number, and the id after it.
    """
    stop = NextIds(bits(end), ord(end)) if end else _NOTHING
    count = int(chr((yield NextIds(bits("123456789"[:most]), ord("1")))))
    second = "012345"[: max(most - 9, 0)] if count == 1 else ""
    chosen = yield after(count, NextIds(bits(second) | stop.allowed, stop.close))
    if bits(second) >> chosen & 1:
        count = 10 + int(chr(chosen))
        chosen = yield after(count, stop)
    return count, chosen
