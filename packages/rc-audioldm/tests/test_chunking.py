"""Chunks: the original's windows, equal names, resuming, interrupts, bad files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pentatonic import audio
from pentatonic.cli import Interrupted
from pentatonic.errors import ConfigError, UsageError
from rc_audioldm.data import chunking
from rc_audioldm.data.chunking import ChunkSettings, cut_manifest, source_folder, windows
from rc_audioldm.data.manifest import Manifest, ManifestRow, read_manifest

RATE = 8000


def write(path: Path, seconds: float, seed: int = 0) -> np.ndarray:
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * RATE))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    return soundfile.read(path, dtype="float32")[0]


def manifest_of(root: Path, *names: str) -> Manifest:
    return Manifest(
        tuple(ManifestRow(name.removesuffix(".wav"), name, licence="CC0 1.0") for name in names), root
    )


@pytest.mark.parametrize("hop", [10, 5])
def test_the_windows_of_the_original(tmp_path: Path, golden: Any, hop: int) -> None:
    io = json.loads((golden("data_prep").folder / "io.json").read_text())["chunk"]["out"][f"hop{hop}"]
    write(tmp_path / "FSD50K.dev_audio" / "103.wav", 5.5)
    numbers = np.arange(26 * RATE)
    soundfile.write(tmp_path / "long.wav", (numbers % 100) / 200 - 0.25, RATE)
    manifest = manifest_of(tmp_path, "FSD50K.dev_audio/103.wav", "long.wav", "missing.wav")
    settings = ChunkSettings(RATE, 10.0, None if hop == 10 else 5.0, 0.5, "wav")
    rows, report = cut_manifest(manifest, tmp_path / "out", settings)
    assert [(row.more["src_path"], row.more["i"]) for row in rows] == [
        (row["src_path"].removeprefix("<root>/"), row["i"]) for row in io["mapping"]
    ]
    stats = json.loads((tmp_path / "out" / "chunk_stats.json").read_text())
    for name in ("total_sources", "sources_with_errors", "total_chunks", "approx_hours"):
        assert stats[name] == pytest.approx(io["stats"][name])
    assert report.entries[2]["error"] == "AudioError"
    mapping = read_manifest(tmp_path / "out" / "chunks.jsonl")
    assert list(mapping) == rows
    samples, rate = soundfile.read(mapping.file(rows[-1]), dtype="float32")
    assert (len(samples), rate) == (10 * RATE, RATE)


@pytest.mark.parametrize(("hop", "least"), [(10, 5), (4, 5), (15, 1), (10, 10), (3, 1)])
def test_windows_of_blocks_are_those_of_the_whole_signal(hop: int, least: int) -> None:
    signal = np.arange(1, 48, dtype=np.float32)
    expected = []
    for start in range(0, len(signal), hop):
        part = signal[start : start + 10]
        if len(part) < least:
            break
        expected.append(np.pad(part, (0, 10 - len(part))))
    for size in (1, 7, 10, 47):
        blocks = np.array_split(signal, range(size, len(signal), size))
        found = list(windows(blocks, 10, hop, least))
        assert np.array_equal(found, expected)
    assert list(windows([], 10, hop, least)) == []


def test_chunks_are_the_resampled_signal_at_their_places(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 2.6)
    rows, _ = cut_manifest(manifest_of(tmp_path, "a.wav"), tmp_path / "out", ChunkSettings(16_000, 1.0, 0.5))
    whole = audio.load(tmp_path / "a.wav", sample_rate=16_000).samples[0].numpy()
    assert [row.more["start_s"] for row in rows] == [0, 0.5, 1, 1.5, 2]
    for row in rows:
        found = soundfile.read(tmp_path / "out" / row.path, dtype="float32")[0]
        start = round(row.more["start_s"] * 16_000)
        part = whole[start : start + 16_000]
        np.testing.assert_allclose(found[: len(part)], part, atol=1 / 32_000)
        assert not found[len(part) :].any()
    assert {row.licence for row in rows} == {"CC0 1.0"}


def test_equal_and_hostile_names_do_not_collide(tmp_path: Path) -> None:
    names = ["a/x.wav", "b/x.wav", "A/x.wav", "ü/ .wav", "c/-rf.wav", "d/" + "long" * 40 + ".wav"]
    for seed, name in enumerate(names):
        write(tmp_path / name, 0.2, seed)
    settings = ChunkSettings(RATE, 0.1)
    rows, report = cut_manifest(manifest_of(tmp_path, *names), tmp_path / "out", settings)
    assert report.counts["done"] == len(names)
    assert len({row.path.casefold() for row in rows}) == len(rows) == 2 * len(names)
    contents = {(tmp_path / "out" / row.path).read_bytes() for row in rows}
    assert len(contents) == len(rows)
    assert source_folder("../../etc").startswith("etc-")
    assert "/" not in source_folder("a/b\\c\n") + source_folder("")


def test_the_same_command_does_only_what_is_missing(tmp_path: Path, monkeypatch: Any) -> None:
    for seed, name in enumerate(("a.wav", "b.wav", "short.wav")):
        write(tmp_path / name, 0.01 if name == "short.wav" else 0.3, seed)
    manifest, settings = manifest_of(tmp_path, "a.wav", "b.wav", "short.wav"), ChunkSettings(RATE, 0.1)
    rows, report = cut_manifest(manifest, tmp_path / "out", settings)
    assert report.counts == {"done": 2, "skipped": 1, "failed": 0}
    assert "shorter than 0.05 s" in report.entries[2]["reason"]
    before = {row.path: (tmp_path / "out" / row.path).read_bytes() for row in rows}

    saved: list[str] = []
    real = audio.save
    monkeypatch.setattr(
        chunking.audio, "save", lambda path, *rest: (saved.append(path.name), real(path, *rest))
    )
    again, report = cut_manifest(manifest, tmp_path / "out", settings)
    assert again == rows
    assert [entry.get("reason") for entry in report.entries[:2]] == ["already done"] * 2
    assert saved == []
    (tmp_path / "out" / rows[1].path).unlink()  # of a.wav
    assert cut_manifest(manifest, tmp_path / "out", settings)[0] == rows
    assert len(saved) == 3
    write(tmp_path / "b.wav", 0.2, 7)  # another recording now
    again, _ = cut_manifest(manifest, tmp_path / "out", settings)
    assert len(again) == 5
    assert len(list((tmp_path / "out").glob("*/*.flac"))) == 5  # nothing is left of the longer recording
    assert [before[row.path] == (tmp_path / "out" / row.path).read_bytes() for row in again] == [
        *([True] * 3),
        *([False] * 2),
    ]
    with pytest.raises(UsageError, match=r"seconds 0\.1, not 0\.2"):
        cut_manifest(manifest, tmp_path / "out", ChunkSettings(RATE, 0.2))


def test_an_interrupt_loses_nothing_that_is_complete(tmp_path: Path, monkeypatch: Any) -> None:
    names = [f"{i}.wav" for i in range(4)]
    for seed, name in enumerate(names):
        write(tmp_path / name, 0.2, seed)
    manifest, settings = manifest_of(tmp_path, *names), ChunkSettings(RATE, 0.1)
    expected, _ = cut_manifest(manifest, tmp_path / "whole", settings)
    real = chunking._cut

    def interrupted(row: ManifestRow, *rest: Any) -> Any:
        if row.id == "2":
            raise KeyboardInterrupt
        return real(row, *rest)

    monkeypatch.setattr(chunking, "_cut", interrupted)
    with pytest.raises(Interrupted) as caught:
        cut_manifest(manifest, tmp_path / "out", settings, workers=1)
    assert [entry["status"] for entry in caught.value.report.entries[:2]] == ["done", "done"]
    assert {entry["status"] for entry in caught.value.report.entries[2:]} == {"not done"}
    assert not (tmp_path / "out" / "chunks.jsonl").exists()

    worked: list[str] = []
    saved = audio.save
    monkeypatch.setattr(chunking, "_cut", real)
    monkeypatch.setattr(
        chunking.audio, "save", lambda path, *rest: (worked.append(str(path)), saved(path, *rest))
    )
    rows, _ = cut_manifest(manifest, tmp_path / "out", settings)
    assert rows == expected
    assert not any(source_folder(each) in path for path in worked for each in ("0", "1"))
    for row in rows:
        assert (tmp_path / "out" / row.path).read_bytes() == (tmp_path / "whole" / row.path).read_bytes()


def test_bad_files_are_named_and_cost_no_other(tmp_path: Path) -> None:
    write(tmp_path / "good.wav", 0.2)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("not audio")
    nan = np.full(RATE, np.nan, np.float32)
    soundfile.write(tmp_path / "nan.wav", nan, RATE, subtype="FLOAT")
    (tmp_path / "cut.wav").write_bytes((tmp_path / "good.wav").read_bytes()[:1000])
    (tmp_path / "folder.wav").mkdir()
    names = ["empty.wav", "text.wav", "good.wav", "nan.wav", "cut.wav", "folder.wav", "missing.wav"]
    rows, report = cut_manifest(manifest_of(tmp_path, *names), tmp_path / "out", ChunkSettings(RATE, 0.1))
    assert [row.more["src_path"] for row in rows] == ["good.wav"] * 2
    assert [entry["status"] == "done" for entry in report.entries] == [name == "good.wav" for name in names]
    assert [entry["path"] for entry in report.entries] == names
    assert all(str(tmp_path) not in entry.get("reason", "") for entry in report.entries)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"seconds": 0.0}, "chunks.seconds is 0"),
        ({"hop_s": -1.0}, "chunks.hop_s is -1"),
        ({"least_part": 1.5}, "chunks.least_part is 1.5"),
        ({"format": "mp3"}, "allowed: flac, wav"),
        ({"sample_rate": 10}, "chunks.sample_rate is 10"),
    ],
)
def test_wrong_settings_are_named(options: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        ChunkSettings(**options)
