"""Does the measured effect find the clip that matters? A clip is planted among distinct others, many times.

In each run, one clip of the bank gets a given weight, the others share the rest, and the effect of each clip on the
output is measured by leaving it out. The planted clip should have the largest. By chance it has in one of K runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pentatonic.errors import InputError, UsageError
from pentatonic.statistics import Estimate
from rc_audioldm.ledger.causal import CausalEffects, Embed, Make, leave_one_out

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class PlantedTrials:
    """How often the planted clip had the largest effect.

    Args:
        runs: Number of runs.
        clips: K, the planted one included.
        planted_weight: Of the planted clip.
        most_alike: No two clips of a run have a larger cosine.
        first: Runs in which it was the first by CLAP.
        share: The same as a share, with the exact 95 % interval of Clopper and Pearson.
        chance: One in K.
        p_value: That so many are first by chance.
        mel_share: The share of runs in which it was the first by log-mel.
        ranks: Its place by CLAP in each run.
    """

    runs: int
    clips: int
    planted_weight: float
    most_alike: float
    first: int
    share: Estimate
    chance: float
    p_value: float
    mel_share: Estimate
    ranks: tuple[int, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"first in {self.first} of {self.runs} runs: {self.share}; by chance {self.chance:.3f} "
            f"(p {self.p_value:.3g}); by log-mel {self.mel_share}"
        )


def planted_clip_trials(
    make_for: Callable[[int], Make],
    bank: NDArray[np.floating],
    embed: Embed,
    sample_rate: int,
    *,
    runs: int = 100,
    clips: int = 4,
    planted_weight: float = 0.5,
    most_alike: float = 0.9,
    seed: int = 0,
) -> PlantedTrials:
    """Plant a clip among others in many runs, and see how often its effect is found to be the largest.

    Args:
        make_for: Gives the maker of outputs of a run: a prompt and noise of its own for each number from 0.
        bank: ``(N, D)`` vectors of CLAP.
        embed: Gives outputs theirs.
        sample_rate: Of the outputs, in Hz.
        runs: Number of runs; each takes K + 2 outputs.
        clips: K.
        planted_weight: Of the planted clip, above the ``1 / K`` of the others in the mean.
        most_alike: Clips of a run have no larger cosine: the effect of one of two equal clips is hidden by the other.
        seed: Of the draws of clips.

    Raises:
        UsageError: An argument is out of its range.
        InputError: The bank has too few distinct clips, or cannot be used.
    """
    if runs < 1 or clips < 2 or not 1 / clips < planted_weight <= 1 or not -1 <= most_alike < 1:
        raise UsageError(
            f"runs {runs}, clips {clips}, planted_weight {planted_weight}, most_alike {most_alike}; allowed: runs "
            "from 1, clips from 2, weights above 1 / clips up to 1, most_alike from -1 to below 1"
        )
    rng = np.random.default_rng(seed)
    vectors = np.asarray(bank, np.float64)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if vectors.ndim != 2 or not np.isfinite(norms).all() or (norms == 0).any():
        raise InputError("the bank has vectors that are 0 or not finite, or is no table of vectors")
    units = vectors / norms
    planted: list[CausalEffects] = []
    places: list[int] = []
    for run in range(runs):
        rows = _distinct(units, clips, most_alike, rng)
        place = int(rng.integers(clips))
        weights = np.full(clips, (1 - planted_weight) / (clips - 1))
        weights[place] = planted_weight
        effects = leave_one_out(make_for(run), rows, weights.tolist(), units[rows], embed, sample_rate)
        planted.append(effects)
        places.append(place)
    ranks = tuple(each.effects[place].rank for each, place in zip(planted, places, strict=True))
    mel_ranks = [each.effects[place].mel_rank for each, place in zip(planted, places, strict=True)]
    first, chance = ranks.count(1), 1 / clips
    p_value = float(stats.binomtest(first, runs, chance, alternative="greater").pvalue)
    return PlantedTrials(
        runs=runs,
        clips=clips,
        planted_weight=planted_weight,
        most_alike=most_alike,
        first=first,
        share=_share(first, runs),
        chance=chance,
        p_value=p_value,
        mel_share=_share(mel_ranks.count(1), runs),
        ranks=ranks,
    )


def _distinct(
    units: NDArray[np.float64], count: int, most_alike: float, rng: np.random.Generator
) -> list[int]:
    """Rows in random order, no two of which are more alike."""
    chosen: list[int] = []
    for row in rng.permutation(len(units)):
        if not chosen or float((units[chosen] @ units[row]).max()) <= most_alike:
            chosen.append(int(row))
        if len(chosen) == count:
            return chosen
    raise InputError(
        f"the bank has no {count} clips of which no two have a cosine above {most_alike}; it has {len(units)} clips"
    )


def _share(count: int, total: int) -> Estimate:
    interval = stats.binomtest(count, total).proportion_ci(_CONFIDENCE)
    return Estimate(count / total, float(interval.low), float(interval.high))
