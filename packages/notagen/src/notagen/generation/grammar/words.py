"""The words, signs and lengths that bars may have: those of a vocabulary, or common ones without it."""

from __future__ import annotations

from functools import lru_cache

from notagen.generation.grammar.rules import MUSIC_TEXT, TEXT, Trie, bits
from notagen.vocabulary import Vocabulary

_SIGN_LETTERS = ".~HLMOPSTuv"
_ALL_SIGNS = frozenset(".~HIJKLMNOPQRSTUVWhijklmnopqrstuvw")
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
_DECORATIONS = (*_DYNAMICS, *_SPANS, *_ORNAMENTS, *_ARTICULATIONS, *_TECHNIQUES, *_JUMPS)


class Words:
    """A vocabulary in the form that the rules use.

    What the rules could not write is left out: words with signs at which the codec would cut.

    Args:
        vocabulary: The vocabulary.

    Attributes:
        names: Names of instruments with the quote after them; None: any.
        texts: Texts with the quote after them; None: any, or none where ``marks`` has no quote.
        decorations: Names of decorations with the ``!`` after them; None: none.
        sign_letters: Decorations of one character.
        signs: Bit set of ``sign_letters``.
        marks: Bit set of the characters with which texts and decorations start.
        lengths: Lengths of notes as written; None: any.
        rests: Rests as written; None: any.
        tuplets: Tuplet marks without their parenthesis; None: any.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.names = _words(vocabulary.names, TEXT, '"')
        self.texts = _words(vocabulary.texts, MUSIC_TEXT, '"')
        given = vocabulary.decorations
        named = None if given is None else [word[1:-1] for word in given if word[0] == word[-1] == "!"]
        self.decorations = _words(_DECORATIONS if named is None else named, MUSIC_TEXT & ~bits("!"), "!")
        self.sign_letters = (
            _SIGN_LETTERS if given is None else "".join(sorted(_ALL_SIGNS.intersection(given)))
        )
        self.signs = bits(self.sign_letters)
        has_texts = vocabulary.texts is None or self.texts is not None
        self.marks = bits('"' * has_texts + "!" * (self.decorations is not None))
        self.lengths, self.rests = vocabulary.lengths, vocabulary.rests
        # A list of lengths cannot fill every tuplet, so then tuplets are listed too.
        self.tuplets = None if self.lengths is None else tuple(mark[1:] for mark in vocabulary.tuplets or ())


@lru_cache(maxsize=8)
def words_of_vocabulary(vocabulary: Vocabulary) -> Words:
    """Return the words of a vocabulary; they are made once."""
    return Words(vocabulary)


def _words(words: tuple[str, ...] | list[str] | None, allowed: int, end: str) -> Trie | None:
    """Return a trie of the words of allowed characters, each with its end; None without any."""
    ends = [word + end for word in words or () if word and not bits(word) & ~allowed]
    return Trie(ends) if ends else None
