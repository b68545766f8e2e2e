"""The automaton of a whole piece, from a prompt on."""

from __future__ import annotations

from collections.abc import Sequence

from notagen.codec import BOS, EOS, PATCH_SIZE, bar_units, decode, encode_generate
from notagen.generation.grammar.body import Body
from notagen.generation.grammar.header import Header
from notagen.generation.grammar.plan import BarPlan
from notagen.generation.grammar.rules import EOS_BIT, Patch, Rule, Step
from notagen.notation.validation import validate
from pentatonic.errors import FormatError

_MUSIC = ("[r:", "[V:")


class Grammar:
    """Follows a piece and says what may come next.

    Args:
        prompt: What is given: header lines, taken as complete, and music, the last line of which may be unfinished.
        bars: Bars that the first tag announces; ``None``: any number. Without effect where the prompt has music.
        plans: What the next lines must be like; after them the grammar has ended.

    Attributes:
        ended: Whether nothing may follow.

    Raises:
        FormatError: The prompt cannot become a well-formed piece; with the line and, in an unfinished line, column.
    """

    def __init__(self, prompt: str, *, bars: int | None = None, plans: Sequence[BarPlan] = ()) -> None:
        self._follow(prompt, bars, plans)
        if not plans:
            probe = Grammar.__new__(Grammar)
            probe._follow(prompt, bars, ())
            _check(decode(encode_generate(prompt)) + probe.close())

    def _follow(self, prompt: str, bars: int | None, plans: Sequence[BarPlan]) -> None:
        lines = decode(encode_generate(prompt)).split("\n")
        start = next((i for i, line in enumerate(lines) if line.startswith(_MUSIC)), len(lines) - 1)
        *body, unfinished = lines[start:]
        self.ended = False
        self._patch = Patch()
        self._header = Header(lines[:start], self._patch)
        self._body = Body(self._header, self._patch, bars, plans)
        if (body or unfinished) and not self._header.complete:
            raise FormatError("the header lacks a field or a voice that the music needs", line=start + 1)
        for number, line in enumerate(body, start + 1):
            self._body.read(line, number)
        if unfinished and not body:
            self._body.begin(tagged=unfinished.startswith("[r:"))
        if body and not unfinished:
            self._patch.place = len(bar_units(body[-1] + "\n")[-1]) % PATCH_SIZE
        self._rule = self._piece(bool(body))
        self._step: Step = next(self._rule)
        if unfinished:
            self._read_unfinished(unfinished, start + len(body) + 1)

    def _piece(self, begun: bool) -> Rule[None]:
        if begun:
            yield from self._patch.cut()
        else:
            yield from self._header.rule()
        yield from self._body.rule(opened=not begun)

    def _read_unfinished(self, line: str, number: int) -> None:
        """Follow the last line of a prompt, in the units that the codec cuts it into."""
        units = bar_units(line)
        length = len(units[-1])
        if line.endswith("["):  # of a next voice, which the codec does not see yet
            units = bar_units(line + "V")
            units[-1] = units[-1].removesuffix("V")
        column = 1
        for index, unit in enumerate(units):
            for place, character in enumerate(unit):
                # The codec cuts only where another voice is in sight; what follows here may need a cut sooner.
                cut = index > 0 and place == 0 and self._patch.place
                if self.allowed & EOS_BIT and (cut or not self.allowed >> ord(character) & 1):
                    self.feed(EOS)
                if index == len(units) - 1 and place == len(unit) - 1:
                    self._patch.place = (length - 1) % PATCH_SIZE
                if not self.allowed >> ord(character) & 1:
                    allowed = "".join(chr(i) for i in range(EOS + 1, 128) if self.allowed >> i & 1)
                    reason = f"{character!r} cannot stand here; allowed: {allowed!r}"
                    raise FormatError(
                        f"{reason}. Or end the prompt with a whole line", line=number, column=column
                    )
                self.feed(ord(character))
                column += 1

    @property
    def allowed(self) -> int:
        """Bit i is set where id i may come next; 0 at the end."""
        return 0 if self.ended else self._step.allowed

    @property
    def patches_to_close(self) -> int:
        """Most patches that :meth:`close` writes, now and after one more patch."""
        more = 0 if self._header.complete else self._header.patches_to_close
        return more + self._body.patches_to_close

    def feed(self, chosen: int) -> None:
        """Go on by one allowed id."""
        self._patch.advance(chosen)
        try:
            self._step = self._rule.send(chosen)
        except StopIteration:
            self.ended = True

    def close(self) -> str:
        """Bring the piece to its end by a short way, and return the text that was missing."""
        text = []
        while not self.ended and (chosen := self._step.close) != BOS:
            self.feed(chosen)
            if chosen > EOS:
                text.append(chr(chosen))
        self.ended = True
        return "".join(text)


def _check(text: str) -> None:
    for issue in validate(text).issues:
        if not issue.warning:
            where = "" if issue.bar is None else f"bar {issue.bar}: "
            reason = f"{where}{issue.message}; a piece can only be well-formed if its prompt is"
            raise FormatError(reason, line=issue.line)
