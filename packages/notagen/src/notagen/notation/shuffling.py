"""Pieces with their bars in another order: music without its form, which a judge of music must tell from music.

Only what is heard changes. Barlines, repeats and voltas stay where they are, and so do bars that are not full, bars
with fields, and bars that a tie or slur connects with a neighbour, so that the piece stays as well formed as it was.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from notagen.abc.duration import parse_meter, parse_unit_length
from notagen.notation.bars import split_segment, voice_segments
from notagen.notation.lines import InterleavedReader, is_music
from pentatonic.errors import FormatError

_Content = TypeVar("_Content")


def shuffled_bars(
    text: str,
    rng: random.Random,
    *,
    share: float = 1,
    apart: bool = False,
    places: Sequence[int] | None = None,
) -> str:
    """Put the full bars of a piece in another order.

    Args:
        text: A piece in interleaved layout: one bar of all voices on a line.
        rng: Source of the order.
        share: How many of the bars that can be moved are, above 0 and at most 1; at least two.
        apart: Each voice in an order of its own, so that what sounds together does not belong together; otherwise all
            voices together.
        places: What :func:`movable_lines` returns, where it is known.

    Returns:
        The piece; the same one where no two bars of different content may change places.
    """
    lines = text.split("\n")
    places = movable_lines(text) if places is None else places
    if share < 1:
        places = rng.sample(places, min(len(places), max(2, round(share * len(places)))))
    contents = [_contents(lines[place]) for place in places]
    if apart:
        voices = [_reordered(voice, rng) for voice in zip(*contents, strict=True)]
        contents = [list(bar) for bar in zip(*voices, strict=True)]
    else:
        contents = _reordered(contents, rng)
    for place, content in zip(places, contents, strict=True):
        lines[place] = _with_contents(lines[place], content)
    return "\n".join(lines)


def _reordered(contents: Sequence[_Content], rng: random.Random) -> list[_Content]:
    """Return the contents in an order that differs, if there is one."""
    if all(content == contents[0] for content in contents):
        return list(contents)
    order = list(contents)
    while order == list(contents):
        rng.shuffle(order)
    return order


def movable_lines(text: str) -> list[int]:
    """Numbers, from 0, of the lines of bars that may change places with each other; the same in all keys."""
    lines = text.split("\n")
    reader, voices, tied, found = InterleavedReader(*_meter_and_unit(lines)), None, False, []
    for number, line in enumerate(lines):
        if not is_music(line.strip()):
            continue
        slurred = any(reader.slurs.values())
        bars = reader.read(line)
        names = [bar.name for bar in bars]
        voices = voices or names
        texts = [split_segment(bar.text).text for bar in bars]
        ties = any(text.rstrip().endswith("-") for text in texts)
        full = all(bar.length is not None and bar.length == reader.bar_length for bar in bars)
        plain = not any("[" in text and ":" in text for text in texts)
        if full and plain and names == voices and not (tied or ties or slurred or any(reader.slurs.values())):
            found.append(number)
        tied = ties
    return found


def _meter_and_unit(lines: Sequence[str]) -> tuple:
    meter = unit = None
    try:
        for line in lines:
            if line.startswith("M:") and meter is None:
                meter = parse_meter(line[2:])
            elif line.startswith("L:") and unit is None:
                unit = parse_unit_length(line[2:])
    except FormatError:
        return None, None  # no bar is full then
    return meter, unit


def _contents(line: str) -> list[str]:
    return [split_segment(text).text for _, text in voice_segments(line)]


def _with_contents(line: str, contents: Sequence[str]) -> str:
    start = line[: line.index("[V:")]
    voices = []
    for (name, text), content in zip(voice_segments(line), contents, strict=True):
        segment = split_segment(text)
        voices.append(f"[V:{name}]{segment.prefix}{segment.left}{content}{segment.right}")
    return start + "".join(voices)
