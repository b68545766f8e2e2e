"""``osu!.db``: what the game's client knows about the maps of its Songs folder, star ratings above all.

Reading is bounded by the size of the file: no length or count of it is believed before that many bytes are there.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from cm3p.beatmap import RULESETS, MapEntry
from cm3p.metadata import STATUSES
from pentatonic.errors import FormatError, InputError
from pentatonic.untrusted.files import regular_file_size

DATABASE_FILE = "osu!.db"
"""Name of the file, beside the Songs folder."""

_MAX_BYTES = 2 << 30
_MAX_TEXT_BYTES = 1 << 20
# The versions from which on a record is laid out otherwise; they are dates.
_FLOATS, _NO_SIZES, _SINGLE_RATINGS = 20140609, 20191106, 20250107
_SMALLEST_RECORD = 90
_RANKED = {4: 1, 5: 2, 6: 3, 7: 4}
"""Numbers of the client to those of the web site; of others it is not known which of several they are."""


@dataclass
class ClientDatabase:
    """Rows of maps, with columns as those of a data set.

    Args:
        path: The file.
        version: Date of the client, such as 20250107.
        by_id: Rows by the ids of submitted maps.
        by_place: Rows by folder and file name, in lower case.
    """

    path: Path
    version: int
    by_id: dict[int, dict[str, Any]] = field(default_factory=dict)
    by_place: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.by_place)

    def row(self, entry: MapEntry) -> dict[str, Any]:
        """Return what is known of a map, by its id or else by its place in the Songs folder; empty if nothing is."""
        beatmap = entry.beatmap
        if beatmap is not None and beatmap.beatmap_id and (row := self.by_id.get(beatmap.beatmap_id)):
            return row
        return self.by_place.get((entry.path.parent.name.lower(), entry.path.name.lower()), {})


def find_database(paths: Iterable[Path]) -> Path | None:
    """Return the client's database in or beside one of some folders, such as the Songs folder; else None."""
    for path in paths:
        for folder in (path, path.absolute().parent):
            if path.is_dir() and (folder / DATABASE_FILE).is_file():
                return folder / DATABASE_FILE
    return None


def read_database(path: Path) -> ClientDatabase:
    """Read the client's database.

    Raises:
        FormatError: It is none, or is damaged or cut off.
        InputError: It cannot be read.
    """
    size = regular_file_size(path, error=InputError)
    if size > _MAX_BYTES:
        raise FormatError(f"has {size} bytes; allowed: {_MAX_BYTES}", path=path)
    try:
        with path.open("rb") as file:
            return _Reader(path, file, size).database()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


class _Reader:
    """Numbers are little-endian. A text is the byte 0, or the byte 11, its length as ULEB128, and its UTF-8."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self.path, self.file, self.size = path, file, size
        self.at = 0
        self.version = 0

    def database(self) -> ClientDatabase:
        self.version, _folders, _unlocked, _date = self.numbers("<ii?q")
        if not 20070000 < self.version < 21000000:
            raise self.wrong(f"version {self.version} is no date, so this is not the database of a client")
        self.text()  # player
        found = ClientDatabase(self.path, self.version)
        for _ in range(self.count(_SMALLEST_RECORD)):
            self.record(found)
        return found

    def record(self, found: ClientDatabase) -> None:
        if self.version < _NO_SIZES:
            self.skip(4)
        for _ in range(8):  # artist, title, each also in Unicode, creator, difficulty, audio file, MD5
            self.text()
        name = self.text(wanted=True)
        (status,) = self.numbers("<B")
        self.skip(3 * 2 + 8)  # counts of objects, time of the last change
        floats = self.version >= _FLOATS
        self.skip(4 * (4 if floats else 1) + 8)  # AR, CS, HP, OD, slider velocity
        stars = [self.stars() for _ in RULESETS] if floats else [None] * len(RULESETS)
        self.skip(3 * 4)  # lengths
        self.skip(self.count(17) * 17)  # timing points
        map_id, set_id, _thread = self.numbers("<iii")
        self.skip(4 + 2 + 4)  # grades, offset, stack leniency
        (mode,) = self.numbers("<B")
        self.text()  # source
        self.text()  # tags
        self.skip(2)  # offset of the web site
        self.text()  # font
        self.skip(1 + 8 + 1)  # unplayed, last played, osz2
        folder = self.text(wanted=True)
        self.skip(8 + 5 + (0 if floats else 2) + 4 + 1)  # last check, choices of the player
        ranked = _RANKED.get(status)
        row = {
            "DifficultyRating": stars[mode] if mode < len(stars) else None,
            "Ranked": ranked,
            "Status": None if ranked is None else STATUSES[ranked],
            "BeatmapSetId": set_id if set_id > 0 else None,
        }
        row = {key: value for key, value in row.items() if value is not None}
        found.by_place[folder.lower(), name.lower()] = row
        if map_id > 0:
            found.by_id[map_id] = row

    def stars(self) -> float | None:
        """The star rating without mods, of pairs of mods and rating, each behind a byte for its type."""
        single = self.version >= _SINGLE_RATINGS
        pair = struct.Struct("<BiBf" if single else "<BiBd")
        kinds = (8, 12) if single else (8, 13)
        pairs = self.take(self.count(pair.size) * pair.size)
        rating: float | None = None
        for first, mods, second, value in pair.iter_unpack(pairs):
            if (first, second) != kinds:
                raise self.wrong("a star rating has another type of number")
            # Not computed yet: 0, or a negative number.
            if mods == 0 and 0 < value < 1e6:
                rating = value
        return rating

    def count(self, item_bytes: int) -> int:
        """A number of items, of which each takes so many bytes at least."""
        (count,) = self.numbers("<i")
        if not 0 <= count * item_bytes <= self.size - self.at:
            raise self.wrong(f"{count} items of {item_bytes} bytes do not fit into the rest of the file")
        return count

    def text(self, *, wanted: bool = False) -> str:
        """A text; what is not wanted is passed over."""
        (kind,) = self.take(1)
        if kind == 0:
            return ""
        if kind != 11:
            raise self.wrong(f"a text begins with the byte {kind}; allowed: 0, 11")
        length, shift = 0, 0
        while True:
            (byte,) = self.take(1)
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
            if shift > 28:
                raise self.wrong("the length of a text has more than five bytes")
        if length > _MAX_TEXT_BYTES:
            raise self.wrong(f"a text has {length} bytes; allowed: {_MAX_TEXT_BYTES}")
        if wanted:
            return self.take(length).decode(errors="replace")
        self.skip(length)
        return ""

    def numbers(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def take(self, count: int) -> bytes:
        self._need(count)
        content = self.file.read(count)
        if len(content) < count:  # cut off while it is read
            raise self.wrong("it ends within a record")
        self.at += count
        return content

    def skip(self, count: int) -> None:
        self._need(count)
        self.file.seek(count, io.SEEK_CUR)
        self.at += count

    def _need(self, count: int) -> None:
        if count > self.size - self.at:
            raise self.wrong("it ends within a record")

    def wrong(self, reason: str) -> FormatError:
        return FormatError(
            f"is damaged, or not the database of a client: at byte {self.at}, {reason}", path=self.path
        )
