"""A catalogue as one Parquet data set: numbers, bad files, changed files, continuation, object stores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from omar_rq.catalogue import stages
from omar_rq.catalogue.parts import DATA_SET, read_parts
from omar_rq.catalogue.run import embed_catalogue
from omar_rq.catalogue.sources import Recording, find_recordings
from omar_rq.catalogue.stages import plan_blocks
from omar_rq.catalogue.storage import Storage
from omar_rq.config import ConformerConfig, MelFrontendConfig, ModelConfig
from omar_rq.embed import embed_folder
from omar_rq.model import OmarRQ
from pentatonic import audio
from pentatonic.audio_folder.reading import ReadOptions
from pentatonic.errors import FormatError, MissingExtra, UsageError
from pentatonic.folder_run import OutputError

parquet = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.usefixtures("decode_here")

CONFIG = ModelConfig(
    input=MelFrontendConfig(),
    targets=(),
    net=ConformerConfig(embed_dim=16, depth=3, num_heads=2, beta_deepnorm=1.0),
)
ONE_FILE = 1e-9  # minutes: every recording is a block of its own


@pytest.fixture(scope="module")
def model() -> OmarRQ:
    torch.manual_seed(0)
    return OmarRQ(CONFIG).eval()


def tone(path: Path, seconds: float, hz: float = 440.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.save(path, 0.3 * torch.sin(2 * torch.pi * hz * torch.arange(round(seconds * 16000)) / 16000), 16000)
    return path


@pytest.fixture
def corpus(tmp_path) -> Path:
    folder = tmp_path / "in"
    for i, name in enumerate(("a.wav", "b.flac", "sub/c.wav", "sub/d.wav", "z.wav")):
        tone(folder / name, 0.6 + 0.2 * i, 200 + 50 * i)
    return folder


def rows(out: Path) -> list[dict]:
    return parquet.read_table(out / DATA_SET).to_pylist()


def content(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (out / DATA_SET).iterdir()}


@pytest.mark.parametrize(
    "options", [{}, {"pool": "mean"}, {"store": "float16"}, {"reading": ReadOptions(start_s=0.25)}]
)
def test_the_data_set_holds_the_numbers_of_the_npz_files(model, corpus, tmp_path, monkeypatch, options):
    monkeypatch.setattr("omar_rq.files.parquet_table._ROWS", 7)  # several row groups
    (corpus / "bad.wav").touch()
    # One file at a time on both sides: float sums of files that share a pass differ in the last bit.
    embed_folder(model, [corpus], tmp_path / "npz", layers=[0, 2], batch=1, **options)
    report = embed_catalogue(model, [corpus], tmp_path / "out", layers=[0, 2], batch=1, **options)
    assert report.counts == {"done": 5, "skipped": 0, "failed": 1}
    found = rows(tmp_path / "out")
    assert list(found[0]) == ["path", "layer", "token", "time_s", "embedding"]
    for name in ("a.wav", "b.flac", "sub/c.wav", "sub/d.wav", "z.wav"):
        with np.load(tmp_path / "npz" / f"{name}.npz", allow_pickle=False) as stored:
            for i, layer in enumerate((0, 2)):
                own = [row for row in found if row["path"] == name and row["layer"] == layer]
                values = np.array([row["embedding"] for row in own], dtype=stored["embeddings"].dtype)
                np.testing.assert_array_equal(values, np.atleast_2d(stored["embeddings"][i]))
                if options.get("pool") == "mean":
                    assert [(row["token"], row["time_s"]) for row in own] == [(None, None)]
                else:
                    assert [row["token"] for row in own] == list(range(len(own)))
                    assert [row["time_s"] for row in own] == stored["times_s"].tolist()


def test_bad_files_are_named_and_change_nothing_for_the_others(model, corpus, tmp_path):
    embed_catalogue(model, [corpus], tmp_path / "clean", block_minutes=ONE_FILE)
    (corpus / "empty.wav").touch()
    (corpus / "text.mp3").write_text("not audio")
    (corpus / "dangling.wav").symlink_to(corpus / "nowhere.wav")
    tone(corpus / "short.wav", 0.01)
    (corpus / "notes.txt").touch()
    report = embed_catalogue(model, [corpus], tmp_path / "out", block_minutes=ONE_FILE)
    failed = {Path(e["path"]).name: e["error"] for e in report.entries if e["status"] == "failed"}
    assert failed == {
        "empty.wav": "UnsupportedFormat",
        "text.mp3": "UnsupportedFormat",
        "dangling.wav": "FileNotFoundError",
        "short.wav": "AudioTooShort",
    }
    assert report.exit_code == 3
    assert report.passed_over == {".txt": 1}
    assert json.loads((tmp_path / "out" / "report.json").read_text())["counts"]["failed"] == 4
    assert content(tmp_path / "out") == content(tmp_path / "clean")


def test_a_file_that_fails_in_the_model_does_not_take_its_block_with_it(model, corpus, tmp_path):
    tone(corpus / "short.wav", 0.01)
    work = work_of(model, tmp_path / "out")
    block = find_recordings([corpus]).recordings
    caught = stages.WarningsByThread()
    with caught, audio.DecodingProcess() as decoder:
        read = stages.read_block(block, work, decoder, caught)  # without the model, as on Ray
        assert all(each.failure is None for each in read)
        computed = stages.compute_block(read, work, model, decoder, caught, tmp_path)
    assert [e["status"] for e in computed.entries].count("failed") == 1
    assert len(computed.contents) == 5


def work_of(model, out: Path) -> stages.Work:
    from omar_rq.embed import embedding_options, embedding_settings

    options = embedding_options(model, None, 300.0, "none", "float32", "tiny")
    settings = embedding_settings(model, options, True, ReadOptions())
    return stages.Work(Storage(out), settings, options, ReadOptions(), True, model.sample_rate)


def test_what_travels_between_machines_is_what_was_read(model, corpus, tmp_path, monkeypatch):
    """Bit for bit, also of a recording that is read in blocks, with its flags and warnings."""
    audio.save(corpus / "quiet.wav", torch.full((8000,), 1e-4), 16000)
    monkeypatch.setattr("omar_rq.catalogue.stages.pass_s", lambda context_s: 0.9)
    work = work_of(model, tmp_path / "out")
    (tmp_path / "out").mkdir()
    block = find_recordings([corpus]).recordings
    caught = stages.WarningsByThread()
    with caught, audio.DecodingProcess() as decoder:
        read = stages.read_block(block, work, decoder, caught)
        assert {each.item.whole for each in read if each.item} == {True, False}
        parcel = stages.packed(read)
        assert set(map(type, parcel.values())) == {str, np.ndarray}
        entries = []
        for name, each in (("one", read), ("two", stages.unpacked(block, parcel, work))):
            computed = stages.compute_block(each, work, model, decoder, caught, tmp_path)
            folder = tmp_path / name
            folder.mkdir()
            entries.append(stages.write_block(computed, replace(work, out=Storage(folder))))
    assert entries[0] == entries[1]
    assert any("quiet" in str(entry.get("flags")) for entry in entries[0])
    (one,), (two,) = (tmp_path / "one").iterdir(), (tmp_path / "two").iterdir()
    assert one.name == two.name
    assert one.read_bytes() == two.read_bytes()


def test_a_recording_too_long_to_decode_at_once_has_the_same_numbers(model, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("omar_rq.catalogue.stages.pass_s", lambda context_s: 0.5)
    embed_catalogue(model, [corpus], tmp_path / "one")
    monkeypatch.setattr("omar_rq.catalogue.stages.MOST_DECODED_S", 0.7)
    embed_catalogue(model, [corpus], tmp_path / "two")
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_a_second_run_computes_nothing_and_a_third_what_is_new_or_changed(model, corpus, tmp_path):
    out = tmp_path / "out"
    embed_catalogue(model, [corpus], out)
    before = content(out)
    assert embed_catalogue(model, [corpus], out).counts == {"done": 0, "skipped": 5, "failed": 0}
    assert content(out) == before
    tone(corpus / "a.wav", 2.0, 100)  # changed
    tone(corpus / "aa.wav", 0.8, 90)  # new, in the middle of the list
    (corpus / "z.wav").unlink()  # gone: what is known of it stays
    report = embed_catalogue(model, [corpus], out)
    assert report.counts == {"done": 2, "skipped": 3, "failed": 0}
    found = rows(out)
    keys = [(row["path"], row["layer"], row["token"]) for row in found]
    assert len(set(keys)) == len(keys)
    assert {path for path, *_ in keys} == {"a.wav", "aa.wav", "b.flac", "sub/c.wav", "sub/d.wav", "z.wav"}
    fresh = tmp_path / "fresh"
    embed_catalogue(model, [corpus / "a.wav"], fresh)
    own = [row["embedding"] for row in found if row["path"] == "a.wav"]
    np.testing.assert_allclose(own, [row["embedding"] for row in rows(fresh)], atol=1e-5)
    listed = [file["path"] for part in read_parts(Storage(out / DATA_SET)) for file in part.files]
    assert sorted(listed) == sorted({path for path, *_ in keys})


def test_a_run_that_stops_keeps_its_blocks_and_ends_with_the_same_bytes(model, corpus, tmp_path, monkeypatch):
    embed_catalogue(model, [corpus], tmp_path / "whole", block_minutes=ONE_FILE)
    computed, write = [], stages.write_block

    def full_disk(block, work):
        if len(computed) == 2:
            raise OSError(28, "No space left on device")
        computed.append(block)
        return write(block, work)

    monkeypatch.setattr("omar_rq.catalogue.run.write_block", full_disk)
    with pytest.raises(OutputError, match="No space left"):
        embed_catalogue(model, [corpus], tmp_path / "out", block_minutes=ONE_FILE)
    assert len(content(tmp_path / "out")) == 2
    assert json.loads((tmp_path / "out" / "report.json").read_text())["counts"]["done"] == 2
    monkeypatch.undo()
    report = embed_catalogue(model, [corpus], tmp_path / "out", block_minutes=ONE_FILE)
    assert report.counts == {"done": 3, "skipped": 2, "failed": 0}
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_another_model_or_option_is_refused_and_overwrite_replaces_all(model, corpus, tmp_path):
    out = tmp_path / "out"
    embed_catalogue(model, [corpus], out)
    other = OmarRQ(CONFIG).eval()
    with pytest.raises(UsageError, match="another model"):
        embed_catalogue(other, [corpus], out)
    with pytest.raises(UsageError, match="pool none, not mean"):
        embed_catalogue(model, [corpus], out, pool="mean")
    with pytest.raises(UsageError, match="command embed to parquet"):
        embed_folder(model, [corpus], out)
    (out / "run.json").unlink()  # the parts themselves say what made them
    with pytest.raises(UsageError, match="pool none, not mean"):
        embed_catalogue(model, [corpus], out, pool="mean")
    embed_catalogue(model, [corpus], out, pool="mean", overwrite=True)
    assert len(rows(out)) == 5


def test_a_damaged_part_is_named(model, corpus, tmp_path):
    embed_catalogue(model, [corpus], tmp_path / "out")
    (part,) = (tmp_path / "out" / DATA_SET).iterdir()
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(FormatError, match=part.name):
        embed_catalogue(model, [corpus], tmp_path / "out")


def test_without_pyarrow_there_is_one_sentence_before_any_work(model, corpus, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"omar-rq\[parquet\]"):
        embed_catalogue(model, [corpus], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_options_are_named(model, corpus, tmp_path):
    for options in ({"pool": "max"}, {"store": "int8"}, {"batch": 0}, {"block_minutes": 0.0}):
        with pytest.raises(UsageError):
            embed_catalogue(model, [corpus], tmp_path / "out", **options)
    with pytest.raises(UsageError, match="no such file"):
        embed_catalogue(model, [tmp_path / "nowhere"], tmp_path / "out")
    with pytest.raises(UsageError, match="allowed: one of the two"):
        embed_catalogue(model, [corpus, "memory://music"], tmp_path / "out")
    with pytest.raises(UsageError, match="three slashes"):
        embed_catalogue(model, ["file://music"], tmp_path / "out")


def test_blocks_are_consecutive_and_do_not_depend_on_what_is_done():
    recordings = [Recording(f"{i:03}.mp3", f"{i:03}.mp3", 1_000_000 * (1 + i % 4), 0) for i in range(40)]
    blocks = plan_blocks(recordings, 5.0)
    assert [each for block in blocks for each in block] == recordings
    assert all(len(block) == 1 or sum(each.minutes for each in block) <= 5.0 for block in blocks)
    assert all(len(block) > 1 for block in blocks[:-1])
    assert plan_blocks(recordings[:12], 5.0)[:3] == blocks[:3]


def test_an_object_store_is_read_and_written(model, corpus, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    store.put(str(corpus), "/music", recursive=True)
    (corpus / "bad.wav").write_text("x")
    store.put(str(corpus / "bad.wav"), "/music/sub/bad.wav")
    store.pipe("/music/readme.txt", b"x")
    try:
        report = embed_catalogue(model, ["memory://music"], "memory://set")
        assert report.counts == {"done": 5, "skipped": 0, "failed": 1}
        assert report.passed_over == {".txt": 1}
        (failed,) = [entry for entry in report.entries if entry["status"] == "failed"]
        assert failed["path"].endswith("music/sub/bad.wav")
        assert "/tmp" not in failed["reason"]
        again = embed_catalogue(model, ["memory://music"], "memory://set")
        assert again.counts == {"done": 0, "skipped": 5, "failed": 1}
        store.get("/set", str(tmp_path / "set"), recursive=True)
        embed_catalogue(model, [corpus], tmp_path / "local")
        assert rows(tmp_path / "set") == rows(tmp_path / "local")
        assert {"run.json", "report.json"} < {path.name for path in (tmp_path / "set").iterdir()}
    finally:
        store.store.clear()
        store.pseudo_dirs[:] = [""]


def test_names_that_are_not_utf8_are_escaped(model, corpus, tmp_path):
    odd = os.fsencode(corpus) + b"/\xff.wav"
    tone(corpus / "odd.wav", 0.7).rename(os.fsdecode(odd))
    report = embed_catalogue(model, [corpus], tmp_path / "out")
    assert report.count("done") == 6
    assert r"\xff.wav" in {row["path"] for row in rows(tmp_path / "out")}
    assert embed_catalogue(model, [corpus], tmp_path / "out").count("skipped") == 6


@pytest.mark.slow
def test_a_killed_run_loses_no_more_than_a_block(corpus, tmp_path):
    for i in range(30):
        tone(corpus / f"more{i:02}.wav", 2.0, 100 + 10 * i)
    words = [str(corpus), "--format", "parquet", "--block", "0.001", "--out"]
    start = [sys.executable, "-P", "-m", "omar_rq", "embed"]
    subprocess.run([*start, *words, str(tmp_path / "whole")], check=True, capture_output=True)
    out = tmp_path / "out"
    kept = 0
    for _ in range(2):
        process = subprocess.Popen([*start, *words, str(out)], stderr=subprocess.DEVNULL)
        for _ in range(6000):
            there = len(list((out / DATA_SET).glob("part-*"))) if (out / DATA_SET).is_dir() else 0
            if there > kept + 3:
                break
            time.sleep(0.01)
        process.kill()
        process.wait()
        kept = len(list((out / DATA_SET).glob("part-*.parquet")))
    done = subprocess.run([*start, *words, str(out), "--json"], check=True, capture_output=True)
    counts = json.loads(done.stdout)["counts"]
    assert counts["skipped"] >= kept > 3
    assert counts["failed"] == 0
    assert content(out) == content(tmp_path / "whole")
