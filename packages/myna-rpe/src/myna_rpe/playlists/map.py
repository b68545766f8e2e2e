"""A map of a library in two dimensions: its tracks, a playlist with its hull and its path, what is near.

The plane is that of the two main axes of the library's vectors (principal component analysis). The hull that is drawn
is the one of the songs in that plane: it shows where they are, and distances to the hull in all dimensions differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from pentatonic.report import Dot, SoundMap

if TYPE_CHECKING:
    from myna_rpe.library.library import LibraryTrack

_WIDTH, _HEIGHT, _MARGIN = 960, 640, 30
_MOST_DOTS = 20_000
_GREY, _BLUE, _ORANGE = 0, 1, 2
# Of a label: height, width of a character, and where it may begin beside its dot, the best place first.
_LABEL_HEIGHT, _CHARACTER = 12.0, 7.5
_BESIDE = [
    (side * reach, up * reach) for reach in (1, 2, 3, 4) for side, up in ((1, 1), (1, -1), (-1, 1), (-1, -1))
]


def plane_of(vectors: np.ndarray) -> np.ndarray:
    """Return the places of vectors ``(n, O)`` on their two main axes, ``(n, 2)``."""
    centred = np.asarray(vectors, np.float64) - np.mean(vectors, axis=0, dtype=np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :2]
    # The sign of an axis is arbitrary; a fixed one keeps the map as it is when a track is added.
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    found = centred @ (axes * signs)
    return np.pad(found, ((0, 0), (0, 2 - found.shape[1])))


def library_map(
    plane: np.ndarray,
    tracks: Sequence[LibraryTrack],
    songs: Sequence[int],
    near: Sequence[int],
    sounds: Mapping[str, str],
) -> SoundMap:
    """Draw a library.

    Args:
        plane: ``(n, 2)`` from :func:`plane_of`.
        tracks: Of its rows.
        songs: Rows of a playlist, in its order; they are numbered from 1.
        near: Rows near it, which are lettered from a.
        sounds: Id of a track -> what its dot plays, as :attr:`pentatonic.report.Dot.sound`.

    Returns:
        A drawing with at most 20,000 dots besides those of the songs and of what is near; see :func:`left_out`.
    """
    low, high = plane.min(axis=0), plane.max(axis=0)
    room = np.array([_WIDTH, _HEIGHT]) - 2 * _MARGIN
    places = _MARGIN + (plane - low) / np.maximum(high - low, 1e-9) * room
    places[:, 1] = _HEIGHT - places[:, 1]
    named = {*songs, *near}
    others = [row for row in range(len(plane)) if row not in named][:_MOST_DOTS]
    labelled = [
        *((row, letter(number), _ORANGE) for number, row in enumerate(near)),
        *((row, str(number), _BLUE) for number, row in enumerate(songs, 1)),
    ]
    label_places = _label_places(places[[row for row, *_ in labelled]], [label for _, label, _ in labelled])

    def dot(row: int, label: str = "", accent: int = _GREY, label_at: tuple[float, float] = (0, 0)) -> Dot:
        track = tracks[row]
        name = f"{label}. {track.name}" if label else track.name
        about = tuple(text for text in (track.title, track.artist, track.album) if text)
        return Dot(tuple(places[row]), name, about, sounds.get(track.id, ""), label, label_at, accent)

    own = places[list(songs)]
    return SoundMap(
        (_WIDTH, _HEIGHT),
        [
            *(dot(row) for row in others),
            *(dot(*each, at) for each, at in zip(labelled, label_places, strict=True)),
        ],
        area=[tuple(point) for point in own[_corners(own)]],
        line=[tuple(point) for point in own],
    )


def left_out(n_tracks: int, named: Sequence[int]) -> int:
    """Return how many tracks of a library have no dot on its map.

    Args:
        n_tracks: Of the library.
        named: Rows that always have one.
    """
    return max(0, n_tracks - len(set(named)) - _MOST_DOTS)


def letter(number: int) -> str:
    """Return the label of a track that is near: a to z, then aa and so on."""
    text = ""
    while number >= 0:
        number, rest = divmod(number, 26)
        text = chr(ord("a") + rest) + text
        number -= 1
    return text


def _corners(points: np.ndarray) -> np.ndarray:
    """Corners of the hull in the plane, in order round it."""
    if len(points) > 2:
        try:
            return ConvexHull(points).vertices
        except QhullError:  # all on one line
            pass
    along = points @ (points[-1] - points[0]) if len(points) else np.empty(0)
    return np.unique([along.argmin(), along.argmax()]) if len(points) else np.empty(0, dtype=int)


def _label_places(dots: np.ndarray, labels: Sequence[str]) -> list[tuple[float, float]]:
    """Return where the text of each label begins: beside its dot, on no other label and no labelled dot if possible."""
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in dots]
    found = []
    for (x, y), label in zip(dots, labels, strict=True):
        boxes = list(_label_boxes(x, y, _CHARACTER * len(label)))
        box = next((box for box in boxes if not any(_overlap(box, other) for other in taken)), boxes[0])
        taken.append(box)
        found.append((box[0], box[3]))
    return found


def _label_boxes(x: float, y: float, width: float) -> Iterator[tuple[float, float, float, float]]:
    """Yield left, top, right and bottom of the places for a label, inside the drawing."""
    for side, up in _BESIDE:
        left = min(x + 6 * side if side > 0 else x + 6 * side - width, _WIDTH - width)
        bottom = y - 5 * up if up > 0 else y - 5 * up + _LABEL_HEIGHT
        left, bottom = max(left, 0.0), min(max(bottom, _LABEL_HEIGHT), _HEIGHT - 3.0)
        yield left, bottom - _LABEL_HEIGHT, left + width, bottom


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
