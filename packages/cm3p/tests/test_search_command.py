"""``cm3p search`` and ``classify``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from cm3p.commands.options import SeveralValues
from cm3p.processor import CM3PProcessor
from cm3p.search.index import parse_range
from cm3p.weights import from_pretrained
from pentatonic.errors import UsageError

MODEL = Path(__file__).parent / "goldens" / "saved_full"
CLASSIFIER = MODEL.with_name("saved_classifier")
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, save_map: Any) -> Path:
    songs = tmp_path / "Songs"
    for number in range(4):
        save_map(songs / "a set" / f"map {number}.osu", map_id=20 + number, set_id=3, x=90 * number)
    save_map(songs / "other" / "map 4.osu", map_id=24, set_id=4, x=33)
    save_map(songs / "other" / "map 5.osu", map_id=25, set_id=5, x=400)
    save_map(songs / "keys" / "map 6.osu", map_id=26, set_id=6, mode=3)
    return songs


@pytest.fixture
def index(folder: Path, tmp_path: Path, cm3p_command: Command) -> Path:
    out = tmp_path / "index.parquet"
    assert cm3p_command("embed", folder, "--out", out, "--no-audio", "--model", MODEL)[0] == 0
    return out


def search(command: Command, index: Path, *arguments: object) -> list[tuple[int, float]]:
    status, out, messages = command("search", index, *arguments, "--model", MODEL, "--json")
    assert status == 0, messages
    return [(each["map"]["Id"], each["score"]) for each in json.loads(out)["found"]]


def vectors(index: Path) -> dict[int, np.ndarray]:
    return {
        row["Id"]: np.array(row["embedding"], dtype=np.float64) for row in pq.read_table(index).to_pylist()
    }


def ranked(index: Path, query: np.ndarray, without: set[int]) -> list[tuple[int, float]]:
    scores = {key: float(vector @ query) for key, vector in vectors(index).items() if key not in without}
    return sorted(scores.items(), key=lambda item: -item[1])


def check(found: list[tuple[int, float]], expected: list[tuple[int, float]]) -> None:
    assert [key for key, _ in found] == [key for key, _ in expected]
    np.testing.assert_allclose([score for _, score in found], [score for _, score in expected], atol=1e-6)


def test_queries_of_the_index(index: Path, folder: Path, cm3p_command: Command, save_map: Any) -> None:
    all_of = vectors(index)
    found = search(cm3p_command, index, "--like", 20)
    check(found, ranked(index, all_of[20], {20}))
    assert search(cm3p_command, index, "--like", "a set/map 0.osu") == found
    assert search(cm3p_command, index, "--like", folder / "a set" / "map 0.osu") == found
    moved = save_map(folder.parent / "elsewhere" / "map 0.osu", map_id=20, set_id=3, x=0)  # the same content
    assert search(cm3p_command, index, "--like", moved) == found
    several = (all_of[20] + all_of[21]) / 2 - all_of[25]
    check(search(cm3p_command, index, "--like", 20, 21, "--unlike", 25), ranked(index, several, {20, 21, 25}))
    assert search(cm3p_command, index, "--like", 20, "--count", 2) == found[:2]
    assert {key for key, _ in search(cm3p_command, index, "--like", 20, "--ignore-set")} == {24, 25, 26}
    faiss = pytest.importorskip("faiss")
    assert faiss
    # FAISS has float32 scores, in which maps as alike as these can be equal.
    by_faiss = dict(search(cm3p_command, index, "--like", 20, "--index", "faiss", "--mode", "osu"))
    assert by_faiss == pytest.approx({key: score for key, score in found if key != 26}, abs=1e-6)


def test_equal_maps_keep_the_order_of_rows(tmp_path: Path, index: Path, cm3p_command: Command) -> None:
    table = pq.read_table(index)
    same = [table.column("embedding")[4].as_py()] * len(table)
    at = table.column_names.index("embedding")
    type_ = table.schema.field("embedding").type
    pq.write_table(table.set_column(at, "embedding", pa.array(same, type_)), index)
    assert [key for key, _ in search(cm3p_command, index, "--like", 26)] == [20, 21, 22, 23, 24, 25]


def test_a_new_file_is_embedded(index: Path, tmp_path: Path, cm3p_command: Command, save_map: Any) -> None:
    new = save_map(tmp_path / "new.osu", map_id=77, set_id=4, x=222)
    inputs = CM3PProcessor.from_pretrained(MODEL)(beatmap=new)
    with torch.inference_mode():
        mean = from_pretrained(MODEL)(**inputs, return_loss=False).beatmap_embeds.mean(0).double()
    query = (mean / mean.norm()).numpy()
    check(search(cm3p_command, index, "--like", new), ranked(index, query, set()))
    check(search(cm3p_command, index, "--like", new, "--ignore-set"), ranked(index, query, {24}))
    for model in (CLASSIFIER, MODEL.with_name("saved_mlm")):
        status, _, messages = cm3p_command("search", index, "--like", new, "--model", model)
        assert status == 2 and "has no embeddings" in messages
    header = json.loads(pq.read_schema(index).metadata[b"pentatonic.vectors"]) | {"model_hash": "another"}
    pq.write_table(
        pq.read_table(index).replace_schema_metadata({b"pentatonic.vectors": json.dumps(header)}), index
    )
    status, _, messages = cm3p_command("search", index, "--like", new, "--model", MODEL)
    assert status == 1 and "model_hash" in messages
    pq.write_table(pq.read_table(index).replace_schema_metadata(None), index)
    status, _, messages = cm3p_command("search", index, "--like", new, "--model", MODEL)
    assert status == 1 and "does not say which model" in messages
    assert search(cm3p_command, index, "--like", 20)


def test_metadata_alone(index: Path, cm3p_command: Command) -> None:
    processor, model = CM3PProcessor.from_pretrained(MODEL), from_pretrained(MODEL)
    encoded = processor(metadata={"mode": "taiko", "year": 2015, "tags": ["aim/jump", "style/clean"]})
    with torch.inference_mode():
        vector = model(
            metadata_ids=encoded["input_ids"],
            metadata_attention_mask=encoded["attention_mask"],
            return_loss=False,
        ).metadata_embeds[0]
    fields = ("mode=taiko", "year=2015", "tags=aim/jump,style/clean")
    found = search(cm3p_command, index, "--metadata", *fields, "--count", 3)
    check(found, ranked(index, vector.double().numpy(), set())[:3])
    for field, reason in {
        "mode=chess": "allowed: osu, taiko, fruits, mania",
        "mapper=nobody": "Someone Else",
        "speed=3": "difficulty, year",
        "year=soon": "a number",
    }.items():
        status, _, messages = cm3p_command("search", index, "--metadata", field, "--model", MODEL)
        assert status == 2 and reason in messages, messages


def test_limits(index: Path, cm3p_command: Command) -> None:
    status, _, messages = cm3p_command("search", index, "--like", 20, "--stars", "5.5:6")
    assert status == 1 and "DifficultyRating" in messages and "--metadata" in messages
    table = pq.read_table(index)
    for name, values in {
        "DifficultyRating": [5.5, 5.8, 6.0, 6.1, None, 5.6, 5.7],
        "SubmittedDate": [2015] * 7,
    }.items():
        at = table.column_names.index(name)
        array = pa.array(values, pa.float64()) if name == "DifficultyRating" else pa.array(
            [None, *(f"{year}-03-01T00:00:00+00:00" for year in (2014, 2015, 2016, 2020, 2021, 2016))]
        )  # fmt: skip
        table = table.set_column(at, name, array)
    pq.write_table(table, index)
    found = {key for key, _ in search(cm3p_command, index, "--like", 20, "--stars", "5.5:6", "--mode", "osu")}
    assert found == {21, 22, 24, 25}
    found = {key for key, _ in search(cm3p_command, index, "--like", 20, "--year", "2015:2020")}
    assert found == {22, 23, 25, 26}
    status, out, messages = cm3p_command("search", index, "--like", 20, "--stars", "9:")
    assert (status, out.strip()) == (0, "") and "no map" in messages


def test_audio_needs_an_index_with_audio(
    index: Path, tmp_path: Path, cm3p_command: Command, folder: Path
) -> None:
    from pentatonic.audio import save

    song = tmp_path / "song.wav"
    save(song, torch.randn(1, 9 * 16000, generator=torch.Generator().manual_seed(1)) * 0.1, 16000)
    status, _, messages = cm3p_command("search", index, "--audio", song, "--model", MODEL)
    assert status == 1 and "made without audio" in messages
    for name in ("a set", "other", "keys"):
        (folder / name / "song.wav").write_bytes(song.read_bytes())
    assert cm3p_command("embed", folder, "--out", index, "--model", MODEL)[0] == 0
    status, out, messages = cm3p_command("search", index, "--audio", song, "--model", MODEL)
    assert status == 0 and "empty windows" in messages and len(out.splitlines()) == 7


def test_wrong_usage(index: Path, tmp_path: Path, cm3p_command: Command) -> None:
    assert cm3p_command("search", index)[0] == 2
    status, _, messages = cm3p_command("search", index, "--like", "no such map.osu")
    assert status == 1 and "no such map.osu" in messages
    assert cm3p_command("search", index, "--like", 20, "--unlike", 20)[0] == 2
    (tmp_path / "page.parquet").write_text("<html>")
    status, _, messages = cm3p_command("search", tmp_path / "page.parquet", "--like", 20)
    assert status == 1 and "Parquet" in messages


def test_options_with_several_values() -> None:
    given = [
        "i",
        "--like",
        "a",
        "b",
        "--stars",
        "5:6",
        "--gamemodes",
        "0",
        "3",
        "path",
        "--unlike",
        "-",
        "--",
        "x",
    ]
    expected = ["i", "--like", "a", "--like", "b", "--stars", "5:6"]
    expected += ["--gamemodes", "0", "--gamemodes", "3", "path", "--unlike", "-", "--", "x"]
    assert SeveralValues.repeated(given) == expected
    assert SeveralValues.repeated(["--like=a", "b"]) == ["--like=a", "b"]


def test_ranges() -> None:
    assert parse_range("5.5:6", "--stars") == (5.5, 6.0) and parse_range(":6", "--stars") == (None, 6.0)
    assert parse_range("2015", "--year") == (2015.0, 2015.0) and parse_range(None, "--year") == (None, None)
    for text in ("6:5", "a:b", ":", "nan:", ""):
        with pytest.raises(UsageError, match="--stars"):
            parse_range(text, "--stars")


def test_labels_of_a_classifier(folder: Path, cm3p_command: Command) -> None:
    (folder / "page.osu").write_text("<html>")
    status, out, messages = cm3p_command("classify", folder, "--model", CLASSIFIER, "--no-audio", "--json")
    found = json.loads(out)
    assert status == 3 and "page.osu" in messages and len(found["maps"]) == 7
    for each in found["maps"]:
        inputs = CM3PProcessor.from_pretrained(CLASSIFIER)(beatmap=Path(each["where"]))
        with torch.inference_mode():
            expected = from_pretrained(CLASSIFIER)(**inputs).logits.softmax(-1)
        np.testing.assert_allclose(each["windows"], expected, atol=1e-5)
        np.testing.assert_allclose(each["mean"], expected.mean(0), atol=1e-5)
        assert sum(each["votes"]) == len(each["starts_s"]) == len(expected)
    status, out, _ = cm3p_command("classify", folder / "keys", "--model", CLASSIFIER, "--no-audio")
    assert status == 0 and "map 6.osu" in out and all(name in out for name in found["labels"])


def test_zero_shot(folder: Path, cm3p_command: Command) -> None:
    arguments = ("classify", folder / "other", "--model", MODEL, "--no-audio", "--zero-shot")
    status, out, _ = cm3p_command(*arguments, "mode=osu,mania", "--json")
    found = json.loads(out)
    assert status == 0 and found["labels"] == ["mode=osu", "mode=mania"]
    processor, model = CM3PProcessor.from_pretrained(MODEL), from_pretrained(MODEL)
    for each in found["maps"]:
        inputs = processor(beatmap=Path(each["where"]), metadata=[{"mode": "osu"}, {"mode": "mania"}])
        with torch.inference_mode():
            expected = model(**inputs, return_loss=False).logits_per_beatmap.softmax(-1)
        np.testing.assert_allclose(each["windows"], expected, atol=1e-5)
    for text, reason in {"mode=osu": "two or more", "mode=osu,chess": "chess", "shape=a,b": "FIELD"}.items():
        status, _, messages = cm3p_command(*arguments, text)
        assert status == 2 and reason in messages
    assert cm3p_command("classify", folder, "--model", MODEL, "--no-audio")[0] == 2
