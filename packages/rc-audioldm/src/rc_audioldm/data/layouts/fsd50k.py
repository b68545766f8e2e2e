"""FSD50K: sounds with classes; tables ``dev.csv`` and ``eval.csv``, folders of audio, licences in JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pentatonic.errors import FormatError, InputError
from pentatonic.untrusted.files import read_json
from rc_audioldm.data.layouts.audio_index import AUDIO_SUFFIXES, AudioIndex
from rc_audioldm.data.manifest import ManifestRow, place_under
from rc_audioldm.data.tables import read_rows, read_table
from rc_audioldm.licences import licence_name

Split = Literal["dev", "eval"]
SPLITS: tuple[Split, ...] = ("dev", "eval")
_CLASSES_NAMED = 3
_MOST_INFO_BYTES = 512 << 20


@dataclass(frozen=True)
class ClipInfo:
    """What ``*_clips_info_FSD50K.json`` says about a clip."""

    title: str = ""
    uploader: str = ""
    licence: str = "unknown"


@dataclass(frozen=True)
class Clip:
    """A row of ``dev.csv`` or ``eval.csv`` whose audio is there.

    Args:
        file: Its audio.
        split: From the name of the table.
        labels: Cell of the class names.
        mids: Cell of the ids of the classes.
    """

    file: Path
    split: Split | None
    labels: str
    mids: str

    @property
    def row_id(self) -> str:
        """Id in a manifest: the number of the sound at Freesound, with the split."""
        return f"fsd50k-{self.split or 'clip'}-{self.file.stem}"


def parse_labels(cell: str) -> tuple[str, ...]:
    """Return the class names of a cell in lower case: between commas or semicolons, without quotes."""
    parts = cell.strip().strip("\"'").replace(";", ",").split(",")
    return tuple(name for part in parts if (name := part.strip().lower()))


def split_of(table: Path, *, legacy: bool = False) -> Split | None:
    """Return the split that a table's name says; with ``legacy``, the first one that its whole path says."""
    text = (table.absolute().as_posix() if legacy else table.name).lower()
    return next((split for split in SPLITS if split in text), None)


def find_table(root: Path, name: str) -> Path | None:
    """Find ``dev.csv``, ``eval.csv`` or ``vocabulary.csv`` in a folder or in the folders of the archive in it."""
    places = (root / name, root / "FSD50K.ground_truth" / name, root / "ground_truth" / name)
    return next((place for place in places if place.is_file()), None)


def clips_of(table: Path, index: AudioIndex, *, legacy: bool = False) -> Iterator[Clip | None]:
    """Yield the clip of each row of a table; None where there is no audio.

    Raises:
        FormatError: It is not a table with the columns ``fname`` and ``labels``.
    """
    split = split_of(table, legacy=legacy)
    for cells in read_table(table, ("fname", "labels")):
        file = find_clip(index, cells["fname"], split)
        yield None if file is None else Clip(file, split, cells["labels"], cells.get("mids", ""))


def find_clip(index: AudioIndex, fname: str, split: Split | None = None) -> Path | None:
    """Find the audio of a row: by its base name, with each suffix, or by its number.

    Args:
        index: All audio.
        fname: With or without a suffix.
        split: Of several files, one in a folder of this split is taken first.
    """
    if not fname:
        return None
    candidates = (index.named(fname + suffix) for suffix in ("", *AUDIO_SUFFIXES))
    found = next((files for files in candidates if files), None)
    stem = PurePosixPath(fname.replace("\\", "/")).stem
    if not found and stem.isdecimal():
        found = index.with_stem(stem)
    if not found:
        return None
    of_split = [file for file in found if split and split in place_under(index.root, file).lower()]
    return (of_split or found)[0]


def fsd50k_rows(
    root: str | Path, *, limit: int | None = None, legacy: bool = False, index: AudioIndex | None = None
) -> Iterator[ManifestRow]:
    """Yield the clips of FSD50K with a caption each: dev first, then eval.

    Args:
        root: Folder with the tables and the audio.
        limit: Rows at most.
        legacy: As in the original, names in the tables must have a suffix, which those of the published tables lack;
            and where no class is known by its id, the whole cell counts as one name.
        index: The files of ``root``.

    Raises:
        InputError: There is no table, or the folder is missing.
        FormatError: A table cannot be read.
    """
    index = index or AudioIndex(root)
    tables = [table for split in SPLITS if (table := find_table(index.root, f"{split}.csv"))]
    if not tables:
        raise InputError(f"{index.root}: neither dev.csv nor eval.csv; needed: the folder of FSD50K")
    vocabulary = find_table(index.root, "vocabulary.csv")
    names = {} if vocabulary is None else read_vocabulary(vocabulary)
    rows = (row for table in tables for row in _captioned(table, index, names, legacy))
    return islice(rows, limit)


def _captioned(
    table: Path, index: AudioIndex, names: Mapping[str, str], legacy: bool
) -> Iterator[ManifestRow]:
    infos = {} if legacy else read_clip_infos(index.root, split_of(table))
    for cells in read_table(table, ("fname", "labels")):
        if legacy:
            file = next(iter(index.named(cells["fname"])), None)
        else:
            file = find_clip(index, cells["fname"], split_of(table))
        if file is not None:
            clip = Clip(file, split_of(table), cells["labels"], cells.get("mids", ""))
            yield manifest_row(
                clip, index, infos, caption=fsd50k_caption(clip.labels, clip.mids, names, legacy=legacy)
            )


def manifest_row(
    clip: Clip, index: AudioIndex, infos: Mapping[str, ClipInfo], *, caption: str = ""
) -> ManifestRow:
    """Return the row of a clip, with its own licence where FSD50K says it."""
    info = infos.get(clip.file.stem, ClipInfo())
    by = f": {info.title} by {info.uploader}" if info.uploader else ""
    return ManifestRow(
        id=clip.row_id,
        path=place_under(index.root, clip.file),
        source=f"FSD50K {clip.split or ''} {clip.file.stem}".replace("  ", " ") + by[:500],
        licence=info.licence,
        caption=caption,
        labels=parse_labels(clip.labels),
    )


def fsd50k_caption(labels: str, mids: str, names: Mapping[str, str], *, legacy: bool = False) -> str:
    """Return a caption of the first three classes.

    Args:
        labels: Cell of class names, used where no id is known.
        mids: Cell of ids.
        names: Id -> class name, from :func:`read_vocabulary`.
        legacy: The cell of class names counts as one name.
    """
    classes: Sequence[str] = [names[mid] for part in mids.split(",") if (mid := part.strip()) in names]
    if not classes:
        classes = [labels] if legacy else [part.strip() for part in labels.replace(";", ",").split(",")]
    spoken = [name.replace("_", " ") for name in classes if name][:_CLASSES_NAMED]
    return f"environmental sound: {', '.join(spoken)}" if spoken else "environmental sound"


def read_vocabulary(path: Path) -> dict[str, str]:
    """Read ``vocabulary.csv``: id -> class name.

    Its header names ``display_name`` and ``mid``; without one, rows are index, name, id.

    Raises:
        FormatError: A row is too short.
    """
    rows = [[cell.strip() for cell in row] for row in read_rows(path)]
    name_at, mid_at = 1, 2
    if rows and {"display_name", "mid"} <= set(rows[0]):
        name_at, mid_at = rows[0].index("display_name"), rows[0].index("mid")
        rows = rows[1:]
    if any(len(row) <= max(name_at, mid_at) for row in rows):
        raise FormatError("a row is too short; needed: index, display_name, mid", path=path)
    return {row[mid_at]: row[name_at] for row in rows}


def read_clip_infos(root: Path, split: Split | None) -> dict[str, ClipInfo]:
    """Read titles, authors and licences of a split: number -> what is said; empty where the file is not there.

    Raises:
        FormatError: The file is not in the format of FSD50K.
    """
    name = f"{split}_clips_info_FSD50K.json"
    places = (root / name, root / "FSD50K.metadata" / name, root / "metadata" / name)
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        return {}
    values = read_json(file, max_bytes=_MOST_INFO_BYTES, error=InputError)
    if not isinstance(values, dict) or not all(isinstance(value, dict) for value in values.values()):
        raise FormatError("not a table of clips; needed: an object with an object for each clip", path=file)
    return {
        number: ClipInfo(
            _text(value, "title"), _text(value, "uploader"), licence_name(_text(value, "license"))
        )
        for number, value in values.items()
    }


def _text(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    return " ".join(value.split())[:300] if isinstance(value, str) else ""
