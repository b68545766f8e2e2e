"""Files to features: against the original's numbers, and as runs over folders that stop, continue and change."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from notagen.clamp2 import embedding
from notagen.clamp2.config import ClampConfig, EncoderConfig, TextConfig
from notagen.clamp2.embedder import Embedder, EmbedOptions, load_embedder, stored_options
from notagen.clamp2.embedding import COLUMNS, embed_parquet, embed_tree
from notagen.clamp2.feature_record import RECORD
from notagen.clamp2.feature_sets import embed_now, is_stored, read_features
from notagen.clamp2.model import Clamp
from notagen.clamp2.weights import load_clamp, save_pretrained
from pentatonic.cli import Interrupted
from pentatonic.errors import FormatError, IncompatibleVectors, InputError, UsageError
from pentatonic.search import VectorStore

GOLDENS = Path(__file__).parents[1] / "goldens" / "clamp2"
TUNE = "X:1\nL:1/8\nM:4/4\nK:{key}\nCDEF GABc|c8|{more}C8|]\n"
BOOK = "X:1\nL:1/8\nM:4/4\nK:C\nC8|]\n\nX:7\nL:1/8\nM:4/4\nK:D\nd8|A8|]\n"


def golden_model(name: str, parts: dict[str, str]) -> Clamp:
    sizes = json.loads((GOLDENS / name / "meta.json").read_text())["config"]

    def encoder(part: str) -> EncoderConfig:
        own = sizes[part]
        return EncoderConfig(
            layers=own["num_hidden_layers"],
            width=own["hidden_size"],
            heads=own["num_attention_heads"],
            mlp_width=own["intermediate_size"],
            length=own["max_position_embeddings"],
        )

    config = ClampConfig(
        family=name.removesuffix("_tiny"),  # type: ignore[arg-type]
        projection=sizes["projection_size"],
        **{ours: encoder(theirs) for ours, theirs in parts.items()},
    )
    return load_clamp(GOLDENS / name / "weights.safetensors", config=config)


@pytest.fixture(scope="module")
def clamp2() -> Clamp:
    return golden_model("clamp2_tiny", {"music": "music"})


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    """An encoder of random weights."""
    torch.manual_seed(0)
    sizes = EncoderConfig(layers=1, width=16, heads=2, mlp_width=16, length=8)
    return Embedder(Clamp(ClampConfig(family="clamp2", projection=6, music=sizes)).eval())


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    folder = tmp_path / "scores"
    (folder / "deep").mkdir(parents=True)
    for name, key in (("one", "C"), ("deep/two", "D"), ("deep/three", "E")):
        (folder / f"{name}.abc").write_text(TUNE.format(key=key, more="G8|" * len(name)))
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.npy"))


@pytest.mark.parametrize("preparation", ["clamp2", "notagen"])
def test_pieces_of_any_length_equal_the_original(clamp2, tmp_path, preparation):
    io = load_file(GOLDENS / "clamp2_extract" / "io.safetensors")
    pieces = json.loads((GOLDENS / "clamp2_extract" / "inputs.json").read_text())
    for piece in pieces:
        suffix = ".mtf" if piece["name"].startswith("mtf") else ".abc"
        (tmp_path / f"{piece['name']}{suffix}").write_text(piece["text"])
    model = Embedder(clamp2, EmbedOptions(preparation))
    files = [model.encode_file(path) for path in sorted(tmp_path.iterdir())]
    for path, feature, frames in zip(
        sorted(tmp_path.iterdir()),
        model.compute(files, "features"),
        model.compute(files, "frames"),
        strict=True,
    ):
        expected = f"{preparation}.{path.stem}"
        np.testing.assert_allclose(feature[0], io[f"{expected}.global"], atol=3e-5, rtol=0)
        np.testing.assert_allclose(frames[0], io[f"{expected}.frames"], atol=3e-5, rtol=0)
        assert feature[0].dtype == frames[0].dtype == np.float32


def test_pieces_of_clamp3_equal_the_original(tmp_path):
    io = load_file(GOLDENS / "clamp3_tiny" / "io.safetensors")
    model = Embedder(golden_model("clamp3_tiny", {"music": "symbolic"}))
    assert model.options.drop_unit_length
    for number, text in enumerate(json.loads((GOLDENS / "clamp3_tiny" / "inputs.json").read_text())):
        path = tmp_path / "piece.abc"
        path.write_text(text)
        encoded = [model.encode_file(path)]
        np.testing.assert_allclose(
            model.compute(encoded, "features")[0][0], io[f"symbolic{number}.global"], atol=3e-5, rtol=0
        )
        np.testing.assert_allclose(
            model.compute(encoded, "frames")[0][0], io[f"symbolic{number}.frames"], atol=3e-5, rtol=0
        )


def test_files_equal_the_original_the_whole_way(clamp2, tmp_path):
    io = load_file(GOLDENS / "embed_files" / "io.safetensors")
    for case in json.loads((GOLDENS / "embed_files" / "meta.json").read_text())["cases"]:
        preparation, name = case["name"].split(".")
        as_is = name == "standard_abc_not_interleaved"
        source = tmp_path / case["name"]
        source.mkdir()
        suffix = ".mid" if case["input"] == "midi" else ".abc"
        (source / f"piece{suffix}").write_bytes(base64.b64decode(case["bytes_base64"]))
        model = Embedder(clamp2, EmbedOptions(preparation, as_is))
        report = embed_tree(model, [source], tmp_path / "out" / case["name"])
        assert report.count("done") == 1, (case["name"], report.entries)
        found = np.load(tmp_path / "out" / case["name"] / "piece.npy")
        np.testing.assert_allclose(
            found, io[f"{case['name']}.global"], atol=3e-5, rtol=0, err_msg=case["name"]
        )


def test_a_tree_mirrors_the_folders(embedder, scores, tmp_path):
    (scores / "book.abc").write_text(BOOK)
    (scores / "deep" / "note.pdf").write_text("no score")
    out = tmp_path / "out"
    report = embed_tree(embedder, [scores], out)
    assert names(out) == ["book-1.npy", "book-7.npy", "deep/three.npy", "deep/two.npy", "one.npy"]
    assert report.counts == {"done": 4, "skipped": 0, "failed": 0} and report.passed_over == {".pdf": 1}
    assert np.load(out / "one.npy").shape == (1, 6)
    assert json.loads((out / "run.json").read_text())["settings"]["preparation"] == "clamp2"
    frames = tmp_path / "frames"
    embed_tree(embedder, [scores], frames, frames=True)
    assert np.load(frames / "one.npy").shape[::2] == (1, 16)
    with pytest.raises(FormatError, match=r"allowed: \(1, P\)"):
        read_features(frames)


def test_unchanged_files_are_passed_over_and_changed_ones_embedded_again(embedder, scores, tmp_path):
    out = tmp_path / "out"
    embed_tree(embedder, [scores], out)
    before = {name: (out / name).read_bytes() for name in names(out)}
    (scores / "one.abc").touch()  # another time, the same content
    (scores / "deep" / "two.abc").write_text(TUNE.format(key="A", more="A8|"))
    report = embed_tree(embedder, [scores], out)
    assert report.counts == {"done": 1, "skipped": 2, "failed": 0}
    after = {name: (out / name).read_bytes() for name in names(out)}
    assert {name for name in after if after[name] != before[name]} == {"deep/two.npy"}
    assert embed_tree(embedder, [scores], out, overwrite=True).count("done") == 3


def test_a_run_that_was_stopped_equals_one_that_was_not(embedder, scores, tmp_path, monkeypatch):
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    embed_tree(embedder, [scores], straight)
    monkeypatch.setattr(embedding, "_BATCH_ITEMS", 1)
    seen = []

    def stop(files, output):
        if seen:
            raise KeyboardInterrupt
        seen.append(files)
        return Embedder.compute(embedder, files, output)

    with monkeypatch.context() as patched:
        patched.setattr(embedder, "compute", stop)
        with pytest.raises(Interrupted):
            embed_tree(embedder, [scores], stopped)
    done = names(stopped)
    assert len(done) == 1
    with (stopped / RECORD).open("ab") as file:  # a line that was being written
        file.write(b'{"path": "deep/t')
    report = embed_tree(embedder, [scores], stopped)
    assert report.counts == {"done": 2, "skipped": 1, "failed": 0}
    assert names(stopped) == names(straight)
    for name in names(straight):
        np.testing.assert_allclose(np.load(stopped / name), np.load(straight / name), atol=1e-6)
    assert embed_tree(embedder, [scores], stopped).count("skipped") == 3


def test_a_folder_of_other_settings_is_refused(embedder, clamp2, scores, tmp_path):
    out = tmp_path / "out"
    embed_tree(embedder, [scores], out)
    with pytest.raises(UsageError, match="preparation clamp2, not notagen"):
        embed_tree(Embedder(embedder.model, EmbedOptions("notagen")), [scores], out)
    with pytest.raises(UsageError, match="another model"):
        embed_tree(Embedder(clamp2), [scores], out)
    with pytest.raises(UsageError, match=r"no \.abc"):
        embed_tree(embedder, [tmp_path / "out"], tmp_path / "other")


def test_files_of_one_stem_are_kept_apart(embedder, scores, tmp_path):
    io = json.loads((GOLDENS / "clamp2_extract" / "inputs.json").read_text())
    (scores / "one.mtf").write_text(next(each["text"] for each in io if each["name"] == "mtf_long"))
    (scores / "book.abc").write_text(BOOK)
    (scores / "book-7.abc").write_text(TUNE.format(key="F", more=""))
    out = tmp_path / "out"
    assert embed_tree(embedder, [scores], out).exit_code == 0
    assert [name for name in names(out) if "/" not in name] == [
        *("book-1.npy", "book-7.npy", "book.abc-7.npy"),
        *("one.abc.npy", "one.mtf.npy"),
    ]
    (scores / "one.mtf").unlink()  # the stem is free again: the name becomes short, and the old output goes
    assert embed_tree(embedder, [scores], out).counts == {"done": 1, "skipped": 4, "failed": 0}
    assert "one.npy" in names(out) and "one.abc.npy" not in names(out)


def test_a_name_that_becomes_another_files_is_given_up(embedder, scores, tmp_path):
    (scores / "book.abc").write_text(BOOK)
    out = tmp_path / "out"
    embed_tree(embedder, [scores], out)
    old = np.load(out / "book-7.npy")
    (scores / "book-7.abc").write_text(TUNE.format(key="F", more=""))
    assert embed_tree(embedder, [scores], out).counts == {"done": 2, "skipped": 3, "failed": 0}
    np.testing.assert_allclose(np.load(out / "book.abc-7.npy"), old, atol=1e-6)
    assert not np.allclose(np.load(out / "book-7.npy"), old, atol=1e-4)


def test_bad_files_are_named_and_the_others_embedded(embedder, scores, tmp_path):
    (scores / "bytes.abc").write_bytes(b"\xff\xfe\x00")
    (scores / "empty.abc").write_text("")
    (scores / "broken.mid").write_bytes(b"MThd\0\0")
    (scores / "book.abc").write_text(BOOK + "\nX:9\nL:1/8\nM:4/4\nK:C\nV:1\nC8|C8|\nV:2\nC8|\n")
    (scores / "words.txt").write_text("a waltz")
    out = tmp_path / "out"
    report = embed_tree(embedder, [scores, scores / "words.txt"], out)
    reasons = {
        Path(entry["path"]).name: entry["reason"] for entry in report.entries if entry["status"] == "failed"
    }
    assert set(reasons) == {"bytes.abc", "empty.abc", "broken.mid", "book.abc", "words.txt"}
    assert "not UTF-8" in reasons["bytes.abc"] and "no text encoder" in reasons["words.txt"]
    assert reasons["book.abc"].startswith("1 tunes of the book failed: tune 9: voices have different numbers")
    assert report.count("done") == 3 and "book-7.npy" in names(out)
    again = embed_tree(
        embedder, [scores], out
    )  # a book with a tune that failed is tried again, and reported again
    assert again.counts == {"done": 0, "skipped": 3, "failed": 4}


def test_a_file_that_went_bad_loses_its_features(embedder, scores, tmp_path):
    out = tmp_path / "out"
    embed_tree(embedder, [scores], out)
    (scores / "one.abc").write_text("")
    assert embed_tree(embedder, [scores], out).count("failed") == 1
    assert "one.npy" not in names(out)


def test_one_parquet_file(embedder, scores, tmp_path):
    (scores / "book.abc").write_text(BOOK)
    out, tree = tmp_path / "all.parquet", tmp_path / "tree"
    report = embed_parquet(embedder, [scores], out)
    embed_tree(embedder, [scores], tree)
    assert report.count("done") == 4
    stored, plain = read_features(out), read_features(tree)
    assert sorted(stored.names) == plain.names
    order = [stored.names.index(name) for name in plain.names]
    np.testing.assert_allclose(stored.vectors[order], plain.vectors, atol=1e-6)
    assert stored.header == plain.header == embedder.header
    with VectorStore(out, embedder.header) as store:
        assert store.columns == tuple(COLUMNS)
        by_id = dict(zip(store.read_column(), store.read_column("path"), strict=True))
        assert by_id["book-7"] == "book.abc" and by_id["deep/two"] == "deep/two.abc"
        assert set(store.read_column("kind")) == {"abc"} and set(store.read_column("preparation")) == {
            "clamp2"
        }
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_parquet_file_is_updated(embedder, scores, tmp_path, monkeypatch):
    (scores / "book.abc").write_text(BOOK)
    out = tmp_path / "all.parquet"
    embed_parquet(embedder, [scores], out)
    before = dict(zip(read_features(out).names, read_features(out).vectors, strict=True))
    (scores / "one.abc").unlink()
    (scores / "deep" / "two.abc").write_text(TUNE.format(key="A", more="A8|"))
    (scores / "four.abc").write_text(TUNE.format(key="B", more=""))
    report = embed_parquet(embedder, [scores], out)
    assert report.counts == {"done": 2, "skipped": 2, "failed": 0}
    after = dict(zip(read_features(out).names, read_features(out).vectors, strict=True))
    assert sorted(after) == ["book-1", "book-7", "deep/three", "deep/two", "four"]
    same = {name for name in after if name in before and (after[name] == before[name]).all()}
    assert same == {"book-1", "book-7", "deep/three"}
    with pytest.raises(IncompatibleVectors, match="notagen preparation"):
        embed_parquet(Embedder(embedder.model, EmbedOptions("notagen")), [scores], out)
    assert embed_parquet(embedder, [scores], out, overwrite=True).count("done") == 4


def test_a_stopped_parquet_run_goes_on(embedder, scores, tmp_path, monkeypatch):
    out = tmp_path / "all.parquet"
    monkeypatch.setattr(embedding, "_BATCH_ITEMS", 1)
    calls = []

    def stop(files, output):
        calls.append(files)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return Embedder.compute(embedder, files, output)

    monkeypatch.setattr(embedder, "compute", stop)
    with pytest.raises(Interrupted):
        embed_parquet(embedder, [scores], out)
    assert not out.exists() and (tmp_path / ".all.parquet.unfinished").is_dir()
    assert embed_parquet(embedder, [scores], out).counts == {"done": 2, "skipped": 1, "failed": 0}
    assert sorted(read_features(out).names) == ["deep/three", "deep/two", "one"]
    assert not (tmp_path / ".all.parquet.unfinished").exists()


def test_features_of_the_original_are_read(tmp_path):
    rows = np.random.default_rng(0).normal(size=(2, 1, 5)).astype(np.float32)
    for name, row in zip("ba", rows, strict=True):
        np.save(tmp_path / f"{name}.npy", row)
    features = read_features(tmp_path)
    assert features.names == ["a", "b"] and features.header is None
    np.testing.assert_array_equal(features.vectors, rows[::-1, 0])
    assert is_stored(tmp_path) and is_stored(tmp_path / "a.npy") and not is_stored(Path(__file__))
    with pytest.raises(IncompatibleVectors, match="--assume-same-model"):
        features.require(None)
    features.require(None, assume_same_model=True)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((2, 3), np.float32), "allowed: \\(1, P\\)"),
        (np.ones((1, 2, 3), np.float32), "frames cannot be compared"),
        (np.array([1, 2]), "real numbers"),
        (np.array([np.nan, 1.0]), "not finite"),
        (np.array([object()]), "cannot be read"),
    ],
)
def test_other_arrays_are_refused(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(FormatError, match=message):
        read_features(tmp_path / "a.npy")


def test_arrays_of_other_widths_and_empty_folders_are_refused(tmp_path):
    for name, width in (("a", 3), ("b", 4)):
        np.save(tmp_path / f"{name}.npy", np.ones((1, width), np.float32))
    with pytest.raises(FormatError, match=r"b\.npy: a feature of 4 numbers beside others of 3"):
        read_features(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no features"):
        read_features(tmp_path / "empty")
    (tmp_path / "b.npy").write_bytes(b"\x93NUMPY\x01\x00")
    with pytest.raises(FormatError, match="cannot be read"):
        read_features(tmp_path / "b.npy")


def test_the_header_says_how_pieces_were_prepared(embedder):
    for options in (EmbedOptions(), EmbedOptions("notagen", True), EmbedOptions(drop_unit_length=True)):
        header = Embedder(embedder.model, options).header
        assert stored_options(header, "x") == options.for_family("clamp2")
    assert (
        "clamp2 preparation, without L:1/8"
        in Embedder(embedder.model, EmbedOptions(drop_unit_length=True)).header.frontend
    )


def test_texts_and_music_share_a_tree(scores, tmp_path):
    pytest.importorskip("transformers")
    from notagen.clamp2.tokens import train_tokenizer

    torch.manual_seed(0)
    music = EncoderConfig(layers=1, width=16, heads=2, mlp_width=16, length=8)
    text = TextConfig(300, layers=1, width=16, heads=2, mlp_width=16, positions=12, length=10)
    folder = tmp_path / "model"
    save_pretrained(Clamp(ClampConfig(family="clamp2", projection=6, music=music, text=text)), folder)
    train_tokenizer(["a slow waltz", "a quick march"], 270).save(str(folder / "tokenizer.json"))
    (scores / "words.txt").write_text("a slow waltz\n\na slow waltz\r\nin C")
    (scores / "nothing.txt").write_text("")
    model = load_embedder(folder)
    features, report = embed_now(model, [scores])
    assert report.exit_code == 0 and {"words", "nothing", "one"} <= set(features.names)
    one_line = model.text_features(["a slow waltz\nin C"])[0]
    np.testing.assert_allclose(features.vectors[features.names.index("words")], one_line, atol=1e-6)
    music_alone = load_embedder(folder, texts=False)
    assert not music_alone.embeds_texts and music_alone.header == model.header
    rows = embed_now(music_alone, [scores])[0]
    assert rows.names == ["deep/three", "deep/two", "one"]
    short = load_embedder(folder, texts=False, dtype=torch.bfloat16)
    assert short.precision == "bf16" and short.header == model.header
    shutil.copy(folder / "tokenizer.json", tmp_path / "tokenizer.json")
    train_tokenizer(["one two three " * 9, "every word counts " * 9], 290).save(str(tmp_path / "other.json"))
    assert load_embedder(folder, tokenizer=tmp_path / "other.json").embeds_texts
