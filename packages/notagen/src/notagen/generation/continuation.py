"""Prompts that ask a model to continue a given piece."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile

from notagen.abc import bar_duration
from notagen.notation.bars import BarTable, VoiceBars, read_tune, split_segment, voice_segments
from notagen.notation.clean import clean, to_ascii
from notagen.notation.countdown import countdown_tag
from notagen.notation.layout import is_interleaved
from notagen.notation.rests import complete_rests, omit_rests
from notagen.notation.tunebook import standard_tune
from pentatonic.errors import UsageError

_FINAL = "|]"


def continuation(text: str, *, bars: int | None = None) -> str:
    """Turn a piece into the prompt of a :class:`notagen.generation.decoding.Request` that continues it.

    The piece is cleaned and interleaved, and its silent voices are left out, as in the training data. Its final barline
    becomes a plain one, or a double one after a bar of another length, such as one that completes a pick-up. The
    countdown tags include the bars to write, which tells the model when to end.

    Args:
        text: ABC in any layout: standard, or interleaved as models write it. Prompt lines such as ``%Classical`` at
            its top are kept; an unfinished last line is dropped.
        bars: Number of bars to write, at least 1; ``None``: as many as the piece has.

    Returns:
        Prompt lines, header, and the bars of the piece; every line ends with a newline.

    Raises:
        FormatError: There is no music or no ``K:`` line, or the voices have different numbers of bars.
        UsageError: ``bars`` is less than 1.
    """
    if bars is not None and bars < 1:
        raise UsageError(f"bars must be at least 1, got {bars}")
    lines = text.splitlines(keepends=True)
    leading = takewhile(lambda line: line.startswith("%") and not line.startswith("%%"), lines)
    prompt = [to_ascii(line) for line in leading if not line.startswith("%abc")]
    if is_interleaved(text):
        text = complete_rests("".join(_complete_lines(lines))).text
    tune = _without_end(read_tune(clean(standard_tune(text))))
    given = tune.bar_count
    last = given + (given if bars is None else bars) - 1
    header, body = (omit_rests(tune).splitlines()[part] for part in (slice(-given), slice(-given, None)))
    tagged = [countdown_tag(done, last - done) + line for done, line in enumerate(body)]
    return "".join(f"{line}\n" for line in (*prompt, *header, *tagged))


def _complete_lines(lines: list[str]) -> list[str]:
    """Return the lines without a last line that is unfinished."""
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
