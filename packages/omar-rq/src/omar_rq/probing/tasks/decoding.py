"""Peaks of probabilities of tokens as times: the plain decoding that the metrics of beats and boundaries use.

Shape legend: N tokens.
"""

from __future__ import annotations

import numpy as np


def decode_beats(probabilities: np.ndarray, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Return times of beats and of downbeats in seconds. All scores of beats go through this function.

    Args:
        probabilities: (N, 2) of beat and downbeat.
        rate: Tokens per second.
    """
    beats, downbeats = (
        peak_times(probabilities[:, column], rate, least_s=least_s)
        for column, least_s in ((0, 0.2), (1, 0.6))
    )
    return beats, downbeats


def peak_times(
    probabilities: np.ndarray, rate: float, *, least_s: float, least: float = 0.1, share: float = 0.4
) -> np.ndarray:
    """Times of the peaks in seconds, between tokens by the parabola through three of them.

    Args:
        probabilities: (N,).
        rate: Tokens per second.
        least_s: Seconds between two peaks; of nearer ones the higher stays.
        least: Lowest peak.
        share: Lowest peak, as a share of the highest.
    """
    if not len(probabilities):
        return np.zeros(0)
    padded = np.pad(probabilities.astype(np.float64), 1, constant_values=-1.0)
    before, here, after = padded[:-2], padded[1:-1], padded[2:]
    floor = max(least, share * float(here.max()))
    places = np.flatnonzero((here > before) & (here >= after) & (here >= floor))
    kept: list[int] = []
    for place in places[np.argsort(-here[places], kind="stable")]:
        if all(abs(place - other) >= least_s * rate for other in kept):
            kept.append(int(place))
    chosen = np.array(sorted(kept), np.int64)
    inner = chosen[(chosen > 0) & (chosen < len(probabilities) - 1)]
    shift = np.zeros(len(probabilities))
    curve = before[inner] - 2 * here[inner] + after[inner]
    shift[inner] = np.where(
        curve < 0, 0.5 * (before[inner] - after[inner]) / np.where(curve < 0, curve, -1), 0.0
    )
    return np.maximum(0.0, chosen + shift[chosen]) / rate


def bumps(times: np.ndarray, n_tokens: int, rate: float, *, reach: float) -> np.ndarray:
    """Targets (N,) float32 around times: 1 there, falling to 0 in a straight line.

    The parabola of :func:`peak_times` then finds a time between two tokens again.

    Args:
        times: Seconds.
        n_tokens: N.
        rate: Tokens per second.
        reach: Tokens on each side until 0.
    """
    found = np.zeros(n_tokens, np.float32)
    for place in np.asarray(times) * rate:
        near = np.arange(max(0, int(place - reach)), min(n_tokens, int(place + reach) + 2))
        found[near] = np.maximum(found[near], 1 - np.abs(near - place) / reach)
    return np.maximum(found, 0)
