"""Pieces with their bars in another order: music without its form, which a judge of music must tell from music.

Only what is heard changes. Barlines, repeats and voltas stay where they are, and so do bars that are not full, bars
with fields, and bars that a tie or slur connects with a neighbour, so that the piece stays as well formed as it was.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from notagen.abc.duration import parse_meter, parse_unit_length
from notagen.notation.bars import split_segment, voice_segments
from notagen.notation.lines import InterleavedReader, is_music
from pentatonic.errors import FormatError


def shuffled_bars(text: str, rng: random.Random) -> str:
    """Put the full bars of a piece in another order, all voices together.

    Args:
        text: A piece in interleaved layout: one bar of all voices on a line.
        rng: Source of the order.

    Returns:
        The piece; the same one where no two bars of different content may change places.
    """
    lines = text.split("\n")
    places = _movable(lines)
    contents = [_contents(lines[place]) for place in places]
    order = list(range(len(places)))
    if len({tuple(content) for content in contents}) > 1:
        while all(contents[new] == contents[old] for new, old in enumerate(order)):
            rng.shuffle(order)
    for place, source in zip(places, order, strict=True):
        lines[place] = _with_contents(lines[place], contents[source])
    return "\n".join(lines)


def _movable(lines: Sequence[str]) -> list[int]:
    """Numbers of the lines of music that may change places with each other."""
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
