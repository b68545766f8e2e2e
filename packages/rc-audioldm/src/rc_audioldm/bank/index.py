"""How the rows of a bank are searched: all of them exactly, or by FAISS, chosen once for a bank and measured.

The choice is a small JSON file; an index itself is built in memory each time, since files of FAISS are not read.

Shapes: Q queries, K neighbours.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np

from pentatonic.errors import ConfigError, FormatError, UsageError
from pentatonic.folder_run import write_json
from pentatonic.search import Neighbours
from pentatonic.untrusted.config import read_fields
from pentatonic.untrusted.files import read_json
from rc_audioldm.bank.style_bank import StyleBank

Kind = Literal["exact", "faiss-flat", "faiss-ivfpq"]
INDEX = ".index.json"  # behind the name of the bank's folder: files inside it are the bank's
_SAMPLE = 100_000
_QUERIES, _COUNT = 200, 10


class SearchIndex(Protocol):
    """Finds neighbours."""

    def search(self, queries: np.ndarray, k: int, /) -> Neighbours:
        """Return the k nearest rows of each query; -1 where there are fewer."""
        ...


@dataclass(frozen=True)
class IndexChoice:
    """How a bank is searched, and what was measured.

    Args:
        kind: Which search.
        rows: Of the bank.
        seed: Of what an index learns.
        recall_at_10: Part of the ten nearest rows that it finds, for rows of the bank.
        seconds_to_build: In memory.
        milliseconds_per_query: For 200 queries at a time.
        exact_milliseconds_per_query: The same of the exact search.
    """

    kind: Kind
    rows: int
    seed: int = 0
    recall_at_10: float = 1.0
    seconds_to_build: float = 0.0
    milliseconds_per_query: float = 0.0
    exact_milliseconds_per_query: float = 0.0


def choose_index(bank: StyleBank, kind: Kind, *, seed: int = 0) -> IndexChoice:
    """Build an index, and measure it against the exact search.

    Raises:
        MissingExtra: FAISS is not installed.
        UsageError: There is no such kind.
    """
    rows = np.random.default_rng(seed).permutation(len(bank))[:_QUERIES]
    queries = bank.rows(np.sort(rows))
    start = time.perf_counter()
    exact = bank.search(queries, _COUNT)
    of_exact = time.perf_counter() - start
    start = time.perf_counter()
    index = build_index(bank, kind, seed=seed)
    built = time.perf_counter() - start
    start = time.perf_counter()
    found = exact if index is None else index.search(queries, _COUNT)
    taken = of_exact if index is None else time.perf_counter() - start
    shared = [
        len(set(a) & set(b)) / len(b) for a, b in zip(found.rows.tolist(), exact.rows.tolist(), strict=True)
    ]
    return IndexChoice(
        kind,
        len(bank),
        seed,
        round(float(np.mean(shared)), 4),
        round(built, 3),
        round(1000 * taken / len(queries), 3),
        round(1000 * of_exact / len(queries), 3),
    )


def build_index(bank: StyleBank, kind: Kind, *, seed: int = 0) -> SearchIndex | None:
    """Build an index in memory; None stands for the exact search.

    Raises:
        MissingExtra: FAISS is not installed.
        UsageError: There is no such kind.
    """
    if kind not in get_args(Kind):
        raise UsageError(f"the kind of index is {kind!r}; allowed: {', '.join(get_args(Kind))}")
    if kind == "exact":
        return None
    from pentatonic.search.faiss_index import FaissIndex

    if kind == "faiss-flat":
        return FaissIndex(bank.blocks(), metric="cosine", kind="flat")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(bank))[:_SAMPLE])
    return FaissIndex(bank.blocks(), metric="cosine", kind="ivfpq", sample=bank.rows(chosen), seed=seed)


def write_choice(folder: Path, choice: IndexChoice) -> Path:
    """Write the choice beside the folder of a bank.

    Raises:
        CheckpointError: It cannot be written.
    """
    path = _path(folder)
    write_json(path, asdict(choice))
    return path


def read_choice(folder: Path, bank: StyleBank) -> IndexChoice:
    """Return the choice for a bank: exact where none was made, or where the bank has changed since.

    Raises:
        FormatError: The file is damaged.
    """
    path = _path(folder)
    if not path.is_file():
        return IndexChoice("exact", len(bank))
    values: Any = read_json(path, error=FormatError)
    try:
        choice = read_fields(IndexChoice, values, "index")
    except ConfigError as error:
        raise FormatError(str(error), path=path) from error
    return choice if choice.rows == len(bank) else IndexChoice("exact", len(bank))


def _path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}{INDEX}")
