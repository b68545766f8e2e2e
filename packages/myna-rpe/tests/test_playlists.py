"""Playlists made with a library."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from myna_rpe.geometry import distances_to_hull
from myna_rpe.playlists.commands import app
from myna_rpe.playlists.m3u import MARK, read_m3u
from myna_rpe.playlists.making import more_songs, places_of, way_between
from myna_rpe.playlists.songs import open_playlist
from pentatonic.errors import InputError, UsageError


@pytest.fixture
def playlist(tmp_path: Path, scanned: SimpleNamespace) -> Any:
    """``playlist(numbers, name="list.m3u", extra="")`` writes a playlist of pieces."""

    def write(numbers: list[int], name: str = "list.m3u", extra: str = "") -> Path:
        path = tmp_path / name
        path.write_text("".join(f"{scanned.music}/{number:02}.ogg\n" for number in numbers) + extra)
        return path

    return write


@pytest.fixture
def run(scanned: SimpleNamespace) -> Any:
    """``run(*arguments)`` runs a command of the playlists and returns its result."""

    def invoke(*arguments: object, fails: type[Exception] | None = None) -> Any:
        result = CliRunner().invoke(app, [*map(str, arguments), "--index", str(scanned.index)])
        if fails is not None:
            assert isinstance(result.exception, fails), result.exception
        else:
            assert result.exit_code == 0, (result.output, result.exception)
        return result

    return invoke


def titles(text: str) -> list[str]:
    return [song["title"] for song in json.loads(text)]


def test_make(run: Any, tmp_path: Path, scanned: SimpleNamespace) -> None:
    arguments = ("make", "--like", "Piece 1", "--like", "Piece 2", "--unlike", "Piece 3", "--count", 4)
    printed = run(*arguments, "--json").stdout
    songs = json.loads(printed)
    assert len(songs) == 4
    assert not {"Piece 1", "Piece 2", "Piece 3"} & set(titles(printed))
    assert [song["similarity"] for song in songs] == sorted(
        (song["similarity"] for song in songs), reverse=True
    )
    out = tmp_path / "out.m3u8"
    run(*arguments, "--include-seed", "--out", out)
    written = open_playlist(out, scanned.library)
    assert [track.title for track in written.tracks] == ["Piece 1", "Piece 2", *titles(printed)]
    assert not any(Path(song.entry.text).is_absolute() for song in written.songs)
    run(*arguments, "--absolute", "--out", out)
    assert all(Path(entry.text).is_absolute() for entry in read_m3u(out).entries)
    assert len({run(*arguments, "--variance", seed).stdout for seed in range(5)}) > 1
    assert "must" not in run(*arguments, "--out", tmp_path / "x.txt", fails=UsageError).stdout
    run("make", "--like", "silent", fails=InputError)


def test_fill_is_spread_like_its_target(run: Any, playlist: Any, scanned: SimpleNamespace) -> None:
    target = playlist([1, 4, 6, 8])
    found = titles(run("fill", target, "--count", 5, "--json").stdout)
    assert len(set(found)) == 5
    library = scanned.library
    songs = [library.find(f"Piece {n}") for n in (1, 4, 6, 8)]
    assert not {song.title for song in songs} & set(found)
    assert more_songs(library, songs, 5, where="like")[0].title == found[0]
    capped = run("fill", target, "--count", 9, "--max-per-artist", 1, "--json").stdout
    artists = [song["artist"] for song in json.loads(capped) if song["artist"]]
    assert len(artists) == len(set(artists))


def test_extend_keeps_what_is_the_users(run: Any, playlist: Any, tmp_path: Path) -> None:
    file = playlist([2, 5, 2], extra="#mine\nmissing.mp3\n")
    before = file.read_text()
    first = titles(run("extend", file, "--count", 3, "--json").stdout)
    text = file.read_text()
    assert len(first) == 3
    assert text.startswith("#EXTM3U\n" + before)
    assert text.count(MARK) == 3
    entries = read_m3u(file).entries
    assert [entry.added for entry in entries] == [False] * 4 + [True] * 3
    assert titles(run("extend", file, "--count", 3, "--json").stdout) == first, "its own songs do not count"
    assert file.read_text() == text
    several = {
        tuple(titles(run("extend", file, "--count", 3, "--variance", s, "--json").stdout)) for s in range(5)
    }
    assert len(several) > 1
    assert file.read_text().startswith("#EXTM3U\n" + before)
    run("extend", file, "--count", 0)
    assert file.read_text() == "#EXTM3U\n" + before
    run("extend", file, "--count", 2, "--dry-run")
    assert file.read_text() == "#EXTM3U\n" + before
    other = tmp_path / "deep" / "other.m3u8"
    run("extend", file, "--count", 2, "--where", "edge", "--out", other)
    assert file.read_text() == "#EXTM3U\n" + before


def test_between_always_has_a_way(run: Any, playlist: Any, scanned: SimpleNamespace) -> None:
    a, b = playlist([1, 2], "a.m3u"), playlist([7, 9], "b.m3u")
    found = json.loads(run("between", a, b, "--steps", 4, "--json").stdout)
    lengths = [step["length"] for step in found["steps"]] + [found["arrival"]]
    assert len(lengths) == 5
    assert found["worst"]["length"] == max(lengths)
    assert found["worst"]["step"] == lengths.index(max(lengths)) + 1
    names = {step["title"] for step in found["steps"]}
    assert len(names) == 4
    assert not names & {"Piece 1", "Piece 2", "Piece 7", "Piece 9"}
    library = scanned.library
    first = library.vectors[library.row(library.find(found["steps"][0]["id"]))]
    start = library.vectors[[library.row(library.find(f"Piece {n}")) for n in (1, 2)]]
    assert lengths[0] == pytest.approx(np.linalg.norm(start - first, axis=1).min(), rel=1e-5)
    text = run("between", a, b, "--steps", 100).stdout.splitlines()
    assert len(text) == 8 + 2, "all others, one of each group"
    assert text[-1].startswith("longest step: ")
    assert json.loads(run("between", a, b, "--steps", 0, "--json").stdout)["steps"] == []
    everything = [library.find(f"Piece {n}") for n in range(12)]
    assert way_between(library, everything, everything[:1], 5).steps == []


def test_order(run: Any, playlist: Any, tmp_path: Path, scanned: SimpleNamespace) -> None:
    file = playlist([3, 1, 4, 1, 9], extra="#EXTINF:1,gone\nmissing.mp3\n")
    out = tmp_path / "out.m3u"
    printed = json.loads(run("order", file, "--first", 5, "--out", out, "--json").stdout)
    assert printed[0]["title"] == "Piece 9"
    assert sorted(song["title"] for song in printed) == [
        "Piece 1",
        "Piece 1",
        "Piece 3",
        "Piece 4",
        "Piece 9",
    ]
    assert printed[0]["length"] == 0
    found = read_m3u(out)
    assert found.entries[-1].text == "missing.mp3"
    assert found.entries[-1].comments == ("#EXTINF:1,gone",)
    assert len(found.entries) == 6
    run("order", file, "--first", 6, fails=UsageError)


def test_places(run: Any, playlist: Any, scanned: SimpleNamespace) -> None:
    file = playlist([0, 3, 5, 6, 8])
    found = json.loads(run("places", file, "--count", 0, "--json").stdout)
    assert len(found) == 7, "all others, one of each group"
    assert [each["distance"] for each in found] == sorted(each["distance"] for each in found)
    assert {each["label"] for each in found} <= {"inside", "near", "outside"}
    library = scanned.library
    points = library.vectors[[library.row(library.find(f"Piece {n}")) for n in (0, 3, 5, 6, 8)]]
    query = library.vectors[[library.row(library.find(found[0]["id"]))]]
    assert found[0]["distance"] == pytest.approx(distances_to_hull(points, query).distances[0])
    one = json.loads(run("places", playlist([4, 4], "one.m3u"), "--json").stdout)
    assert {(each["ratio"], each["percentile"]) for each in one} == {(None, None)}
    text = run("places", playlist([4], "one.m3u"), "--count", 2).stdout.splitlines()
    assert len(text) == 3
    assert " - " in text[1]
    inside = places_of(library, [library.find("Piece 4"), library.find("Piece 7")], [library.find("Piece 7")])
    assert inside[0][1].label == "inside"


def test_json_is_written_as_it_is_printed(run: Any, playlist: Any, tmp_path: Path) -> None:
    pytest.importorskip("spotipy")
    from myna_rpe.spotify.playlists import read_list

    a, b = playlist([1, 2], "a.m3u"), playlist([7, 9], "b.m3u")
    before = a.read_bytes()
    for arguments in (
        ("make", "--like", "Piece 1", "--include-seed"),
        ("extend", a),
        ("fill", a),
        ("between", a, b),
        ("order", a),
    ):
        out = tmp_path / "new" / f"{arguments[0]}.JSON"
        printed = run(*arguments, "--out", out, "--json").stdout
        assert out.read_text() == printed
        entries = json.loads(printed)
        entries = entries["steps"] if isinstance(entries, dict) else entries
        found = read_list(out, {entry["path"]: "x" * 22 for entry in entries})
        assert len(found.ids) == len(entries) > 0 and not found.missing
    assert a.read_bytes() == before
    run("extend", a, "--dry-run", "--out", tmp_path / "dry.json")
    assert not (tmp_path / "dry.json").exists()


def test_other_suffixes_are_refused_before_any_work(run: Any, playlist: Any, tmp_path: Path) -> None:
    file = playlist([1, 2])
    for name in ("x.txt", "x", "x.html"):
        for arguments in (("make", "--like", "no such track"), ("fill", file), ("order", file)):
            error = run(*arguments, "--out", tmp_path / "new" / name, fails=UsageError).exception
            assert "allowed are names that end in .m3u, .m3u8, .json" in str(error)
    assert not (tmp_path / "new").exists()
    saved = playlist([1], "saved.json")
    error = run("extend", saved, fails=UsageError).exception
    assert str(error).endswith("saved.json: allowed are names that end in .m3u, .m3u8")


def test_playlists_of_other_machines(tmp_path: Path, scanned: SimpleNamespace) -> None:
    lines = [
        "D:\\Old\\Music\\MUSIC\\04.OGG",
        "/somewhere/else/music/05.ogg",
        "http://radio/06.ogg",
        "music/nothing.ogg",
        f"{scanned.music}/silent.wav",
        f"{scanned.music}/broken.ogg",
    ]
    file = tmp_path / "list.m3u"
    file.write_text("\n".join(lines))
    found = open_playlist(file, scanned.library)
    assert [track.title for track in found.tracks] == ["Piece 4", "Piece 5"]
    reasons = list(found.unusable.values())
    assert reasons[0] == "an address in a network, and no file"
    assert reasons[1] == "there is no such file"
    assert reasons[2].startswith("cannot be compared, for it is quiet")
    assert reasons[3].startswith("could not be embedded: ")
    file.write_text("a" * 10**6)
    ((shown, reason),) = open_playlist(file, scanned.library).unusable.items()
    assert (len(shown), reason) == (103, "longer than the path of a file can be")
    shutil.copy(scanned.music / "07.ogg", tmp_path / "unknown.ogg")
    file.write_text("unknown.ogg\n")
    (reason,) = open_playlist(file, scanned.library).unusable.values()
    assert reason == "the library does not have it; scan its folder"


def test_without_songs_there_is_an_error(
    run: Any, playlist: Any, scanned: SimpleNamespace, tmp_path: Path
) -> None:
    empty, lost = playlist([], "empty.m3u"), playlist([], "lost.m3u", extra="gone.mp3\n")
    for command in ("fill", "extend", "order", "places"):
        assert "it is empty" in str(run(command, empty, fails=InputError).exception)
    assert "gone.mp3: there is no such file" in str(run("extend", lost, fails=InputError).exception)
    assert lost.read_text() == "gone.mp3\n"
    full = playlist([1])
    run("between", full, empty, fails=InputError)
    run("between", tmp_path / "nothing.m3u", full, fails=UsageError)
    for call in (
        lambda: more_songs(scanned.library, [], 3),
        lambda: places_of(scanned.library, []),
        lambda: way_between(scanned.library, [], [], 3),
    ):
        with pytest.raises(InputError):
            call()
