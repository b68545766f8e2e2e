"""A given piece as the beginning of a longer one: what a model is asked to go on with."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile

from notagen.abc import bar_duration
from notagen.notation.bars import BarTable, VoiceBars, is_field, read_tune, split_segment, voice_segments
from notagen.notation.clean import clean, to_ascii
from notagen.notation.rests import complete_rests, omit_rests
from notagen.notation.tunebook import standard_tune
from pentatonic.errors import UsageError

_FINAL = "|]"


def continuation(text: str, *, bars: int | None = None) -> str:
    """Turn a piece into the prompt of a :class:`notagen.generation.decoding.Request` that goes on with it.

    The piece is cleaned, interleaved, and its silent voices are left out, as in the training data. Its final barline
    becomes a plain one, or a double one after a bar of another length, such as one that makes up for a pick-up. The
    tags ``[r:done/left]`` of its bars count those to write too, which is how a model knows when to end.

    Args:
        text: ABC in any layout: standard, or interleaved as models write it. Prompt lines such as ``%Classical`` on
            top of it are kept. Of a text that breaks off within a line the line is left out.
        bars: Bars to write, at least 1; ``None``: as many as the piece has.

    Returns:
        Prompt lines, header, and the bars given; every line ends with a newline.

    Raises:
        FormatError: There is no music or no ``K:`` line, or the voices have different numbers of bars.
        UsageError: ``bars`` is less than 1.
    """
    if bars is not None and bars < 1:
        raise UsageError(f"bars must be at least 1, got {bars}")
    lines = text.splitlines(keepends=True)
    leading = takewhile(lambda line: line.startswith("%") and not line.startswith("%%"), lines)
    prompt = [to_ascii(line) for line in leading if not line.startswith("%abc")]
    if _is_interleaved(lines):
        text = complete_rests("".join(_complete_lines(lines))).text
    tune = _without_end(read_tune(clean(standard_tune(text))))
    given = tune.bar_count
    last = given + (given if bars is None else bars) - 1
    header, body = (omit_rests(tune).splitlines()[part] for part in (slice(-given), slice(-given, None)))
    tagged = [f"[r:{done}/{last - done}]{line}" for done, line in enumerate(body)]
    return "".join(f"{line}\n" for line in (*prompt, *header, *tagged))


def _is_interleaved(lines: list[str]) -> bool:
    return any(
        line.startswith("[r:") or len(voice_segments(line)) > 1
        for line in lines
        if not is_field(line) and not line.startswith("%")
    )


def _complete_lines(lines: list[str]) -> list[str]:
    """Return all lines but a last one that breaks off."""
    found = voice_segments(lines[-1])
    unfinished = not lines[-1].endswith("\n") and not (found and split_segment(found[-1][1]).right)
    return lines[:-1] if unfinished else lines


def _without_end(tune: BarTable) -> BarTable:
    lengths = [bar_duration(bar) for bar in next(iter(tune.voices.values())).bars[-2:]]
    barline = "||" if len(set(lengths)) > 1 else "|"
    return replace(
        tune, voices={name: _voice_without_end(voice, barline) for name, voice in tune.voices.items()}
    )


def _voice_without_end(voice: VoiceBars, barline: str) -> VoiceBars:
    *barlines, final = voice.barlines
    return replace(voice, barlines=(*barlines, barline if final == _FINAL else final))
