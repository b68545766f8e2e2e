"""The grammar of a whole piece, starting from a prompt."""

from __future__ import annotations

from collections.abc import Sequence

from notagen.codec import BODY_STARTS, BOS, EOS, PATCH_SIZE, bar_units, decode, encode_generate
from notagen.generation.grammar.body import BodyRules
from notagen.generation.grammar.header import HeaderRules
from notagen.generation.grammar.plan import BarPlan
from notagen.generation.grammar.rules import EOS_BIT, NextIds, PatchCursor, Rule, first_bit
from notagen.generation.grammar.words import words_of_vocabulary
from notagen.notation.countdown import COUNTDOWN
from notagen.notation.validation import validate
from notagen.vocabulary import ANYTHING, Vocabulary
from pentatonic.errors import FormatError

_NEWLINE = ord("\n")


class Grammar:
    """Follows a piece and gives the ids that may come next.

    Args:
        prompt: Start of the piece: complete header lines, then music, the last line of which may be unfinished.
        bars: Number of bars that the first countdown tag announces; ``None``: any number. Ignored where the prompt has
            music.
        plans: Requirements for the next lines; the grammar ends after them.
        vocabulary: What bars may consist of; lines of the prompt may have other words.

    Attributes:
        vocabulary: As given.
        ended: Whether the piece has ended, so that nothing may follow.

    Raises:
        FormatError: No well-formed piece starts with the prompt; with the line and, in an unfinished line, the column.
    """

    def __init__(
        self,
        prompt: str,
        *,
        bars: int | None = None,
        plans: Sequence[BarPlan] = (),
        vocabulary: Vocabulary = ANYTHING,
    ) -> None:
        self.vocabulary, self._words = vocabulary, words_of_vocabulary(vocabulary)
        self._follow(prompt, bars, plans)
        if not plans:
            _check(decode(encode_generate(prompt)) + self.fork().close())

    def _follow(self, prompt: str, bars: int | None, plans: Sequence[BarPlan]) -> None:
        lines = decode(encode_generate(prompt)).split("\n")
        start = next((i for i, line in enumerate(lines) if line.startswith(BODY_STARTS)), len(lines) - 1)
        *body, unfinished = lines[start:]
        self.ended = False
        self._cursor = PatchCursor()
        self._header = HeaderRules(lines[:start], self._cursor, self._words)
        self._body = BodyRules(self._header, self._cursor, self._words, bars, plans)
        if (body or unfinished) and not self._header.complete:
            raise FormatError("music starts here, but the header lacks a field or a voice", line=start + 1)
        for number, line in enumerate(body, start + 1):
            self._body.read(line, number)
        if unfinished and not body:
            self._body.take_tags(tagged=unfinished.startswith(COUNTDOWN))
        if body and not unfinished:
            self._cursor.position = len(bar_units(body[-1] + "\n")[-1]) % PATCH_SIZE
        self._rule = self._piece()
        self._next: NextIds = next(self._rule)
        self._mark()
        if unfinished:
            self._read_unfinished(unfinished, start + len(body) + 1)

    def _piece(self) -> Rule[None]:
        """Write the piece from the start of a line on."""
        begun = self._body.begun
        if begun:
            yield from self._cursor.cut()
        else:
            yield from self._header.rule()
        yield from self._body.rule(opened=not begun)

    def _mark(self) -> None:
        """Keep the state at the start of a line, from which :meth:`fork` starts."""
        self._start = self._state()
        self._since: list[tuple[int, int]] = []  # position in its patch, and id

    def _state(self) -> tuple[HeaderRules, BodyRules, PatchCursor]:
        cursor = PatchCursor(self._cursor.position)
        header = self._header.copy(cursor)
        return header, self._body.copy(header, cursor), cursor

    def fork(self) -> Grammar:
        """Return a grammar that has followed the same text, and can follow another continuation.

        A running rule cannot be copied. So the copy starts at the last line and follows the ids since.
        """
        other = Grammar.__new__(Grammar)
        other.vocabulary, other._words, other.ended = self.vocabulary, self._words, False
        other._header, other._body, other._cursor = self._start
        other._header, other._body, other._cursor = other._state()  # the kept state stays as it is
        other._rule = other._piece()
        other._next = next(other._rule)
        other._start, other._since = self._start, []
        for position, chosen in self._since:
            other._cursor.position = position
            other.feed(chosen)
        return other

    def after_line(self, line: str) -> Grammar:
        """Return the grammar after a complete line of music in place of the unfinished one.

        The line may have notation that the grammar does not write, and is held to the same rules otherwise: see
        :meth:`~notagen.generation.grammar.body.BodyRules.judge`.

        Args:
            line: The line without its line end; the codec has not yet ended its last patch.

        Raises:
            FormatError: The line cannot follow here.
        """
        other = Grammar.__new__(Grammar)
        other.vocabulary, other._words, other.ended = self.vocabulary, self._words, False
        other._header, other._body, other._cursor = self._start
        other._header, other._body, other._cursor = other._state()
        if not other._header.complete:
            raise FormatError("the header lacks a field or a voice")
        other._body.judge(line)
        other._cursor.position = len(bar_units(line + "\n")[-1]) % PATCH_SIZE
        other._rule = other._piece()
        other._next = next(other._rule)
        other._mark()
        return other

    def _read_unfinished(self, line: str, number: int) -> None:
        """Follow the unfinished last line of a prompt, cut as the codec cuts it."""
        units = bar_units(line)
        length = len(units[-1])
        if line.endswith("["):  # the start of another voice, which the codec cannot recognise yet
            units = bar_units(line + "V")
            units[-1] = units[-1].removesuffix("V")
        column = 1
        for index, unit in enumerate(units):
            for offset, character in enumerate(unit):
                # The codec cuts only before a further voice of this line; the continuation may need the cut earlier.
                cut = index > 0 and offset == 0 and self._cursor.position
                if self.allowed & EOS_BIT and (cut or not self.allowed >> ord(character) & 1):
                    self.feed(EOS)
                if index == len(units) - 1 and offset == len(unit) - 1:
                    self._cursor.position = (length - 1) % PATCH_SIZE
                if not self.allowed >> ord(character) & 1:
                    allowed = "".join(chr(i) for i in range(EOS + 1, 128) if self.allowed >> i & 1)
                    reason = (
                        f"{character!r} is not allowed here; allowed: {allowed!r}, or a prompt of whole lines"
                    )
                    raise FormatError(reason, line=number, column=column)
                self.feed(ord(character))
                column += 1

    @property
    def allowed(self) -> int:
        """Bit i is set where id i may come next; 0 after the end."""
        return 0 if self.ended else self._next.allowed

    @property
    def in_music(self) -> bool:
        """Whether the music has started."""
        return self._body.begun or (bool(self._since) and chr(self._since[0][1]) == "[")

    @property
    def reads_lines(self) -> bool:
        """Whether the next line may also be one that a grammar with a longer prompt has read."""
        return self.in_music and not self._body.planned

    @property
    def begins_line(self) -> bool:
        """Whether the next id is the first one of a line."""
        return not self._since

    def determined(self) -> list[int]:
        """Follow the ids that have no alternative, up to the end of the patch, and return them."""
        ids: list[int] = []
        position = self._cursor.position
        while not self.ended and (allowed := self.allowed) & (allowed - 1) == 0:
            ids.append(first_bit(allowed))
            self.feed(ids[-1])
            if ids[-1] == EOS or position + len(ids) == PATCH_SIZE:
                break
        return ids

    @property
    def _newest(self) -> int:
        return self._since[-1][1] if self._since else 0

    @property
    def patches_to_close(self) -> int:
        """Upper bound for the patches that :meth:`close` writes, now and after one more patch."""
        more = 0 if self._header.complete else self._header.patches_to_close
        return more + self._body.patches_to_close

    def feed(self, chosen: int) -> None:
        """Move on by one allowed id."""
        ends_line = chosen == _NEWLINE or (chosen == EOS and self._newest == _NEWLINE)
        before = self._cursor.position
        self._cursor.advance(chosen)
        self._since.append((before, chosen))
        try:
            self._next = self._rule.send(chosen)
        except StopIteration:
            self.ended = True
        if ends_line and self._cursor.position == 0 and not self.ended:
            self._mark()

    def close(self) -> str:
        """Complete the piece on the short path, and return the text that was missing."""
        text = []
        while not self.ended and (chosen := self._next.close) != BOS:
            self.feed(chosen)
            if chosen > EOS:
                text.append(chr(chosen))
        self.ended = True
        return "".join(text)


def _check(text: str) -> None:
    for issue in validate(text).issues:
        if not issue.warning:
            where = "" if issue.bar is None else f"bar {issue.bar}: "
            reason = f"{where}{issue.message}; a well-formed piece needs a well-formed prompt"
            raise FormatError(reason, line=issue.line)
