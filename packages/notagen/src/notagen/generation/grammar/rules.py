"""What the rules of the automaton are made of: steps, and rules for words, numbers and free text.

A rule is a generator. It yields a :class:`Step`, the ids that may come next, and is sent the id that came. A rule
whose end shows only in the id after it (a length, the content of a bar) returns that id.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeVar

from notagen.codec import EOS, PATCH_SIZE

T = TypeVar("T")


class Step(NamedTuple):
    """What may come next.

    Attributes:
        allowed: Bit i is set where id i is allowed; at least one is.
        close: The allowed id that is the first of a short way to the end of the piece.
    """

    allowed: int
    close: int


Rule = Generator[Step, int, T]


@lru_cache(maxsize=1 << 12)
def bits(characters: str) -> int:
    """Return the bit set of some characters."""
    return sum(1 << ord(character) for character in set(characters))


EOS_BIT = 1 << EOS
DIGITS = "0123456789"
#: What free text is made of. Without quotes, backslashes and ``%`` everything else can be read in one way only.
TEXT = bits("".join(map(chr, range(32, 127)))) & ~bits('"\\%')
#: Free text of the music: without brackets and barline signs, at which bars would be cut.
MUSIC_TEXT = TEXT & ~bits("|:[]")


@dataclass
class Patch:
    """Where the next id stands.

    Attributes:
        place: In its patch, 0 to 15.
    """

    place: int = 0

    def advance(self, chosen: int) -> None:
        """Go on by one id."""
        self.place = 0 if chosen == EOS else (self.place + 1) % PATCH_SIZE

    def cut(self) -> Rule[None]:
        """End a unit: the patch ends with it, unless the unit has filled it."""
        if self.place:
            yield Step(EOS_BIT, EOS)


class _Node:
    """Where one is in some words: what may follow, and the shortest rest of a word."""

    def __init__(self, words: Sequence[str], depth: int) -> None:
        self.word = words[0] if len(words[0]) == depth else None
        shortest = min(words, key=len)
        branches: dict[str, list[str]] = {}
        for word in words if self.word is None else ():
            branches.setdefault(word[depth], []).append(word)
        self.children = {ord(key): _Node(group, depth + 1) for key, group in branches.items()}
        self.step = Step(bits("".join(branches)), ord(shortest[depth]) if self.word is None else EOS)


@lru_cache(maxsize=1024)
def _tree(words: tuple[str, ...]) -> _Node:
    return _Node(words, 0)


def spell(words: tuple[str, ...], start: str = "", close: str = "") -> Rule[str]:
    """Write one of some words.

    Args:
        words: At least one; none is the start of another one.
        start: What is written of it already.
        close: The word to end with; the shortest one where it is not given or no longer possible.

    Returns:
        The word.
    """
    node, written = _tree(words), start
    for character in start:
        node = node.children[ord(character)]
    while node.word is None:
        on_the_way = close.startswith(written) and len(close) > len(written)
        chosen = yield Step(node.step.allowed, ord(close[len(written)])) if on_the_way else node.step
        written += chr(chosen)
        node = node.children[chosen]
    return node.word


def first_characters(words: Sequence[str]) -> int:
    """Return the bit set of what some words, none of them empty, start with."""
    return bits("".join(word[0] for word in words))


def literal(text: str) -> Rule[None]:
    """Write this text."""
    for character in text:
        yield Step(1 << ord(character), ord(character))


def number(highest: int, end: str) -> Rule[int]:
    """Write a number from 0 to ``highest``, without leading zeros, and the character ``end``."""
    stop, text = Step(bits(end), ord(end)), ""
    while True:
        if not text:
            step = Step(bits(DIGITS), ord("0"))
        elif text == "0" or int(text) * 10 > highest:
            step = stop
        else:
            more = bits("".join(digit for digit in DIGITS if int(text + digit) <= highest))
            step = Step(more | stop.allowed, stop.close)
        chosen = yield step
        if chosen == stop.close:
            return int(text)
        text += chr(chosen)


def free_text(allowed: int, longest: int, end: str, start: str = "") -> Rule[str]:
    """Write 1 to ``longest`` characters of ``allowed``, the first no blank, and the character ``end``.

    Args:
        allowed: Bit set; must have the letter A and must not have ``end``.
        longest: Most characters, at least 1.
        end: What follows the text.
        start: What is written of the text already.

    Returns:
        The text without ``end``.
    """
    text = start
    while True:
        stop = Step(bits(end), ord(end))
        if not text:
            step = Step(allowed & ~bits(" "), ord("A"))
        elif len(text) == longest:
            step = stop
        else:
            step = Step(allowed | stop.allowed, stop.close)
        chosen = yield step
        if chosen == stop.close:
            return text
        text += chr(chosen)
