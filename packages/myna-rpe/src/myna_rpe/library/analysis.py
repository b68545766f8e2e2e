"""What is measured about a library as a whole at the end of a scan: neighbourhoods, hubs, groups of near-duplicates."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np

from myna_rpe.library.duplicates import find_groups
from myna_rpe.library.hubs import NEIGHBOURS, hub_measures, mean_distances
from myna_rpe.library.index import Generation
from pentatonic.search import top_k

_UNUSUAL = ("quiet", "short", "padded")


def is_comparable(flags: tuple[str, ...]) -> bool:
    """Whether a recording may be a neighbour: it is not quiet, silent or very short."""
    return not any(flag.startswith(_UNUSUAL) for flag in flags)


def analyse(generation: Generation) -> None:
    """Measure a generation, and store what was found in its tracks and :attr:`Generation.measures`."""
    held = generation.paths_by_content()
    ids = sorted(
        key
        for key, track in generation.tracks.items()
        if key in held and track.vector is not None and is_comparable(track.flags)
    )
    vectors = np.array([generation.tracks[key].vector for key in ids], np.float32)
    groups: dict[str, str] = {}
    neighbourhoods: dict[str, float] = {}
    generation.measures = {}
    if len(ids) > 1:
        found = top_k(vectors, vectors, min(len(ids), NEIGHBOURS + 1), metric="cosine")
        prints = [generation.tracks[key].fingerprint for key in ids]
        row_of = {key: row for row, key in enumerate(ids)}
        known = {
            (row_of[a], row_of[b]): value
            for (a, b), value in generation.matches.items()
            if a in row_of and b in row_of
        }
        duplicates = find_groups(found.rows, prints, known)
        generation.matches = {(ids[a], ids[b]): value for (a, b), value in duplicates.matches.items()}
        for rows in duplicates.groups:
            groups |= {ids[row]: ids[rows[0]] for row in rows}
        distances = mean_distances(found)
        neighbourhoods = dict(zip(ids, distances.tolist(), strict=True))
        generation.measures = {
            "duplicates": {"threshold": duplicates.threshold, **asdict(duplicates.calibration)},
            "hubs": hub_measures(vectors, distances),
        }
    for key, track in generation.tracks.items():
        generation.tracks[key] = replace(track, group=groups.get(key), neighbourhood=neighbourhoods.get(key))
