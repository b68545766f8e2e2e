"""Songs within a playlist, at its edge, spread like it, and on the way to another."""

from __future__ import annotations

import numpy as np
import pytest

from myna_rpe.geometry import (
    choose_at_the_edge,
    choose_inside,
    choose_like,
    distances_to_hull,
    transition,
)
from pentatonic.errors import InputError, UsageError

SQUARE = np.array([[1.0, 1.0], [3.0, 1.0], [3.0, 3.0], [1.0, 3.0]])


def test_inside_takes_the_nearest_and_varies_them() -> None:
    library = np.array([[9.0, 9.0], [2.0, 2.0], [2.01, 2.01], [1.5, 2.8], [2.9, 1.2], [4.0, 2.0]])
    assert set(choose_inside(SQUARE, library, 4, variety=0)) == {1, 2, 3, 4}
    varied = choose_inside(SQUARE, library, 3, variety=0.9)
    assert not {1, 2} <= set(varied)  # they sound the same
    assert choose_inside(SQUARE, library, 99) != [] and len(choose_inside(SQUARE, library, 99)) == 6
    assert choose_inside(SQUARE, library, 0) == []


def test_the_edge_is_beyond_the_hull_and_not_far() -> None:
    library = np.array([[2.0, 2.0], [3.2, 2.0], [3.0, 3.0], [9.0, 2.0], [2.0, 0.75], [-5.0, -5.0]])
    chosen = choose_at_the_edge(SQUARE, library, 10, reach=0.5)
    assert {1, 4} <= set(chosen) and not {0, 2} & set(chosen)


def test_songs_like_a_playlist_span_it() -> None:
    random = np.random.default_rng(0)
    playlist = random.standard_normal((12, 6))
    library = np.vstack((random.standard_normal((200, 6)), playlist + 0.01))
    chosen = choose_like(playlist, library, 15)
    assert len(set(chosen)) == 15
    reached = distances_to_hull(library[chosen], playlist).distances.mean()
    by_chance = distances_to_hull(library[:15], playlist).distances.mean()
    assert reached < 0.5 * by_chance


@pytest.mark.parametrize("smoothness", [0.0, 0.5])
def test_a_transition_leads_from_one_to_the_other(smoothness: float) -> None:
    random = np.random.default_rng(1)
    a, b = random.standard_normal((5, 4)), random.standard_normal((6, 4)) + 8
    library = random.uniform(-2, 11, (400, 4))
    library[:100] = np.linspace(0, 8, 100)[:, None] + 0.1 * random.standard_normal((100, 4))
    way = transition(a, b, library, 6, smoothness=smoothness)
    assert len(set(way.songs)) == 6
    means = library[way.songs].mean(axis=1)
    assert (np.diff(means) > -1.5).all() and means[-1] - means[0] > 3
    # 16 lie between the playlists. Short steps are bought with offsets.
    assert max(way.offsets) < (2 if smoothness else 1)
    steps = np.linalg.norm(np.diff(library[way.songs], axis=0), axis=1)
    np.testing.assert_allclose(way.step_lengths, steps)
    assert way.worst_step == int(np.argmax(steps))


def test_a_way_always_exists_and_wrong_use_is_named() -> None:
    library = np.array([[100.0, 0.0], [0.0, 100.0], [-100.0, 3.0]])
    way = transition([[0.0, 0.0]], [[1.0, 1.0]], library, 3)
    assert sorted(way.songs) == [0, 1, 2] and transition([[0.0]], [[1.0]], [[5.0]], 1).worst_step is None
    with pytest.raises(InputError, match="4 songs are asked for, and the library has 3"):
        transition([[0.0, 0.0]], [[1.0, 1.0]], library, 4)
    with pytest.raises(UsageError, match="count must be 1 or more"):
        transition([[0.0, 0.0]], [[1.0, 1.0]], library, 0)
    with pytest.raises(UsageError, match="variety is 2"):
        choose_inside(SQUARE, SQUARE, 1, variety=2)
    with pytest.raises(UsageError, match="reach is 0"):
        choose_at_the_edge(SQUARE, SQUARE, 1, reach=0)
    with pytest.raises(UsageError, match="count is -1"):
        choose_like(SQUARE, SQUARE, -1)
