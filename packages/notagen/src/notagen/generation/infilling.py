"""New music in the place of some bars or voices of a piece, the rest kept.

The model reads what comes before and writes the bars anew, held by :mod:`notagen.generation.grammar` to the lengths,
barlines, key and meter changes of those that they replace; voices that are kept are forced upon it character by
character. Of several drafts the one is taken after which the model finds the kept music that follows most likely.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch.nn import functional as F

from notagen.abc.duration import Meter, default_unit_length, parse_meter, parse_unit_length, total_duration
from notagen.abc.parser import parse_bar
from notagen.abc.printer import print_elements
from notagen.abc.syntax import Bar, Element, InlineField, Slur, Space
from notagen.codec import PAD, encode_train, keep_newest
from notagen.generation.decoding import Limits, Request, run
from notagen.generation.grammar import BarPlan, Grammar
from notagen.generation.sampling import Sampling
from notagen.model import NotaGen
from notagen.notation.bars import declared_voice, read_tune, strip_stream_mark, voice_segments
from notagen.notation.clean import to_ascii
from notagen.notation.layout import interleave, standard
from notagen.notation.validation import barlines_of
from pentatonic.errors import FormatError, UsageError

#: Kept bars after the new ones by which drafts are compared.
FOLLOWING_BARS = 4
_FOREIGN = ("X:", "T:", "C:", "W:", "w:", "Z:", "N:", "S:", "O:", "%%MIDI")  # the models know none of these
_SOUND = re.compile("[A-WYa-wy]")
_CHANGES = "KLM"
_SAMPLING, _LIMITS = Sampling(), Limits()


@dataclass(frozen=True)
class _Segment:
    """One voice on one line: what stands there, and what it means.

    Attributes:
        text: As given.
        ascii: In the characters that have an id, without the barline at the end.
        bar: Parsed.
        fields: Those that it starts with, as text.
        slurs: Open after it.
    """

    text: str
    ascii: str
    bar: Bar
    fields: str
    slurs: int


@dataclass(frozen=True)
class _Line:
    """One line of music.

    Attributes:
        tag: What stands before its first ``[V:n]``.
        segments: By voice, in the order of the line.
        length: Of its bars, in units of ``L:``.
        meter: In force.
    """

    tag: str
    segments: dict[str, _Segment]
    length: Fraction
    meter: Meter | None


def infill(
    model: NotaGen,
    text: str,
    *,
    bars: range | None = None,
    voices: Sequence[str] | None = None,
    seed: int = 0,
    sampling: Sampling = _SAMPLING,
    limits: Limits = _LIMITS,
    candidates: int = 4,
    cancel: Callable[[], bool] = lambda: False,
) -> str:
    """Write some bars or voices of a piece anew.

    Args:
        model: In evaluation mode.
        text: A piece in any layout, with or without tags ``[r:done/left]`` and voices that rest.
        bars: Numbers of the bars to replace, from 1: ``range(5, 9)`` is bars 5 to 8; ``None``: all.
        voices: Names of the voices to replace; ``None``: all.
        seed: Of the first draft's random stream, 0 to 2^32 - 1; the others have the numbers after it.
        sampling: How characters are chosen.
        limits: Of each draft; where one is reached, the rest of the new bars are closed as short as can be.
        candidates: Drafts to choose from, at least 1. Without bars after the new ones the first is taken.
        cancel: Asked before each patch; once it answers true, the rest of the new bars are closed as well.

    Returns:
        The piece in the layout of ``text``; what is kept has not changed.

    Raises:
        FormatError: The piece, or a bar to replace, cannot be read, or a bar changes key or meter after its start.
        UsageError: There are no such bars or voices, ``candidates`` is less than 1, or an argument is one that
            :func:`notagen.generation.decoding.stream` refuses.
    """
    if candidates < 1:
        raise UsageError(f"candidates must be at least 1, got {candidates}")
    if sampling.compat:
        raise UsageError("infilling is not what the original does; leave out compat")
    is_standard = not any(strip_stream_mark(line).startswith("[V:") for line in text.splitlines())
    piece = _Piece(interleave(text) if is_standard else text)
    chosen, names = piece.chosen(bars), piece.names(voices)
    prompt = piece.header + "".join(piece.line_for_model(i) for i in range(chosen.start))
    plans = [piece.plan(i, names) for i in chosen]
    requests = [Request(prompt, (seed + draft) % 2**32, len(piece.lines)) for draft in range(candidates)]
    grammars = [Grammar(prompt, bars=len(piece.lines), plans=plans) for _ in requests]
    drafts = [""] * candidates
    updates = run(
        model, requests, grammars, sampling=sampling, limits=limits, batch_size=candidates, cancel=cancel
    )
    for update in updates:
        drafts[update.index] += update.text
    drafts = [_complete(draft, prompt, plans, len(piece.lines)) for draft in drafts]
    if candidates > 1 and chosen.stop < len(piece.lines):
        after = range(chosen.stop, min(chosen.stop + FOLLOWING_BARS, len(piece.lines)))
        following = "".join(piece.line_for_model(i) for i in after)
        drafts.sort(key=lambda draft: -_log_probability(model, prompt + draft, following))
    result = piece.with_lines(chosen, drafts[0], names)
    return standard(read_tune(result)) if is_standard else result


def _complete(draft: str, prompt: str, plans: Sequence[BarPlan], total: int) -> str:
    """Return a draft with the bars that it lacks: all of them where it was cancelled before it began."""
    return draft or Grammar(prompt, bars=total, plans=plans).close()


class _Piece:
    """A piece in interleaved layout, read line by line.

    Args:
        text: The piece.

    Attributes:
        header: As the models know it.
        voices: Those that are declared.
        lines: Of music.

    Raises:
        FormatError: See :func:`infill`.
    """

    def __init__(self, text: str) -> None:
        self._given = text.splitlines(keepends=True)
        self._places: list[int] = []  # of the lines of music
        self.lines: list[_Line] = []
        self._unit: Fraction | None = None
        self._meter: Meter | None = None
        self._slurs: dict[str, int] = {}
        header: list[str] = []
        for place, given in enumerate(self._given):
            line = given.strip()
            if voice_segments(line) and not line.startswith("%"):
                self._places.append(place)
                self.lines.append(self._read(line, place + 1))
            elif line and not self.lines:
                header.append(line)
                self._read_field(line[:1], line[2:] if line[1:2] == ":" else None, place + 1)
        self.voices = [name for line in header if (name := declared_voice(line))]
        kept = [to_ascii(line) for line in header if not line.startswith(_FOREIGN)]
        if not any(line.startswith("%%score") for line in kept):
            kept.insert(0, f"%%score {' '.join(self.voices)}")
        if not any(line.startswith("L:") for line in kept):
            kept.insert(1, f"L:{self._unit_length}")
        self.header = "".join(f"{line}\n" for line in kept)
        if not self.lines:
            raise FormatError("there is no music: no line has a [V:n]")
        self._is_complete = all(len(line.segments) == len(self.voices) for line in self.lines)

    @property
    def _unit_length(self) -> Fraction:
        return self._unit or default_unit_length(self._meter)

    def _read_field(self, name: str, value: str | None, line: int) -> None:
        if value is not None and name == "M":
            self._meter = parse_meter(value, line=line)
        elif value is not None and name == "L":
            self._unit = parse_unit_length(value, line=line)

    def _read(self, line: str, number: int) -> _Line:
        tag = line[: line.index("[V:")]
        bars: dict[str, tuple[str, Bar]] = {}
        for name, content in voice_segments(line):
            try:
                bars[name] = (content, parse_bar(content.strip()))
            except FormatError as error:
                reason = f"bar {len(self.lines) + 1}, voice {name}: {error.reason}"
                raise FormatError(reason, line=number) from None
        for bar in [bar for _, bar in bars.values()][:1]:
            for element in _leading(bar):
                if isinstance(element, InlineField):
                    self._read_field(element.name, element.value, number)
        expected = self._meter.length / self._unit_length if self._meter else None
        try:
            lengths = [
                total_duration(bar, meter=self._meter, bar_length=expected) for _, bar in bars.values()
            ]
        except FormatError as error:
            raise FormatError(f"bar {len(self.lines) + 1}: {error.reason}", line=number) from None
        segments = {name: self._segment(name, content, bar) for name, (content, bar) in bars.items()}
        return _Line(tag, segments, lengths[0], self._meter)

    def _segment(self, name: str, content: str, bar: Bar) -> _Segment:
        slurs = self._slurs.get(name, 0)
        for element in bar.elements:
            if isinstance(element, Slur):
                slurs = max(slurs - 1, 0) if element.text == ")" else slurs + 1
        self._slurs[name] = slurs
        fields = print_elements(element for element in _leading(bar) if isinstance(element, InlineField))
        right = barlines_of(bar)[1]
        stripped = to_ascii(content.strip())
        return _Segment(content, stripped.removesuffix(right).rstrip(), bar, fields, slurs)

    def chosen(self, bars: range | None) -> range:
        """Return the indices of the bars to replace."""
        total = len(self.lines)
        bars = range(1, total + 1) if bars is None else bars
        if not bars or bars.step != 1 or bars.start < 1 or bars.stop > total + 1:
            raise UsageError(f"bars must be neighbours between 1 and {total}, got {_spoken(bars)}")
        return range(bars.start - 1, bars.stop - 1)

    def names(self, voices: Sequence[str] | None) -> list[str]:
        """Return the voices to replace, in the order of the header."""
        if unknown := [name for name in voices or () if name not in self.voices]:
            raise UsageError(f"there is no voice {' '.join(unknown)}; the piece has {' '.join(self.voices)}")
        if voices is not None and not voices:
            raise UsageError("voices must name at least one voice")
        return [name for name in self.voices if voices is None or name in voices]

    def line_for_model(self, index: int) -> str:
        """Return a line as the models know it: with its tag, without voices that rest."""
        segments = self.lines[index].segments
        playing = [name for name in segments if _SOUND.search(segments[name].ascii)] or list(segments)[:1]
        voices = "".join(f"[V:{name}]{to_ascii(segments[name].text.strip())}" for name in playing)
        return f"[r:{index}/{len(self.lines) - 1 - index}]{voices}\n"

    def plan(self, index: int, names: Sequence[str]) -> BarPlan:
        """Say what the line that takes the place of this one must be like."""
        line = self.lines[index]
        for name, segment in line.segments.items():
            later = segment.bar.elements[len(_leading(segment.bar)) - len(segment.bar.prefix) :]
            if name in names and any(isinstance(e, InlineField) and e.name in _CHANGES for e in later):
                raise FormatError(f"bar {index + 1}, voice {name}: it changes key, meter or length inside")
        left, right = barlines_of(next(iter(line.segments.values())).bar)
        if right[:1] not in ("|", ":") or line.length <= 0:
            raise FormatError(f"bar {index + 1} has no length, or no barline such as | at its end")
        kept = {
            name: segment.ascii
            for name, segment in line.segments.items()
            if name not in names and _SOUND.search(segment.ascii)
        }
        changes = any(segment.fields for segment in line.segments.values())
        written = [name for name in names if name in line.segments or len(names) < len(self.voices)]
        free = len(names) == len(self.voices) and not changes and not self._is_complete
        default = next(iter(line.segments.values())).fields
        return BarPlan(
            length=line.length,
            left=left,
            right=right,
            compound=line.meter is not None and line.meter.compound,
            voices=() if free else tuple(n for n in self.voices if n in kept or n in written),
            kept=kept,
            fields={name: line.segments[name].fields if name in line.segments else default for name in names},
            slurs_after={name: segment.slurs for name, segment in line.segments.items() if segment.slurs},
        )

    def with_lines(self, chosen: range, draft: str, names: Sequence[str]) -> str:
        """Return the piece as given, with the new bars in it."""
        given = list(self._given)
        for index, new in zip(chosen, draft.splitlines(), strict=True):
            contents = dict(voice_segments(strip_stream_mark(new)))
            segments = {name: contents[name] for name in names if name in contents}
            line = self.lines[index]
            segments |= {name: segment.text for name, segment in line.segments.items() if name not in names}
            written = "".join(f"[V:{name}]{segments[name]}" for name in self.voices if name in segments)
            end = given[self._places[index]]
            given[self._places[index]] = line.tag + written + end[len(end.rstrip()) :]
        return "".join(given)


def _spoken(bars: range) -> str:
    if not bars:
        return "none"
    steps = f" in steps of {bars.step}" if bars.step != 1 else ""
    return (f"bars {bars[0]}-{bars[-1]}" if bars[0] != bars[-1] else f"bar {bars[0]}") + steps


def _leading(bar: Bar) -> tuple[Element, ...]:
    """Return the fields before the first note, and the blanks between them."""
    count = 0
    while count < len(bar.elements) and isinstance(bar.elements[count], (InlineField, Space)):
        count += 1
    return (*bar.prefix, *bar.elements[:count])


@torch.no_grad()
def _log_probability(model: NotaGen, text: str, following: str) -> float:
    """Return the natural log-probability of the lines that follow a text."""
    length = model.config.patch_length
    new = len(encode_train(following, length, stream=False, special=False, truncate=False))
    patches = encode_train(text + following, length, stream=False, truncate=False)[:-1]
    patches = keep_newest(patches, length)
    new = min(new, len(patches) - 1)
    ids = torch.tensor(patches, device=model.device)
    vectors = model.patch_decoder(ids[None])[0, -1 - new : -1]
    logits = model.char_decoder(vectors, ids[-new:, :-1]).float()
    return -float(
        F.cross_entropy(logits.flatten(0, 1), ids[-new:].flatten(), ignore_index=PAD, reduction="sum")
    )
