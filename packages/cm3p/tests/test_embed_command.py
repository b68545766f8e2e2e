"""``cm3p embed``: rows and vectors, bad files, stopped runs, merging, data sets, audio."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from cm3p.embedding import run as embedding_run
from cm3p.embedding.columns import COLUMNS, normalised
from cm3p.embedding.journal import Journal
from cm3p.embedding.table import EmbeddingTable
from cm3p.processor import CM3PProcessor
from cm3p.weights import from_pretrained
from pentatonic.audio import save
from pentatonic.errors import InputError

MODEL = Path(__file__).parent / "goldens" / "saved_full"
Command = Callable[..., tuple[int, str, str]]


def read(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def embed(command: Command, *arguments: object, audio: bool = False) -> tuple[int, str, str]:
    return command("embed", *arguments, "--model", MODEL, "--audio" if audio else "--no-audio")


@pytest.fixture
def folder(tmp_path: Path, save_map: Any) -> Path:
    songs = tmp_path / "Songs"
    for number in range(3):
        save_map(songs / "set" / f"{number}.osu", map_id=11 + number, set_id=7, x=60 * number)
    for mode in (1, 2, 3):
        save_map(songs / f"mode {mode}.osu", mode=mode)
    return songs


@pytest.fixture
def embedded(folder: Path, tmp_path: Path, cm3p_command: Command) -> Path:
    out = tmp_path / "embeddings.parquet"
    assert embed(cm3p_command, folder, "--out", out)[0] == 0
    return out


def test_rows_and_vectors(folder: Path, embedded: Path) -> None:
    table = pq.read_table(embedded)
    assert table.column_names == [*COLUMNS, "embedding"]
    assert [*COLUMNS][:2] == ["Id", "Artist"] and [*COLUMNS][-3:] == ["BeatmapFile", "ContentHash", "Windows"]
    rows = {row["BeatmapFile"]: row for row in table.to_pylist()}
    row = rows["1.osu"]
    expected = {
        "Id": 12,
        "BeatmapSetId": 7,
        "Title": "Song",
        "Version": "1",
        "Mode": "osu",
        "Cs": 4.0,
        "Ar": 8.0,
    }
    expected |= {"Accuracy": 6.0, "Bpm": 120.0, "TotalLength": 8, "CountSliders": 5, "CountSpinners": 1}
    expected |= {
        "BeatmapSetFolder": "set",
        "AudioFile": "song.wav",
        "DifficultyRating": None,
        "StarRating": None,
    }
    assert {name: row[name] for name in expected} == expected
    assert rows["mode 3.osu"]["Mode"] == "mania" and rows["mode 2.osu"]["Mode"] == "fruits"
    processor, model = CM3PProcessor.from_pretrained(MODEL), from_pretrained(MODEL)
    for name, row in rows.items():
        inputs = processor(beatmap=next(folder.rglob(name)))
        with torch.inference_mode():
            windows = model(**inputs, return_loss=False).beatmap_embeds
        mean = windows.mean(0)
        np.testing.assert_allclose(row["embedding"], mean / mean.norm(), atol=2e-6)
        assert row["Windows"] == len(windows) == 2 or name.startswith("mode")


def test_header_says_what_made_the_vectors(embedded: Path) -> None:
    with EmbeddingTable(embedded) as table:
        assert table.header is not None and table.dimension == table.header.dimension == 8
        assert (table.header.frontend, table.header.windows) == ("beatmap", "4 s, hop 4 s")
    about = json.loads(pq.read_schema(embedded).metadata[b"cm3p.embed"])
    assert about["max_windows"] == 1000 and about["model"] == table.header.model_hash


def test_unsubmitted_maps_have_ids_of_their_own(embedded: Path, cm3p_command: Command, folder: Path) -> None:
    ids = [row["Id"] for row in read(embedded) if row["BeatmapFile"].startswith("mode")]
    assert len(set(ids)) == 3 and max(ids) < 0
    (folder / "mode 1.osu").rename(folder / "set" / "another name.osu")
    assert embed(cm3p_command, folder, "--out", embedded)[0] == 0
    assert {row["Id"] for row in read(embedded)} >= set(ids)


def test_other_content_under_the_same_id(tmp_path: Path, save_map: Any, cm3p_command: Command) -> None:
    save_map(tmp_path / "a" / "map.osu", map_id=5)
    save_map(tmp_path / "b" / "map.osu", map_id=5, x=300)
    save_map(tmp_path / "c" / "map.osu", map_id=5)  # as a
    out = tmp_path / "out.parquet"
    status, _, messages = embed(cm3p_command, tmp_path, "--out", out)
    assert status == 0 and "another map has the id 5" in messages and "2 done, 1 skipped" in messages
    first, second = (row["Id"] for row in read(out))
    assert first == 5 and second < 0


def test_bad_files_are_named_and_the_rest_goes_on(
    folder: Path, tmp_path: Path, cm3p_command: Command
) -> None:
    (folder / "page.osu").write_text("<!DOCTYPE html><html><body>404</body></html>")
    (folder / "page.osz").write_text("<!DOCTYPE html>")
    with zipfile.ZipFile(folder / "good.osz", "w") as archive:
        archive.write(folder / "set" / "0.osu", "other name.osu")
    content = (folder / "good.osz").read_bytes()
    (folder / "cut.osz").write_bytes(content[: len(content) // 2])
    (folder / "empty.osu").write_text("osu file format v14\n[HitObjects]\n")
    (folder / "far.osu").write_text(
        "osu file format v14\n[TimingPoints]\n0,500\n[HitObjects]\n1,1,1151400000,1,0"
    )
    out = tmp_path / "out.parquet"
    status, shown, messages = embed(cm3p_command, folder, "--out", out, "--json")
    report = json.loads(shown)
    failed = {Path(each["path"]).name: each for each in report["inputs"] if each["status"] == "failed"}
    assert status == 3 and set(failed) == {"page.osu", "page.osz", "cut.osz", "empty.osu", "far.osu"}
    assert failed["page.osu"]["error"] == failed["page.osz"]["error"] == "NotABeatmap"
    assert failed["empty.osu"]["error"] == "NothingToEmbed"
    assert failed["far.osu"]["error"] == "TooManyWindows" and "--max-windows" in failed["far.osu"]["reason"]
    assert all(name in messages for name in failed) and len(read(out)) == 6


def test_nothing_usable_writes_nothing(tmp_path: Path, cm3p_command: Command) -> None:
    (tmp_path / "page.osu").write_text("<html>")
    status, _, messages = embed(cm3p_command, tmp_path / "page.osu", "--out", tmp_path / "out.parquet")
    assert (
        status == 3
        and "not written" in messages
        and [each.name for each in tmp_path.iterdir()] == ["page.osu"]
    )
    (tmp_path / "none").mkdir()
    assert embed(cm3p_command, tmp_path / "none", "--out", tmp_path / "out.parquet")[0] == 1
    assert embed(cm3p_command, tmp_path / "typo", "--out", tmp_path / "out.parquet")[0] == 2


def test_a_stopped_run_continues(
    folder: Path, embedded: Path, tmp_path: Path, cm3p_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, computed = tmp_path / "stopped.parquet", []
    vectors, add = embedding_run.map_vectors, Journal.add

    def add_two(journal: Journal, embedded: Any) -> None:
        if len(journal) == 2:
            raise KeyboardInterrupt
        add(journal, embedded)

    monkeypatch.setattr(Journal, "add", add_two)
    assert embed(cm3p_command, folder, "--out", out, "--batch-size", 1)[0] == 130
    monkeypatch.setattr(Journal, "add", add)
    journal = tmp_path / ".stopped.parquet.unfinished" / "maps.jsonl"
    assert not out.exists() and journal.read_text().count('"vector"') == 2
    with journal.open("a") as file:
        file.write('{"row": {"Id": 1')  # the write was cut off
    status, _, messages = embed(cm3p_command, folder, "--out", out, "--max-windows", 50)
    assert status == 2 and "max_windows 1000, not 50" in messages
    monkeypatch.setattr(
        embedding_run, "map_vectors", lambda *args: computed.extend(args[1]) or vectors(*args)
    )
    status, _, messages = embed(cm3p_command, folder, "--out", out, "--batch-size", 1)
    assert status == 0 and "4 done, 2 skipped" in messages and len(computed) == 4
    assert not journal.parent.exists()
    for got, expected in zip(read(out), read(embedded), strict=True):
        np.testing.assert_allclose(got.pop("embedding"), expected.pop("embedding"), atol=2e-6)
        assert got == expected


def test_overwrite_begins_again(
    folder: Path, tmp_path: Path, cm3p_command: Command, monkeypatch: Any
) -> None:
    out = tmp_path / "out.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(embedding_run, "write_table", lambda *_: (_ for _ in ()).throw(OSError("no space")))
        assert embed(cm3p_command, folder, "--out", out)[0] == 1
    assert (tmp_path / ".out.parquet.unfinished").is_dir()
    status, _, messages = embed(cm3p_command, folder, "--out", out, "--gamemodes", 3, "--overwrite")
    assert status == 0 and "1 done" in messages and len(read(out)) == 1


def test_filters(folder: Path, tmp_path: Path, cm3p_command: Command) -> None:
    out = tmp_path / "out.parquet"
    status, _, messages = embed(cm3p_command, "--gamemodes", 1, 3, folder, "--out", out)
    assert status == 0 and "left out: 4 by mode" in messages
    assert [row["Mode"] for row in read(out)] == ["taiko", "mania"]
    assert embed(cm3p_command, folder, "--out", out, "--start", 1, "--end", 3)[0] == 0
    assert [row["BeatmapFile"] for row in read(out)] == ["mode 2.osu", "mode 3.osu"]
    status, _, messages = embed(cm3p_command, folder, "--out", out, "--min-year", 2010)
    assert status == 0 and "6 by year" in messages


def test_merging(folder: Path, embedded: Path, tmp_path: Path, cm3p_command: Command, save_map: Any) -> None:
    table = pq.read_table(embedded)
    rated = [None if row["Id"] == 13 else 5.5 for row in table.to_pylist()]
    at = table.column_names.index("DifficultyRating")
    old = tmp_path / "old.parquet"
    pq.write_table(table.set_column(at, "DifficultyRating", pa.array(rated, pa.float64())), old)
    more = tmp_path / "more"
    save_map(more / "new.osu", map_id=99)
    save_map(more / "changed.osu", map_id=12, set_id=7, x=444, Title="Another title")
    out = tmp_path / "merged.parquet"
    assert embed(cm3p_command, more, "--out", out, "--merge-with", old)[0] == 0
    before, after = ({row["Id"]: row for row in read(path)} for path in (old, out))
    assert list(after) == [*before, 99] and before[11] == after[11]
    assert after[12]["Title"] == "Another title" and after[12]["DifficultyRating"] == 5.5
    assert after[12]["embedding"] != before[12]["embedding"] and after[99]["DifficultyRating"] is None


def test_merging_with_other_vectors_keeps_both_files(
    folder: Path, embedded: Path, tmp_path: Path, cm3p_command: Command
) -> None:
    table, out = pq.read_table(embedded), tmp_path / "out.parquet"
    out.write_bytes(b"what was there before")
    header = json.loads(table.schema.metadata[b"pentatonic.vectors"])
    other = {b"pentatonic.vectors": json.dumps(header | {"frontend": "beatmap and audio"}).encode()}
    pq.write_table(table.replace_schema_metadata(other), tmp_path / "audio.parquet")
    pq.write_table(table.replace_schema_metadata(None), tmp_path / "unknown.parquet")
    (tmp_path / "damaged.parquet").write_bytes(embedded.read_bytes()[:-400])
    for name, reason in {
        "audio.parquet": "frontend 'beatmap and audio' instead of 'beatmap'",
        "unknown.parquet": "--assume-same-model",
        "damaged.parquet": "cannot be read as a Parquet file",
    }.items():
        content = (tmp_path / name).read_bytes()
        status, _, messages = embed(cm3p_command, folder, "--out", out, "--merge-with", tmp_path / name)
        assert status == 1 and reason in messages, name
        assert (tmp_path / name).read_bytes() == content and out.read_bytes() == b"what was there before"
    unknown = tmp_path / "unknown.parquet"
    assert embed(cm3p_command, folder, "--out", out, "--merge-with", unknown, "--assume-same-model")[0] == 0
    assert len(read(out)) == 6


@pytest.fixture
def data_set(tmp_path: Path, save_map: Any) -> Path:
    root = tmp_path / "data set"
    for number in (1, 2, 3):
        save_map(root / "data" / f"set {number}" / "map.osu", map_id=0, x=50 * number)
    rows: list[dict[str, Any]] = [
        {
            "Id": 103,
            "BeatmapSetId": 30,
            "BeatmapSetFolder": "set 3",
            "SubmittedDate": datetime(2012, 5, 1, tzinfo=UTC),
        },
        {
            "Id": 101,
            "BeatmapSetId": 10,
            "BeatmapSetFolder": "set 1",
            "DifficultyRating": 4.5,
            "TopTagIds": [3, 4],
        },
        {
            "Id": 102,
            "BeatmapSetId": 20,
            "BeatmapSetFolder": "set 2",
            "DifficultyRating": 6.0,
            "Artist": "Of the table",
        },
        {"Id": 104, "BeatmapSetId": 40, "BeatmapSetFolder": "../../elsewhere"},
        {"Id": 105, "BeatmapSetId": 50, "BeatmapSetFolder": None},
    ]
    names = [
        "Id",
        "BeatmapSetId",
        "BeatmapSetFolder",
        "SubmittedDate",
        "DifficultyRating",
        "TopTagIds",
        "Artist",
        "Nsfw",
    ]
    columns = {name: [row.get(name) for row in rows] for name in names}
    pq.write_table(pa.table(columns | {"BeatmapFile": ["map.osu"] * 5}), root / "metadata.parquet")
    return root


def test_data_sets(data_set: Path, tmp_path: Path, cm3p_command: Command) -> None:
    out = tmp_path / "out.parquet"
    status, _, messages = embed(cm3p_command, data_set, "--out", out)
    assert (
        status == 3 and "2 failed" in messages and "elsewhere" in messages and "BeatmapSetFolder" in messages
    )
    rows = read(out)
    assert [row["Id"] for row in rows] == [101, 102, 103]
    assert rows[0]["TopTagIds"] == [3, 4] and rows[0]["Title"] == "Song"
    assert (
        rows[1]["Artist"] == "Of the table"
        and rows[2]["SubmittedDate"].year == 2012
        and rows[2]["Nsfw"] is None
    )
    assert embed(cm3p_command, data_set, "--out", out, "--min-difficulty", 5, "--end", 3)[0] == 0
    assert [row["Id"] for row in read(out)] == [102]


def test_a_table_fills_what_maps_do_not_say(folder: Path, tmp_path: Path, cm3p_command: Command) -> None:
    table = tmp_path / "table.parquet"
    pq.write_table(
        pa.table({"Id": [12, 999], "DifficultyRating": [5.25, 1.0], "Title": ["From the table", "x"]}), table
    )
    out = tmp_path / "out.parquet"
    assert embed(cm3p_command, folder, "--out", out, "--metadata", table)[0] == 0
    rows = {row["Id"]: row for row in read(out)}
    assert rows[12]["DifficultyRating"] == 5.25 and rows[11]["DifficultyRating"] is None and 999 not in rows


def test_audio(folder: Path, embedded: Path, tmp_path: Path, cm3p_command: Command) -> None:
    generator = torch.Generator().manual_seed(0)
    save(folder / "set" / "SONG.wav", torch.randn(1, 9 * 16000, generator=generator) * 0.1, 16000)
    with zipfile.ZipFile(folder / "with audio.osz", "w") as archive:
        archive.write(folder / "set" / "0.osu", "0.osu")
        archive.write(folder / "set" / "SONG.wav", "Song.WAV")
    out = tmp_path / "audio.parquet"
    status, _, messages = embed(cm3p_command, folder, "--out", out, audio=True)
    assert status == 3 and "MissingAudio" in messages and "--no-audio" in messages and "3 done" in messages
    rows, without = ({row["Id"]: row["embedding"] for row in read(path)} for path in (out, embedded))
    assert set(rows) == {11, 12, 13} and not np.allclose(rows[11], without[11], atol=1e-3)
    inputs = CM3PProcessor.from_pretrained(MODEL)(
        beatmap=folder / "set" / "1.osu", audio=folder / "set" / "SONG.wav"
    )
    with torch.inference_mode():
        mean = from_pretrained(MODEL)(**inputs, return_loss=False).beatmap_embeds.mean(0)
    np.testing.assert_allclose(rows[12], mean / mean.norm(), atol=2e-6)


def test_a_classifier_has_no_embeddings(folder: Path, tmp_path: Path, cm3p_command: Command) -> None:
    arguments = (
        "embed",
        folder,
        "--out",
        tmp_path / "out.parquet",
        "--model",
        MODEL.with_name("saved_classifier"),
    )
    status, _, messages = cm3p_command(*arguments)
    assert status == 2 and "CM3PForBeatmapClassification" in messages


def test_values_of_columns() -> None:
    row = {
        "Id": 2**60 + 1,
        "Cs": float("nan"),
        "SubmittedDate": "2013-02-03",
        "TopTagIds": np.array([1, 2]),
        "Nsfw": 1,
    }
    expected = {
        "Id": 2**60 + 1,
        "SubmittedDate": "2013-02-03T00:00:00+00:00",
        "TopTagIds": [1, 2],
        "Nsfw": True,
    }
    assert normalised(row | {"Artist": "a\udcff", "unknown column": 3}) == expected | {"Artist": "a?"}
    for name, value in {"Id": 1.5, "Cs": "many", "TopTagIds": 3, "SubmittedDate": "soon", "Nsfw": 7}.items():
        with pytest.raises(InputError, match=f"column {name}"):
            normalised({name: value})
