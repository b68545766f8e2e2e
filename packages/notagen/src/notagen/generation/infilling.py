"""New music for some bars or voices of a piece; the others are kept.

The model reads what comes before and writes new bars. :mod:`notagen.generation.grammar` gives them the lengths,
barlines, and changes of key and meter of the bars that they replace, and writes the kept voices character by character.
Of several drafts the one is chosen after which the model gives the kept music that follows the highest probability.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch.nn import functional as F

from notagen.abc.duration import Meter, parse_meter, parse_unit_length
from notagen.abc.printer import print_elements
from notagen.abc.syntax import Bar, Element, InlineField, Space
from notagen.codec import PAD, encode_train, keep_newest
from notagen.generation.decoding import Limits, Request, run
from notagen.generation.grammar import BarPlan, Grammar
from notagen.generation.sampling import Sampling
from notagen.model import NotaGen
from notagen.notation.bars import declared_voice, read_tune, voice_segments
from notagen.notation.clean import to_ascii
from notagen.notation.countdown import countdown_tag, without_countdown
from notagen.notation.layout import interleave, is_interleaved, standard
from notagen.notation.lines import InterleavedReader, VoiceOnLine, is_music
from pentatonic.errors import FormatError, UsageError

#: Kept bars after the new ones by which drafts are compared.
FOLLOWING_BARS = 4
_FOREIGN = ("X:", "T:", "C:", "W:", "w:", "Z:", "N:", "S:", "O:", "%%MIDI")  # the models do not know these
_SOUND = re.compile("[A-WYa-wy]")
_CHANGES = "KLM"
_LIMITS = Limits()


@dataclass(frozen=True)
class _GivenBar:
    """The bar of one voice of the given piece.

    Attributes:
        text: The text as given.
        ascii: The text in the characters that have an id, without the barline at its end.
        bar: The parsed bar.
        fields: The fields that it starts with, as text.
        barlines: Barlines before and after the bar.
        slurs: Number of slurs that are open after the bar.
    """

    text: str
    ascii: str
    bar: Bar
    fields: str
    barlines: tuple[str, str]
    slurs: int


@dataclass(frozen=True)
class _GivenLine:
    """One line of music of the given piece.

    Attributes:
        tag: Text before its first ``[V:n]``.
        bars: Voice -> bar, in the order of the line.
        length: Length of its bars, in units of ``L:``.
        meter: Meter in force; None for free meter.
    """

    tag: str
    bars: dict[str, _GivenBar]
    length: Fraction
    meter: Meter | None


def infill(
    model: NotaGen,
    text: str,
    *,
    bars: range | None = None,
    voices: Sequence[str] | None = None,
    seed: int = 0,
    sampling: Sampling | None = None,
    limits: Limits = _LIMITS,
    candidates: int = 4,
    cancel: Callable[[], bool] = lambda: False,
) -> str:
    """Replace some bars or voices of a piece with new ones.

    Args:
        model: The model, in evaluation mode.
        text: A piece in any layout, with or without countdown tags and voices that rest.
        bars: Numbers of the bars to replace, from 1: ``range(5, 9)`` is bars 5 to 8; ``None``: all.
        voices: Names of the voices to replace; ``None``: all.
        seed: Seed of the first draft's random stream, 0 to 2^32 - 1; the other drafts take the numbers after it.
        sampling: How characters are chosen; None: as ``model.sampling`` says.
        limits: Limits of each draft; when one is reached, the new bars are completed on the shortest path.
        candidates: Number of drafts to choose from, at least 1. Without bars after the new ones the first is taken.
        cancel: Called before each patch; when it returns true, the new bars are completed on the shortest path too.

    Returns:
        The piece in the layout of ``text``; kept bars and voices are unchanged.

    Raises:
        FormatError: The piece, or a bar to replace, cannot be read, or such a bar changes key or meter after its start.
        UsageError: There are no such bars or voices, ``candidates`` is less than 1, or an argument is one that
            :func:`notagen.generation.decoding.stream` refuses.
    """
    if candidates < 1:
        raise UsageError(f"candidates must be at least 1, got {candidates}")
    sampling = sampling or model.sampling
    if sampling.compat:
        raise UsageError("the original has no infilling, so it has no compat mode; leave out compat")
    is_standard = not is_interleaved(text)
    piece = _GivenPiece(interleave(text) if is_standard else text)
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
    """Return the draft; if it was cancelled before its first patch, bars on the shortest path instead."""
    return draft or Grammar(prompt, bars=total, plans=plans).close()


class _GivenPiece:
    """The given piece in interleaved layout, read line by line.

    Args:
        text: The piece.

    Attributes:
        header: The header in the form that the models know.
        voices: Names of the declared voices.
        lines: The lines of music.

    Raises:
        FormatError: See :func:`infill`.
    """

    def __init__(self, text: str) -> None:
        self._given = text.splitlines(keepends=True)
        self._positions: list[int] = []  # of the lines of music in the given ones
        self.lines: list[_GivenLine] = []
        numbered: list[tuple[int, str]] = []
        reader: InterleavedReader | None = None
        for position, given in enumerate(self._given):
            line = given.strip()
            if is_music(line):
                reader = reader or _header_reader(numbered)
                self._positions.append(position)
                self.lines.append(self._read(reader, line, position + 1))
            elif line and not self.lines:
                numbered.append((position + 1, line))
        if reader is None:
            raise FormatError("there is no music: no line has a [V:n]")
        header = [line for _, line in numbered]
        self.voices = [name for line in header if (name := declared_voice(line))]
        kept = [to_ascii(line) for line in header if not line.startswith(_FOREIGN)]
        if not any(line.startswith("%%score") for line in kept):
            kept.insert(0, f"%%score {' '.join(self.voices)}")
        if not any(line.startswith("L:") for line in kept):
            kept.insert(1, f"L:{_header_reader(numbered).unit}")
        self.header = "".join(f"{line}\n" for line in kept)
        self._is_complete = all(len(line.bars) == len(self.voices) for line in self.lines)

    def _read(self, reader: InterleavedReader, line: str, number: int) -> _GivenLine:
        tag = line[: line.index("[V:")]
        voices = reader.read(line)
        for voice in voices:
            wrong = (change.error for change in voice.changes if change.error and change.name != "K")
            if error := voice.error or next(wrong, None):
                reason = f"bar {len(self.lines) + 1}, voice {voice.name}: {error.reason}"
                raise FormatError(reason, line=number)
        bars = {voice.name: _given_bar(voice) for voice in voices}
        return _GivenLine(tag, bars, voices[0].length or Fraction(0), reader.meter)

    def chosen(self, bars: range | None) -> range:
        """Return the indices of the lines to replace."""
        total = len(self.lines)
        bars = range(1, total + 1) if bars is None else bars
        if not bars or bars.step != 1 or bars.start < 1 or bars.stop > total + 1:
            raise UsageError(f"bars must be neighbours between 1 and {total}, got {_describe_range(bars)}")
        return range(bars.start - 1, bars.stop - 1)

    def names(self, voices: Sequence[str] | None) -> list[str]:
        """Return the voices to replace, in the order of the header."""
        if unknown := [name for name in voices or () if name not in self.voices]:
            raise UsageError(f"there is no voice {' '.join(unknown)}; the piece has {' '.join(self.voices)}")
        if voices is not None and not voices:
            raise UsageError("voices must name at least one voice")
        return [name for name in self.voices if voices is None or name in voices]

    def line_for_model(self, index: int) -> str:
        """Return a line in the form that the models know: with a countdown tag, without voices that rest."""
        bars = self.lines[index].bars
        playing = [name for name in bars if _SOUND.search(bars[name].ascii)] or list(bars)[:1]
        voices = "".join(f"[V:{name}]{to_ascii(bars[name].text.strip())}" for name in playing)
        return f"{countdown_tag(index, len(self.lines) - 1 - index)}{voices}\n"

    def plan(self, index: int, names: Sequence[str]) -> BarPlan:
        """Return the requirements for the line that replaces this one."""
        line = self.lines[index]
        for name, given in line.bars.items():
            later = given.bar.elements[len(_leading(given.bar)) - len(given.bar.prefix) :]
            if name in names and any(isinstance(e, InlineField) and e.name in _CHANGES for e in later):
                reason = "the key, meter or note length changes inside the bar"
                raise FormatError(f"bar {index + 1}, voice {name}: {reason}")
        first = next(iter(line.bars.values()))
        left, right = first.barlines
        if right[:1] not in ("|", ":") or line.length <= 0:
            raise FormatError(f"bar {index + 1} has no length, or no barline such as | at its end")
        kept = {
            name: given.ascii
            for name, given in line.bars.items()
            if name not in names and _SOUND.search(given.ascii)
        }
        changes = any(given.fields for given in line.bars.values())
        written = [name for name in names if name in line.bars or len(names) < len(self.voices)]
        free = len(names) == len(self.voices) and not changes and not self._is_complete
        return BarPlan(
            length=line.length,
            left=left,
            right=right,
            compound=line.meter is not None and line.meter.compound,
            voices=() if free else tuple(n for n in self.voices if n in kept or n in written),
            kept=kept,
            fields={name: line.bars.get(name, first).fields for name in names},
            slurs_after={name: given.slurs for name, given in line.bars.items() if given.slurs},
        )

    def with_lines(self, chosen: range, draft: str, names: Sequence[str]) -> str:
        """Return the given piece with the new bars in it."""
        lines = list(self._given)
        for index, new in zip(chosen, draft.splitlines(), strict=True):
            contents = dict(voice_segments(without_countdown(new)))
            texts = {name: contents[name] for name in names if name in contents}
            line = self.lines[index]
            texts |= {name: given.text for name, given in line.bars.items() if name not in names}
            written = "".join(f"[V:{name}]{texts[name]}" for name in self.voices if name in texts)
            before = lines[self._positions[index]]
            lines[self._positions[index]] = line.tag + written + before[len(before.rstrip()) :]
        return "".join(lines)


def _header_reader(header: Sequence[tuple[int, str]]) -> InterleavedReader:
    """Return a reader that starts with the meter and note length of the header, given as numbered lines."""
    meter, unit = None, None
    for number, line in header:
        if line.startswith("M:"):
            meter = parse_meter(line[2:], line=number)
        elif line.startswith("L:"):
            unit = parse_unit_length(line[2:], line=number)
    return InterleavedReader(meter, unit)


def _given_bar(voice: VoiceOnLine) -> _GivenBar:
    bar = voice.parsed()
    fields = print_elements(element for element in _leading(bar) if isinstance(element, InlineField))
    ascii_text = to_ascii(voice.text.strip()).removesuffix(voice.right).rstrip()
    return _GivenBar(voice.text, ascii_text, bar, fields, (voice.left, voice.right), voice.slurs)


def _describe_range(bars: range) -> str:
    """Return the numbers of some bars for a message."""
    if not bars:
        return "none"
    steps = f" in steps of {bars.step}" if bars.step != 1 else ""
    return (f"bars {bars[0]}-{bars[-1]}" if bars[0] != bars[-1] else f"bar {bars[0]}") + steps


def _leading(bar: Bar) -> tuple[Element, ...]:
    """Return the fields before the first other element, and the blanks between them."""
    count = 0
    while count < len(bar.elements) and isinstance(bar.elements[count], (InlineField, Space)):
        count += 1
    return (*bar.prefix, *bar.elements[:count])


@torch.no_grad()
def _log_probability(model: NotaGen, text: str, following: str) -> float:
    """Return the natural logarithm of the probability that these lines follow a text."""
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
