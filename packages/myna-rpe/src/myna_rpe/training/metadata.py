"""What is known of tracks before they are prepared: artist, album, and the split that they belong to.

Two sources: the official split files of MTG-Jamendo, and a JSON Lines file of the user's own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from myna_rpe.training.spectrograms import SPLITS
from pentatonic.errors import FormatError, InputError

_SPLIT_NAMES = {"train": "train", "validation": "val", "test": "test"}
_COLUMNS = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")


@dataclass(frozen=True)
class TrackInfo:
    """What is known of a track; ``None`` for what is not."""

    artist: str | None = None
    album: str | None = None
    split: str | None = None


def read_jamendo_splits(folder: str | Path) -> dict[str, TrackInfo]:
    """Read official split files of MTG-Jamendo, such as ``autotagging_top50tags-train.tsv``.

    Each file ends in ``-train.tsv``, ``-validation.tsv`` or ``-test.tsv``. After the header ``TRACK_ID ARTIST_ID
    ALBUM_ID PATH DURATION TAGS`` come rows whose columns are separated by tabs; every tag is a column of its own.

    Args:
        folder: Where the files are; those of one subset and one split number.

    Returns:
        Path below the folder of audio, without its suffix (``48/948``) -> what is known of the track.

    Raises:
        InputError: A split is missing, or there are several files of it.
        FormatError: A row is wrong, a track stands twice, or an artist is in two splits.
    """
    folder = Path(folder)
    tracks: dict[str, TrackInfo] = {}
    splits_of_artists: dict[str, str] = {}
    for name, split in _SPLIT_NAMES.items():
        found = sorted(folder.glob(f"*-{name}.tsv"))
        if len(found) != 1:
            raise InputError(
                f"{folder} has {len(found)} files *-{name}.tsv; needed is one for each of "
                f"{', '.join(_SPLIT_NAMES)}, of one split and one set of tags"
            )
        path = found[0]
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            columns = line.split("\t")
            if number == 1:
                if tuple(columns[: len(_COLUMNS)]) != _COLUMNS:
                    raise FormatError(f"the header must be {' '.join(_COLUMNS)}", path=path, line=1)
                continue
            if len(columns) < len(_COLUMNS) or not columns[0].startswith("track_"):
                raise FormatError(
                    f"not a row of {len(_COLUMNS)} columns or more that starts with track_",
                    path=path,
                    line=number,
                )
            _, artist, album, place = columns[:4]
            key = str(Path(place).with_suffix(""))
            if key in tracks:
                raise FormatError(
                    f"the track {place} stands in the split files twice", path=path, line=number
                )
            other = splits_of_artists.setdefault(artist, split)
            if other != split:
                raise FormatError(
                    f"{artist} is in {other} and in {split}; the splits must not share an artist",
                    path=path,
                    line=number,
                )
            tracks[key] = TrackInfo(artist, album, split)
    return tracks


def read_metadata(path: str | Path) -> dict[str, TrackInfo]:
    """Read a JSON Lines file: objects with ``path`` and, where known, ``artist``, ``album`` and ``split``.

    Returns:
        Path below the folder of audio, with its suffix -> what is known of the track.

    Raises:
        FormatError: A line is wrong; the message has its number.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"metadata={path} is not a file")
    tracks = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line:
            continue
        try:
            values = json.loads(line)
            name = values["path"]
            info = TrackInfo(*(values.get(key) for key in ("artist", "album", "split")))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise FormatError(f"not an object with a path ({error!r})", path=path, line=number) from None
        texts = (name, *(text for text in (info.artist, info.album, info.split) if text is not None))
        if not all(isinstance(text, str) for text in texts) or info.split not in (None, *SPLITS):
            reason = f"values must be text, and split one of {', '.join(SPLITS)}"
            raise FormatError(reason, path=path, line=number)
        tracks[name] = info
    return tracks


def find_info(relative: Path, known: Mapping[str, TrackInfo]) -> TrackInfo | None:
    """Look a file up by its path below the folder of audio: as it is, then without its suffix.

    MTG-Jamendo in low quality calls the same track ``948.low.mp3``.
    """
    whole, bare = relative.as_posix(), relative.with_suffix("").as_posix()
    for key in (whole, bare, bare.removesuffix(".low")):
        if key in known:
            return known[key]
    return None


def with_split(info: TrackInfo, source: str, *, val_fraction: float, seed: int) -> TrackInfo:
    """Return the information with a split: its own, or one by a hash, equal for all tracks of an artist or album."""
    if info.split is not None:
        return info
    group = info.artist or info.album or source
    # Names of files need not be valid UTF-8.
    digest = hashlib.sha256(f"{seed}/{group}".encode("utf-8", "surrogateescape")).digest()
    in_val = int.from_bytes(digest[:4], "big") < val_fraction * 2**32
    return replace(info, split="val" if in_val else "train")
