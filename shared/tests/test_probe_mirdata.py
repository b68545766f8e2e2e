"""Data sets through the real mirdata, in small folders as it makes them: equal to those of our own readers."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pentatonic import audio
from pentatonic.errors import FormatError, InputError, MissingExtra, UsageError
from pentatonic.probes import KEY_NAMES
from pentatonic.probes.datasets import DATASETS, MIRDATA_DATASETS, ProbeDataset, read_dataset

GTZAN_INDEX = "gtzan_genre_index_1.0.json"
GTZAN_LISTS = {
    "train": ["rock/rock.00001.wav", "hiphop/hiphop.00029.wav", "blues/blues.00029.wav"],
    "valid": ["rock/rock.00002.wav"],
    "test": ["blues/blues.00003.wav", "hiphop/hiphop.00004.wav"],
}
# Name -> key and artists; those that share a track stay together, and those without one key are left out.
TRAIN = {f"{1000 + i}": ("D minor", [f"Artist {i}"]) for i in range(18)} | {
    "17": ("Eb major", ["Ä", "B"]),
    "200": ("c# minor", ["B"]),
    "3": ("C major|A minor", ["C"]),
    "4": ("x", ["D"]),
    "5": ("B minor", []),
}
TEST = {"10": "D# minor", "9": "F major\n", "8": "-"}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def mirdata() -> Any:
    return pytest.importorskip("mirdata")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_index(home: Path, name: str, tracks: dict[str, dict[str, str]]) -> Path:
    """An index as mirdata has them: track -> kind of file -> its path and checksum."""
    files = {
        track: {kind: [file, "0" * 32] for kind, file in kinds.items()} for track, kinds in tracks.items()
    }
    return write(home / name, json.dumps({"version": "1", "tracks": files}))


def write_lists(folder: Path) -> None:
    for split, names in GTZAN_LISTS.items():
        write(folder / f"{split}_filtered.txt", "\n".join(names) + "\n")


@pytest.fixture
def gtzan(tmp_path: Path) -> Path:
    """mirdata's folder of its data sets with ``gtzan_genre``, one track of which is in no list."""
    home = tmp_path / "gtzan_genre"
    names = [name for each in GTZAN_LISTS.values() for name in each] + ["rock/rock.00099.wav"]
    for number, name in enumerate(names):
        path = home / "gtzan_genre" / "genres" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.full(100, number / 10), 22050)
    tracks = {
        Path(name).stem: {
            "audio": f"gtzan_genre/genres/{name}",
            "beats": "gtzan_tempo_beat-main/beats/none.beats",
            "tempo": "gtzan_tempo_beat-main/tempo/none.bpm",
        }
        for name in names
    }
    write_index(home, GTZAN_INDEX, tracks)
    write_lists(home)
    return tmp_path


@pytest.fixture
def giantsteps(tmp_path: Path) -> Path:
    """mirdata's folder of its data sets with those of the keys of electronic dance music."""
    root = tmp_path / "mir_datasets"
    for name, index, keys, tracks in (
        ("beatport_key", "beatport_key_index_1.0.0.json", "keys", TRAIN),
        (
            "giantsteps_key",
            "giantsteps_key_index_+.json",
            "keys_gs+",
            {k: (v, ["A"]) for k, v in TEST.items()},
        ),
    ):
        files = {}
        for number, (track, (key, artists)) in enumerate(tracks.items()):
            stem = f"{track} Somebody - Something"
            write(root / name / "audio" / f"{stem}.mp3", track)
            write(root / name / keys / f"{stem}.txt", key)
            meta = {"artists": [{"name": artist} for artist in artists], "bpm": "120"}
            write(root / name / "meta" / f"{stem}.json", json.dumps(meta))
            files[str(number)] = {
                "audio": f"audio/{stem}.mp3",
                "key": f"{keys}/{stem}.txt",
                "meta": f"meta/{stem}.json",
            }
        write_index(root / name, index, files)
    return root


def tasks(dataset: ProbeDataset) -> dict[str, list[tuple[bytes, int | Sequence[float]]]]:
    return {
        name: [(track.path.read_bytes(), track.target) for track in tracks]
        for name, tracks in dataset.splits.items()
    }


def test_gtzan_is_that_of_our_reader(mirdata: Any, gtzan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = gtzan / "gtzan_genre" / "gtzan_genre"
    write_lists(own)
    expected, found = read_dataset("gtzan", own), read_dataset("gtzan", gtzan, source="mirdata")
    assert found.name == expected.name and found.task == expected.task
    assert found.splits == expected.splits and found.task.names == ("blues", "hiphop", "rock")
    assert [len(tracks) for tracks in found.splits.values()] == [3, 1, 2]
    loaded = audio.load(found.splits["train"][1].path, sample_rate=22050)
    assert loaded.samples.shape == (1, 100)
    monkeypatch.chdir(gtzan)
    assert read_dataset("gtzan", ".", source="mirdata").splits == found.splits


def test_giantsteps_is_that_of_our_reader(mirdata: Any, giantsteps: Path, tmp_path: Path) -> None:
    train = tmp_path / "own" / "giantsteps-mtg-key-dataset"
    test = tmp_path / "own" / "giantsteps-key-dataset"
    table = "".join(f"{name}\t{key}\n" for name, (key, _) in TRAIN.items())
    write(train / "annotations" / "annotations.txt", f"ID\tMANUAL KEY\n{table}")
    table = "".join(f"{name}\t{', '.join(artists)}\n" for name, (_, artists) in TRAIN.items())
    write(train / "annotations" / "beatport_metadata.txt", f"ID\tARTIST\n{table}")
    for name, key in TEST.items():
        write(test / "annotations" / "key" / f"{name}.key", key)
    for folder, names in ((train, TRAIN), (test, TEST)):
        for name in names:
            write(folder / "audio" / f"{name}.mp3", name)
    expected = read_dataset("giantsteps", tmp_path / "own")
    found = read_dataset("giantsteps", giantsteps, source="mirdata")
    assert found.name == expected.name and found.task == expected.task and tasks(found) == tasks(expected)
    sizes = {name: len(tracks) for name, tracks in found.splits.items()}
    assert sizes["train"] + sizes["valid"] == 21 and 0 < sizes["valid"] < 6 and sizes["test"] == 2
    groups = {track.path.name.split()[0]: track.group for each in found.splits.values() for track in each}
    assert groups["17"] == groups["200"] == "B" and groups["1003"] == "Artist 3"
    assert groups["5"] == "5 Somebody - Something"
    keys = {track.path.name.split()[0]: track.target for each in found.splits.values() for track in each}
    assert keys["17"] == KEY_NAMES.index("Eb major") and keys["10"] == KEY_NAMES.index("Eb minor")


@pytest.mark.parametrize("name", MIRDATA_DATASETS)
def test_a_missing_data_set_is_said_with_the_command_that_gets_it(
    mirdata: Any, name: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"is missing; get .*mirdata\.initialize\(.*\)\.download\(\)"):
        read_dataset(name, tmp_path, source="mirdata")


def test_a_missing_index_is_said_and_not_fetched(
    mirdata: Any, gtzan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = write(gtzan / "kept" / GTZAN_INDEX, (gtzan / "gtzan_genre" / GTZAN_INDEX).read_text())
    monkeypatch.setattr(mirdata.core.Index, "get_path", lambda _: str(kept))
    expected = read_dataset("gtzan", gtzan, source="mirdata").splits
    (gtzan / "gtzan_genre" / GTZAN_INDEX).unlink()
    assert read_dataset("gtzan", gtzan, source="mirdata").splits == expected  # where mirdata keeps it
    kept.unlink()
    with pytest.raises(InputError, match=rf"neither .*{GTZAN_INDEX}.* nor .*download\(\['index'\]\)"):
        read_dataset("gtzan", gtzan, source="mirdata")


def test_a_list_that_does_not_fit_the_index(mirdata: Any, gtzan: Path) -> None:
    table = write(
        gtzan / "gtzan_genre" / "test_filtered.txt", "blues/blues.00003.wav\nblues/blues.00077.wav\n"
    )
    with pytest.raises(FormatError, match=r"test_filtered\.txt:2: .*no track 'blues\.00077'"):
        read_dataset("gtzan", gtzan, source="mirdata")
    table.unlink()
    with pytest.raises(InputError, match=r"test_filtered\.txt is missing"):
        read_dataset("gtzan", gtzan, source="mirdata")


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"tracks": []}',
        '{"tracks": {"blues.00003": {}}}',
        '{"tracks": {"blues.00003": {"audio": [], "beats": [], "tempo": []}}}',
        '{"tracks": {"blues.00003": {"audio": [7], "beats": [null], "tempo": [null]}}}',
        '{"version": 1}',
        "[" * 100_000,
    ],
)
def test_an_index_that_is_none(mirdata: Any, gtzan: Path, content: str) -> None:
    write(gtzan / "gtzan_genre" / GTZAN_INDEX, content)
    with pytest.raises(FormatError, match=rf"{GTZAN_INDEX}: mirdata cannot read it"):
        read_dataset("gtzan", gtzan, source="mirdata")


@pytest.mark.parametrize("path", ["../../elsewhere.wav", "/etc/hostname", None])
def test_an_index_that_leaves_its_folder(mirdata: Any, gtzan: Path, path: str | None) -> None:
    index = write_index(gtzan / "gtzan_genre", GTZAN_INDEX, {})
    files = {"audio": [path, ""], "beats": [None, ""], "tempo": [None, ""]}
    write(index, json.dumps({"tracks": {"rock.00001": files}}))
    with pytest.raises(FormatError, match=rf"{GTZAN_INDEX}: (.* leaves the folder|mirdata cannot read it)"):
        read_dataset("gtzan", gtzan, source="mirdata")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("keys/3 Somebody - Something.txt", None, r"3 Somebody - Something\.txt is missing"),
        ("keys/3 Somebody - Something.txt", b"", "mirdata cannot read it"),
        ("keys/3 Somebody - Something.txt", b"\xff\xfe", "mirdata cannot read it"),
        ("meta/3 Somebody - Something.json", b"{}", "mirdata cannot read it"),
        ("meta/3 Somebody - Something.json", b'{"artists": [{"name": 3}]}', "mirdata cannot read it"),
    ],
)
def test_annotations_that_cannot_be_read(
    mirdata: Any, giantsteps: Path, file: str, content: bytes | None, message: str
) -> None:
    path = giantsteps / "beatport_key" / file
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_dataset("giantsteps", giantsteps, source="mirdata")
    assert path.name in str(caught.value)


@pytest.mark.parametrize("kind", ["audio", "key", "meta"])
def test_an_index_of_keys_without_a_path(mirdata: Any, giantsteps: Path, kind: str) -> None:
    index = giantsteps / "giantsteps_key" / "giantsteps_key_index_+.json"
    content = json.loads(index.read_text())
    content["tracks"]["0"][kind] = [None, ""]
    index.write_text(json.dumps(content))
    with pytest.raises(FormatError, match=r"giantsteps_key_index_\+\.json: mirdata cannot read it"):
        read_dataset("giantsteps", giantsteps, source="mirdata")


def test_both_data_sets_of_keys_are_needed(mirdata: Any, giantsteps: Path) -> None:
    shutil.rmtree(giantsteps / "giantsteps_key")
    with pytest.raises(InputError, match="giantsteps_key is missing"):
        read_dataset("giantsteps", giantsteps, source="mirdata")


def test_what_is_not_installed_is_said_with_its_extra(gtzan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mirdata", None)
    with pytest.raises(MissingExtra, match=r"pip install 'pentatonic\[mirdata\]'"):
        read_dataset("gtzan", gtzan, source="mirdata")


def test_other_names_and_sources_are_refused(tmp_path: Path) -> None:
    assert set(MIRDATA_DATASETS) <= set(DATASETS)
    with pytest.raises(UsageError, match="'emomusic' is not read by mirdata; allowed: gtzan, giantsteps"):
        read_dataset("emomusic", tmp_path, source="mirdata")
    with pytest.raises(
        UsageError, match="the source of a data set is 'torchaudio'; allowed: folder, mirdata"
    ):
        read_dataset("gtzan", tmp_path, source="torchaudio")
