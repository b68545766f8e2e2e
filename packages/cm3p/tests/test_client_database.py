"""The database of the game's client, written byte by byte."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from cm3p.beatmap import find_maps
from cm3p.catalogue.client_database import find_database, read_database
from pentatonic.errors import FormatError, InputError

MODEL = Path(__file__).parent / "goldens" / "saved_full"
Command = Callable[..., tuple[int, str, str]]
VERSIONS = [20131216, 20140609, 20191105, 20191106, 20250106, 20250107]


def text(value: str | None) -> bytes:
    if value is None:
        return b"\0"
    content, length = value.encode(), b""
    count = len(content)
    while count > 0x7F:
        length, count = length + bytes([count & 0x7F | 0x80]), count >> 7
    return b"\x0b" + length + bytes([count]) + content


def pairs(version: int, stars: dict[int, float]) -> bytes:
    layout = ("<BiBf", 12) if version >= 20250107 else ("<BiBd", 13)
    content = b"".join(struct.pack(layout[0], 8, mods, layout[1], value) for mods, value in stars.items())
    return struct.pack("<i", len(stars)) + content


def record(version: int, **given: Any) -> bytes:
    of = {"name": "a.osu", "folder": "1 A - B", "id": 5, "set": 1, "mode": 0, "status": 4} | given
    floats = version >= 20140609
    ratings: list[dict[int, float]] = [{64: 8.0, 0: 0.0}] * 4
    ratings[of["mode"]] = {64: 7.5, 0: of.get("stars", 5.25), 2: 4.0}
    content = b"".join(
        map(text, ["Artist", "Ärtist", "Title", None, "Mapper", "x" * 300, "song.mp3", "0" * 32])
    )
    content += text(of["name"])
    content += struct.pack("<BHHHq", of["status"], 10, 20, 1, 637000000000000000)
    content += struct.pack("<4f" if floats else "<4B", 9, 4, 5, 8) + struct.pack("<d", 1.4)
    if floats:
        content += b"".join(pairs(version, each) for each in ratings)
    content += struct.pack("<iii", 90, 95000, 30000)
    content += struct.pack("<i", 2) + struct.pack("<dd?", 500.0, 0.0, True) * 2
    content += (
        struct.pack("<iii", of["id"], of["set"], 0) + bytes(4) + struct.pack("<hfB", 0, 0.7, of["mode"])
    )
    content += (
        text("")
        + text("tags of it")
        + struct.pack("<h", 0)
        + text(None)
        + struct.pack("<?q?", True, 0, False)
    )
    content += text(of["folder"]) + struct.pack("<q5?", 0, *[False] * 5)
    content += (b"" if floats else b"\0\0") + struct.pack("<iB", 0, 0)
    return (struct.pack("<i", len(content)) if version < 20191106 else b"") + content


def database(version: int, *records: bytes) -> bytes:
    head = struct.pack("<ii?q", version, 1, True, 0) + text("player") + struct.pack("<i", len(records))
    return head + b"".join(records) + struct.pack("<i", 1)


@pytest.mark.parametrize("version", VERSIONS)
def test_records_of_all_versions(tmp_path: Path, version: int) -> None:
    path = tmp_path / "osu!.db"
    path.write_bytes(
        database(
            version,
            record(version),
            record(version, id=6, name="B.osu", mode=3, stars=2.5, status=2),
            record(version, id=-1, set=-1, name="c.osu", stars=-1.0, status=7),
        )
    )
    found = read_database(path)
    assert found.version == version and len(found) == 3 and set(found.by_id) == {5, 6}
    rated = version >= 20140609
    assert found.by_id[5].get("DifficultyRating") == (5.25 if rated else None)
    assert found.by_id[6].get("DifficultyRating") == (2.5 if rated else None)
    assert found.by_id[5]["Status"] == "ranked" and found.by_id[5]["Ranked"] == 1
    assert "Status" not in found.by_id[6]
    assert found.by_place["1 a - b", "c.osu"] == {"Ranked": 4, "Status": "loved"}


def test_no_length_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "osu!.db"
    whole = database(20250107, record(20250107), record(20250107, id=7))
    for size in range(len(whole) - 4):  # what follows the maps is not read
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError, match=r"osu!\.db"):
            read_database(path)
    rng = np.random.default_rng(0)
    for _ in range(500):
        damaged = bytearray(whole)
        for place in rng.integers(len(whole), size=3):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            assert len(read_database(path)) <= 2
        except FormatError:
            continue
    path.write_bytes(struct.pack("<ii?q", 20250107, 1, True, 0) + text(None) + struct.pack("<i", 2**31 - 1))
    with pytest.raises(FormatError, match="do not fit"):
        read_database(path)
    with pytest.raises(InputError, match="osu!"):
        read_database(tmp_path / "missing" / "osu!.db")


def test_a_songs_folder_has_star_ratings(tmp_path: Path, save_map: Any, cm3p_command: Command) -> None:
    songs, out = tmp_path / "osu!" / "Songs", tmp_path / "maps.parquet"
    save_map(songs / "1 A - B" / "a.osu", map_id=5, set_id=1)
    save_map(songs / "2 C - D" / "B.osu", x=200)
    save_map(songs / "3 E - F" / "c.osu", x=300, map_id=9)
    (songs.parent / "osu!.db").write_bytes(
        database(
            20250107,
            record(20250107),
            record(20250107, folder="2 c - d", name="b.osu", id=0, set=-1, stars=6.5),
        )
    )
    assert find_database([songs]) == songs.parent / "osu!.db" == find_database([songs.parent])
    assert find_database([songs / "1 A - B"]) is None
    embed = ("embed", songs, "--out", out, "--model", MODEL, "--no-audio")
    status, _, messages = cm3p_command(*embed)
    assert status == 0 and "osu!.db" in messages, messages
    table = pq.read_table(out)
    names, stars = (table[name].to_pylist() for name in ("BeatmapFile", "DifficultyRating"))
    rated = dict(zip(names, stars, strict=True))
    assert rated == {"a.osu": 5.25, "B.osu": 6.5, "c.osu": None}
    about = json.loads(table.schema.metadata[b"cm3p.embed"])
    assert about["star_ratings"] == {"file": str(songs.parent / "osu!.db"), "version": 20250107}
    status, found, _ = cm3p_command(
        "search", out, "--like", songs / "3 E - F" / "c.osu", "--stars", "6:7", "--json"
    )
    assert status == 0 and [each["map"]["BeatmapFile"] for each in json.loads(found)["found"]] == ["B.osu"]
    # A damaged one is passed over where it was only found, and is an error where it was named.
    (songs.parent / "osu!.db").write_bytes(b"nothing")
    status, _, messages = cm3p_command(*embed)
    assert status == 0 and "star ratings are not known" in messages
    status, _, messages = cm3p_command(*embed, "--database", songs.parent / "osu!.db")
    assert status == 1 and "osu!.db" in messages
    assert next(iter(find_maps(songs))).beatmap is not None
