"""The index of melodies: notes of all lines one after another, in arrays that are scanned whole.

Every note has the interval to the next note of its line, and the ratios of times as numbers of a table, so that a
search compares small integers. N notes, L lines, R ratios.
"""

from __future__ import annotations

import itertools
import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from notagen.clamp2.melody.lines import Line
from pentatonic.checkpoint import load_tensors, save_tensors
from pentatonic.errors import CheckpointError, FormatError

VERSION = 1
END = -128
"""Interval after the last note of a line; no interval of MIDI is as large."""
NO_RATIO = -1
"""Number of the ratio after the last note of a line."""

_MAX_RATIO = (1 << 63) - 1
_ARRAYS = {
    "pitch": np.uint8,
    "fifths": np.int8,
    "bar": np.int32,
    "interval": np.int8,
    "span_ratio": np.int32,
    "end_ratio": np.int32,
}


@dataclass(frozen=True)
class Tune:
    """Where a tune comes from: its file, its number in a book of tunes (empty for an only tune), and its title."""

    file: str
    number: str
    title: str


@dataclass(frozen=True)
class MelodyIndex:
    """The melodies of many tunes.

    Args:
        tunes: The tunes.
        voices: Names of the voices of the lines.
        line_starts: ``(L + 1,)`` int64: first note of each line, and N.
        line_tune: ``(L,)`` int32: number of the tune of each line.
        overlay: ``(L,)`` bool: whether the line is an overlay, with which no voice starts.
        pitch: ``(N,)`` uint8: MIDI numbers.
        fifths: ``(N,)`` int8: names, as places in the circle of fifths.
        bar: ``(N,)`` int32: numbers of bars, from 1.
        interval: ``(N,)`` int8: semitones to the next note; :data:`END` after the last one of a line.
        span_ratio: ``(N,)`` int32: number of the ratio of the next span to that of this note.
        end_ratio: ``(N,)`` int32: number of the ratio of the next note's length to the span of this one.
        ratios: The ratios.
        failures: Files and tunes that could not be read, with the reason.
    """

    tunes: tuple[Tune, ...]
    voices: tuple[str, ...]
    line_starts: NDArray[np.int64]
    line_tune: NDArray[np.int32]
    overlay: NDArray[np.bool_]
    pitch: NDArray[np.uint8]
    fifths: NDArray[np.int8]
    bar: NDArray[np.int32]
    interval: NDArray[np.int8]
    span_ratio: NDArray[np.int32]
    end_ratio: NDArray[np.int32]
    ratios: tuple[Fraction, ...]
    failures: tuple[tuple[str, str], ...] = ()

    @cached_property
    def contour(self) -> NDArray[np.int8]:
        """``(N,)`` int8: 1 where the next note is higher, 0 where it is the same, -1 lower; :data:`END` at ends."""
        return np.where(self.interval == END, np.int8(END), np.sign(self.interval))

    @cached_property
    def ratio_numbers(self) -> dict[Fraction, int]:
        """Number of each ratio."""
        return {ratio: number for number, ratio in enumerate(self.ratios)}

    def save(self, path: Path) -> None:
        """Write the index as one safetensors file, in which only arrays and plain text are.

        Raises:
            CheckpointError: The file cannot be written.
        """
        texts = {
            "tunes": [[tune.file, tune.number, tune.title] for tune in self.tunes],
            "voices": list(self.voices),
            "failures": [list(failure) for failure in self.failures],
        }
        content = json.dumps(texts, separators=(",", ":")).encode()
        arrays: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in _ARRAYS}
        arrays["line_starts"], arrays["line_tune"] = self.line_starts, self.line_tune
        arrays["overlay"] = self.overlay
        arrays["ratios"] = np.array(
            [[ratio.numerator, ratio.denominator] for ratio in self.ratios], np.int64
        ).reshape(-1, 2)
        arrays["texts"] = np.frombuffer(content, np.uint8).copy()
        tensors = {name: torch.from_numpy(np.ascontiguousarray(each)) for name, each in arrays.items()}
        save_tensors(path, tensors, {"format": "notagen melodies", "version": str(VERSION)})

    @classmethod
    def load(cls, path: Path) -> MelodyIndex:
        """Map an index into memory.

        Raises:
            CheckpointError: The file is missing, damaged, or no index of melodies of this version.
        """
        arrays = {name: tensor.numpy() for name, tensor in load_tensors(path).items()}
        try:
            return _checked(arrays)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise CheckpointError(f"{path}: not an index of melodies that can be used: {error}") from error


class MelodyIndexBuilder:
    """Collects tunes for an index."""

    def __init__(self) -> None:
        self.tunes: list[Tune] = []
        self.failures: list[tuple[str, str]] = []
        self._voices: list[str] = []
        self._line_tune, self._overlay, self._line_starts = array("i"), array("b"), array("q", [0])
        self._columns = {
            "pitch": array("B"),
            "fifths": array("b"),
            "bar": array("i"),
            "interval": array("b"),
            "span_ratio": array("i"),
            "end_ratio": array("i"),
        }
        self._ratios: dict[Fraction, int] = {}

    def add(self, tune: Tune, lines: Sequence[Line]) -> None:
        """Add a tune; one without notes can be added, but not found.

        Raises:
            FormatError: The ratios of its times have too many digits. Then nothing is added.
        """
        ratios = [_ratios(line) for line in lines]
        columns = self._columns
        for line, (of_spans, of_ends) in zip(lines, ratios, strict=True):
            notes = line.notes
            columns["pitch"].extend(note.pitch for note in notes)
            columns["fifths"].extend(max(-127, min(127, note.fifths)) for note in notes)
            columns["bar"].extend(note.bar for note in notes)
            columns["interval"].extend(b.pitch - a.pitch for a, b in itertools.pairwise(notes))
            columns["interval"].append(END)
            columns["span_ratio"].extend([*map(self._number, of_spans), NO_RATIO])
            columns["end_ratio"].extend([*map(self._number, of_ends), NO_RATIO])
            self._voices.append(line.voice)
            self._line_tune.append(len(self.tunes))
            self._overlay.append(line.overlay)
            self._line_starts.append(len(columns["pitch"]))
        self.tunes.append(tune)

    def build(self) -> MelodyIndex:
        """Return the index of what was added."""
        columns: dict[str, NDArray[Any]] = {
            name: np.frombuffer(column, _ARRAYS[name]).copy() if column else np.empty(0, _ARRAYS[name])
            for name, column in self._columns.items()
        }
        return MelodyIndex(
            tuple(self.tunes),
            tuple(self._voices),
            np.array(self._line_starts, np.int64),
            np.array(self._line_tune, np.int32),
            np.array(self._overlay, np.bool_),
            **columns,
            ratios=tuple(self._ratios),
            failures=tuple(self.failures),
        )

    def _number(self, ratio: Fraction) -> int:
        return self._ratios.setdefault(ratio, len(self._ratios))


def _ratios(line: Line) -> tuple[list[Fraction], list[Fraction]]:
    """Return the ratios of each span, and of each length but the first, to the span before."""
    spans, notes = line.spans, line.notes
    of_spans = [after / before for before, after in itertools.pairwise(spans)]
    of_ends = [note.length / span for note, span in zip(notes[1:], spans, strict=False)]
    for ratio in (*of_spans, *of_ends):
        if max(ratio.numerator, ratio.denominator) > _MAX_RATIO:
            raise FormatError(f"voice {line.voice} has times whose ratios are no usual fractions")
    return of_spans, of_ends


def _checked(arrays: dict[str, NDArray[Any]]) -> MelodyIndex:
    """Build an index from the arrays of a file, which anybody may have written."""
    texts = json.loads(arrays["texts"].tobytes())
    tunes = tuple(Tune(*_strings(each, 3)) for each in texts["tunes"])
    voices = _strings(texts["voices"], len(texts["voices"]))
    failures = tuple((file, reason) for file, reason in (_strings(each, 2) for each in texts["failures"]))
    starts, line_tune, overlay = arrays["line_starts"], arrays["line_tune"], arrays["overlay"]
    count = len(voices)
    shapes = starts.shape == (count + 1,) and line_tune.shape == overlay.shape == (count,)
    types = (starts.dtype, line_tune.dtype, overlay.dtype) == (np.int64, np.int32, np.bool_)
    if not (shapes and types):
        raise ValueError("the lines do not belong together")
    size = len(arrays["pitch"])
    if starts[0] != 0 or starts[-1] != size or (np.diff(starts) < 1).any():
        raise ValueError("the starts of the lines are not in order")
    if count and (line_tune.min() < 0 or line_tune.max() >= len(tunes)):
        raise ValueError("a line belongs to no tune")
    for name, kind in _ARRAYS.items():
        if arrays[name].shape != (size,) or arrays[name].dtype != kind:
            raise ValueError(f"{name} has another shape or type than the notes")
    if size and (arrays["pitch"].max() > 127 or (arrays["interval"][starts[1:] - 1] != END).any()):
        raise ValueError("a pitch is above 127, or a line does not end where the next one starts")
    table = arrays["ratios"]
    if table.ndim != 2 or table.shape[1] != 2 or table.dtype != np.int64 or (table[:, 1] < 1).any():
        raise ValueError("the ratios are not fractions")
    ratios = tuple(Fraction(over, under) for over, under in table.tolist())
    columns = {name: arrays[name] for name in _ARRAYS}
    return MelodyIndex(tunes, voices, starts, line_tune, overlay, **columns, ratios=ratios, failures=failures)


def _strings(value: Any, count: int) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) != count or not all(isinstance(each, str) for each in value):
        raise ValueError("a list of texts has another form")
    return tuple(value)
