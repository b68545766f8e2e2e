"""Prompts: the period, composer and instrumentation that a fine-tuned model is asked for.

The models were trained on 112 combinations only, listed in ``prompts.json``; on any other, such as a Romantic
piece by Bach, they do badly, so it is refused.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from pentatonic.errors import UsageError


@dataclass(frozen=True)
class Prompt:
    """One combination, by the names the models know.

    Args:
        period: ``Baroque``, ``Classical`` or ``Romantic``.
        composer: Family name, comma, given names, in ASCII: ``Chopin, Frederic``.
        instrumentation: ``Art Song``, ``Chamber``, ``Choral``, ``Keyboard``, ``Orchestral`` or
            ``Vocal-Orchestral``.
    """

    period: str
    composer: str
    instrumentation: str

    @property
    def text(self) -> str:
        """Three comment lines, as they stand before the header of a tune."""
        return f"%{self.period}\n%{self.composer}\n%{self.instrumentation}\n"


@cache
def prompts() -> tuple[Prompt, ...]:
    """Return all combinations the models were trained on, by period, composer and instrumentation."""
    table = json.loads(files("notagen").joinpath("prompts.json").read_text(encoding="utf-8"))
    return tuple(
        Prompt(period, composer, instrumentation)
        for period, composers in table.items()
        for composer, instrumentations in composers.items()
        for instrumentation in instrumentations
    )


def find_prompt(period: str, composer: str, instrumentation: str) -> Prompt:
    """Return the combination of three names.

    Args:
        period: A period, in any case.
        composer: A composer, in any case.
        instrumentation: An instrumentation, in any case.

    Returns:
        The combination, spelt as the models know it.

    Raises:
        UsageError: A name is unknown (the message has the closest ones), or the combination was not in the
            training data (the message has what is allowed instead).
    """
    wanted = Prompt(
        _known("period", period, (prompt.period for prompt in prompts())),
        _known("composer", composer, (prompt.composer for prompt in prompts())),
        _known("instrumentation", instrumentation, (prompt.instrumentation for prompt in prompts())),
    )
    if wanted in prompts():
        return wanted
    allowed = [prompt for prompt in prompts() if prompt.composer == wanted.composer]
    listing = "; ".join(f"{prompt.period}, {prompt.instrumentation}" for prompt in allowed)
    raise UsageError(
        f"{wanted.period}, {wanted.instrumentation} is no prompt for {wanted.composer}; allowed: {listing}"
    )


def _known(kind: str, name: str, names: Iterable[str]) -> str:
    known = {each.lower(): each for each in names}
    wanted = name.strip().lower()
    if wanted in known:
        return known[wanted]
    # A family name alone is close to nothing by length, so it is looked for as a part too.
    parts = [key for key in known if len(wanted) > 2 and wanted in key]
    close = parts or difflib.get_close_matches(wanted[:100], known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(known[key]) for key in close[:3])}?" if close else ""
    raise UsageError(f"unknown {kind} {name!r}; {hint or 'known: ' + '; '.join(known.values())}")
