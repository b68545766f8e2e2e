"""Distances of many songs to the hull of a playlist, with certificates, compared with a general solver.

    python benchmarks/myna_hulls.py

10,000 candidates, a playlist of 200 songs, 128 dimensions: vectors of unit length around 40 directions. The aim is 5
seconds on two cores with every certificate (Frank-Wolfe gap of the squared distance) below 1e-6, and below 1e-12 for
membership. Compared with OSQP, a general solver of quadratic programs, where it is installed, and with SciPy's SLSQP,
on a part of the candidates each.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from machine import markdown_table, write_results
from numpy.typing import NDArray
from scipy.optimize import minimize

from myna_rpe.geometry import distances_to_hull

Array = NDArray[np.float64]


def songs(n: int, dimensions: int, generator: np.random.Generator) -> Array:
    """Unit vectors around some directions."""
    directions = np.random.default_rng(0).standard_normal((40, dimensions))
    chosen = directions[generator.integers(0, len(directions), n)]
    points = chosen + 0.7 * generator.standard_normal((n, dimensions))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def by_slsqp(playlist: Array, queries: Array) -> Array:
    """Distances by SciPy's general solver."""
    found = []
    for query in queries:
        moved = playlist - query
        start = np.full(len(moved), 1 / len(moved))
        result = minimize(
            lambda w, moved=moved: ((w @ moved) ** 2).sum(),
            start,
            jac=lambda w, moved=moved: 2 * moved @ (w @ moved),
            bounds=[(0, 1)] * len(moved),
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
            method="SLSQP",
            options={"maxiter": 500, "ftol": 1e-12},
        )
        found.append(np.sqrt(result.fun))
    return np.array(found)


def timed(work: Callable[[], object]) -> float:
    """Seconds of the clock that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--candidates", type=int, default=10_000, help="songs of the library")
    parser.add_argument("--songs", type=int, default=200, help="songs of the playlist")
    parser.add_argument("--dimensions", type=int, default=128, help="values of an embedding")
    parser.add_argument("--general", type=int, default=10, help="candidates that the general solver gets")
    arguments = parser.parse_args()
    generator = np.random.default_rng(1)
    playlist = songs(arguments.songs, arguments.dimensions, generator)
    candidates = songs(arguments.candidates, arguments.dimensions, generator)
    found = distances_to_hull(playlist, candidates[:8])
    seconds = timed(lambda: distances_to_hull(playlist, candidates))
    found = distances_to_hull(playlist, candidates)
    some = candidates[: arguments.general]
    general_s = timed(lambda: by_slsqp(playlist, some)) / len(some)
    error = float(np.abs(by_slsqp(playlist, some) - found.distances[: len(some)]).max())
    rows = [
        {
            "candidates": arguments.candidates,
            "songs": arguments.songs,
            "dimensions": arguments.dimensions,
            "s": seconds,
            "ms a candidate": 1000 * seconds / arguments.candidates,
            "greatest gap": float(found.gaps.max()),
            "SLSQP, ms a candidate": 1000 * general_s,
            "SLSQP / ours": general_s * arguments.candidates / seconds,
            "greatest difference": error,
        }
    ]
    print(markdown_table(rows))
    print(write_results("myna_hulls", rows, command="python benchmarks/myna_hulls.py"))


if __name__ == "__main__":
    main()
