"""Tables of maps, windows of sets, and batches that can be continued exactly."""

from __future__ import annotations

import shutil
import zipfile
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from cm3p.beatmap import read_beatmap
from cm3p.losses import IGNORED
from cm3p.training import data, windows
from cm3p.training.batches import collate, grouped
from cm3p.training.data import LoaderState, Sharing, WindowLoader
from cm3p.training.masking import Masking
from cm3p.training.options import DatasetConfig
from cm3p.training.processor_options import ProcessorOptions, build_processor
from cm3p.training.tables import filtered, read_tables, sets_between
from cm3p.training.vocabulary import read_tags, vocabulary_tables
from cm3p.training.windows import SetReader, Window
from pentatonic.errors import ConfigError, InputError

CONFIG = DatasetConfig(train_dataset_paths=["unused"], labels="masked_lm", train_metadata_variations=4)


def make_reader(table: pa.Table, config: DatasetConfig = CONFIG, **options: Any) -> SetReader:
    parts = ProcessorOptions()
    parts.beatmap_tokenizer.max_time = 2000
    parts.default_kwargs.beatmap_kwargs.window_length_sec = 2.0
    parts.default_kwargs.beatmap_kwargs.window_stride_sec = 2.0
    parts.default_kwargs.audio_kwargs.pad_to_multiple_of = 32000
    parts.default_kwargs.audio_kwargs.max_source_positions = 200
    tables = vocabulary_tables(table, [])
    processor = build_processor(parts, tables, apply_speed_to_audio=not config.reproduce_original)
    masking = Masking.of(processor.beatmap_tokenizer, config.masked_lm_prob)
    return SetReader(table, processor, config, masking=masking, **{"seed": 0, "training": True, **options})


def read_folder(*paths: Path) -> pa.Table:
    return read_tables([str(path) for path in paths])[0]


def stack(reader: SetReader) -> Any:
    tokenizers = reader.processor.beatmap_tokenizer, reader.processor.metadata_tokenizer
    return partial(
        collate, pad_token_id=tokenizers[0].pad_token_id, metadata_pad_token_id=tokenizers[1].pad_token_id
    )


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def window(set_id: int, length: int) -> Window:
    return Window(set_id, torch.zeros(length, dtype=torch.int64), None, None, None, None, None, set_id)


# Tables


def test_table_is_sorted_and_counted_in_sets(data_set: Path) -> None:
    table = read_folder(data_set)
    assert table["Id"].to_pylist() == [100 * n + place for n in range(1, 9) for place in range(2)]
    assert set(sets_between(table, 2, 4, what="train")["BeatmapSetId"].to_pylist()) == {3, 4}
    assert set(sets_between(table, 6, 0, what="train")["BeatmapSetId"].to_pylist()) == {7, 8}
    assert set(sets_between(table, -1, None, what="test")["BeatmapSetId"].to_pylist()) == {8}
    for start, end in ((0, 9), (8, None), (3, 3)):
        with pytest.raises(ConfigError, match="test_dataset_start"):
            sets_between(table, start, end, what="test")


def test_filters(data_set: Path) -> None:
    table = read_folder(data_set)
    kept = filtered(table, subset_ids=[2, 3, 4], gamemodes=[0], years=(2011, 2012), difficulty=(2.0, 2.0))
    assert kept["Id"].to_pylist() == [301, 401]
    assert not len(filtered(table, gamemodes=[1, 2, 3]))
    assert not len(filtered(table, years=(2030, None)))


def test_names_are_those_of_the_maps(data_set: Path) -> None:
    tables = vocabulary_tables(read_folder(data_set), read_tags(None, [str(data_set)]))
    assert tables["modes"] == {0: "osu"}
    assert list(tables["statuses"].items()) == [(1, "ranked"), (-2, "graveyard")]
    assert list(tables["mappers"]) == [11, 12, 10]
    assert [tag["name"] for tag in tables["tags"].values()] == ["style/clean", "skillset/tech"]


def test_table_must_have_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"Id": [1]}), tmp_path / "metadata.parquet")
    with pytest.raises(ConfigError, match="lacks the columns BeatmapSetId"):
        read_tables([str(tmp_path)])
    with pytest.raises(ConfigError, match="no such file"):
        read_tables([str(tmp_path / "missing")])


def test_plain_folders_and_archives(data_set: Path, tmp_path: Path) -> None:
    shutil.copytree(data_set / "data" / "set 1", tmp_path / "songs" / "1")
    with zipfile.ZipFile(tmp_path / "songs" / "2.osz", "w") as archive:
        for file in sorted((data_set / "data" / "set 2").iterdir()):
            archive.write(file, file.name)
    (tmp_path / "songs" / "bad.osz").write_text("<html>")
    table, failures = read_tables([str(tmp_path / "songs")])
    assert table["Id"].to_pylist() == [100, 101, 200, 201]
    assert [Path(where).name for where, _ in failures] == ["bad.osz"]
    assert len(filtered(table, gamemodes=[0], years=(2007, 2023), difficulty=(0.0, 14.0))) == 4
    reader = make_reader(table)
    for index in range(2):
        found, failed = reader.read(index, 0)
        assert found and not failed


# Windows


def test_song_of_a_set_is_decoded_once(data_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    decode = windows._decoded

    def counted(path: str, member: str | None, rate: int) -> torch.Tensor:
        decoded.append(path)
        return decode(path, member, rate)

    monkeypatch.setattr(windows, "_decoded", counted)
    found, failures = make_reader(read_folder(data_set)).read(3, 0)
    assert not failures
    assert len({each.beatmap_id for each in found}) == 2
    assert len(decoded) == 1


def test_windows_depend_on_seed_epoch_and_set_alone(data_set: Path) -> None:
    reader = make_reader(read_folder(data_set))
    np.random.seed(1)
    torch.manual_seed(1)
    first = reader.read(2, 5)[0]
    drawn = np.random.rand(), torch.rand(())
    reader.read(0, 5)
    again = reader.read(2, 5)[0]
    np.random.seed(1)
    torch.manual_seed(1)
    assert drawn == (np.random.rand(), torch.rand(()))  # the global generators are as they were
    assert same(stack(reader)(first), stack(reader)(again))
    for other in (reader.read(2, 6)[0], make_reader(read_folder(data_set), seed=1).read(2, 5)[0]):
        assert not same(stack(reader)(first), stack(reader)(other))


def test_labels_and_metadata_of_windows(data_set: Path) -> None:
    reader = make_reader(read_folder(data_set))
    batch = stack(reader)(reader.read(0, 0)[0])
    chosen = batch["labels"] != IGNORED
    assert 0 < int(chosen.sum()) < int(batch["attention_mask"].sum()) // 2
    assert not (chosen & (batch["attention_mask"] == 0)).any()
    assert batch["metadata_ids"].shape[:2] == (len(batch["input_ids"]), 4)
    assert (batch["metadata_variation_classes"][:, 0] == 0).all()
    assert batch["input_features"].shape[1:] == (80, 200)


def test_speed_shortens_songs(data_set: Path) -> None:
    table = read_folder(data_set)
    faster = replace(CONFIG, dt_augment_prob=1.0, dt_augment_range=[1.5, 1.5])
    plain = replace(CONFIG, dt_augment_prob=0.0)
    count = [len(make_reader(table, config).read(0, 0)[0]) for config in (plain, faster)]
    assert count == [8, 6]  # 9 s and 6 s in windows of 2 s, of two maps
    assert len(make_reader(table, faster, training=False).read(0, 0)[0]) == 8


def test_song_length_is_known_unless_the_original_is_reproduced(data_set: Path) -> None:
    table = read_folder(data_set)
    for reproduce, expected in ((False, "[SONG_LENGTH_10]"), (True, "[SONG_LENGTH_0]")):
        config = replace(CONFIG, metadata_dropout_prob=0.0, dt_augment_prob=0.0, reproduce_original=reproduce)
        reader = make_reader(table, config)
        ids = reader.read(0, 0)[0][0].metadata_ids
        assert ids is not None
        assert expected in reader.processor.metadata_tokenizer.decode(ids[0]).split()


def test_without_audio_or_without_beatmap(data_set: Path) -> None:
    table = read_folder(data_set)
    silent = make_reader(table, replace(CONFIG, include_audio=False)).read(0, 0)[0]
    assert silent
    assert all(each.input_features is None for each in silent)
    reader = make_reader(table, replace(CONFIG, include_beatmap=False, labels="none", dt_augment_prob=0.0))
    heard = reader.read(0, 0)[0]
    assert all(each.input_features is not None and each.metadata_ids is not None for each in heard)
    tokens = set(reader.processor.beatmap_tokenizer.decode(heard[1].input_ids).split())
    assert "[AUDIO]" in tokens
    assert "[CIRCLE]" not in tokens


def test_some_maps_are_shown_without_their_song(data_set: Path) -> None:
    table = read_folder(data_set)
    config = replace(CONFIG, audio_dropout_prob=0.5, dt_augment_prob=0.0)
    reader = make_reader(table, config)
    windows = [each for epoch in range(12) for each in reader.read(0, epoch)[0]]
    silent = [each for each in windows if each.input_features is None]
    audio_id = reader.processor.beatmap_tokenizer.audio_token_id
    assert 0 < len(silent) < len(windows)
    assert all((each.input_features is None) == (audio_id not in each.input_ids) for each in windows)
    # All windows of a map alike, a batch may have both, and evaluation keeps all songs.
    for map_id in {each.beatmap_id for each in windows}:
        shown = [each.input_features is None for each in reader.read(0, 3)[0] if each.beatmap_id == map_id]
        assert len(set(shown)) <= 1
    mixed = stack(reader)([silent[0], next(each for each in windows if each.input_features is not None)])
    assert mixed["input_features"].shape[0] == 1
    assert (mixed["input_ids"] == audio_id).any(1).tolist() == [False, True]
    assert all(
        each.input_features is not None for each in make_reader(table, config, training=False).read(0, 0)[0]
    )


def test_classes_of_maps(data_set: Path) -> None:
    table = read_folder(data_set)
    config = replace(CONFIG, labels="ranked_classification", include_metadata=False)
    for index, expected in ((0, 1), (1, 0)):
        found = make_reader(table, config).read(index, 0)[0]
        assert {int(each.labels) for each in found if each.labels is not None} == {expected}
    swapped = make_reader(table, replace(config, beatmap_mismatch_prob=1.0)).read(0, 0)[0]
    others = [each for each in swapped if each.beatmap_id not in (100, 101)]
    assert others
    assert all(each.labels is not None and int(each.labels) == 0 for each in others)


def test_bad_files_are_named_and_left_out(data_set: Path, tmp_path: Path) -> None:
    root = shutil.copytree(data_set, tmp_path / "data_set")
    (root / "data" / "set 1" / "0.osu").write_text("<html>")
    (root / "data" / "set 2" / "audio.wav").write_bytes(b"no audio")
    (root / "data" / "set 3" / "1.osu").unlink()
    rows = pq.read_table(root / "metadata.parquet").to_pylist()
    rows[6]["BeatmapFile"] = "../../../outside.osu"
    rows[8]["AudioFile"] = None
    pq.write_table(pa.Table.from_pylist(rows), root / "metadata.parquet")
    reader = make_reader(read_folder(root))
    failed = {}
    for index in range(6):
        found, failures = reader.read(index, 0)
        failed[index + 1] = [Path(where).name for where, _ in failures]
        assert bool(found) == (index + 1 != 2)
    assert failed == {1: ["0.osu"], 2: ["0.osu", "1.osu"], 3: ["1.osu"], 4: ["map 400"], 5: ["0.osu"], 6: []}


def test_null_fields_are_unknown(data_set: Path, tmp_path: Path) -> None:
    root = shutil.copytree(data_set, tmp_path / "data_set")
    rows = pq.read_table(root / "metadata.parquet").to_pylist()
    for row in rows:
        row |= {name: None for name in ("UserId", "TopTagIds", "SubmittedDate", "StarRating", "Status")}
    columns = {
        field.name: pa.array([row[field.name] for row in rows], field.type)
        for field in pq.read_schema(data_set / "metadata.parquet")
    }
    pq.write_table(pa.table(columns), root / "metadata.parquet")
    reader = make_reader(read_folder(root), replace(CONFIG, train_metadata_variations=1))
    ids = reader.read(0, 0)[0][0].metadata_ids
    assert ids is not None
    tokens = set(reader.processor.metadata_tokenizer.decode(ids).split())
    assert {f"[{name}_UNK]" for name in ("MAPPER", "TAG", "YEAR", "DIFFICULTY", "STATUS")} <= tokens


def test_map_of_the_fixture_is_read_without_warnings(data_set: Path) -> None:
    assert not read_beatmap(data_set / "data" / "set 1" / "0.osu").warnings


# Batches


def test_batches_mix_sets_and_sort_by_length() -> None:
    rng = np.random.default_rng(0)
    sets = [[window(number, int(rng.integers(5, 60))) for _ in range(10)] for number in range(8)]
    batches = grouped(sets, 4, rng, by_length=True, drop_last=True)
    assert sorted(id(each) for batch in batches for each in batch) == sorted(id(w) for s in sets for w in s)
    assert all(len({each.set_id for each in batch}) == 4 for batch in batches)

    def padding(batches: list[list[Window]]) -> int:
        lengths = [[len(each.input_ids) for each in batch] for batch in batches]
        return sum(max(batch) * len(batch) - sum(batch) for batch in lengths)

    mixed = grouped(sets, 4, np.random.default_rng(0), by_length=False, drop_last=True)
    assert padding(batches) < 0.6 * padding(mixed)


def test_windows_that_do_not_fill_a_batch() -> None:
    sets = [[window(1, 5)] * 3, [window(2, 5)] * 2]
    sizes = [
        [len(batch) for batch in grouped(sets, 4, None, by_length=True, drop_last=drop)]
        for drop in (True, False)
    ]
    assert sizes == [[4], [4, 1]]


def test_padding_to_a_fixed_length() -> None:
    batch = collate([window(1, 5), window(2, 3)], pad_token_id=7, metadata_pad_token_id=0, length=9)
    assert batch["input_ids"].tolist() == [[0] * 5 + [7] * 4, [0] * 3 + [7] * 6]
    assert batch["attention_mask"].sum(1).tolist() == [5, 3]


class CountingReader:
    """Sets of three windows, without files."""

    def __init__(self, sets: int) -> None:
        self.sets = sets
        self.calls: Counter[tuple[int, int]] = Counter()

    def __len__(self) -> int:
        return self.sets

    def read(self, index: int, epoch: int) -> tuple[list[Window], list[tuple[str, str]]]:
        self.calls[index, epoch] += 1
        return [window(index, 4)] * 3, [("bad", "no map")] if index == 0 else []


def simple(found: Any) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([[each.set_id] for each in found])}


def test_no_set_is_read_twice_in_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    reader: Any = CountingReader(13)
    for rank in range(2):
        for worker in range(3):
            monkeypatch.setattr(data, "get_worker_info", lambda worker=worker: Worker(worker))
            sharing = Sharing(2, 2, rank=rank, world_size=2)
            stream = data._Stream(reader, sharing, simple, LoaderState(3, 2))
            epoch = 0
            for delivery in stream:
                epoch = delivery.next[0]
                if epoch == 2:
                    break
    assert {key: count for key, count in reader.calls.items() if key[1] < 2} == {
        (index, epoch): 1 for index in range(13) for epoch in range(2)
    }


class Worker:
    """What a loader worker knows of itself."""

    def __init__(self, number: int) -> None:
        self.id = number


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("taken", [3, 8])
def test_the_same_batches_follow_after_a_resume(data_set: Path, workers: int, taken: int) -> None:
    reader = make_reader(read_folder(data_set), replace(CONFIG, include_audio=False))

    def loader() -> WindowLoader:
        return WindowLoader(reader, Sharing(3, 2, seed=5), stack(reader), workers=workers)

    whole = list(islice(loader(), taken + 12))
    first = loader()
    begun = list(islice(first, taken))
    state = LoaderState.from_dict(first.state.to_dict())
    second = loader()
    second.load_state(state)
    continued = list(islice(second, 12))
    assert all(map(same, whole, begun + continued))
    assert not same(whole[0], whole[1])


def test_another_number_of_workers_begins_an_epoch() -> None:
    reader: Any = CountingReader(6)
    loader = WindowLoader(reader, Sharing(2, 2), simple)
    loader.load_state(LoaderState(3, 1, 7, {0: (4, 1, 2), 1: (3, 0, 1)}))
    next(iter(loader))
    assert {epoch for _, epoch in reader.calls} == {5}


def test_evaluation_is_one_pass_and_reports_failures() -> None:
    reader: Any = CountingReader(5)
    loader = WindowLoader(reader, Sharing(4, 2, endless=False, drop_last=False), simple)
    for _ in range(2):
        seen = Counter(int(each) for batch in loader for each in batch["input_ids"].flatten())
        assert seen == dict.fromkeys(range(5), 3)
    assert loader.failures == {"bad": "no map"}


def test_too_little_data_is_an_error_and_not_a_hang() -> None:
    reader: Any = CountingReader(2)
    with pytest.raises(InputError, match=r"do not fill a batch of 50 windows.*bad: no map"):
        next(iter(WindowLoader(reader, Sharing(50, 4), simple)))
    with pytest.raises(ConfigError, match="2 sets for 3 processes"):
        WindowLoader(reader, Sharing(1, 1, world_size=3), simple)
