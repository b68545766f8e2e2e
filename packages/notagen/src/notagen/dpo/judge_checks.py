"""What a judge must show before a policy is trained on it, and what else than music may tell its choices apart.

A score that does not hear the order of bars lets a policy forget form; one that hears the key trains keys. And where a
single surface feature separates chosen from rejected pieces, a policy learns that feature and nothing more.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from notagen.clamp2.scores import clamp2_scores
from notagen.dpo.judge import Judge
from notagen.dpo.rules import sounding_bars
from notagen.evaluation.measures import measure
from notagen.notation.keys import fifths, major_key
from notagen.notation.shuffling import shuffled_bars
from notagen.notation.transposed_text import Interval, transpose_text
from notagen.vocabulary import ANYTHING
from pentatonic.errors import FormatError, UsageError
from pentatonic.statistics import Estimate, mean_interval

#: Fewest pieces that an answer of a check rests on.
FEWEST_PIECES = 4
#: Above this area under the curve a single feature separates chosen from rejected pieces.
SEPARATION = 0.9

_RESAMPLES = 1000
_KEYS = tuple(number for number in range(-5, 7) if number)  # with its own, each key once


@dataclass(frozen=True)
class JudgeReport:
    """Result of :func:`check_judge`.

    Args:
        judge: Its name.
        pieces: Number of pieces of the wanted style that it heard.
        score: Their mean score.
        order_gap: Mean difference of the score of a piece and that of the same piece with its bars shuffled, with its
            95 % interval.
        style_gap: Mean score of the pieces less that of pieces of another style, with its interval; None: not tested.
        style_auc: Probability that a piece scores above one of the other style; None: not tested.
        key_change: Mean change of the score in another key; NaN where no piece could be transposed.
        blind: What it cannot hear; empty exactly where the judge passes.
    """

    judge: str
    pieces: int
    score: float
    order_gap: Estimate
    style_gap: Estimate | None
    style_auc: float | None
    key_change: float
    blind: tuple[str, ...]

    @property
    def passes(self) -> bool:
        """Whether a policy may be trained on it."""
        return not self.blind

    def lines(self) -> list[str]:
        """Return the result in sentences."""
        style = (
            "another style was not given"
            if self.style_gap is None
            else f"above another style by {self.style_gap} (area under the curve {self.style_auc:.3f})"
        )
        verdict = "may train a policy" if self.passes else f"is blind: {'; '.join(self.blind)}"
        return [
            f"judge {self.judge}, on {self.pieces} pieces of mean score {self.score:.3f}:",
            f"  above their own shuffled bars by {self.order_gap}",
            f"  {style}",
            f"  changes by {self.key_change:.3f} in other keys",
            f"  {verdict}",
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the values as plain JSON types, numbers that are not finite as None."""
        return _plain(asdict(self) | {"passes": self.passes})


@dataclass(frozen=True)
class Separation:
    """How well one surface feature alone separates chosen from rejected pieces.

    Args:
        feature: Its name.
        auc: Probability that a chosen piece has more of it than a rejected one, or less, whichever is likelier: 0.5 to
            1.
        more: Whether it is the chosen pieces that have more.
    """

    feature: str
    auc: float
    more: bool

    @property
    def suspicious(self) -> bool:
        """Whether a policy could learn this feature instead of music."""
        return self.auc > SEPARATION

    def __str__(self) -> str:
        kind = "more" if self.more else "less"
        return f"{self.feature} (chosen pieces have {kind}; area under the curve {self.auc:.3f})"


def check_judge(
    judge: Judge,
    pieces: Sequence[str],
    references: ArrayLike,
    *,
    others: Sequence[str] = (),
    nearest: int | None = None,
    seed: int = 0,
) -> JudgeReport:
    """Test what a judge hears.

    Args:
        judge: The judge.
        pieces: Pieces of the wanted style that are not among the references, as
            :func:`notagen.dpo.judge.judged_text` gives them; at least one.
        references: ``(m, d)`` vectors of the references.
        others: Pieces of another style.
        nearest: How pieces are scored, see :func:`notagen.clamp2.scores.clamp2_scores`.
        seed: Of the shuffling, and of the intervals.

    Returns:
        The report. A check for which there are fewer than :data:`FEWEST_PIECES` pieces counts as not passed.

    Raises:
        UsageError: There are no pieces.
    """
    if not pieces:
        raise UsageError("a judge cannot be tested without pieces of the wanted style")

    def scores(texts: Sequence[str]) -> NDArray[np.float64]:
        return clamp2_scores(judge.embed(texts), references, nearest=nearest)

    own = scores(pieces)
    blind: list[str] = []
    rng = random.Random(seed)
    shuffled = [shuffled_bars(text, rng) for text in pieces]
    changed = [i for i, (text, other) in enumerate(zip(pieces, shuffled, strict=True)) if text != other]
    gaps = own[changed] - scores([shuffled[i] for i in changed]) if changed else np.array([])
    order_gap = _mean(gaps, seed)
    if len(gaps) < FEWEST_PIECES:
        blind.append(f"only {len(gaps)} pieces have bars to shuffle, and {FEWEST_PIECES} are needed")
    elif not order_gap.low > 0:
        blind.append(f"it does not hear the order of bars ({order_gap})")
    style_gap = style_auc = None
    if len(others) < FEWEST_PIECES:
        blind.append(f"{len(others)} pieces of another style were given, and {FEWEST_PIECES} are needed")
    else:
        foreign = scores(others)
        style_gap, style_auc = _difference(own, foreign, seed), area_under_curve(own, foreign)
        if not style_gap.low > 0:
            blind.append(f"it does not tell the style from another ({style_gap})")
    key_change = _key_change(pieces, own, scores)
    if not key_change < order_gap.value / 2:
        half = order_gap.value / 2
        blind.append(f"it hears the key: other keys change a score by {key_change:.3f}, allowed: {half:.3f}")
    return JudgeReport(
        judge.name, len(pieces), float(own.mean()), order_gap, style_gap, style_auc, key_change, tuple(blind)
    )


def area_under_curve(positives: ArrayLike, negatives: ArrayLike) -> float:
    """Return the probability that one of ``(n,)`` values is above one of ``(m,)`` others; equal ones count half."""
    above, below = np.asarray(positives, float)[:, None], np.asarray(negatives, float)[None]
    return float(((above > below) + 0.5 * (above == below)).mean())


def surface_features(text: str) -> dict[str, float]:
    """Return what can be counted of a piece without hearing it; NaN where it cannot be read.

    Args:
        text: As a policy wrote it.

    Returns:
        ``length`` in characters, ``bars`` with notes, ``voices``, ``key`` as the number of sharps (flats are negative),
        ``repeated bars``: share of the bars with the notes of the bar before; ``different bars``: share of all.
    """
    lines = text.split("\n")
    bars = sounding_bars(text)
    key = next((line[2:] for line in lines if line.startswith("K:")), "")
    try:
        sharps = float(fifths(major_key(key)))
    except FormatError:
        sharps = math.nan
    repeated = measure(text, ANYTHING).repeated_bars.value
    return {
        "length": float(len(text)),
        "bars": float(len(bars)),
        "voices": float(sum(line.startswith("V:") for line in lines)),
        "key": sharps,
        "repeated bars": math.nan if repeated is None else repeated,
        "different bars": len(set(bars)) / len(bars) if bars else math.nan,
    }


def best_separation(chosen: Sequence[str], rejected: Sequence[str]) -> Separation:
    """Return the surface feature that separates chosen from rejected pieces best.

    Args:
        chosen: Texts, at least one.
        rejected: Texts, at least one.

    Raises:
        UsageError: There are none.
    """
    if not chosen or not rejected:
        raise UsageError("chosen and rejected pieces are needed")
    groups = [[surface_features(text) for text in texts] for texts in (chosen, rejected)]
    found = []
    for name in groups[0][0]:
        # What cannot be read is a value of its own, below all others.
        values = [np.nan_to_num([each[name] for each in group], nan=-1e9) for group in groups]
        auc = area_under_curve(*values)
        found.append(Separation(name, max(auc, 1 - auc), auc >= 0.5))
    return max(found, key=lambda each: each.auc)


def _key_change(
    pieces: Sequence[str], own: NDArray[np.float64], scores: Callable[[Sequence[str]], NDArray[np.float64]]
) -> float:
    """Return the mean change of the scores of pieces in the eleven other keys."""
    texts: list[str] = []
    places: list[int] = []
    for place, text in enumerate(pieces):
        try:
            moved = [transpose_text(text, Interval(semitones=number)) for number in _KEYS]
        except FormatError:
            continue  # of a piece in no key
        texts += moved
        places += [place] * len(moved)
    return float(np.abs(scores(texts) - own[places]).mean()) if texts else math.nan


def _mean(values: NDArray[np.float64], seed: int) -> Estimate:
    if not len(values):
        return Estimate(math.nan, math.nan, math.nan)
    return mean_interval(values, np.arange(len(values)), seed=seed)


def _difference(first: NDArray[np.float64], second: NDArray[np.float64], seed: int) -> Estimate:
    """Return the difference of two means, with the interval of resampling both."""
    rng = np.random.default_rng(seed)
    means = [rng.choice(values, (_RESAMPLES, len(values))).mean(1) for values in (first, second)]
    low, high = np.quantile(means[0] - means[1], (0.025, 0.975))
    return Estimate(float(first.mean() - second.mean()), float(low), float(high))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
