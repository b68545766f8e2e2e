"""MTG-Jamendo: the 50 most frequent tags of whole tracks, in the official splits, which share no artist."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pentatonic.errors import FormatError
from pentatonic.probes.datasets.dataset import LabelledTrack, ProbeDataset, inside, require, rows
from pentatonic.probes.tasks import Tagging

_SOURCE = "mtg.github.io/mtg-jamendo-dataset (D. Bogdanov and others), lists in data/splits of its repository"
_FILES = {"train": "train", "valid": "validation", "test": "test"}


@dataclass(frozen=True)
class JamendoTrack:
    """A line of a list of MTG-Jamendo.

    Attributes:
        track: Such as ``track_0000214``.
        artist: Such as ``artist_000014``.
        album: Such as ``album_000031``.
        path: The recording below the folder of the audio, such as ``14/214.mp3``.
        duration_s: In seconds.
        tags: Names without their category: ``rock`` of ``genre---rock``.
    """

    track: str
    artist: str
    album: str
    path: str
    duration_s: float
    tags: tuple[str, ...]


def read_list(table: Path) -> list[JamendoTrack]:
    """Read a list: columns TRACK_ID, ARTIST_ID, ALBUM_ID, PATH, DURATION, then tags, separated by tabs.

    Raises:
        FormatError: A line has another form; the message says which.
    """
    tracks = []
    lines = rows(table)
    next(lines, None)  # the heading
    for number, row in lines:
        try:
            track, artist, album, path, duration, *tags = (field.strip() for field in row)
            names = tuple(tag.split("---", 1)[1] for tag in tags if tag)
            tracks.append(JamendoTrack(track, artist, album, path, float(duration), names))
        except (ValueError, IndexError):
            raise FormatError(
                "a line of a list needs track, artist, album, path, duration, and tags of the form category---name",
                path=table,
                line=number,
            ) from None
    return tracks


def read_jamendo(root: Path, *, subset: str = "autotagging_top50tags", number: int = 0) -> ProbeDataset:
    """Read MTG-Jamendo.

    The folder has the recordings, such as ``14/214.mp3`` or ``14/214.low.mp3``, in a folder ``audio`` or beside the
    lists ``splits/split-0/autotagging_top50tags-train.tsv`` and so on.

    Args:
        root: The folder.
        subset: Which lists.
        number: Of the official split.

    Raises:
        InputError: A file is missing or has no usable content.
    """
    audio = root / "audio" if (root / "audio").is_dir() else root
    lists = {}
    for split, name in _FILES.items():
        table = root / "splits" / f"split-{number}" / f"{subset}-{name}.tsv"
        lists[split] = (table, read_list(require(table, "MTG-Jamendo", _SOURCE)))
    tags = tuple(sorted({tag for _, tracks in lists.values() for track in tracks for tag in track.tags}))
    splits = {
        split: [
            LabelledTrack(
                _present(inside(audio, track.path, table, line)),
                [float(tag in track.tags) for tag in tags],
                track.artist,
            )
            for line, track in enumerate(tracks, start=2)
        ]
        for split, (table, tracks) in lists.items()
    }
    return ProbeDataset("jamendo-top50", Tagging(tags), splits, _SOURCE)


def _present(path: Path) -> Path:
    """The file in the quality that this copy has."""
    low = path.with_name(f"{path.stem}.low.mp3")
    return low if low.is_file() else path
