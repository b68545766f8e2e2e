"""Distances of a set of recordings to a reference: Fréchet audio distance and kernel distance, by headers that agree.

Shape legend: n, m vectors, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pentatonic.errors import InputError
from pentatonic.statistics import (
    Gaussian,
    extrapolated_distance,
    frechet_distance,
    gaussian_distance,
    kernel_distance,
)
from rc_audioldm.evaluation.embedded_set import EmbeddedSet

Few = Literal["refuse", "shrink"]
_UNLIKE_LENGTHS = 1.5


class TooFewVectors(InputError):
    """A set has fewer vectors than dimensions, so that its covariance says little."""


@dataclass(frozen=True)
class SetDistance:
    """Distances of a set to a reference.

    Args:
        files: Recordings of both.
        vectors: Vectors of both, n and m.
        dimension: D.
        frechet: Fréchet audio distance, 0 or more; None where there are too few vectors.
        extrapolated: The same for infinitely many vectors, may be a little below 0; None with too few vectors, or where
            the covariances were shrunk.
        kernel: Kernel distance (KID) without bias, may be a little below 0; None where a set has one vector.
        hashes: Of both sets.
        header: How the vectors were made.
        notes: What a reader has to know.
    """

    files: tuple[int, int]
    vectors: tuple[int, int]
    dimension: int
    frechet: float | None
    extrapolated: float | None
    kernel: float | None
    hashes: tuple[str, str]
    header: dict[str, Any]
    notes: tuple[str, ...]


def audio_distance(
    chosen: EmbeddedSet, reference: EmbeddedSet, *, few: Few = "refuse", names: tuple[str, str] = ("", "")
) -> tuple[float, list[str]]:
    """Return the Fréchet audio distance of two sets.

    Args:
        chosen: n vectors.
        reference: m vectors.
        few: What happens where a set has fewer vectors than dimensions: refuse it, or shrink both covariances
            (Ledoit and Wolf, 2004) with a note.
        names: Of the sets, for messages.

    Returns:
        The distance, 0 or more, and notes.

    Raises:
        TooFewVectors: A set has too few vectors, and they are to be refused.
        IncompatibleVectors: The headers differ.
    """
    chosen.header.require(reference.header, names[0] or "the first set")
    lack = _lack(chosen, reference, names)
    if lack and (few == "refuse" or min(len(chosen.vectors), len(reference.vectors)) == 1):
        raise TooFewVectors(f"{lack}; add recordings, take an embedder of fewer dimensions, or shrink")
    distance = frechet_distance(chosen.vectors, reference.vectors, shrink=bool(lack))
    return distance, [f"{lack}: covariances shrunk (Ledoit and Wolf)"] if lack else []


def compare_sets(
    chosen: EmbeddedSet,
    reference: EmbeddedSet,
    *,
    few: Few = "refuse",
    names: tuple[str, str] = ("", ""),
    seed: int = 0,
) -> SetDistance:
    """Measure all distances of two sets; a Fréchet distance of too few vectors is left out with a note.

    Args:
        chosen: n vectors.
        reference: m vectors.
        few: As in :func:`audio_distance`.
        names: Of the sets, for messages and notes.
        seed: Of the subsets from which the distance is extrapolated.

    Raises:
        IncompatibleVectors: The headers differ.
    """
    chosen.header.require(reference.header, names[0] or "the first set")
    notes: list[str] = []
    frechet = extrapolated = kernel = None
    try:
        frechet, found = audio_distance(chosen, reference, few=few, names=names)
        notes += found
        if not found:
            rng = np.random.default_rng(seed)
            extrapolated = extrapolated_distance(chosen.vectors, reference.vectors, rng)
    except TooFewVectors as error:
        notes.append(f"no Fréchet distance: {error}")
    if min(len(chosen.vectors), len(reference.vectors)) > 1:
        kernel = kernel_distance(chosen.vectors, reference.vectors)
    lengths = sorted((chosen.median_s, reference.median_s))
    if lengths[1] > _UNLIKE_LENGTHS * lengths[0]:
        notes.append(f"median lengths of {chosen.median_s:.3g} and {reference.median_s:.3g} s differ")
    return SetDistance(
        files=(len(chosen.names), len(reference.names)),
        vectors=(len(chosen.vectors), len(reference.vectors)),
        dimension=chosen.dimension,
        frechet=frechet,
        extrapolated=extrapolated,
        kernel=kernel,
        hashes=(chosen.hash, reference.hash),
        header={**chosen.header.embedder, **chosen.header.preparation},
        notes=tuple(notes),
    )


def distances_of_files(
    chosen: EmbeddedSet, reference: EmbeddedSet, *, few: Few = "refuse"
) -> dict[str, float]:
    """Return the Fréchet distance of each recording alone to a reference (Gui et al., 2024).

    It ranks recordings; with fewer windows than dimensions, as is usual, its size says little. A recording of one
    window counts as a point.

    Args:
        chosen: The recordings.
        reference: The reference.
        few: As in :func:`audio_distance`, of the reference alone.

    Returns:
        Name -> distance, 0 or more.

    Raises:
        TooFewVectors: The reference has too few vectors, and they are to be refused.
        IncompatibleVectors: The headers differ.
    """
    chosen.header.require(reference.header, "the recordings")
    lacking = len(reference.vectors) <= reference.dimension
    if lacking and few == "refuse":
        raise TooFewVectors(
            f"the reference has {len(reference.vectors)} vectors of {reference.dimension} dimensions; allowed: more "
            "vectors than dimensions"
        )
    target = Gaussian.of(reference.vectors, shrink=lacking)
    return {
        name: gaussian_distance(Gaussian.of(chosen.of(number)), target)
        for number, name in enumerate(chosen.names)
    }


def _lack(chosen: EmbeddedSet, reference: EmbeddedSet, names: tuple[str, str]) -> str:
    found = [
        f"{name or which} has {len(each.vectors)} vectors of {each.dimension} dimensions"
        for name, which, each in zip(
            names, ("the first set", "the second set"), (chosen, reference), strict=True
        )
        if len(each.vectors) <= each.dimension
    ]
    return " and ".join(found)
