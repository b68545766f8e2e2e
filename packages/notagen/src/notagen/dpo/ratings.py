"""Ratings of a listener: pairs of pieces with the better one, as JSON lines, in place of scores.

A line is ``{"first": FILE, "second": FILE, "better": "first"}``; ``better`` may also be ``second``, or ``neither``,
which is kept but not learned from. Files are relative to the folder of the ratings, and hold pieces as the policy wrote
them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from notagen.dpo.preferences import Preferences
from pentatonic.errors import FormatError, InputError

Better = Literal["first", "second", "neither"]

_MAX_BYTES = 64 << 20
_MAX_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Rating:
    """What a listener said about two pieces.

    Args:
        first: File of a piece.
        second: File of another one.
        better: Which of them is better.
    """

    first: str
    second: str
    better: Better

    def line(self) -> str:
        """Return the rating as a line of a file."""
        return json.dumps(asdict(self)) + "\n"


def read_ratings(path: Path) -> list[Rating]:
    """Read ratings.

    Raises:
        InputError: The file cannot be read.
        FormatError: A line is no rating; the error has file and line.
    """
    ratings = []
    for number, line in enumerate(_read(path, _MAX_BYTES).splitlines(), 1):
        if line.strip():
            try:
                ratings.append(_rating(json.loads(line)))
            except (ValueError, RecursionError) as error:
                raise FormatError(f"not a rating ({error})", path=path, line=number) from error
    return ratings


def rated_preferences(path: Path) -> tuple[Preferences, dict[str, str]]:
    """Return the pairs of a file of ratings, and the text of each piece in them.

    Pairs that were rated several times count as often; where two ratings contradict each other, both pairs are kept.

    Args:
        path: The file.

    Returns:
        The preferences with the files as in the ratings, and each file with its text.

    Raises:
        InputError: The file or a piece cannot be read, or no pair has a better piece.
        FormatError: A line is no rating.
    """
    ratings = read_ratings(path)
    decided = [rating for rating in ratings if rating.better != "neither"]
    if not decided:
        raise InputError(f"{path} has no pair with a better piece, and so nothing to learn from")
    pairs = [
        (each.first, each.second) if each.better == "first" else (each.second, each.first) for each in decided
    ]
    chosen, rejected = (tuple(dict.fromkeys(pair[side] for pair in pairs)) for side in (0, 1))
    texts = {file: _read(path.parent / file, _MAX_PIECE_BYTES) for file in (*chosen, *rejected)}
    numbers = tuple((chosen.index(better), rejected.index(worse)) for better, worse in pairs)
    about = {"ratings": len(ratings), "undecided": len(ratings) - len(decided)}
    return Preferences(chosen, rejected, numbers, about), texts


def contradictions(ratings: Sequence[Rating]) -> int:
    """Return how many pairs were rated both ways."""
    found: dict[frozenset[str], Counter[str]] = {}
    for rating in ratings:
        if rating.better != "neither":
            winner = rating.first if rating.better == "first" else rating.second
            found.setdefault(frozenset((rating.first, rating.second)), Counter())[winner] += 1
    return sum(len(winners) > 1 for winners in found.values())


def _rating(value: object) -> Rating:
    if not isinstance(value, dict) or value.keys() != {"first", "second", "better"}:
        raise ValueError("the keys must be first, second and better")
    if not all(isinstance(each, str) for each in value.values()):
        raise ValueError("all values must be text")
    if value["better"] not in get_args(Better):
        raise ValueError(f"better is {value['better'][:40]!r}; allowed: {', '.join(get_args(Better))}")
    if value["first"] == value["second"]:
        raise ValueError("first and second are the same piece")
    return Rating(**value)


def _read(path: Path, most: int) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise InputError(f"{path}: more than {most >> 20} MiB, the most of such a file")
        return data.decode("utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text") from error
