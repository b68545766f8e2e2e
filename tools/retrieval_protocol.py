"""How features of real recordings are compared: crops, likeness, retrieval measures, and intervals by drawing tracks.

Every value is standardised over all crops, and crops are compared by the cosine. A query is a crop; its candidates are

- same track: all other crops;
- same soundtrack: the crops of other tracks;

but never crops of another version of the same piece. A measure is the mean over crops: top-1 is whether the most alike
candidate is right, mAP the mean average precision of the ranking. Same composer compares tracks, by the means of their
standardised crops: whether the most alike other track is of the same composer.

Intervals: tracks are drawn with replacement as queries, while the candidates stay; composers from tracks whose composer
is known. The draws are the same for all features, so that differences between two of them are paired.

Shapes: N crops, D values of a crop, K tracks, R draws.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pentatonic.errors import FormatError, InputError

CROPS = Path(__file__).with_name("real_music_crops.json")
MEASURES = ("track_top1", "track_map", "soundtrack_top1", "soundtrack_map", "composer_top1")
DRAWS = 4000


@dataclass(frozen=True)
class Track:
    """A recording and where it is cut.

    Attributes:
        file: Path below the folder of all packages, which starts with the package.
        soundtrack: What it belongs to.
        starts: Start of each crop in seconds.
        composer: None where it is not known.
        same_piece: Equal for versions of one piece; None where there is one version.
    """

    file: str
    soundtrack: str
    starts: tuple[float, ...]
    composer: str | None = None
    same_piece: str | None = None


@dataclass(frozen=True)
class Crops:
    """The crops of a comparison; crops are numbered track by track.

    Attributes:
        tracks: The recordings.
        seconds: Length of every crop.
        packages: Package -> SHA-256 of the package file they were cut from.
    """

    tracks: tuple[Track, ...]
    seconds: float
    packages: dict[str, str]

    @property
    def track_of(self) -> NDArray[np.int64]:
        """Number of the track of every crop, ``(N,)``."""
        return np.repeat(np.arange(len(self.tracks)), [len(track.starts) for track in self.tracks])


def read_crops(path: Path = CROPS) -> Crops:
    """Read a list of crops.

    Raises:
        FormatError: It cannot be read, or does not have the form of ``real_music_crops.json``.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not (tracks := tuple(_track(entry) for entry in content["tracks"])):
            raise ValueError("there are no tracks")
        packages = {name: str(package["sha256"]) for name, package in content["packages"].items()}
        return Crops(tracks, float(content["seconds"]), packages)
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror}", path=path) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"is not a list of crops: {type(error).__name__}: {error}", path=path) from error


def _track(entry: dict[str, Any]) -> Track:
    return Track(
        f"{entry['package']}/{entry['file']}",
        entry["soundtrack"],
        tuple(float(start) for start in entry["starts"]),
        entry.get("composer"),
        entry.get("same_piece"),
    )


def standardised(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Shift and scale every value to mean 0 and deviation 1 over the crops, ``(N, D)``; a constant one to 0.

    Raises:
        InputError: A value is NaN or infinite.
    """
    values = np.asarray(features, dtype=np.float64)
    if not np.isfinite(values).all():
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        raise InputError(f"features of {len(bad)} crops have NaN or infinite values, first of crop {bad[0]}")
    values = values - values.mean(axis=0)
    deviation = values.std(axis=0)
    # Rounding leaves a constant value a tiny deviation, which must not be blown up to 1.
    constant = deviation <= 1e-12 * np.abs(features).max(axis=0, initial=0.0)
    return values / np.where(constant, 1.0, deviation)


def likeness(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosines of all pairs of rows, ``(N, D)`` -> ``(N, N)``; 0 for a row of zeros."""
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    unit = values / np.where(norms > 0, norms, 1.0)
    return unit @ unit.T


def retrieve(
    alike: NDArray[np.float64], candidates: NDArray[np.bool_], right: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Top-1 and average precision of every query.

    Args:
        alike: ``(N, N)``: a row is a query, a column a candidate.
        candidates: ``(N, N)``: what the query may find.
        right: ``(N, N)``: what it should find.

    Returns:
        Two arrays ``(N,)``; NaN for a query without a right candidate. Of equally alike ones the first counts first.
    """
    order = np.argsort(np.where(candidates, -alike, np.inf), axis=1, kind="stable")
    hits = np.take_along_axis(right & candidates, order, axis=1)
    n_right = hits.sum(axis=1)
    precision = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
    none = n_right == 0
    average = (precision * hits).sum(axis=1) / np.where(none, 1, n_right)
    return np.where(none, np.nan, hits[:, 0]), np.where(none, np.nan, average)


def judge(features: NDArray[np.floating], crops: Crops) -> dict[str, NDArray[np.float64]]:
    """Score features of all crops.

    Args:
        features: ``(N, D)`` in the order of the crops.
        crops: The crops.

    Returns:
        Measure -> sum of the scores and number of scores of every track, ``(2, K)``, for :func:`interval`.

    Raises:
        InputError: The number of rows is not that of the crops, or a value is NaN or infinite.
    """
    track = crops.track_of
    if features.ndim != 2 or len(features) != len(track):
        raise InputError(
            f"features have shape {features.shape}; {len(track)} rows are needed, one for a crop"
        )
    values = standardised(features)
    alike = likeness(values)
    same_track = track[:, None] == track
    allowed = ~_versions(crops)[np.ix_(track, track)] & ~np.eye(len(track), dtype=bool)
    soundtracks = np.array([each.soundtrack for each in crops.tracks])[track]
    same_soundtrack = soundtracks[:, None] == soundtracks
    of_track = retrieve(alike, allowed, same_track)
    of_soundtrack = retrieve(alike, allowed & ~same_track, same_soundtrack)
    scores = dict(zip(MEASURES, (*of_track, *of_soundtrack), strict=False))
    by_track = {name: _sums(score, track, len(crops.tracks)) for name, score in scores.items()}
    means = np.stack([values[track == number].mean(axis=0) for number in range(len(crops.tracks))])
    return by_track | {"composer_top1": _composers(means, crops)}


def _versions(crops: Crops) -> NDArray[np.bool_]:
    """Whether two tracks are versions of one piece, ``(K, K)``; a track is not a version of itself."""
    pieces = [track.same_piece or str(number) for number, track in enumerate(crops.tracks)]
    names = np.array(pieces)
    return (names[:, None] == names) & ~np.eye(len(names), dtype=bool)


def _sums(scores: NDArray[np.float64], track: NDArray[np.int64], n_tracks: int) -> NDArray[np.float64]:
    known = ~np.isnan(scores)
    sums = np.bincount(track, np.where(known, scores, 0.0), n_tracks)
    return np.stack([sums, np.bincount(track, known, n_tracks)]).astype(np.float64)


def _composers(means: NDArray[np.float64], crops: Crops) -> NDArray[np.float64]:
    """Whether the most alike other track has the same composer, of tracks whose composer is known."""
    known = np.array([number for number, track in enumerate(crops.tracks) if track.composer])
    result = np.zeros((2, len(crops.tracks)))
    if len(known) < 2:
        return result
    composers = np.array([crops.tracks[number].composer for number in known])
    others = ~np.eye(len(known), dtype=bool)
    alike = np.where(others, likeness(means[known]), -np.inf)
    result[0, known] = composers[alike.argmax(axis=1)] == composers
    result[1, known] = 1
    return result


@cache
def draw_tracks(n_tracks: int, draws: int = DRAWS, seed: int = 0) -> NDArray[np.float64]:
    """Draw tracks with replacement: how often each track is in each draw, ``(R, K)``, read-only."""
    generator = np.random.default_rng(seed)
    drawn = generator.integers(n_tracks, size=(draws, n_tracks))
    counts = np.stack([np.bincount(row, minlength=n_tracks) for row in drawn]).astype(np.float64)
    counts.setflags(write=False)  # the same array for all who ask
    return counts


def mean(by_track: NDArray[np.float64]) -> float:
    """Mean score of all queries; NaN without any."""
    total = by_track[1].sum()
    return float(by_track[0].sum() / total) if total else float("nan")


def means_of_draws(by_track: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean score of every draw, ``(R,)``; tracks that have a score are drawn. NaN without any."""
    sums, counts = by_track[:, by_track[1] > 0]
    if not len(counts):
        return np.full(DRAWS, np.nan)
    drawn = draw_tracks(len(counts))
    return (drawn @ sums) / (drawn @ counts)


def interval(by_track: NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 % of the means of the draws."""
    return _middle(means_of_draws(by_track))


def difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean of ``one`` less that of ``other``, and the middle 95 % of the difference on the same draws."""
    return mean(one) - mean(other), *_middle(means_of_draws(one) - means_of_draws(other))


def _middle(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
