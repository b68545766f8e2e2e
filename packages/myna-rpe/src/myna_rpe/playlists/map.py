"""A drawing of a library in two dimensions, as SVG: its tracks, a playlist with its hull and its path, what is near.

The plane is that of the two main axes of the library's vectors (principal component analysis). The hull that is drawn
is the one of the songs in that plane: it shows where they are, and distances to the hull in all dimensions differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

import numpy as np
from scipy.spatial import ConvexHull, QhullError

_WIDTH, _HEIGHT, _MARGIN = 960, 640, 30
_MOST_DOTS = 20_000
_STYLE = (
    "text{font:11px sans-serif;fill:#222}.all{fill:#c3c8d0}.near{fill:#e08e0b}.song{fill:#1f5fbf}"
    ".hull{fill:#1f5fbf;fill-opacity:.12;stroke:#1f5fbf;stroke-opacity:.5}"
    ".path{fill:none;stroke:#1f5fbf;stroke-width:1.5;stroke-dasharray:5 3}"
)


def plane_of(vectors: np.ndarray) -> np.ndarray:
    """Return the places of vectors ``(n, O)`` on their two main axes, ``(n, 2)``."""
    centred = np.asarray(vectors, np.float64) - np.mean(vectors, axis=0, dtype=np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :2]
    # The sign of an axis is arbitrary; a fixed one keeps the map as it is when a track is added.
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    found = centred @ (axes * signs)
    return np.pad(found, ((0, 0), (0, 2 - found.shape[1])))


def draw_map(plane: np.ndarray, songs: Sequence[int], near: Sequence[int], title: str) -> str:
    """Draw a library.

    Args:
        plane: ``(n, 2)`` from :func:`plane_of`.
        songs: Rows of a playlist, in its order; they are numbered from 1.
        near: Rows near it, which are lettered from a.
        title: What it shows, for readers of screens.

    Returns:
        An SVG document.
    """
    low, high = plane.min(axis=0), plane.max(axis=0)
    room = np.array([_WIDTH, _HEIGHT]) - 2 * _MARGIN
    places = _MARGIN + (plane - low) / np.maximum(high - low, 1e-9) * room
    places[:, 1] = _HEIGHT - places[:, 1]
    own = places[list(songs)]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        *(_dot(place, 2, "all") for place in places[:_MOST_DOTS]),
        f'<polygon class="hull" points="{_points(own[_corners(own)])}"/>',
        f'<polyline class="path" points="{_points(own)}"/>',
        *(_dot(places[row], 4, "near", letter(number)) for number, row in enumerate(near)),
        *(_dot(place, 5, "song", str(number)) for number, place in enumerate(own, 1)),
        "</svg>",
    ]
    return "\n".join(parts)


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


def _dot(place: np.ndarray, radius: float, kind: str, label: str = "") -> str:
    x, y = place
    dot = f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>'
    return dot + (f'<text x="{x + 6:.1f}" y="{y - 5:.1f}">{escape(label)}</text>' if label else "")


def _points(places: np.ndarray) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
