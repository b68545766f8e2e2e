"""The grammar of a whole piece, starting from a prompt."""

from __future__ import annotations

from collections.abc import Sequence

from notagen.codec import BODY_STARTS, BOS, EOS, PATCH_SIZE, bar_units, decode, encode_generate
from notagen.generation.grammar.body import BodyRules
from notagen.generation.grammar.header import HeaderRules
from notagen.generation.grammar.plan import BarPlan
from notagen.generation.grammar.rules import EOS_BIT, NextIds, PatchCursor, Rule
from notagen.notation.countdown import COUNTDOWN
from notagen.notation.validation import validate
from pentatonic.errors import FormatError


class Grammar:
    """Follows a piece and gives the ids that may come next.

    Args:
        prompt: Start of the piece: complete header lines, then music, the last line of which may be unfinished.
        bars: Number of bars that the first countdown tag announces; ``None``: any number. Ignored where the prompt has
            music.
        plans: Requirements for the next lines; the grammar ends after them.

    Attributes:
        ended: Whether the piece has ended, so that nothing may follow.

    Raises:
        FormatError: No well-formed piece starts with the prompt; with the line and, in an unfinished line, the column.
    """

    def __init__(self, prompt: str, *, bars: int | None = None, plans: Sequence[BarPlan] = ()) -> None:
        self._follow(prompt, bars, plans)
        if not plans:
            probe = Grammar.__new__(Grammar)
            probe._follow(prompt, bars, ())
            _check(decode(encode_generate(prompt)) + probe.close())

    def _follow(self, prompt: str, bars: int | None, plans: Sequence[BarPlan]) -> None:
        lines = decode(encode_generate(prompt)).split("\n")
        start = next((i for i, line in enumerate(lines) if line.startswith(BODY_STARTS)), len(lines) - 1)
        *body, unfinished = lines[start:]
        self.ended = False
        self._cursor = PatchCursor()
        self._header = HeaderRules(lines[:start], self._cursor)
        self._body = BodyRules(self._header, self._cursor, bars, plans)
        if (body or unfinished) and not self._header.complete:
            raise FormatError("music starts here, but the header lacks a field or a voice", line=start + 1)
        for number, line in enumerate(body, start + 1):
            self._body.read(line, number)
        if unfinished and not body:
            self._body.take_tags(tagged=unfinished.startswith(COUNTDOWN))
        if body and not unfinished:
            self._cursor.position = len(bar_units(body[-1] + "\n")[-1]) % PATCH_SIZE
        self._rule = self._piece(bool(body))
        self._next: NextIds = next(self._rule)
        if unfinished:
            self._read_unfinished(unfinished, start + len(body) + 1)

    def _piece(self, begun: bool) -> Rule[None]:
        if begun:
            yield from self._cursor.cut()
        else:
            yield from self._header.rule()
        yield from self._body.rule(opened=not begun)

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
    def patches_to_close(self) -> int:
        """Upper bound for the patches that :meth:`close` writes, now and after one more patch."""
        more = 0 if self._header.complete else self._header.patches_to_close
        return more + self._body.patches_to_close

    def feed(self, chosen: int) -> None:
        """Move on by one allowed id."""
        self._cursor.advance(chosen)
        try:
            self._next = self._rule.send(chosen)
        except StopIteration:
            self.ended = True

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
