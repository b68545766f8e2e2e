"""Building blocks of the grammar: sets of ids, and rules for words, numbers and free text.

A rule is a generator. It yields a :class:`NextIds`, the ids that may come next, and is sent the id that was chosen. A
rule whose end can only be recognised by the id after it (a length, the content of a bar) returns that id.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeVar

from notagen.codec import EOS, PATCH_SIZE

T = TypeVar("T")


class NextIds(NamedTuple):
    """The ids that may come next.

    Attributes:
        allowed: Bit i is set where id i is allowed; at least one bit is set.
        close: The allowed id with which a short path to the end of the piece starts.
    """

    allowed: int
    close: int


Rule = Generator[NextIds, int, T]


@lru_cache(maxsize=1 << 12)
def bits(characters: str) -> int:
    """Return the bit set of these characters."""
    return sum(1 << ord(character) for character in set(characters))


def first_bit(allowed: int) -> int:
    """Return the lowest id of a bit set; 0 for the empty set."""
    return (allowed & -allowed).bit_length() - 1 if allowed else 0


EOS_BIT = 1 << EOS
DIGITS = "0123456789"
#: Characters of free text: without quotes, backslashes and ``%``, which would make its end ambiguous.
TEXT = bits("".join(map(chr, range(32, 127)))) & ~bits('"\\%')
#: Characters of free text in bars: also without brackets and barline signs, at which the codec would cut.
MUSIC_TEXT = TEXT & ~bits("|:[]")


@dataclass
class PatchCursor:
    """Position in the current patch.

    Attributes:
        position: Position of the next id, 0 to 15.
    """

    position: int = 0

    def advance(self, chosen: int) -> None:
        """Move on by one id."""
        self.position = 0 if chosen == EOS else (self.position + 1) % PATCH_SIZE

    def cut(self) -> Rule[None]:
        """End the current unit of the codec: write the end character, unless the unit has filled its patch."""
        if self.position:
            yield NextIds(EOS_BIT, EOS)


class Trie:
    """Node of a trie of words, none of which is the start of another; nodes are made when they are reached.

    Args:
        words: At least one.
        depth: Length of the start that they share.

    Attributes:
        word: The word that ends here; None inside a word.
        next_ids: The next characters, and the next character of the shortest word.
    """

    def __init__(self, words: Sequence[str], depth: int = 0) -> None:
        self.word = words[0] if len(words[0]) == depth else None
        self._depth, self._branches = depth, {}
        for word in words if self.word is None else ():
            self._branches.setdefault(ord(word[depth]), []).append(word)
        self._children: dict[int, Trie] = {}
        close = ord(min(words, key=len)[depth]) if self.word is None else EOS
        self.next_ids = NextIds(sum(1 << each for each in self._branches), close)

    def child(self, chosen: int) -> Trie:
        """Return the node after this character."""
        if chosen not in self._children:
            self._children[chosen] = Trie(self._branches[chosen], self._depth + 1)
        return self._children[chosen]


@lru_cache(maxsize=1024)
def _trie(words: tuple[str, ...]) -> Trie:
    return Trie(words)


def spell(words: tuple[str, ...], start: str = "", close: str = "") -> Rule[str]:
    """Write one of several words.

    Args:
        words: At least one; no word is the start of another.
        start: The part of the word that is already written.
        close: The word on the short path to the end; the shortest one where it is not given or no longer possible.

    Returns:
        The word that was written.
    """
    return (yield from spell_in(_trie(words), start, close))


def spell_in(node: Trie, start: str = "", close: str = "") -> Rule[str]:
    """Write one of the words of a trie; the arguments are those of :func:`spell`."""
    written = start
    for character in start:
        node = node.child(ord(character))
    while node.word is None:
        is_closing = close.startswith(written) and len(close) > len(written)
        chosen = (
            yield NextIds(node.next_ids.allowed, ord(close[len(written)])) if is_closing else node.next_ids
        )
        written += chr(chosen)
        node = node.child(chosen)
    return node.word


def first_characters(words: Sequence[str]) -> int:
    """Return the bit set of the first characters of these words, none of which is empty."""
    return bits("".join(word[0] for word in words))


def literal(text: str) -> Rule[None]:
    """Write exactly this text."""
    for character in text:
        yield NextIds(1 << ord(character), ord(character))


def number(highest: int, end: str) -> Rule[int]:
    """Write a number from 0 to ``highest``, without leading zeros, and the character ``end``."""
    stop, text = NextIds(bits(end), ord(end)), ""
    while True:
        if not text:
            next_ids = NextIds(bits(DIGITS), ord("0"))
        elif text == "0" or int(text) * 10 > highest:
            next_ids = stop
        else:
            more = bits("".join(digit for digit in DIGITS if int(text + digit) <= highest))
            next_ids = NextIds(more | stop.allowed, stop.close)
        chosen = yield next_ids
        if chosen == stop.close:
            return int(text)
        text += chr(chosen)


def free_text(allowed: int, longest: int, end: str, start: str = "") -> Rule[str]:
    """Write 1 to ``longest`` characters, the first of which is not a blank, and the character ``end``.

    Args:
        allowed: Bit set of the characters; must contain the letter A and must not contain ``end``.
        longest: Greatest number of characters, at least 1.
        end: Character after the text.
        start: The part of the text that is already written.

    Returns:
        The text without ``end``.
    """
    text = start
    while True:
        stop = NextIds(bits(end), ord(end))
        if not text:
            next_ids = NextIds(allowed & ~bits(" "), ord("A"))
        elif len(text) == longest:
            next_ids = stop
        else:
            next_ids = NextIds(allowed | stop.allowed, stop.close)
        chosen = yield next_ids
        if chosen == stop.close:
            return text
        text += chr(chosen)
