"""Plots of a generation run. Texts of strangers are drawn as they are, not as formulas.

Shapes: n samples, B bands, F frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rc_audioldm.knob.dose_response import Curve
from rc_audioldm.knob.log_mel import FRAMES_PER_S, Samples, log_mel

_GRID_COLUMNS, _GRID_MOST = 4, 16
_SHOWN_DB = 70.0


def histogram(values: Sequence[float], label: str) -> Figure:
    """Draw how values of clips are spread, with their mean."""
    figure, axes = _figure(4.2, 2.6)
    axes.hist(values, bins=min(20, max(5, len(values) // 2)), color="#4a7ebb", edgecolor="white")
    mean = float(np.mean(values))
    axes.axvline(mean, color="#c8641e", label=f"mean {mean:.3f}")
    axes.set_xlabel(label, parse_math=False)
    axes.set_ylabel("clips")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False)
    return figure


def loudness(names: Sequence[str], values: Sequence[float], label: str = "loudness in LUFS") -> Figure:
    """Draw the loudness of each clip, in order."""
    figure, axes = _figure(min(9.0, 2.4 + 0.25 * len(names)), 2.8)
    places = np.arange(len(names))
    axes.stem(places, values, bottom=min(values) - 1, basefmt=" ", linefmt="#9ab6d8", markerfmt="o")
    axes.axhline(float(np.mean(values)), color="#c8641e", linewidth=1, label=f"mean {np.mean(values):.1f}")
    axes.set_ylabel(label)
    shown = range(0, len(names), 1 if len(names) <= 40 else len(names) // 20)
    axes.set_xticks(
        list(shown), [names[place][:16] for place in shown], rotation=90, fontsize=7, parse_math=False
    )
    axes.legend(frameon=False)
    return figure


def spectrogram(samples: Samples, sample_rate: int) -> Figure:
    """Draw waveform and log-mel spectrogram of a clip ``(n,)`` or ``(C, n)`` over the same time."""
    mono = np.atleast_2d(samples).mean(axis=0)
    seconds = len(mono) / sample_rate
    figure = Figure(figsize=(7.5, 2.6))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 2.2])
    step = max(1, len(mono) // 2000)
    parts = mono[: len(mono) // step * step].reshape(-1, step)
    times = np.arange(len(parts)) * step / sample_rate
    above.fill_between(times, parts.min(axis=1), parts.max(axis=1), color="#4a7ebb", linewidth=0.3)
    above.set_ylim(-1, 1)
    _draw_mel(below, log_mel(samples, sample_rate), seconds)
    below.set_xlabel("time in s")
    below.set_ylabel("mel band")
    return figure


def spectrogram_grid(names: Sequence[str], mels: Sequence[np.ndarray]) -> Figure:
    """Draw the spectrograms ``(B, F)`` of the first sixteen clips side by side."""
    count = min(len(mels), _GRID_MOST)
    columns = min(_GRID_COLUMNS, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(2.6 * columns, 1.9 * rows))
    figure.subplots_adjust(wspace=0.25, hspace=0.5)
    panels = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for place, axes in enumerate(panels):
        if place < count:
            _draw_mel(axes, mels[place], mels[place].shape[1] / FRAMES_PER_S)
            axes.set_title(names[place][:28], fontsize=8, parse_math=False)
        else:
            axes.set_axis_off()
    return figure


def knob_curves(curves: Sequence[Curve], names: Sequence[str]) -> Figure:
    """Draw each measure over the strength of the style, with its interval."""
    figure = Figure(figsize=(2.5 * len(curves), 2.6))
    figure.subplots_adjust(wspace=0.35)
    panels = np.atleast_1d(figure.subplots(1, len(curves)))
    for axes, curve, name in zip(panels, curves, names, strict=True):
        means = np.array([mean.value for mean in curve.means])
        low, high = (np.array([getattr(mean, end) for mean in curve.means]) for end in ("low", "high"))
        errors = np.nan_to_num(np.stack([means - low, high - means])).clip(min=0)
        color = "#c8641e" if curve.shape == "not monotone" else "#4a7ebb"
        axes.errorbar(curve.strengths, means, errors, marker="o", capsize=3, color=color)
        axes.set_title(f"{name}\n{curve.shape}", fontsize=8)
        axes.set_xlabel("strength", fontsize=8)
        axes.set_xticks(curve.strengths)
        axes.tick_params(labelsize=7)
        axes.margins(y=0.3)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots()


def _draw_mel(axes: Any, mel: np.ndarray, seconds: float) -> None:
    top = float(mel.max())
    axes.imshow(
        mel,
        origin="lower",
        aspect="auto",
        extent=(0, seconds, 0, len(mel)),
        vmin=top - _SHOWN_DB,
        vmax=top,
        cmap="magma",
        interpolation="nearest",
    )
