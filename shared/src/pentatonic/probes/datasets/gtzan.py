"""GTZAN: ten genres, 30 seconds each, in the fault-filtered split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pentatonic.probes.datasets.dataset import SPLITS, LabelledTrack, ProbeDataset, inside, require, rows
from pentatonic.probes.tasks import Classification

_SOURCE = (
    "the archive genres.tar.gz of MARSYAS (G. Tzanetakis), with the lists train_filtered.txt, valid_filtered.txt and "
    "test_filtered.txt of the fault-filtered split (C. Kereliuk, B. Sturm, J. Larsen) beside its folders"
)
_SUFFIXES = (".wav", ".au", ".mp3")


def read_gtzan(root: Path) -> ProbeDataset:
    """Read GTZAN.

    The folder has ``train_filtered.txt``, ``valid_filtered.txt`` and ``test_filtered.txt``, with lines such as
    ``blues/blues.00029.wav``, and the recordings below itself or below ``genres``; their suffix may be another one.
    Classes are the genres in alphabetical order.

    Raises:
        InputError: A list is missing, or names a file outside of the folder.
    """
    base = root / "genres" if (root / "genres").is_dir() else root

    def locate(name: str, table: Path, line: int) -> tuple[Path, str]:
        path = inside(base, name, table, line)
        return _present(path), path.parent.name

    return split_gtzan(root, locate, _SOURCE)


def split_gtzan(
    lists: Path, locate: Callable[[str, Path, int], tuple[Path, str]], source: str
) -> ProbeDataset:
    """Apply the fault-filtered split.

    Args:
        lists: Folder with ``train_filtered.txt``, ``valid_filtered.txt`` and ``test_filtered.txt``.
        locate: Recording and genre of a name in a list; the list and the number of the line are for errors.
        source: Where the data set comes from.

    Raises:
        InputError: A list is missing, or what ``locate`` raises.
    """
    found = {}
    for split in SPLITS:
        table = require(lists / f"{split}_filtered.txt", "GTZAN", source)
        found[split] = [locate(row[0].strip(), table, number) for number, row in rows(table)]
    genres = sorted({genre for tracks in found.values() for _, genre in tracks})
    splits = {
        split: [LabelledTrack(path, genres.index(genre), path.stem) for path, genre in tracks]
        for split, tracks in found.items()
    }
    return ProbeDataset("gtzan", Classification(tuple(genres)), splits, source)


def _present(path: Path) -> Path:
    """The file with the suffix that it has in this copy."""
    return next(
        (other for suffix in _SUFFIXES if (other := path.with_suffix(suffix)).is_file()),
        path,
    )
