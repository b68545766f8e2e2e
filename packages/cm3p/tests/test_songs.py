"""Maps and audio in folders and archives."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest

from cm3p.beatmap import FormatError, NotABeatmap, find_maps, map_id, read_beatmap, set_id
from cm3p.beatmap.archive import AudioSource
from cm3p.beatmap.names import NameIndex, decodings
from pentatonic.archive import ArchiveLimits


def osu(audio: str = "audio.mp3", title: str = "T", more: str = "") -> str:
    return (
        f"osu file format v14\n\n[General]\nAudioFilename: {audio}\n\n[Metadata]\nTitle:{title}\nArtist:A\nCreator:C\n"
        f"Version:V\n{more}\n[TimingPoints]\n0,500\n\n[HitObjects]\n1,1,1,1,0\n"
    )


def osz(path: Path, members: dict[str, str | bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def with_raw_name(path: Path, placeholder: str, name: bytes) -> None:
    """Give a member of an archive a name in a code page, as old programs did."""
    assert len(placeholder) == len(name)
    path.write_bytes(path.read_bytes().replace(placeholder.encode(), name))


def test_a_songs_folder_as_it_lies_on_disk(tmp_path: Path) -> None:
    songs = tmp_path / "Songs"
    for folder, name in (
        ("2 B - b", "b [x].osu"),
        ("1 A - a", "a [y].osu"),
        ("1 A - a", "a [x].osu"),
        ("deep/er", "c.osu"),
    ):
        (songs / folder).mkdir(parents=True, exist_ok=True)
        (songs / folder / name).write_text(osu(), encoding="utf-8")
    (songs / "1 A - a" / "AUDIO.MP3").write_bytes(b"sound")
    (songs / "1 A - a" / "readme.txt").write_text("no map")
    osz(songs / "new.osz", {"map.osu": osu(), "audio.mp3": b"music"})
    (songs / "page.osz").write_text("<!DOCTYPE html>404")
    (songs / "page.osu").write_text("<!DOCTYPE html>404")
    entries = list(find_maps(songs))
    assert [(entry.path.relative_to(songs).as_posix(), entry.member) for entry in entries] == [
        ("1 A - a/a [x].osu", None), ("1 A - a/a [y].osu", None), ("2 B - b/b [x].osu", None), ("deep/er/c.osu", None),
        ("new.osz", "map.osu"), ("page.osu", None), ("page.osz", None),
    ]  # fmt: skip
    assert [entry.audio.read() if entry.audio else None for entry in entries] == [
        b"sound", b"sound", None, None, b"music", None, None,
    ]  # fmt: skip
    assert entries[2].audio_note == "the audio file 'audio.mp3' is missing"
    assert all(isinstance(entry.error, NotABeatmap) and entry.beatmap is None for entry in entries[5:])
    assert "a zip file is expected" in str(entries[6].error)
    assert all(entry.error is None and len(entry.sha256) == 64 for entry in entries[:5])


def test_single_paths_and_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.osu").write_text(osu())
    assert [entry.where for entry in find_maps(tmp_path / "a.osu")] == [str(tmp_path / "a.osu")]
    (missing,) = find_maps([str(tmp_path / "none.osu")])
    assert "cannot be read" in str(missing.error)
    (missing,) = find_maps([tmp_path / "none.osz"])
    assert "cannot be read" in str(missing.error)


def test_archives_of_the_same_name_do_not_collide(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        osz(tmp_path / folder / "set.osz", {"m.osu": osu(title=folder), "audio.mp3": folder.encode()})
    entries = list(find_maps(tmp_path))
    assert [(entry.beatmap.title, entry.audio.read()) for entry in entries] == [("x", b"x"), ("y", b"y")]


def test_a_top_level_folder_and_names_in_another_case(tmp_path: Path) -> None:
    members = {
        "Song/": b"", "Song/m.OSU": osu("Sub\\Audio.MP3"), "Song/sub/audio.mp3": b"1", "sub/audio.mp3": b"2",
        "__MACOSX/Song/._m.osu": b"\0",
        "__MACOSX/Song/m.osu": b"\0", "Song/._m.osu": b"\0",
    }  # fmt: skip
    (entry,) = find_maps(osz(tmp_path / "a.osz", members))
    assert (entry.member, entry.audio, entry.audio.read()) == (
        "Song/m.OSU", AudioSource(tmp_path / "a.osz", "Song/sub/audio.mp3"), b"1",
    )  # fmt: skip
    (tmp_path / "disk" / "sub").mkdir(parents=True)
    (tmp_path / "disk" / "m.osu").write_text(osu("Sub\\Audio.MP3"))
    (tmp_path / "disk" / "sub" / "audio.mp3").write_bytes(b"3")
    (entry,) = find_maps(tmp_path / "disk")
    assert entry.audio.read() == b"3"


@pytest.mark.parametrize("encoding", ["cp932", "utf-8", "cp437"])
def test_member_names_in_a_legacy_code_page(encoding: str, tmp_path: Path) -> None:
    wanted = {"cp437": "é15.mp3"}.get(encoding, "無題15.mp3")
    raw = wanted.encode(encoding)
    path = osz(tmp_path / "a.osz", {"m.osu": osu(wanted), "x" * len(raw): b"music"})
    with_raw_name(path, "x" * len(raw), raw)
    (entry,) = find_maps(path)
    assert entry.audio is not None, entry.audio_note
    assert entry.audio.read() == b"music"
    assert entry.audio_note == ""


def test_names_on_a_disk_that_another_program_spoiled(tmp_path: Path) -> None:
    (tmp_path / "m.osu").write_text(osu("無題15.mp3"), encoding="utf-8")
    (tmp_path / "û│æÞ15.mp3").write_bytes(b"music")  # the bytes of cp932, taken for cp850
    (entry,) = find_maps(tmp_path)
    assert entry.audio.read() == b"music"


def test_ambiguous_names_are_reported() -> None:
    index = NameIndex(["Track.mp3", "TRACK.MP3", "other"])
    assert index.find("Track.mp3") == ("Track.mp3", "")
    assert index.find("track.mp3") == (
        "TRACK.MP3",
        "'track.mp3' may be 'TRACK.MP3', 'Track.mp3'; the first is taken",
    )
    cp932, utf8 = ("題".encode(encoding).decode("cp437") for encoding in ("cp932", "utf-8"))
    found, note = NameIndex([cp932, utf8]).find("題")
    assert found in (cp932, utf8)
    assert "may be" in note


@pytest.mark.parametrize("wanted", ["../audio.mp3", "/etc/passwd", "C:\\audio.mp3", "a/../../b"])
def test_names_outside_the_folder(wanted: str) -> None:
    found, note = NameIndex(["audio.mp3"]).find(wanted)
    assert found is None
    assert "outside the map's folder" in note


def test_composed_and_decomposed_letters() -> None:
    assert NameIndex(["Cafe\u0301.mp3"]).find("caf\u00e9.mp3")[0] == "Cafe\u0301.mp3"
    assert decodings("plain.mp3") == set()


@pytest.mark.parametrize("audio", ["", "virtual"])
def test_maps_without_audio(audio: str, tmp_path: Path) -> None:
    (tmp_path / "m.osu").write_text(osu(audio))
    (entry,) = find_maps(tmp_path)
    assert (entry.audio, entry.audio_note) == (None, "the map names no audio file")


def test_bad_archives_are_entries_and_the_rest_goes_on(tmp_path: Path) -> None:
    good = osz(tmp_path / "good.osz", {"a.osu": "<html>", "b.osu": osu(), "audio.mp3": b"1"})
    (tmp_path / "cut.osz").write_bytes(good.read_bytes()[:-30])
    osz(tmp_path / "none.osz", {"audio.mp3": b"1"})
    deflate64 = bytearray(good.read_bytes())
    central = deflate64.index(b"PK\x01\x02")
    deflate64[central + 10 : central + 12] = struct.pack("<H", 9)
    (tmp_path / "sixtyfour.osz").write_bytes(deflate64)
    entries = {(entry.path.name, entry.member): entry for entry in find_maps(tmp_path)}
    assert set(entries) == {
        ("cut.osz", None), ("good.osz", "a.osu"), ("good.osz", "b.osu"), ("none.osz", None), ("sixtyfour.osz", "a.osu"),
        ("sixtyfour.osz", "b.osu"),
    }  # fmt: skip
    assert entries["good.osz", "b.osu"].error is None
    assert entries["sixtyfour.osz", "b.osu"].error is None
    assert "member 'a.osu' is compressed by method 9" in str(entries["sixtyfour.osz", "a.osu"].error)
    messages = {name: str(entry.error) for (name, _), entry in entries.items()}
    assert "its end is missing" in messages["cut.osz"]
    assert "holds no map" in messages["none.osz"]
    assert f"{good}: a.osu: not a beatmap" in str(entries["good.osz", "a.osu"].error)


def test_limits_of_archives(tmp_path: Path) -> None:
    path = osz(tmp_path / "a.osz", {"m.osu": osu(), "audio.mp3": b"\0" * 5000})
    (entry,) = find_maps(path, limits=ArchiveLimits(member_bytes=1000))
    assert "at most 1000 are allowed" in str(entry.error)
    with pytest.raises(FormatError, match="more than 10 bytes"):
        (tmp_path / "audio.mp3").write_bytes(b"0" * 11)
        AudioSource(tmp_path / "audio.mp3").read(ArchiveLimits(member_bytes=10))


def test_ids(tmp_path: Path) -> None:
    texts = {
        "a": osu(more="BeatmapID:5\nBeatmapSetID:6\n"), "b": osu(more="BeatmapID:0\nBeatmapSetID:-1\n"), "c": osu(),
        "d": osu(title="other"), "e": osu().replace("Title:T\nArtist:A\n", ""),
    }  # fmt: skip
    for name, text in texts.items():
        (tmp_path / f"{name}.osu").write_text(text)
    entries = list(find_maps(tmp_path))
    maps = [map_id(entry.beatmap, entry.sha256) for entry in entries]
    sets = [set_id(entry.beatmap, entry.sha256) for entry in entries]
    assert (maps[0], sets[0]) == (5, 6)
    assert len(set(maps)) == 5
    assert all(-(2**60) <= number < 0 for number in [*maps[1:], *sets[1:]])
    assert sets[1] == sets[2]  # one song by one mapper
    assert len(set(sets)) == 4
    nameless = [read_beatmap(f"osu file format v14\n[General]\nMode: {mode}\n") for mode in (0, 1)]
    assert set_id(nameless[0], "1" * 64) != set_id(nameless[1], "2" * 64)
    assert maps == [map_id(entry.beatmap, entry.sha256) for entry in find_maps(tmp_path)]


def test_archives_of_the_client(real_maps: Path) -> None:
    entries = list(find_maps(real_maps / "osu/client-archives"))
    assert len(entries) == 14
    assert all(entry.error is None for entry in entries)
    assert [entry.audio.member for entry in entries if entry.audio] == ["track.ogg"]
