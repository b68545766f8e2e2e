"""What the answers of a listening test say, after the key is joined."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from pentatonic.errors import InputError
from pentatonic.statistics import DEFAULT_RESAMPLES, Estimate, mean_interval
from rc_audioldm.evaluation.comparison import holm
from rc_audioldm.evaluation.listening.answers import Answer
from rc_audioldm.evaluation.listening.trials import Trial


@dataclass(frozen=True)
class Share:
    """A share of answers against one half.

    Args:
        count: Answers of the kind.
        total: All answers.
        share: With the exact 95 % interval of Clopper and Pearson.
        p_value: Of the two-sided binomial test.
    """

    count: int
    total: int
    share: Estimate
    p_value: float


@dataclass(frozen=True)
class Preference:
    """How often one system is preferred to another.

    Args:
        criterion: What was asked for.
        first: A system.
        second: The other.
        listeners: Who answered.
        items: Items that were compared.
        wins: Answers for the first system. Test and interval take all answers for independent.
        p_holm: Its p-value with Holm's correction for all criteria and systems.
        over_items: The same share with an interval that resamples items, whose answers are not independent.
        confidence: Mean confidence; None if none was given.
        alpha: Krippendorff's alpha of the listeners: 1 for agreement, 0 for chance; None where no trial has two
            answers, or all answers are the same.
    """

    criterion: str
    first: str
    second: str
    listeners: int
    items: int
    wins: Share
    p_holm: float
    over_items: Estimate
    confidence: float | None
    alpha: float | None


@dataclass(frozen=True)
class ListeningResult:
    """What a listening test says.

    Args:
        preferences: For each criterion and two systems.
        position: Answers A: away from one half, listeners prefer a side.
        listeners: Listener -> answers A, and all answers.
        notes: What a reader has to know.
    """

    preferences: tuple[Preference, ...]
    position: Share
    listeners: Mapping[str, tuple[int, int]]
    notes: tuple[str, ...]


def analyse_answers(
    trials: Mapping[str, Trial],
    answers: Sequence[Answer],
    *,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> ListeningResult:
    """Join answers with the key and test them.

    Args:
        trials: The key, by ``pair_id``.
        answers: One for each listener and trial.
        resamples: Of items, for the intervals.
        seed: Of the draws.

    Raises:
        InputError: No answer belongs to a trial.
    """
    known = [answer for answer in answers if answer.pair_id in trials]
    if not known:
        raise InputError(
            f"none of {len(answers)} answers belongs to a trial of the key; is it that of another test?"
        )
    groups: dict[tuple[str, str, str], list[Answer]] = defaultdict(list)
    for answer in known:
        trial = trials[answer.pair_id]
        first, second = sorted((trial.system_a, trial.system_b))
        groups[trial.criterion, first, second].append(answer)
    found = [_preference(*key, trials, groups[key], resamples, seed) for key in sorted(groups)]
    corrected = holm([each.wins.p_value for each in found])
    sides: dict[str, list[bool]] = defaultdict(list)
    for answer in known:
        sides[answer.listener].append(answer.preference == "A")
    notes = [f"{left} answers are of no trial of the key"] if (left := len(answers) - len(known)) else []
    return ListeningResult(
        preferences=tuple(
            Preference(**{**vars(each), "p_holm": p}) for each, p in zip(found, corrected, strict=True)
        ),
        position=binomial_share([answer.preference == "A" for answer in known]),
        listeners={name: (sum(values), len(values)) for name, values in sides.items()},
        notes=tuple(notes),
    )


def binomial_share(answers: Sequence[bool]) -> Share:
    """Test the share of true answers against one half.

    Args:
        answers: At least one.
    """
    test = stats.binomtest(sum(answers), len(answers))
    interval = test.proportion_ci(0.95, method="exact")
    share = Estimate(sum(answers) / len(answers), float(interval.low), float(interval.high))
    return Share(sum(answers), len(answers), share, float(test.pvalue))


def krippendorff_alpha(units: Sequence[Sequence[object]]) -> float | None:
    """Return Krippendorff's alpha of nominal values.

    Args:
        units: The values that each unit was given, by one listener each; units with fewer than two do not count.

    Returns:
        At most 1; None where there is nothing to compare: no unit with two values, or one value only.
    """
    paired = [list(unit) for unit in units if len(unit) > 1]
    numbers = {value: place for place, value in enumerate(dict.fromkeys(v for unit in paired for v in unit))}
    if len(numbers) < 2:
        return None
    observed = 0.0
    totals = np.zeros(len(numbers))
    for unit in paired:
        counts = np.bincount([numbers[value] for value in unit], minlength=len(numbers))
        observed += (len(unit) ** 2 - (counts**2).sum()) / (len(unit) - 1)
        totals += counts
    total = totals.sum()
    expected = (total**2 - (totals**2).sum()) / (total - 1)
    return float(1 - observed / expected)


def _preference(
    criterion: str,
    first: str,
    second: str,
    trials: Mapping[str, Trial],
    answers: Sequence[Answer],
    resamples: int,
    seed: int,
) -> Preference:
    wins, units, items = [], defaultdict(list), []
    for answer in answers:
        trial = trials[answer.pair_id]
        preferred = trial.system_a if answer.preference == "A" else trial.system_b
        wins.append(preferred == first)
        units[answer.pair_id].append(preferred)
        items.append(trial.item or trial.pair_id)
    _, numbers = np.unique(items, return_inverse=True)
    confidences = [answer.confidence for answer in answers if answer.confidence is not None]
    return Preference(
        criterion=criterion,
        first=first,
        second=second,
        listeners=len({answer.listener for answer in answers}),
        items=int(numbers.max()) + 1,
        wins=binomial_share(wins),
        p_holm=1.0,
        over_items=mean_interval(np.array(wins, float), numbers, resamples=resamples, seed=seed),
        confidence=float(np.mean(confidences)) if confidences else None,
        alpha=krippendorff_alpha(list(units.values())),
    )
