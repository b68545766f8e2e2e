"""Data sets with labels, from small folders in their published layouts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pentatonic.errors import FormatError, InputError, UsageError
from pentatonic.probes import KEY_NAMES
from pentatonic.probes.datasets import DATASETS, read_dataset
from pentatonic.probes.datasets.giantsteps import circles_of_artists, key_class, validation_artists
from pentatonic.probes.embedding import probe_dataset


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("name", DATASETS)
def test_what_is_missing_is_said_with_its_source(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is missing; get the data set from "):
        read_dataset(name, tmp_path)


def test_an_unknown_data_set_names_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="allowed: gtzan, giantsteps"):
        read_dataset("fma", tmp_path)


def test_gtzan(tmp_path: Path) -> None:
    write(tmp_path / "train_filtered.txt", "rock/rock.00001.wav", "blues/blues.00029.wav")
    write(tmp_path / "valid_filtered.txt", "rock/rock.00002.wav")
    write(tmp_path / "test_filtered.txt", "blues/blues.00003.wav", "")
    write(tmp_path / "genres" / "blues" / "blues.00029.au", "")
    found = read_dataset("gtzan", tmp_path)
    assert found.task.names == ("blues", "rock")
    assert [(track.path.name, track.target) for track in found.splits["train"]] == [
        ("rock.00001.wav", 1),
        ("blues.00029.au", 0),
    ]
    write(tmp_path / "test_filtered.txt", "../elsewhere.wav")
    with pytest.raises(FormatError, match=r"test_filtered\.txt.*leaves the folder"):
        read_dataset("gtzan", tmp_path)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("C major", "C major"),
        ("c# minor\n", "C# minor"),
        ("Db minor", "C# minor"),
        ("Cb Major", "B major"),
        ("B# minor", "C minor"),
        ("f minor bad", "F minor"),
        ("C major / A minor", None),
        ("C major | A minor", None),
        ("A-A# minor", None),
        ("D dorian", None),
        ("- ", None),
        ("a minor:", "A minor"),
    ],
)
def test_keys_as_annotators_write_them(text: str, name: str | None) -> None:
    found = key_class(text)
    expected = None if name is None else [n.replace("Db", "C#") for n in KEY_NAMES].index(name)
    assert found == expected


def test_artists_with_a_common_track_are_on_one_side() -> None:
    circles = circles_of_artists(["A, B", "C", "B, D", "E", "", "F"])
    assert circles == {"A": "A", "B": "A", "D": "A", "C": "C", "E": "E", "F": "F"}
    many = circles_of_artists([f"artist {i}" for i in range(50)])
    chosen = validation_artists(many.values())
    assert len(chosen) == 10 and chosen == validation_artists(reversed(list(many.values())))


def test_giantsteps(tmp_path: Path) -> None:
    train = tmp_path / "giantsteps-mtg-key-dataset"
    names = [str(1000 + i) for i in range(20)]
    write(
        train / "annotations" / "annotations.txt",
        "ID\tMANUAL KEY\tC",
        *(f"{name}\tD minor\t2" for name in names),
        "7\tC major / A minor\t1",
    )
    write(
        train / "annotations" / "beatport_metadata.txt",
        "ID\tARTIST\tTITLE",
        *(f"{name}\tArtist {name}\tx" for name in names),
        "7\tNobody\tx",
    )
    write(tmp_path / "giantsteps-key-dataset" / "annotations" / "key" / "10.LOFI.key", "D# minor")
    found = read_dataset("giantsteps", tmp_path)
    assert {name: len(tracks) for name, tracks in found.splits.items()} == {
        "train": 16,
        "valid": 4,
        "test": 1,
    }
    (test,) = found.splits["test"]
    assert test.path.name == "10.LOFI.mp3" and KEY_NAMES[int(test.target)] == "Eb minor"  # type: ignore[arg-type]
    write(train / "annotations" / "annotations.txt", "ID\tKEY")
    with pytest.raises(FormatError, match="no column 'MANUAL KEY'"):
        read_dataset("giantsteps", tmp_path)


def test_emomusic(tmp_path: Path) -> None:
    (tmp_path / "clips_45seconds").mkdir()
    write(
        tmp_path / "annotations" / "static_annotations.csv",
        "song_id,mean_arousal,std_arousal,mean_valence,std_valence",
        *(f"{i},{i / 10},1,{1 - i / 10},1" for i in range(40)),
    )
    write(
        tmp_path / "annotations" / "songs_info.csv",
        "song_id,file_name,Artist,Mediaeval 2013 set",
        *(f"{i},{i}.mp3,Artist {i},{'evaluation' if i < 4 else 'development'}" for i in range(41)),
    )
    found = read_dataset("emomusic", tmp_path)
    sizes = {name: len(tracks) for name, tracks in found.splits.items()}
    assert sizes["test"] == 4 and sizes["train"] + sizes["valid"] == 36 and 0 < sizes["valid"] < 18
    assert found.splits["test"][1].target == [0.1, 0.9]
    write(tmp_path / "annotations" / "static_annotations.csv", "song_id,mean_arousal,mean_valence", "1,nan,2")
    with pytest.raises(FormatError, match="'nan' is not a finite number"):
        read_dataset("emomusic", tmp_path)


def test_magnatagatune(tmp_path: Path) -> None:
    write(
        tmp_path / "annotations_final.csv",
        "clip_id\trare\tguitar\tslow\tmp3_path",
        "1\t0\t1\t1\t0/a-song-0-29.mp3",
        "2\t0\t1\t0\t0/a-song-29-58.mp3",
        "3\t1\t1\t1\tc/b-song-0-29.mp3",
        "4\t0\t0\t1\tf/c-song-0-29.mp3",
    )
    found = DATASETS["magnatagatune"](tmp_path)
    assert found.task.names == ("guitar", "slow", "rare")
    first, second = found.splits["train"]
    assert first.group == second.group == "0/a-song" and second.target == [1.0, 0.0, 0.0]
    write(tmp_path / "annotations_final.csv", "clip_id\tguitar\tmp3_path", "1\t2\t0/a-0-29.mp3")
    with pytest.raises(FormatError, match="the tag 'guitar' is '2'"):
        read_dataset("magnatagatune", tmp_path)


def test_jamendo(tmp_path: Path) -> None:
    folder = tmp_path / "splits" / "split-0"
    head = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"
    for name, artist in (("train", 1), ("validation", 2), ("test", 3)):
        write(
            folder / f"autotagging_top50tags-{name}.tsv",
            head,
            f"track_0000{artist}\tartist_{artist}\talbum_1\t48/{artist}.mp3\t212.7\tgenre---rock\tmood/theme---sad",
        )
    write(tmp_path / "audio" / "48" / "1.low.mp3", "")
    found = read_dataset("jamendo-top50", tmp_path)
    assert found.task.names == ("rock", "sad")
    (track,) = found.splits["train"]
    assert track.path.name == "1.low.mp3" and track.group == "artist_1" and track.target == [1.0, 1.0]
    write(
        folder / "autotagging_top50tags-test.tsv",
        head,
        "track_1\tartist_1\talbum_1\tx.mp3\tlong\tgenre---rock",
    )
    with pytest.raises(FormatError, match=r"-test\.tsv.*2.*category---name"):
        read_dataset("jamendo-top50", tmp_path)


def test_recordings_that_cannot_be_read_are_reported_and_left_out(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 40), ("valid", 12), ("test", 12)):
        write(
            tmp_path / f"{split}_filtered.txt",
            *(f"{genre}/{genre}.{split}{i}.wav" for i in range(count // 2) for genre in ("low", "high")),
        )

    def embed(path: Path) -> torch.Tensor:
        if path.name == "low.train0.wav":
            raise InputError(f"{path}: no audio")
        center = 2.0 if path.name.startswith("high") else -2.0
        return center + torch.randn(3, 4, generator=generator)

    result, report = probe_dataset(read_dataset("gtzan", tmp_path), embed, epochs=5, resamples=20)
    assert report.count("failed") == 1 and report.count("done") == 63
    assert result.tracks == {"train": 39, "valid": 12, "test": 12} and result.chunks["test"] == 36
    assert result.test["accuracy"].value > 0.9 > max(each["accuracy"] for each in result.baselines.values())

    def nothing(path: Path) -> torch.Tensor:
        raise InputError("no audio")

    with pytest.raises(InputError, match="no recording of the train split can be read"):
        probe_dataset(read_dataset("gtzan", tmp_path), nothing)
