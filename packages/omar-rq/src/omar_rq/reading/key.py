"""The key of a recording and how it changes, from the answers of a probe for keys, or from chords.

Shape legend: N tokens, W windows, K = 24 keys.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omar_rq.annotations.events import Score, Span
from omar_rq.annotations.pitch_names import PITCHES, split_chord, split_key
from omar_rq.probing.saved import Prediction
from omar_rq.reading.smoothing import joined_spans, likeliest_labels
from pentatonic.errors import InputError

KEYS = tuple(f"{pitch} {mode}" for mode in ("major", "minor") for pitch in PITCHES)

WINDOW_S = 20.0
"""Seconds that each answer about changes of the key is heard from."""
_KEY_S = 60.0  # usual seconds of a key

# How much a second of each chord speaks for a key: its root in semitones above the tonic, and its quality -> weight.
# Triads of the scale, those of its functions most; in minor the dominant is major.
_MAJOR = {
    (0, "maj"): 1.0, (7, "maj"): 0.7, (5, "maj"): 0.7, (9, "min"): 0.5, (2, "min"): 0.5, (4, "min"): 0.4,
}  # fmt: skip
_MINOR = {
    (0, "min"): 1.0, (7, "maj"): 0.7, (5, "min"): 0.7, (8, "maj"): 0.5, (3, "maj"): 0.5, (10, "maj"): 0.4,
    (7, "min"): 0.4,
}  # fmt: skip
_SHARPNESS = 12.0  # of the softmax over mean weights


def read_key(prediction: Prediction) -> tuple[Score, ...]:
    """Read the key of a whole recording: all keys with their probabilities, the likeliest first.

    Args:
        prediction: Of a probe for keys; where it answers for each token, the mean counts.

    Raises:
        InputError: The prediction is of another kind.
    """
    _check(prediction)
    chances = prediction.values.astype(np.float64).mean(0)
    order = np.argsort(-chances, kind="stable")
    return tuple(Score(prediction.labels[i], float(chances[i])) for i in order)


def read_key_changes(prediction: Prediction, end: float) -> tuple[Span, ...]:
    """Read how the key changes: the likeliest sequence of keys that seldom change.

    Args:
        prediction: Of a probe for keys, for each token or window; ``times`` are where its stretch begins.
        end: Second at which the recording ends.

    Raises:
        InputError: The prediction is of another kind, or is of the recording as a whole.
    """
    _check(prediction)
    if prediction.rate <= 0:
        raise InputError("the answers are for whole recordings; needed: one for each token or window")
    edges = np.append(prediction.times, max(end, float(prediction.times[-1]) + 1e-3))
    # Neighbouring tokens hear the same music: together, those of a window count as one answer.
    chances = np.maximum(prediction.values.astype(np.float64), 1e-6)
    weight = min(1.0, 1 / (prediction.rate * WINDOW_S / 2))
    price = np.log(_KEY_S * min(prediction.rate, 2 / WINDOW_S) * len(KEYS))
    labels = likeliest_labels(chances**weight, price)
    return joined_spans(labels, prediction.values, edges, prediction.labels)


def key_of_chords(chords: Sequence[Span]) -> tuple[Score, ...]:
    """Read a key from chords, where there is no probe for keys: how well the triads fit each scale and its functions.

    Args:
        chords: In the syntax of mir_eval; ``N`` counts for nothing.

    Returns:
        All keys with shares that add up to 1, the likeliest first; nothing without chords.
    """
    lasting: dict[tuple[int, str], float] = {}
    for chord in chords:
        if which := split_chord(chord.label):
            lasting[which] = lasting.get(which, 0.0) + chord.end - chord.start
    total = sum(lasting.values())
    if total <= 0:
        return ()
    fits = np.array(
        [
            sum(
                seconds * weights.get(((root - tonic) % 12, quality), 0.0)
                for (root, quality), seconds in lasting.items()
            )
            for weights in (_MAJOR, _MINOR)
            for tonic in range(12)
        ]
    )
    shares = np.exp(_SHARPNESS * (fits - fits.max()) / total)
    shares /= shares.sum()
    return tuple(Score(KEYS[i], float(shares[i])) for i in np.argsort(-shares, kind="stable"))


def _check(prediction: Prediction) -> None:
    if not all(map(split_key, prediction.labels)):
        raise InputError(
            f"the probe for {prediction.task!r} does not name keys such as 'A minor'; "
            "needed: one that was trained with task=key"
        )
