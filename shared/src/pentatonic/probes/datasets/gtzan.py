"""GTZAN: ten genres, 30 seconds each, in the fault-filtered split."""

from __future__ import annotations

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
    found = {}
    for split in SPLITS:
        table = require(root / f"{split}_filtered.txt", "GTZAN", _SOURCE)
        found[split] = [(inside(base, row[0].strip(), table, number)) for number, row in rows(table)]
    genres = sorted({path.parent.name for paths in found.values() for path in paths})
    splits = {
        split: [LabelledTrack(_present(path), genres.index(path.parent.name), path.stem) for path in paths]
        for split, paths in found.items()
    }
    return ProbeDataset("gtzan", Classification(tuple(genres)), splits, _SOURCE)


def _present(path: Path) -> Path:
    """The file with the suffix that it has in this copy."""
    return next(
        (other for suffix in _SUFFIXES if (other := path.with_suffix(suffix)).is_file()),
        path,
    )
