"""Tags of a recording: one score for each label, with the rule by which many answers became one."""

from __future__ import annotations

from omar_rq.annotations.events import Score
from omar_rq.probing.saved import Prediction


def read_tags(prediction: Prediction) -> tuple[tuple[Score, ...], str]:
    """Read one score for each label, the highest first.

    Args:
        prediction: Of any probe; where it answers for each token, the mean counts.

    Returns:
        The scores, and the rule of pooling in words.
    """
    values = prediction.values.astype("float64").mean(0)
    rule = prediction.pooling
    if prediction.rate > 0:
        rule = f"mean over the answers for {len(prediction.values)} tokens"
    scores = [Score(label, float(value)) for label, value in zip(prediction.labels, values, strict=True)]
    return tuple(sorted(scores, key=lambda score: -score.value)), rule
