"""Labelled recordings: the folder of our own, text files, and public data sets in the layouts of their authors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from omar_rq.probing.data.labelled_folder import read_labelled_folder
from omar_rq.probing.data.recording import Labels, split_of
from omar_rq.probing.data.registry import read_data_set
from omar_rq.probing.data.text_labels import read_beats, read_boundaries, read_spans, read_word
from omar_rq.probing.task_list import DATA_SETS, TASKS
from pentatonic.errors import FormatError, InputError, UsageError


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_every_key_of_a_labelled_folder(tmp_path) -> None:
    labels = {
        "split": "valid",
        "group": "bwv66",
        "tags": ["calm"],
        "genre": "chorale",
        "key": "F# minor",
        "keys": [[0, 12.5, "F# minor"]],
        "chords": [[0.0, 0.5, "F#:min"]],
        "beats": [[0.0, 4], [0.5, 1]],
        "meter": "4/4",
        "instruments": ["organ"],
        "sections": [[0.0, 6.2, "A"]],
        "notes": [[0.0, 0.5, 66, 19]],
        "tempo": 120,
        "pitch": 66,
        "difficulty": 3,
        "emotion": {"arousal": 0.2, "valence": -0.4},
        "composer": "passed over",
    }
    write(tmp_path / "labels" / "one" / "a.b.json", json.dumps(labels))
    write(tmp_path / "audio" / "one" / "a.b.ogg")
    (recording,) = read_labelled_folder(tmp_path).recordings
    assert recording.path == tmp_path / "audio" / "one" / "a.b.ogg"
    assert (recording.split, recording.group) == ("valid", "bwv66")
    assert recording.labels == Labels(
        tags=("calm",),
        genre="chorale",
        key="F# minor",
        keys=((0.0, 12.5, "F# minor"),),
        chords=((0.0, 0.5, "F#:min"),),
        beats=((0.0, 4), (0.5, 1)),
        meter="4/4",
        instruments=("organ",),
        sections=((0.0, 6.2, "A"),),
        notes=((0.0, 0.5, 66, 19),),
        tempo=120.0,
        pitch=66,
        difficulty=3.0,
        emotion={"arousal": 0.2, "valence": -0.4},
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("split", "dev"), ("group", 3), ("tags", "calm"), ("tags", [1]), ("key", ""), ("tempo", "fast")),
        *(
            ("tempo", float("nan")),
            ("chords", [[0, 1]]),
            ("chords", [[2, 1, "N"]]),
            ("chords", [[-1, 1, "N"]]),
        ),
        *(
            ("beats", [1.0]),
            ("beats", [[1.0, 1.5]]),
            ("notes", [[0, 1, 128, 0]]),
            ("notes", [[0, 1, 60, 0.5]]),
        ),
        *(("emotion", {"arousal": 1}), ("pitch", 60.5), ("difficulty", True), ("sections", {"a": 1})),
    ],
)
def test_labels_of_another_form_are_refused(tmp_path, key, value) -> None:
    write(tmp_path / "audio" / "a.wav")
    file = write(tmp_path / "labels" / "a.json", json.dumps({key: value}))
    with pytest.raises(FormatError, match=f"'{key}' is .*; allowed: ") as caught:
        read_labelled_folder(tmp_path)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"tempo": 1e999}', "[" * 10_000])
def test_files_that_hold_no_labels_are_refused(tmp_path, text) -> None:
    write(tmp_path / "audio" / "a.wav")
    write(tmp_path / "labels" / "a.json", text)
    with pytest.raises(FormatError, match=r"a\.json"):
        read_labelled_folder(tmp_path)


def test_text_files_beside_the_recording(tmp_path) -> None:
    write(tmp_path / "audio" / "a.mp3")
    write(tmp_path / "audio" / "a.lab", "0.0 1.5 C:maj\n1.5\t3.0\tG:7\n")
    write(tmp_path / "audio" / "a.beats", "0.5\t2\n# comment\n1.0 1\n")
    write(tmp_path / "labels" / "a.sections.lab", "0,8,verse 1\n")
    write(tmp_path / "labels" / "a.key", "D minor\n")
    write(tmp_path / "labels" / "a.json", '{"beats": [[9.0, 1]]}')
    (recording,) = read_labelled_folder(tmp_path).recordings
    assert recording.labels.chords == ((0.0, 1.5, "C:maj"), (1.5, 3.0, "G:7"))
    assert recording.labels.sections == ((0.0, 8.0, "verse 1"),)
    assert recording.labels.key == "D minor"
    assert recording.labels.beats == ((9.0, 1),)  # JSON counts first


@pytest.mark.parametrize(
    ("read", "text"),
    [
        *((read_spans, "0 1"), (read_spans, "a b c"), (read_spans, "2 1 N"), (read_spans, "nan 1 N")),
        *((read_beats, "x"), (read_beats, "1.0 1.5"), (read_beats, "-1"), (read_word, "\n")),
        *((read_boundaries, "1 a\n0 b"), (read_boundaries, "a b")),
    ],
)
def test_lines_of_another_form_are_refused(tmp_path, read, text) -> None:
    path = write(tmp_path / "a.lab", text)
    with pytest.raises(FormatError, match=r"a\.lab"):
        read(path)


def test_splits_by_lists_by_labels_and_by_hash(tmp_path) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / "audio" / f"{name}.wav")
    write(tmp_path / "test.txt", "a\n")
    write(tmp_path / "labels" / "b.json", '{"split": "valid"}')
    found = {each.group: each.split for each in read_labelled_folder(tmp_path).recordings}
    assert found == {"a": "test", "b": "valid", "c": split_of("c")}
    shares = [split_of(str(number)) for number in range(1000)]
    counts = [shares.count(split) / 1000 for split in ("train", "valid", "test")]
    assert counts == pytest.approx([0.65, 0.15, 0.2], abs=0.04)


def test_a_group_in_two_splits_is_refused(tmp_path) -> None:
    for name, split in (("a", "train"), ("b", "test")):
        write(tmp_path / "audio" / f"{name}.wav")
        write(tmp_path / "labels" / f"{name}.json", json.dumps({"split": split, "group": "one score"}))
    with pytest.raises(InputError, match="'one score' is in the splits train and test"):
        read_labelled_folder(tmp_path)


def test_nsynth_is_labelled_by_its_names(tmp_path) -> None:
    for part, name in (
        ("train", "bass_synthetic_033-022-050"),
        ("valid", "organ_009-108-127"),
        ("test", "a_1-0-1"),
    ):
        write(tmp_path / f"nsynth-{part}" / "audio" / f"{name}.wav")
    found = read_data_set("nsynth", tmp_path)
    assert [(each.split, each.labels.pitch, each.labels.instruments) for each in found.recordings] == [
        ("test", 0, ("a",)),
        ("train", 22, ("bass",)),
        ("valid", 108, ("organ",)),
    ]
    write(tmp_path / "nsynth-test" / "audio" / "noise.wav")
    with pytest.raises(FormatError, match=r"noise\.wav: the name is not"):
        read_data_set("nsynth", tmp_path)


def test_harmonix(tmp_path) -> None:
    write(tmp_path / "audio" / "0001_song.mp3")
    write(tmp_path / "segments" / "0001_song.txt", "0.0 intro\n5.5 verse\n20.25 end\n")
    write(tmp_path / "beats_and_downbeats" / "0001_song.txt", "0.5\t1\t1\n1.0\t2\t1\n")
    (recording,) = read_data_set("harmonix", tmp_path).recordings
    assert recording.labels.sections == ((0.0, 5.5, "intro"), (5.5, 20.25, "verse"))
    assert recording.labels.beats == ((0.5, 1), (1.0, 2))


def test_gtzan_through_the_shared_reader(tmp_path) -> None:
    for split, name in (("train", "blues/a.wav"), ("valid", "rock/b.wav"), ("test", "rock/c.wav")):
        write(tmp_path / name)
        write(tmp_path / f"{split}_filtered.txt", name)
    found = read_data_set("gtzan", tmp_path)
    assert found.vocabulary == {"genre": ("blues", "rock")}
    assert [(each.split, each.labels.genre) for each in found.recordings] == [
        *(("train", "blues"), ("valid", "rock"), ("test", "rock")),
    ]


def test_beats_through_mirdata(tmp_path) -> None:
    mirdata = pytest.importorskip("mirdata")
    home = tmp_path / "ballroom"
    index = Path(mirdata.initialize("ballroom", data_home=str(home)).index_path).name
    files = {
        "audio": ["B/Waltz/one.wav", "0" * 32],
        "beats": ["beats/one.beats", "0" * 32],
        "tempo": ["tempo/one.bpm", "0" * 32],
    }
    write(home / index, json.dumps({"version": "1", "tracks": {"one": files}}))
    write(home / "B" / "Waltz" / "one.wav")
    write(home / "beats" / "one.beats", "0.5 1\n1.0 2\n1.5 3\n")
    write(home / "tempo" / "one.bpm", "120")
    (recording,) = read_data_set("ballroom", tmp_path, source="mirdata").recordings
    assert recording.labels.beats == ((0.5, 1), (1.0, 2), (1.5, 3))
    assert recording.labels.tempo == 120.0 and recording.group.endswith("/one")
    with pytest.raises(InputError, match="mirdata"):
        read_data_set("beatles", tmp_path, source="mirdata")


def test_names_that_are_not_known(tmp_path) -> None:
    with pytest.raises(UsageError, match="no data set 'x'"):
        read_data_set("x", tmp_path)
    with pytest.raises(UsageError, match="allowed: folder"):
        read_data_set("nsynth", tmp_path, source="mirdata")
    with pytest.raises(InputError, match="nowhere is not a folder"):
        read_data_set("labelled", tmp_path / "nowhere")
    for name in ("labelled", "harmonix", "nsynth"):
        with pytest.raises(InputError, match="is missing"):
            read_data_set(name, tmp_path)


def test_every_task_names_data_sets_that_are_known() -> None:
    assert {name for task in TASKS.values() for name in task.data} == set(DATA_SETS)
