"""What the bars of a model's training data consist of, so that generation writes nothing else.

A checkpoint keeps it as ``vocabulary.json``; ``notagen export --index`` collects it. It has what a grammar cannot know:
which words stand on the page, which lengths notes and rests have, and which tuplets and decorations occur.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

from notagen.abc.lexer import kind_of, split_tokens
from notagen.notation.lines import is_music
from pentatonic.errors import ConfigError

VOCABULARY_FILE = "vocabulary.json"

_NAMES = re.compile(r'\bs?nm="([^"\n]*)"')
_LENGTH = re.compile(r"[0-9]*/*[0-9]*-?$")


@dataclass(frozen=True)
class Vocabulary:
    """What may be written; ``None``: anything that the grammar allows.

    Args:
        texts: Words between quotes in the music, with their placement sign: ``^rit.``, ``Gm7``.
        names: Names of instruments between quotes in voice declarations.
        decorations: Decorations as written: ``!trill!``, ``T``, ``.``.
        lengths: Lengths of notes and chords in units of ``L:``, as written; the unit length is empty.
        rests: Rests as written: ``z``, ``z2``, ``x4``.
        tuplets: Tuplet marks as written: ``(3``, ``(3:2:2``.
    """

    texts: tuple[str, ...] | None = None
    names: tuple[str, ...] | None = None
    decorations: tuple[str, ...] | None = None
    lengths: tuple[str, ...] | None = None
    rests: tuple[str, ...] | None = None
    tuplets: tuple[str, ...] | None = None

    def to_dict(self) -> dict[str, list[str] | None]:
        """Return the values as plain lists for JSON."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: None if words is None else list(words) for name, words in values.items()}

    @classmethod
    def from_dict(cls, values: Any) -> Vocabulary:
        """Build from the result of :meth:`to_dict`; a missing list counts as ``None``.

        Raises:
            ConfigError: It is not an object, a key is unknown, or a value is not a list of texts.
        """
        known = [item.name for item in fields(cls)]
        if not isinstance(values, dict) or any(name not in known for name in values):
            raise ConfigError(f"a vocabulary is an object with lists of texts; allowed: {', '.join(known)}")
        for name, words in values.items():
            if words is not None and not (isinstance(words, list) and all(isinstance(w, str) for w in words)):
                raise ConfigError(f"{name} of a vocabulary must be a list of texts or null")
        return cls(**{name: None if words is None else tuple(words) for name, words in values.items()})


#: For checkpoints without a vocabulary.
ANYTHING = Vocabulary()


def collect_vocabulary(pieces: Iterable[str]) -> Vocabulary:
    """Return what occurs in pieces in interleaved layout, each list sorted."""
    found: dict[str, set[str]] = {item.name: set() for item in fields(Vocabulary)}
    for piece in pieces:
        for line in piece.split("\n"):
            if is_music(line):
                for kind, word in words_of(line):
                    found[kind].add(word)
            else:
                found["names"].update(_NAMES.findall(line))
    return Vocabulary(**{name: tuple(sorted(words)) for name, words in found.items()})


def words_of(music: str) -> Iterator[tuple[str, str]]:
    """Yield what a line or bar of music consists of: pairs of a field of :class:`Vocabulary` and a word."""
    for token in split_tokens(music):
        kind = kind_of(token)
        if kind == "annotation":
            yield "texts", token[1:-1]
        elif kind == "decoration":
            yield "decorations", token
        elif kind in ("note", "chord"):
            match = _LENGTH.search(token)
            yield "lengths", match[0].rstrip("-") if match else ""
        elif kind == "rest":
            yield "rests", token
        elif kind == "tuplet":
            yield "tuplets", token
