"""Stores of vectors: round trip, mixing of models, updates, damage, and values that cannot be stored."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

from pentatonic.errors import (
    ConfigError,
    FormatError,
    IncompatibleVectors,
    InputError,
    MissingExtra,
    PentatonicError,
    UsageError,
)
from pentatonic.search import VectorBatch, VectorHeader, VectorStore, top_k, write_vectors

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

HEADER = VectorHeader(
    model_hash="abc", frontend="myna-rpe", windows="track", pooling="mean", dimension=4, metric="cosine"
)
COLUMNS = {
    "artist": "string",
    "duration_s": "float64",
    "year": "int64",
    "is_quiet": "bool",
    "print": "binary",
}


def rows(count: int, dimension: int = 4) -> VectorBatch:
    rng = np.random.default_rng(count)
    metadata = {
        "artist": [None if n % 5 == 0 else f"artist {n % 3}" for n in range(count)],
        "duration_s": [n / 2 for n in range(count)],
        "year": list(range(count)),
        "is_quiet": [n % 2 == 0 for n in range(count)],
        "print": [bytes([n, 255]) for n in range(count)],
    }
    vectors = rng.standard_normal((count, dimension), dtype=np.float32)
    return VectorBatch([f"folder/{n} ♪.flac" for n in range(count)], vectors, metadata)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_vectors(tmp_path / "store.parquet", HEADER, [rows(30)], columns=COLUMNS)
    return tmp_path / "store.parquet"


def test_what_is_written_is_read_back(store: Path) -> None:
    given = rows(30)
    with VectorStore(store, HEADER) as opened:
        assert (len(opened), opened.header, opened.columns) == (30, HEADER, tuple(COLUMNS))
        (batch,) = opened.batches()
        assert (batch.ids, batch.metadata) == (given.ids, given.metadata)
        np.testing.assert_array_equal(batch.vectors, given.vectors)
        assert opened.read_column() == given.ids
        assert opened.read_column("year") == list(range(30))
        with pytest.raises(UsageError, match="no column 'mood'; allowed: id, artist, duration_s"):
            opened.read_column("mood")


def test_search_is_that_of_the_array(store: Path) -> None:
    vectors = rows(30).vectors
    allowed = np.arange(30) % 2 == 1
    with VectorStore(store) as opened:
        found = opened.search(vectors[:3], 5, allowed=allowed)
        expected = top_k(vectors[:3], vectors, 5, metric="cosine", allowed=allowed)
        np.testing.assert_array_equal(found.rows, expected.rows)
        with pytest.raises(InputError, match=r"queries have the shape \(3, 2\); allowed: \(queries, 4\)"):
            opened.search(vectors[:3, :2], 5)


def test_an_empty_store_and_one_row(tmp_path: Path) -> None:
    assert write_vectors(tmp_path / "none", HEADER, []) == 0
    with VectorStore(tmp_path / "none") as opened:
        assert (len(opened), opened.read_column(), opened.search(np.ones((2, 4)), 3).rows.shape) == (
            0,
            [],
            (2, 0),
        )
    one = VectorBatch(["a"], np.ones((1, 4)))
    assert write_vectors(tmp_path / "one", HEADER, [one]) == 1
    with VectorStore(tmp_path / "one") as opened:
        assert opened.search(np.ones((1, 4)), 10**15).rows.tolist() == [[0]]


def test_large_stores_are_read_in_bounded_batches(tmp_path: Path) -> None:
    header = dataclasses.replace(HEADER, dimension=1024)
    batches = [VectorBatch([str(n)] * 1000, np.full((1000, 1024), n + 1.0)) for n in range(5)]
    assert write_vectors(tmp_path / "store", header, batches) == 5000
    with VectorStore(tmp_path / "store") as opened:
        blocks = list(opened.blocks())
        assert max(block.nbytes for block in blocks) <= 8 * 2**20
        assert len(blocks) > 1
        np.testing.assert_array_equal(np.concatenate(blocks), np.concatenate([b.vectors for b in batches]))


def test_half_precision_is_rounded_and_what_overflows_is_refused(tmp_path: Path) -> None:
    header = dataclasses.replace(HEADER, dtype="float16", metric="euclidean")
    vectors = np.array([[1.0, 0.1, 3.0, 4.0], [1.0, 2.0, 3.0, 65504.0]])
    write_vectors(tmp_path / "store", header, [VectorBatch(["a", "b"], vectors)])
    with VectorStore(tmp_path / "store") as opened:
        (block,) = opened.blocks()
        np.testing.assert_array_equal(block, vectors.astype(np.float16))
        assert opened.search(vectors[1:], 1).rows.tolist() == [[1]]
    vectors[1, 3] = 70000
    with pytest.raises(InputError, match="row 1 has a number that is not finite; allowed: up to 65504"):
        write_vectors(tmp_path / "store", header, [VectorBatch(["a", "b"], vectors)])


def test_vectors_of_another_model_are_refused_in_one_message(store: Path) -> None:
    other = dataclasses.replace(HEADER, model_hash="def", pooling="cls")
    with pytest.raises(IncompatibleVectors) as caught:
        VectorStore(store, other)
    assert str(caught.value) == (
        f"{store}: its vectors cannot be mixed with those of this model: model_hash 'abc' instead of 'def', "
        "pooling 'mean' instead of 'cls'; compute them again with this model, or use the one that made them"
    )


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(VectorHeader)])
def test_every_field_of_the_header_counts(field: str) -> None:
    changed = {"dimension": 5, "dtype": "float16", "metric": "euclidean"}.get(field, "other")
    with pytest.raises(IncompatibleVectors, match=field):
        HEADER.require(dataclasses.replace(HEADER, **{field: changed}), "here")
    HEADER.require(HEADER, "here")


def test_a_store_is_updated_in_place(store: Path) -> None:
    with VectorStore(store) as old:
        kept = (
            VectorBatch(
                [i for i, year in zip(batch.ids, batch.metadata["year"], strict=True) if year >= 10],
                batch.vectors[10:],
                {name: values[10:] for name, values in batch.metadata.items()},
            )
            for batch in old.batches()
        )
        assert write_vectors(store, HEADER, [*kept, rows(3)], columns=COLUMNS) == 23
        assert len(next(old.blocks())) == 30  # an open store stays what it was
    with VectorStore(store) as new:
        assert new.read_column() == [*rows(30).ids[10:], *rows(3).ids]


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (VectorBatch(["a", "b"], np.ones((2, 3))), r"from row 3 have the shape \(2, 3\); allowed: \(2, 4\)"),
        (VectorBatch(["a"], np.ones((2, 4))), r"allowed: \(1, 4\)"),
        (
            VectorBatch(["a", "b"], np.array([[1.0] * 4, [1, 2, np.nan, 4]])),
            "row 4 has a number that is not finite",
        ),
        (VectorBatch(["a", "b"], np.array([[1.0] * 4, [0.0] * 4])), "row 4 has norm 0"),
        (
            VectorBatch(["a", "\udc80"], np.ones((2, 4))),
            r"column 'id', row 4: '\\udc80' is not of type string",
        ),
        (VectorBatch(["a", 5], np.ones((2, 4))), "column 'id', row 4: 5 is not of type string"),  # type: ignore[list-item]
        (VectorBatch(["a"], np.ones((1, 4)), {"year": []}), "column 'year' from row 3: needs 1 values"),
        (
            VectorBatch(["a"], np.ones((1, 4)), {"year": ["x"]}),
            "column 'year', row 3: 'x' is not of type int64",
        ),
        (VectorBatch(["a"], np.ones((1, 4)), {"year": [2**70]}), "column 'year', row 3"),
    ],
)
def test_what_cannot_be_stored_is_named_and_leaves_the_file(
    tmp_path: Path, batch: VectorBatch, message: str
) -> None:
    path = tmp_path / "store"
    good = VectorBatch(["x", "y", "z"], np.ones((3, 4)), {"year": [1, 2, None]})
    write_vectors(path, HEADER, [good], columns={"year": "int64"})
    before = path.read_bytes()
    if not batch.metadata:
        batch = dataclasses.replace(batch, metadata={"year": [1] * len(batch.ids)})
    with pytest.raises(InputError, match=message):
        write_vectors(path, HEADER, [good, batch], columns={"year": "int64"})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_reserved_and_unknown_columns_are_wrong_usage(tmp_path: Path) -> None:
    for columns in ({"id": "string"}, {"vector": "string"}, {"x": "list"}):
        with pytest.raises(
            UsageError, match="allowed: another name than 'id' and 'vector', and one of string"
        ):
            write_vectors(tmp_path / "store", HEADER, [], columns=columns)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"header\.dimension is 0"):
        dataclasses.replace(HEADER, dimension=0)


def test_damage_is_an_error_of_the_file_or_without_effect(store: Path, tmp_path: Path) -> None:
    """Flipped bytes and truncations: a typed error, or the vectors and ids that were written."""
    content = store.read_bytes()
    rng = np.random.default_rng(0)
    damaged = tmp_path / "damaged"
    refused = 0
    for trial in range(300):
        changed = bytearray(content)
        if trial % 10 == 0:
            changed = changed[: rng.integers(len(content))]
        else:
            changed[rng.integers(len(content))] ^= 1 << rng.integers(8)
        damaged.write_bytes(changed)
        try:
            with VectorStore(damaged, HEADER) as opened:
                batches = list(opened.batches())
                np.testing.assert_array_equal(np.concatenate([b.vectors for b in batches]), rows(30).vectors)
                assert [name for batch in batches for name in batch.ids] == rows(30).ids
        except PentatonicError as error:
            assert str(damaged) in str(error)
            refused += 1
    assert refused > 200


@pytest.mark.parametrize(
    ("columns", "metadata", "message"),
    [
        ({"id": ["a"], "vector": [[1.0, 2.0, 3.0, 4.0]]}, {}, "without a header of vectors"),
        ({"id": ["a"], "vector": [[1.0, 2.0, 3.0, 4.0]]}, HEADER, "needs one column 'vector'"),
        (
            {"id": [1], "vector": pa.array([[1.0] * 4], pa.list_(pa.float32(), 4))},
            HEADER,
            "needs one column 'id'",
        ),
        (
            {"id": ["a"], "vector": pa.array([None], pa.list_(pa.float32(), 4))},
            HEADER,
            "vector is missing in rows 0",
        ),
        (
            {"id": ["a"], "vector": pa.array([[1.0] * 3 + [np.inf]], pa.list_(pa.float32(), 4))},
            HEADER,
            "row 0 has",
        ),
        ({"id": ["a"]}, "{", "not JSON"),
        ({"id": ["a"]}, "[1]", "header of version None; this program reads version 1"),
        ({"id": ["a"]}, '{"version": 2}', "header of version 2"),
        ({"id": ["a"]}, '{"version": 1, "model_hash": "x"}', r"header\.frontend is missing"),
    ],
)
def test_files_of_other_programs_are_refused(
    tmp_path: Path, columns: dict, metadata: VectorHeader | str | dict, message: str
) -> None:
    text = metadata.to_json() if isinstance(metadata, VectorHeader) else metadata
    table = pa.table(columns).replace_schema_metadata({"pentatonic.vectors": text} if text else {})
    parquet.write_table(table, tmp_path / "foreign")
    with pytest.raises(FormatError, match=message) as caught:
        list(VectorStore(tmp_path / "foreign").blocks())
    assert "foreign" in str(caught.value)


def test_what_is_no_file_of_vectors_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is missing"):
        VectorStore(tmp_path / "none")
    with pytest.raises(InputError, match="it is a folder"):
        VectorStore(tmp_path)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(FormatError, match="cannot be read as a Parquet file"):
        VectorStore(tmp_path / "text")


def test_without_pyarrow_one_sentence_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"A store of vectors needs .*pip install 'pyarrow>=18'"):
        write_vectors(tmp_path / "store", HEADER, [])
    with pytest.raises(MissingExtra, match="pyarrow"):
        VectorStore(tmp_path / "store")
    assert list(tmp_path.iterdir()) == []
