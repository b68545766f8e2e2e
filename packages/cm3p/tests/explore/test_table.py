"""Reading embeddings: every form of the columns, and files that are none."""

import datetime
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from cm3p.explore.columns import NumberColumn, TextColumn
from cm3p.explore.table import MapTable, read_table
from pentatonic.errors import FormatError, MissingExtra, UsageError

Write = Callable[..., Path]


def values(table: MapTable, name: str) -> list[Any]:
    column = next(each for each in table.columns if each.name == name)
    if isinstance(column, TextColumn):
        return [column.values[code] if code >= 0 else None for code in column.codes]
    return [None if np.isnan(each) else each for each in column.values]


def names(table: MapTable) -> list[str]:
    return [each.name for each in table.columns]


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float16(), 3)], ids=str
)
def test_vectors_of_every_list_type_become_unit_vectors(
    tmp_path: Path, write_embeddings: Write, kind: pa.DataType
) -> None:
    raw = np.array([[3, 0, 4], [0, -2, 0]], dtype=np.float16)
    array = pa.array([list(each) for each in raw], kind)
    table = read_table(write_embeddings(tmp_path / "a.parquet", {"Id": [1, 2]}, array), 10)
    assert table.vectors.dtype == np.float32
    np.testing.assert_allclose(table.vectors, [[0.6, 0, 0.8], [0, -1, 0]], atol=1e-7)


def test_rows_without_a_usable_vector_are_counted_and_left_out(
    tmp_path: Path, write_embeddings: Write
) -> None:
    vectors = pa.array(
        [[1.0, 0], None, [float("nan"), 1], [0, 0], [None, 1], [float("inf"), 1], [1e300, 0]],
        pa.list_(pa.float64()),
    )
    table = read_table(write_embeddings(tmp_path / "a.parquet", {"Id": list(range(7))}, vectors), 10)
    assert (table.total, table.unusable) == (7, 6)
    assert values(table, "Id") == [0]


def test_texts_are_stored_once_and_cleaned(tmp_path: Path, write_embeddings: Write) -> None:
    titles = ["a\x00b\n", "", None, "x" * 1_000_000, "a b", "日本"]
    columns = {
        "Title": pa.array(titles),
        "Artist": pa.array([b"ok", b"\xff\xfe", None, b"ok", b"ok", b"ok"], pa.binary()),
        "Source": pa.array(["s", None, "s", "t", "t", "t"]).dictionary_encode(),
        "Genre": ["never shown"] * 6,
    }
    table = read_table(write_embeddings(tmp_path / "a.parquet", columns, np.eye(6)), 10)
    assert values(table, "Title") == ["a b", None, None, "x" * 400 + "…", "a b", "日本"]
    assert values(table, "Artist") == ["ok", "\ufffd\ufffd", None, "ok", "ok", "ok"]
    assert values(table, "Source") == ["s", None, "s", "t", "t", "t"]
    assert names(table) == ["Artist", "Title", "Source"]
    title = next(each for each in table.columns if each.name == "Title")
    assert isinstance(title, TextColumn)
    assert len(title.values) == 3


def test_columns_are_derived_where_they_are_missing(tmp_path: Path, write_embeddings: Write) -> None:
    date = datetime.datetime(2011, 2, 3, tzinfo=datetime.UTC)
    columns = {
        "ModeInt": [0, 3, None, 9],
        "Ranked": [1, -2, 4, None],
        "DifficultyRating": [5.5, None, None, float("nan")],
        "StarRating": [1.0, 2.0, None, 4.0],
        "RankedDate": pa.array([date, None, None, None], pa.timestamp("us", "UTC")),
        "SubmittedDate": ["2009-01-01", "2013-06-01T10:00:00Z", "soon", None],
    }
    table = read_table(write_embeddings(tmp_path / "a.parquet", columns, np.eye(4)), 10)
    assert values(table, "Mode") == ["osu", "mania", None, None]
    assert values(table, "Status") == ["ranked", "graveyard", "loved", None]
    assert values(table, "DifficultyRating") == [5.5, 2.0, None, 4.0]
    assert values(table, "Year") == [2011, 2013, None, None]
    assert str(values(table, "RankedDate")[0]).startswith("2011-02-03")


def test_other_types_of_columns_are_numbers_or_left_out(tmp_path: Path, write_embeddings: Write) -> None:
    columns = {
        "MaxCombo": pa.array([True, False]),
        "Bpm": pa.array([float("inf"), 180.5]),
        "Tags": pa.array([["a"], ["b"]]),
        "Source": pa.nulls(2),
        "Status": [None, ""],
    }
    table = read_table(write_embeddings(tmp_path / "a.parquet", columns, np.eye(2)), 10)
    assert names(table) == ["Bpm", "MaxCombo"]
    assert (values(table, "Bpm"), values(table, "MaxCombo")) == ([None, 180.5], [1, 0])


def test_a_long_file_is_drawn_from(tmp_path: Path, write_embeddings: Write) -> None:
    count = 10_000  # several batches
    angles = np.arange(count) / count
    columns = {"Id": list(range(count)), "Title": [f"t{i % 50}" for i in range(count)]}
    path = write_embeddings(
        tmp_path / "a.parquet", columns, np.stack([np.cos(angles), np.sin(angles)], axis=1)
    )
    table = read_table(path, 500)
    assert (len(table.vectors), table.total, table.unusable) == (500, count, 0)
    ids = values(table, "Id")
    assert ids == sorted(set(ids)) and ids[0] < 500 and ids[-1] > count - 500
    assert values(table, "Title") == [f"t{int(i) % 50}" for i in ids]
    np.testing.assert_allclose(table.vectors[:, 1], np.sin(np.array(ids) / count), atol=1e-6)
    assert values(read_table(path, 500), "Id") == ids


def test_what_is_no_file_of_embeddings_is_refused(tmp_path: Path, write_embeddings: Write) -> None:
    path = tmp_path / "a.parquet"
    good = write_embeddings(path, {"Id": [1, 2]}, np.eye(2)).read_bytes()
    cases: dict[str, bytes | pa.Table] = {
        "cannot be read as a Parquet": b"<html>not found</html>",
        "cannot be read as": good[: len(good) // 2],
        "no column 'embedding'": pa.table({"Id": [1]}),
        "no map": pa.table({"embedding": pa.array([None], pa.list_(pa.float32()))}),
        "has 3 numbers; allowed: 2": pa.table({"embedding": [[1.0, 2.0], [1.0, 2.0, 3.0]]}),
        "has 0 numbers": pa.table({"embedding": pa.array([[]], pa.list_(pa.float32()))}),
        "embeddings (": pa.table({"embedding": ["a", "b"]}),
        "9000 numbers on average; allowed: at most 8192": pa.table({"embedding": [[1.0] * 9000]}),
    }
    for message, content in cases.items():
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            parquet.write_table(content, path)
        with pytest.raises(FormatError, match=message.replace("(", r"\(")) as caught:
            read_table(path, 10)
        assert caught.value.path == path


def test_too_many_maps_for_a_page_name_the_number_that_fits(
    tmp_path: Path, write_embeddings: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cm3p.explore.table.MAX_PAGE_VALUES", 20)
    path = write_embeddings(tmp_path / "a.parquet", {}, np.eye(8))
    with pytest.raises(UsageError, match="allowed: --most 2"):
        read_table(path, 10)
    assert len(read_table(path, 2).vectors) == 2


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"cm3p\[search\]"):
        read_table(tmp_path / "a.parquet", 10)


def test_numbers_in_the_page_are_short() -> None:
    column = NumberColumn("Bpm", np.array([180.0, 174.99999237060547, np.nan]))
    assert column.to_json()["values"] == [180, 175.0, None]
