"""One picture of an annotated recording: waveform with beats, tempo, chords, keys and sections (extra ``report``).

A recording is drawn in rows of equal length, below each other like lines of a score.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omar_rq.annotations.events import Annotation, Span
from omar_rq.annotations.pitch_names import pitch_class
from pentatonic.checkpoint import atomic_file
from pentatonic.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

_ROW_S = 30.0
_MOST_ROWS = 12
_WIDTH = 12.0  # inches
_POINTS_PER_S = 100  # of the waveform, at first; halved where there are too many
_MOST_POINTS = 1 << 16
_MOST_TAGS = 8
_LABEL_WIDTH = 0.011  # of a row, for each letter
_INK = "#222222"


class Envelope:
    """Smallest and largest samples of equal stretches of a signal that arrives in blocks, in bounded memory.

    Args:
        sample_rate: Of the samples, in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._length = max(1, sample_rate // _POINTS_PER_S)
        self._sample_rate = sample_rate
        self._rest = np.zeros(0, np.float32)
        self._parts: list[np.ndarray] = []
        self._count = 0

    def passing(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Pass blocks (n,) on, and measure them."""
        for block in blocks:
            self._add(block.numpy())
            yield block

    def _add(self, samples: np.ndarray) -> None:
        samples = np.concatenate((self._rest, samples))
        whole = len(samples) // self._length * self._length
        self._rest = samples[whole:].copy()
        if whole:
            rows = samples[:whole].reshape(-1, self._length)
            self._parts.append(np.stack((rows.min(1), rows.max(1)), axis=1))
            self._count += len(rows)
        while self._count > _MOST_POINTS:
            points = np.concatenate(self._parts)
            even = points[: len(points) // 2 * 2].reshape(-1, 2, 2)
            self._parts = [np.stack((even[:, :, 0].min(1), even[:, :, 1].max(1)), axis=1)]
            self._count, self._length = len(even), self._length * 2
            self._rest = self._rest[:0]  # less than a point at the new length

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Seconds (P,) from the start, and smallest and largest samples (P, 2)."""
        values = np.concatenate(self._parts) if self._parts else np.zeros((0, 2), np.float32)
        return np.arange(len(values)) * self._length / self._sample_rate, values


def draw(annotation: Annotation, envelope: Envelope | None = None) -> Figure:
    """Draw an annotation.

    Args:
        annotation: What was read from one recording.
        envelope: Its waveform; None: left out.

    Raises:
        MissingExtra: Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("Pictures", "omar-rq[report]") from error
    duration = max(annotation.duration, 0.1)
    n_rows = min(_MOST_ROWS, math.ceil(duration / _ROW_S))
    row_s = duration / n_rows if n_rows in (1, _MOST_ROWS) else _ROW_S
    lanes = _lanes(annotation)
    heights = [height for _, height in lanes] * n_rows
    tags = _tag_count(annotation)
    figure = Figure(figsize=(_WIDTH, 0.9 + sum(heights) + 0.55 * n_rows + 0.22 * tags), layout="constrained")
    grid = figure.add_gridspec(
        len(heights) + bool(tags), 1, height_ratios=heights + [0.22 * tags] * bool(tags)
    )
    figure.suptitle(_title(annotation), fontsize=10, x=0.01, ha="left", parse_math=False)
    for row in range(n_rows):
        begin = annotation.start + row * row_s
        for index, (name, _) in enumerate(lanes):
            axes = figure.add_subplot(grid[row * len(lanes) + index])
            axes.set_xlim(begin, begin + row_s)
            _DRAWERS[name](axes, annotation, envelope)
            axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
            axes.set_yticks([] if name != "tempo" else axes.get_yticks())
            axes.tick_params(labelsize=7, labelbottom=index == len(lanes) - 1)
            for side in ("top", "right", "left"):
                axes.spines[side].set_visible(False)
            if index == len(lanes) - 1 and row == n_rows - 1:
                axes.set_xlabel("seconds", fontsize=8)
    if tags:
        _draw_tags(figure.add_subplot(grid[-1]), annotation, tags)
    return figure


def write_picture(annotation: Annotation, target: Path, envelope: Envelope | None = None) -> None:
    """Write a picture, whole or not at all; equal annotations give equal files.

    Args:
        annotation: What was read from one recording.
        target: A ``.svg`` or ``.png`` file.
        envelope: The waveform of the recording.

    Raises:
        MissingExtra: Matplotlib is not installed.
        CheckpointError: The file cannot be written.
    """
    figure = draw(annotation, envelope)
    from matplotlib import rc_context

    kind = target.suffix.removeprefix(".").lower()
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    with atomic_file(target) as file, rc_context({"svg.hashsalt": "omar-rq", "svg.fonttype": "none"}):
        figure.savefig(file, format=kind, metadata=metadata, dpi=120)


def _lanes(annotation: Annotation) -> list[tuple[str, float]]:
    """Names and heights in inches of the lanes that have something to show."""
    lanes = [("sound", 0.8)]
    if annotation.beats is not None and len(annotation.beats.beats) > 1:
        lanes.append(("tempo", 0.45))
    for name, spans in (
        ("chords", annotation.chords),
        ("key", annotation.keys),
        ("sections", annotation.segments),
    ):
        if spans:
            lanes.append((name, 0.3))
    return lanes


def _title(annotation: Annotation) -> str:
    parts = [Path(annotation.path).name]
    if (beats := annotation.beats) is not None and beats.bpm is not None:
        parts.append(f"{beats.bpm:.1f} bpm, {beats.meter}, confidence {beats.confidence:.2f}")
    if annotation.key:
        parts.append(f"{annotation.key[0].label} ({annotation.key[0].value:.2f})")
    return "    ".join(parts)


def _draw_sound(axes: Axes, annotation: Annotation, envelope: Envelope | None) -> None:
    axes.set_ylim(-1, 1)
    begin, end = axes.get_xlim()
    if envelope is not None:
        times, values = envelope.points()
        places = times + annotation.start
        shown = (places >= begin - 0.1) & (places <= end + 0.1)
        peak = float(np.abs(values).max(initial=0.0)) or 1.0
        low, high = values[shown].T / peak
        axes.fill_between(places[shown], low, high, color="#8aa4c0", linewidth=0)
    if annotation.highlight is not None:
        axes.axvspan(annotation.highlight.start, annotation.highlight.end, color="#ffe9a8", zorder=0)
    if annotation.beats is not None:
        shown_beats = [beat for beat in annotation.beats.beats if begin <= beat.time <= end]
        for first, top, colour, width in ((False, 0.2, "#d98c3f", 0.7), (True, 1.0, "#b02a2a", 1.2)):
            times = [beat.time for beat in shown_beats if (beat.position == 1) == first]
            axes.vlines(times, -1.0, top, colors=colour, linewidths=width)


def _draw_tempo(axes: Axes, annotation: Annotation, _: Envelope | None) -> None:
    assert annotation.beats is not None
    known = [(beat.time, beat.bpm) for beat in annotation.beats.beats if beat.bpm is not None]
    times, tempi = zip(*known, strict=True)
    axes.plot(times, tempi, color=_INK, linewidth=0.9)
    axes.set_ylim(0.9 * min(tempi), 1.1 * max(tempi))


def _draw_chords(axes: Axes, annotation: Annotation, _: Envelope | None) -> None:
    spans = [
        Span(chord.start, chord.end, chord.label.replace(":maj", "").replace(":min", "m"), chord.confidence)
        for chord in annotation.chords or ()
    ]
    _draw_spans(axes, spans, lambda label: _pitch_colour(label.rstrip("m"), minor=label.endswith("m")))


def _draw_keys(axes: Axes, annotation: Annotation, _: Envelope | None) -> None:
    def colour(label: str) -> Any:
        name, _, mode = label.partition(" ")
        return _pitch_colour(name, minor=mode == "minor")

    _draw_spans(axes, annotation.keys or (), colour)


def _draw_sections(axes: Axes, annotation: Annotation, _: Envelope | None) -> None:
    names = list(dict.fromkeys(span.label for span in annotation.segments or ()))

    def colour(label: str) -> Any:
        return _colour(names.index(label) / max(len(names), 3), 0.3)

    _draw_spans(axes, annotation.segments or (), colour)


def _draw_spans(axes: Axes, spans: Sequence[Span], colour: Any) -> None:
    """Draw boxes with labels; those of narrow boxes are left out."""
    begin, end = axes.get_xlim()
    axes.set_ylim(0, 1)
    for span in spans:
        left, right = max(span.start, begin), min(span.end, end)
        if right <= left:
            continue
        axes.axvspan(left, right, facecolor=colour(span.label), edgecolor="white", linewidth=0.8)
        if (right - left) / (end - begin) > _LABEL_WIDTH * len(span.label):
            axes.text(
                (left + right) / 2, 0.5, span.label, ha="center", va="center", fontsize=8, color=_INK,
                clip_on=True, parse_math=False,
            )  # fmt: skip


def _draw_tags(axes: Axes, annotation: Annotation, count: int) -> None:
    shown = list(annotation.tags or ())[:count][::-1]
    axes.barh(range(count), [tag.value for tag in shown], color="#8aa4c0")
    axes.set_yticks(range(count))
    for label, tag in zip(axes.set_yticklabels([tag.label for tag in shown], fontsize=8), shown, strict=True):
        label.set_parse_math(False)
        label.set_text(tag.label)
    axes.tick_params(labelsize=7)


def _tag_count(annotation: Annotation) -> int:
    return min(_MOST_TAGS, len(annotation.tags or ()))


def _pitch_colour(name: str, *, minor: bool) -> Any:
    """Hues in the order of fifths, so that related chords have neighbouring colours."""
    pitch = pitch_class(name)
    return "#e6e6e6" if pitch is None else _colour(pitch * 7 % 12 / 12, 0.35 if minor else 0.2)


def _colour(hue: float, saturation: float) -> Any:
    from matplotlib.colors import hsv_to_rgb

    return hsv_to_rgb((hue % 1.0, saturation, 0.93))


_DRAWERS = {
    "sound": _draw_sound,
    "tempo": _draw_tempo,
    "chords": _draw_chords,
    "key": _draw_keys,
    "sections": _draw_sections,
}
