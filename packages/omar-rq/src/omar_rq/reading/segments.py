"""Sections of a recording and which of them repeat, from its embeddings alone; and the stretch that stands best for it.

Embeddings are averaged over short steps and centred, and compared with each other (cosine). Boundaries are where the
music before and after differs most, as Foote (ICME 2000) finds them: a checkerboard moved along the diagonal of the
matrix of likenesses. Sections get one letter where they are alike, either as a whole or step by step. The letters say
that music repeats, and not what part of a song it is.

Shape legend: R steps, C width, S sections.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omar_rq.annotations.events import Highlight, Span
from pentatonic.errors import InputError, UsageError

STEP_S = 0.5
"""Seconds of music that one step averages, in recordings of up to 10 minutes."""
MOST_STEPS = 1200

_SHORTEST_S = 4.0  # of a section
_KERNEL_S = 10.0  # of music on each side of a boundary that is compared
_LEAST_NOVELTY = 0.15  # of the largest
_TYPICAL = 1.0  # deviations of the novelty above its mean, of a boundary
_ALIKE = (
    0.5  # likeness of sections with one letter, where 0 is that of any two steps and 1 that of neighbours
)
_MOST_SHIFT = 0.25  # of the shorter section, when two are compared step by step


def likeness_matrix(steps: np.ndarray) -> np.ndarray:
    """Cosines between all steps, after the mean of the recording is taken away.

    Args:
        steps: (R, C) means of embeddings.

    Returns:
        (R, R) float64 from -1 to 1; steps that differ in nothing from the mean have 0.
    """
    values = steps.astype(np.float64)
    values = values - values.mean(0)
    spread = values.std(0)
    values = values / np.where(spread > 1e-6 * max(float(spread.max(initial=0.0)), 1e-12), spread, np.inf)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    values = values / np.where(norms > 0, norms, np.inf)
    return values @ values.T


def find_boundaries(likeness: np.ndarray, step_s: float, count: int | None = None) -> np.ndarray:
    """Find where sections begin.

    Args:
        likeness: (R, R) from :func:`likeness_matrix`.
        step_s: Seconds of a step.
        count: How many sections there shall be; None: as many as stand out.

    Returns:
        (S,) steps, ascending, the first 0.

    Raises:
        InputError: There is no room for so many sections.
    """
    n_steps = len(likeness)
    if count is not None and not 1 <= count <= n_steps:
        raise InputError(f"{count} segments; allowed for this recording: 1 to {n_steps}")
    curve = novelty(likeness, max(1, round(_KERNEL_S / step_s)))
    gap = max(1, round(_SHORTEST_S / step_s))
    if count is None:
        threshold = max(curve.mean() + _TYPICAL * curve.std(), _LEAST_NOVELTY * curve.max(initial=0.0))
        inner = _peaks(curve, gap, n_steps, threshold)
    else:
        inner = []
        while len(inner) < count - 1:  # closer together, until there are enough
            inner = _peaks(curve, gap, count - 1, -np.inf)
            gap = gap // 2 if gap > 1 else 0
    return np.array([0, *sorted(inner)])


def novelty(likeness: np.ndarray, reach: int) -> np.ndarray:
    """How much the music before and after each step differs (Foote 2000).

    Args:
        likeness: (R, R).
        reach: Steps on each side; a Gaussian lets the nearest count most. Near the ends those that are there count.

    Returns:
        (R,) at least 0; 0 at the first.
    """
    n_steps = len(likeness)
    taper = np.exp(-2 * (np.arange(reach) / reach) ** 2)
    curve = np.zeros(n_steps)
    for step in range(1, n_steps):
        before, after = min(reach, step), min(reach, n_steps - step)
        past, future = slice(step - before, step), slice(step, step + after)
        weights = np.concatenate((taper[:before][::-1], taper[:after]))
        near = likeness[step - before : step + after, step - before : step + after]
        sides = [weights[:before] / weights[:before].sum(), weights[before:] / weights[before:].sum()]
        inside = sides[0] @ likeness[past, past] @ sides[0] + sides[1] @ likeness[future, future] @ sides[1]
        across = sides[0] @ near[:before, before:] @ sides[1]
        curve[step] = max(0.0, inside / 2 - across) * min(before, after) / reach
    return curve


def _peaks(curve: np.ndarray, gap: int, most: int, threshold: float) -> list[int]:
    """The highest steps that are at least ``gap`` from each other and from the ends."""
    found: list[int] = []
    free = np.ones(len(curve), bool)
    free[: max(gap, 1)] = False
    if gap:
        free[max(1, len(curve) - gap + 1) :] = False
    for step in np.argsort(-curve, kind="stable"):
        if len(found) == most or curve[step] <= threshold:
            break
        if free[step]:
            found.append(int(step))
            free[max(0, step - gap + 1) : step + max(gap, 1)] = False
    return found


def repeat_letters(likeness: np.ndarray, boundaries: np.ndarray) -> tuple[list[str], list[float]]:
    """Give alike sections one letter.

    Args:
        likeness: (R, R).
        boundaries: (S,) steps where sections begin.

    Returns:
        A letter for each section, in the order of their first appearance; and how alike each is to the others with its
        letter, from 0 to 1; 0 where there is no other.
    """
    edges = [*map(int, boundaries), len(likeness)]
    n_sections = len(boundaries)
    alike = np.eye(n_sections)
    for i in range(n_sections):
        for j in range(i):
            alike[i, j] = alike[j, i] = _section_likeness(likeness, edges, i, j)
    groups: list[list[int]] = [[i] for i in range(n_sections)]
    while len(groups) > 1:  # complete linkage: all sections of a letter are alike
        pairs = [
            (alike[np.ix_(a, b)].min(), -x, -y)
            for x, a in enumerate(groups)
            for y, b in enumerate(groups)
            if x < y
        ]
        worst, x, y = max(pairs)
        if worst < _ALIKE:
            break
        groups[-x] += groups.pop(-y)
    letters, sure = [""] * n_sections, [0.0] * n_sections
    for number, group in enumerate(sorted(groups, key=min)):
        for i in group:
            letters[i] = _letter(number)
            others = [float(alike[i, j]) for j in group if j != i]
            sure[i] = float(np.clip(np.mean(others), 0, 1)) if others else 0.0
    return letters, sure


def _section_likeness(likeness: np.ndarray, edges: Sequence[int], i: int, j: int) -> float:
    """How alike two sections are, where 1 is how alike neighbouring steps in them are."""
    a, b = slice(edges[i], edges[i + 1]), slice(edges[j], edges[j + 1])
    between = likeness[a, b]
    within = _neighbours(likeness[a, a]) + _neighbours(likeness[b, b])
    shorter = min(between.shape)
    shift = max(1, int(_MOST_SHIFT * shorter))
    lags = range(-shift, between.shape[1] - between.shape[0] + shift + 1)
    if between.shape[1] < between.shape[0]:
        lags = range(between.shape[1] - between.shape[0] - shift, shift + 1)
    step_by_step = max(
        (float(np.mean(row)) for lag in lags if len(row := np.diagonal(between, lag)) > shorter / 2),
        default=-1.0,
    )
    best = max(step_by_step, float(between.mean()))
    return best / max(within / 2, 0.1)


def _neighbours(likeness: np.ndarray) -> float:
    beside = np.diagonal(likeness, 1)
    return float(beside.mean()) if len(beside) else 1.0


def _letter(number: int) -> str:
    name = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        name = chr(ord("A") + rest) + name
    return name


def find_segments(
    steps: np.ndarray,
    step_s: float,
    end: float,
    *,
    start: float = 0.0,
    count: int | None = None,
    edges: Sequence[float] | None = None,
) -> tuple[Span, ...]:
    """Find sections and name those that repeat by one letter: A, B, A.

    Args:
        steps: (R, C) means of embeddings over consecutive steps.
        step_s: Seconds of a step.
        end: Second at which the recording ends.
        start: Second at which it begins.
        count: How many sections there shall be; None: as many as stand out.
        edges: Seconds where sections begin, if that is known; only their letters are looked for.

    Returns:
        The sections; the confidence is how alike a section is to the others with its letter, None of one that does not
        repeat.

    Raises:
        InputError: There is no room for so many sections.
    """
    likeness = likeness_matrix(steps)
    if edges is None:
        boundaries = find_boundaries(likeness, step_s, count)
        times = [start + step_s * float(step) for step in boundaries]
    else:
        times = list(edges)
        boundaries = np.clip(np.rint((np.array(times) - start) / step_s).astype(int), 0, len(steps) - 1)
    letters, sure = repeat_letters(likeness, boundaries)
    return tuple(
        Span(begin, until, letter, alike or None)
        for begin, until, letter, alike in zip(times, [*times[1:], end], letters, sure, strict=True)
    )


def find_highlight(
    steps: np.ndarray, step_s: float, end: float, *, start: float = 0.0, seconds: float = 30.0
) -> Highlight:
    """Find the stretch that is most like the whole recording (Cooper and Foote, ISMIR 2002).

    What comes back often is like much of the recording; of equally good stretches the first counts.

    Args:
        steps: (R, C) means of embeddings over consecutive steps.
        step_s: Seconds of a step.
        end: Second at which the recording ends.
        start: Second at which it begins.
        seconds: Length of the stretch; of a shorter recording it is the whole.

    Raises:
        UsageError: ``seconds`` is not positive.
    """
    if not 0 < seconds < np.inf:
        raise UsageError(f"highlight is {seconds:g} seconds; allowed: a number above 0")
    typical = likeness_matrix(steps).mean(1)
    length = min(len(typical), max(1, round(seconds / step_s)))
    sums = np.convolve(typical, np.ones(length), mode="valid") / length
    # Sums of equal stretches differ by rounding.
    first = int(np.flatnonzero(sums >= sums.max() - 1e-9)[0])
    begin = start + first * step_s
    return Highlight(begin, min(begin + seconds, end), float(sums[first]))
