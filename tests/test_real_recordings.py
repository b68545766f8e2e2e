"""Fetching recordings from packages, with stand-ins for apt-get and dpkg."""

import hashlib
import json
import sys

import pytest
import real_recordings
import soundfile
import torch
from real_recordings import describe, fetch, write_manifest

from pentatonic.audio import save
from pentatonic.errors import InputError

APT = """\
[ "$1" = download ] || exit 9
echo "apt $2" >> "$CALLS"
[ -d "$ARCHIVE/$2" ] || { echo "Reading lists" >&2; echo "E: Unable to locate package $2" >&2; exit 100; }
echo "package $2" > "$2_1%3a2-3_all.deb"
"""
DPKG = """\
name=$(sed 's/package //' "$2")
case "$1" in
    -x) mkdir "$3" && cp -r "$ARCHIVE/$name/." "$3" ;;
    -f) [ "$3" = Version ] && echo "1:2-3" ;;
    *) exit 9 ;;
esac
"""


def program(folder, name, script):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}")
    path.chmod(0o755)


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Packages that the stand-ins know, as folders."""
    programs, packages = tmp_path / "bin", tmp_path / "archive"
    programs.mkdir()
    program(programs, "apt-get", APT)
    program(programs, "dpkg", DPKG)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("ARCHIVE", str(packages))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    add_package(packages, "wesnoth-1.16-music", ["battle.ogg"])
    add_package(packages, "singularity-music", ["lose/march.ogg", "nebula.ogg"])
    return packages


def add_package(packages, name, files):
    music = packages / name / "usr/share/games/music"
    licence = packages / name / "usr/share/doc" / name / "copyright"
    licence.parent.mkdir(parents=True)
    licence.write_text("The licence.")
    for file in files:
        path = music / file
        path.parent.mkdir(parents=True, exist_ok=True)
        with soundfile.SoundFile(path, "w", 8000, 1, format="OGG", subtype="VORBIS") as sound:
            sound.title, sound.artist, sound.album = path.stem, "Ann Other", "Tünes"
            sound.write(torch.zeros(4000).numpy())


def calls(tmp_path):
    return (tmp_path / "calls").read_text().split("\n")[:-1]


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["real_recordings.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        real_recordings.main()
    return ended.value.code


def test_the_manifest_says_what_was_fetched(archive, tmp_path, monkeypatch, capsys):
    out = tmp_path / "deep" / "recordings"
    assert run(monkeypatch, "wesnoth-1.16-music", "singularity-music", "--out", out) == 0
    records = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert [record["file"] for record in records] == [
        "singularity-music/usr/share/games/music/lose/march.ogg",
        "singularity-music/usr/share/games/music/nebula.ogg",
        "wesnoth-1.16-music/usr/share/games/music/battle.ogg",
    ]
    assert records[2] == {
        "package": "wesnoth-1.16-music",
        "version": "1:2-3",
        "sha256": hashlib.sha256(b"package wesnoth-1.16-music\n").hexdigest(),
        "licence_text": "wesnoth-1.16-music/usr/share/doc/wesnoth-1.16-music/copyright",
        "use": "evaluation",
        "file": "wesnoth-1.16-music/usr/share/games/music/battle.ogg",
        "title": "battle",
        "composer": "Ann Other",
        "album": "Tünes",
        "licence": None,
        "duration_s": 0.5,
    }
    assert {record["use"] for record in records[:2]} == {"see licence"}
    assert all((out / record[key]).is_file() for record in records for key in ("file", "licence_text"))
    assert "3 recordings, 0.00 h" in capsys.readouterr().out
    # Only the packages and the manifest are left: no package file, no temporary folder.
    assert sorted(path.name for path in out.iterdir()) == [
        "manifest.jsonl",
        "singularity-music",
        "wesnoth-1.16-music",
    ]
    assert not list(out.rglob("*.deb"))


@pytest.mark.parametrize(
    ("package", "use"),
    [
        ("wesnoth-1.16-music", "evaluation"),
        ("wesnoth-1.18-music", "evaluation"),
        ("warzone2100-music", "evaluation"),
        ("planetblupi-music-ogg", "evaluation"),
        ("planetblupi-music-midi", "evaluation"),
        ("hyperrogue-music", "see licence"),
        ("not-warzone2100-music", "see licence"),
    ],
)
def test_what_models_are_judged_on_is_marked(tmp_path, package, use):
    add_package(tmp_path, package, ["a.ogg"])
    (record,) = describe(package, tmp_path / package, version="1", sha256="")
    assert record["use"] == use


def test_evaluation_stands_for_the_packages_of_the_crops(archive, tmp_path, monkeypatch):
    for package in ("warzone2100-music", "planetblupi-music-ogg"):
        add_package(archive, package, ["a.ogg"])
    assert run(monkeypatch, "evaluation", "wesnoth-1.16-music", "--out", tmp_path / "out") == 0
    names = ["wesnoth-1.16-music", "warzone2100-music", "planetblupi-music-ogg"]
    assert calls(tmp_path) == [f"apt {name}" for name in names]


def test_what_is_complete_is_not_fetched_again(archive, tmp_path):
    out = tmp_path / "out"
    assert fetch("singularity-music", out)
    assert not fetch("singularity-music", out)
    assert calls(tmp_path) == ["apt singularity-music"]


def test_a_package_that_was_interrupted_is_fetched_again(archive, tmp_path, monkeypatch):
    out, finished = tmp_path / "out", describe

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(real_recordings, "describe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch("singularity-music", out)
    assert list(out.iterdir()) == []
    monkeypatch.setattr(real_recordings, "describe", finished)
    assert fetch("singularity-music", out)
    assert len(write_manifest(out)) == 2


def test_one_package_that_fails_does_not_stop_the_others(archive, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    assert (
        run(monkeypatch, "no-music", "--", "-o", "singularity-music", "--out") == 2
    )  # --out without a folder
    assert run(monkeypatch, "no-music", "Bad/Name", "singularity-music", "--out", out) == 3
    said = capsys.readouterr().err
    assert "no-music: apt-get download failed with status 100: E: Unable to locate package no-music" in said
    assert "`apt-get update`" in said
    assert "'Bad/Name' is not the name of a package" in said
    assert len((out / "manifest.jsonl").read_text().splitlines()) == 2
    assert sorted(path.name for path in out.iterdir()) == ["manifest.jsonl", "singularity-music"]


@pytest.mark.parametrize("missing", ["apt-get", "dpkg"])
def test_a_missing_program_is_named(archive, tmp_path, monkeypatch, missing):
    (tmp_path / "bin" / missing).unlink()
    for name in ("sed", "sh", "cp", "mkdir"):
        (tmp_path / "bin" / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(InputError, match=f"{missing} is not on the search path; this tool needs Debian"):
        fetch("singularity-music", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_of_the_user_is_kept(archive, tmp_path):
    kept = tmp_path / "out" / "singularity-music" / "notes.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    with pytest.raises(InputError, match="was not made by this tool"):
        fetch("singularity-music", tmp_path / "out")
    assert kept.read_text() == "mine"


def test_damaged_files_links_and_scores_are_described(tmp_path):
    add_package(tmp_path, "mixed", ["good.ogg"])
    music = tmp_path / "mixed/usr/share/games/music"
    (music / "bad.ogg").write_bytes(b"OggS" + bytes(100))
    (music / "song.mid").write_bytes(b"MThd")
    (music / "link.ogg").symlink_to(music / "good.ogg")
    (music / "readme.txt").write_text("x")
    save(music / "untagged.wav", torch.zeros(8000), 8000)
    records = {
        record["file"].rpartition("/")[2]: record
        for record in describe("mixed", tmp_path / "mixed", version="1", sha256="")
    }
    assert list(records) == ["bad.ogg", "good.ogg", "song.mid", "untagged.wav"]
    assert records["bad.ogg"]["problem"] and records["bad.ogg"]["duration_s"] is None
    assert [name for name, record in records.items() if "problem" in record] == ["bad.ogg"]
    assert records["song.mid"]["duration_s"] is None
    assert (records["untagged.wav"]["duration_s"], records["untagged.wav"]["composer"]) == (1.0, None)


def test_a_package_without_music_or_licence_is_refused(archive, tmp_path):
    add_package(archive, "text-only", [])
    add_package(archive, "no-licence", ["a.ogg"])
    (archive / "no-licence/usr/share/doc/no-licence/copyright").unlink()
    with pytest.raises(InputError, match="text-only holds no audio or MIDI files"):
        fetch("text-only", tmp_path / "out")
    with pytest.raises(InputError, match="no-licence has no licence text"):
        fetch("no-licence", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
