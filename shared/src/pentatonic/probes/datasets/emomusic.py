"""EmoMusic: mean arousal and valence of 45 seconds of music (the 1000 songs of MediaEval 2013)."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pentatonic.probes.datasets.dataset import LabelledTrack, ProbeDataset, named_rows, number_in, require
from pentatonic.probes.tasks import Regression

_SOURCE = "cvml.unige.ch/databases/emoMusic (M. Soleymani and others, on request)"
_VALID_TENTHS = 2


def read_emomusic(root: Path) -> ProbeDataset:
    """Read EmoMusic.

    The folder has ``clips_45seconds/<song_id>.mp3``, ``static_annotations.csv`` (columns ``song_id``, ``mean_arousal``,
    ``mean_valence``) and ``songs_info.csv`` (columns ``song_id``, ``Artist``, ``Mediaeval 2013 set``), both also in a
    folder ``annotations``. The evaluation set is for the test; of the development set a fifth of the artists, by a hash
    of the name, for validation.

    Raises:
        InputError: A file is missing or has no usable content.
    """
    base = root / "annotations" if (root / "annotations").is_dir() else root
    targets_table = require(base / "static_annotations.csv", "EmoMusic", _SOURCE)
    songs_table = require(base / "songs_info.csv", "EmoMusic", _SOURCE)
    clips = require(root / "clips_45seconds", "EmoMusic", _SOURCE)
    columns = ("song_id", "mean_arousal", "mean_valence")
    targets = {
        row["song_id"]: [number_in(row[name], targets_table, number) for name in columns[1:]]
        for number, row in named_rows(targets_table, columns, ",")
    }
    splits: dict[str, list[LabelledTrack]] = {"train": [], "valid": [], "test": []}
    for _, row in named_rows(songs_table, ("song_id", "Artist", "Mediaeval 2013 set"), ","):
        if (target := targets.get(row["song_id"])) is None:
            continue
        artist = row["artist"]
        split = "test" if row["mediaeval 2013 set"].casefold() == "evaluation" else _part(artist)
        splits[split].append(LabelledTrack(clips / f"{row['song_id']}.mp3", target, artist))
    return ProbeDataset("emomusic", Regression(("arousal", "valence")), splits, _SOURCE)


def _part(artist: str) -> str:
    number = int(hashlib.sha256(artist.casefold().encode()).hexdigest(), 16)
    return "valid" if number % 10 < _VALID_TENTHS else "train"
