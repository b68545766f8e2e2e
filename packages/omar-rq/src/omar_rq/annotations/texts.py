"""What the commands print of an annotation, line by line, with times in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from omar_rq.annotations.events import Annotation, Beats, Span

_KEYS_SHOWN = 3
_CURVE_S = 10.0  # of the tempo curve


def tag_lines(annotation: Annotation) -> list[str]:
    """One line for each label, after the rule of pooling."""
    lines = [f"{annotation.path}  ({'; '.join(annotation.notes)})"]
    width = max((len(tag.label) for tag in annotation.tags or ()), default=0)
    return lines + [f"  {tag.label:<{width}}  {tag.value:.3f}" for tag in annotation.tags or ()]


def beat_lines(annotation: Annotation) -> list[str]:
    """A summary, the tempo curve, and a line for each beat."""
    beats = annotation.beats
    assert beats is not None
    if not beats.beats:
        return [f"{annotation.path}  no beats"]
    lines = [
        f"{annotation.path}  {_summary(beats)}",
        f"  tempo curve: {_curve(beats)}",
        "  time  beat  bpm  confidence",
    ]
    for beat in beats.beats:
        bpm = "-" if beat.bpm is None else f"{beat.bpm:.1f}"
        lines.append(f"  {beat.time:.3f}  {beat.position}  {bpm}  {beat.confidence:.2f}")
    return lines


def chord_lines(annotation: Annotation) -> list[str]:
    """A line for each chord."""
    return [_head(annotation), *_span_lines(annotation.chords or ())]


def key_lines(annotation: Annotation) -> list[str]:
    """The likeliest keys, then the changes."""
    best = ", ".join(f"{key.label} {key.value:.2f}" for key in (annotation.key or ())[:_KEYS_SHOWN])
    return [f"{_head(annotation)}  {best}", *_span_lines(annotation.keys or ())]


def segment_lines(annotation: Annotation) -> list[str]:
    """A line for each section, then the highlight."""
    lines = [_head(annotation), *_span_lines(annotation.segments or ())]
    if (best := annotation.highlight) is not None:
        lines.append(f"  highlight  {best.start:.2f}  {best.end:.2f}  likeness {best.likeness:.2f}")
    return lines


def lead_sheet_lines(annotation: Annotation) -> list[str]:
    """One line."""
    assert annotation.beats is not None
    key = f", {annotation.key[0].label} ({annotation.key[0].value:.2f})" if annotation.key else ""
    return [f"{annotation.path}  {_summary(annotation.beats)}{key}, {len(annotation.chords or ())} chords"]


def _head(annotation: Annotation) -> str:
    notes = f"  ({'; '.join(annotation.notes)})" if annotation.notes else ""
    return f"{annotation.path}{notes}"


def _summary(beats: Beats) -> str:
    bpm = "" if beats.bpm is None else f", {beats.bpm:.1f} bpm"
    return (
        f"{len(beats.beats)} beats, {beats.meter}{bpm}, confidence {beats.confidence:.2f} (meter "
        f"{beats.meter_confidence:.2f}, twice as fast {beats.double:.2f}, half as fast {beats.half:.2f})"
    )


def _curve(beats: Beats) -> str:
    """Mean tempo of every ten seconds; equal neighbours are joined."""
    parts: dict[int, list[float]] = {}
    for beat in beats.beats:
        if beat.bpm is not None:
            parts.setdefault(int(beat.time // _CURVE_S), []).append(beat.bpm)
    means = [(number * _CURVE_S, f"{sum(tempi) / len(tempi):.0f}") for number, tempi in parts.items()]
    kept = means[:1] + [new for old, new in pairwise(means) if new[1] != old[1]]
    return ", ".join(f"{time:.0f} s {bpm}" for time, bpm in kept) or "-"


def _span_lines(spans: Sequence[Span]) -> list[str]:
    return [
        f"  {span.start:.2f}  {span.end:.2f}  {span.label}"
        + ("" if span.confidence is None else f"  {span.confidence:.2f}")
        for span in spans
    ]
