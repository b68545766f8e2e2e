"""The commands ``rc-audioldm prepare``, from folders to chunks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pentatonic.cli import run
from rc_audioldm.data.commands import app
from rc_audioldm.data.manifest import ManifestRow, read_manifest, write_manifest

RATE = 8000


@pytest.fixture
def command(capsys: Any) -> Any:
    def call(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            run(app, [str(each) for each in args])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture
def fsd50k(tmp_path: Path) -> Path:
    root = tmp_path / "fsd50k"
    labels = {"1": "Piano,Musical_instrument,Music", "2": "Guitar,Music", "3": "Engine", "4": "Harp,Music"}
    (root / "FSD50K.dev_audio").mkdir(parents=True)
    times = np.arange(7 * RATE) / RATE
    for number, name in enumerate(labels):
        samples = 0.3 * np.sin(2 * np.pi * 220 * (number + 1) * times) * (name != "2")
        soundfile.write(root / "FSD50K.dev_audio" / f"{name}.wav", samples, RATE)
    (root / "FSD50K.dev_audio" / "4.wav").write_bytes(b"RIFF")
    lines = [f'{name},"{cell}",,train' for name, cell in labels.items()]
    (root / "dev.csv").write_text("\n".join(["fname,labels,mids,split", *lines]))
    return root


def test_from_a_data_set_to_chunks(tmp_path: Path, fsd50k: Path, command: Any) -> None:
    code, out, _ = command(
        "curate", fsd50k / "dev.csv", "--audio-root", fsd50k, "--out", tmp_path / "man", "--json"
    )
    assert code == 3  # one header cannot be read
    assert json.loads(out)["kept"]["instrumental_strict"] == 2
    manifest = tmp_path / "man" / "instrumental_strict.jsonl"
    code, out, _ = command("audit", manifest, "--root", fsd50k, "--out", tmp_path / "audit.json", "--json")
    assert (code, json.loads(out)["good"], json.loads(out)["silent"]) == (0, 1, 1)
    clean = tmp_path / "clean.jsonl"
    code, out, _ = command(
        *("prune", manifest, "--root", fsd50k, "--audit", tmp_path / "audit.json", "--out", clean, "--json")
    )
    assert (code, json.loads(out)["dropped_breakdown"]) == (0, {"silent": 1})
    code, _, err = command(
        *("chunk", clean, "--root", fsd50k, "--out", tmp_path / "chunks", "--sr", RATE, "--secs", 2)
    )
    assert code == 0
    assert "1 done, 0 skipped, 0 failed" in err
    chunks = read_manifest(tmp_path / "chunks" / "chunks.jsonl")
    assert [row.more["start_s"] for row in chunks] == [0, 2, 4, 6]
    assert all(chunks.file(row).is_file() for row in chunks)
    assert {row.labels for row in chunks} == {("piano", "musical_instrument", "music")}


def test_a_folder_becomes_a_manifest(tmp_path: Path, command: Any) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(100), RATE)
    out = tmp_path / "m.jsonl"
    code, text, _ = command("manifest", tmp_path, "--out", out, "--no-tags", "--licence", "cc0", "--json")
    assert (code, json.loads(text)["licences"]) == (0, {"CC0 1.0": 1})
    assert [(row.path, row.licence) for row in read_manifest(out)] == [("a.wav", "CC0 1.0")]


def test_pairs_as_csv_and_as_manifest(tmp_path: Path, fsd50k: Path, command: Any) -> None:
    code, out, _ = command("pairs", "--fsd50k", fsd50k, "--out", tmp_path / "pairs.csv", "--json")
    assert (code, json.loads(out)["pairs"]) == (0, 4)
    assert "environmental sound: Piano, Musical instrument, Music" in (tmp_path / "pairs.csv").read_text()
    code, _, _ = command("pairs", "--fsd50k", fsd50k, "--out", tmp_path / "pairs.jsonl", "--max-fsd50k", 2)
    found = read_manifest(tmp_path / "pairs.jsonl")
    assert [found.file(row).name for row in found] == ["1.wav", "2.wav"]
    assert all(found.file(row).is_file() for row in found)


def test_audits_of_the_original_prune_by_base_name(tmp_path: Path, command: Any) -> None:
    rows = [ManifestRow(name, name) for name in ("x/a.wav", "y/a.wav", "b.wav", "c.wav")]
    write_manifest(tmp_path / "m.jsonl", rows)
    fast, plus, suspects = tmp_path / "fast.json", tmp_path / "plus.json", tmp_path / "suspects.txt"
    fast.write_text('[{"file": "0000001__a.wav", "rms": -80.0}]')
    plus.write_text('[{"file": "c.wav", "floor_db": 3}]')
    suspects.write_text("c.wav\n")
    options = ["--fast-json", fast, "--plus-json", plus, "--suspects-txt", suspects, "--json"]
    code, out, _ = command("prune", tmp_path / "m.jsonl", "--out", tmp_path / "p.jsonl", *options)
    assert (code, json.loads(out)["kept"]) == (0, 1)
    assert [row.path for row in read_manifest(tmp_path / "p.jsonl")] == ["b.wav"]
    fast.write_text('[{"file": "a.wav", "rms": "low"}]')
    code, _, err = command("prune", tmp_path / "m.jsonl", "--out", tmp_path / "p.jsonl", *options)
    assert code == 1
    assert "not an audit of the original" in err


def test_manifests_are_united_with_each_file_once(tmp_path: Path, command: Any) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    (tmp_path / "a" / "1.wav").touch()
    (tmp_path / "a" / "again.wav").symlink_to("1.wav")
    write_manifest(tmp_path / "a" / "m.jsonl", [ManifestRow("1", "1.wav"), ManifestRow("2", "again.wav")])
    write_manifest(tmp_path / "b" / "m.jsonl", [ManifestRow("1", "1.wav", licence="CC0 1.0", more={"x": 1})])
    sets = [f"first={tmp_path}/a/m.jsonl", f"second={tmp_path}/b/m.jsonl"]
    code, _, _ = command("union", *sets, "--out", tmp_path / "u.jsonl")
    rows = read_manifest(tmp_path / "u.jsonl").rows
    assert code == 0
    assert [(row.id, row.path) for row in rows] == [
        ("first/1", "a/1.wav"),
        ("first/2", "a/again.wav"),
        ("second/1", "b/1.wav"),
    ]
    assert rows[2].more == {"x": 1, "dataset": "second", "dataset_idx": 0}
    assert rows[2].licence == "CC0 1.0"
    command("union", *sets, "--out", tmp_path / "u.jsonl", "--dedup")
    assert [row.id for row in read_manifest(tmp_path / "u.jsonl")] == ["first/1", "second/1"]


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["pairs", "--out", "x.txt"], "ends in .csv or .jsonl"),
        (["pairs", "--out", "x.csv"], "no data set is given"),
        (["union", "a.jsonl", "--out", "u.jsonl"], "allowed: NAME=MANIFEST"),
        (["prune", "m.jsonl", "--out", "p.jsonl"], "allowed: --audit, or --fast-json"),
        (["audit", "none.jsonl", "--out", "a.json"], "no such file or folder: none.jsonl"),
        (["chunk", "none.jsonl", "--out", "chunks"], "no such file or folder"),
        (["curate", "none.csv", "--audio-root", ".", "--out", "o"], "no such file or folder"),
        (["tokenise", "none", "--out", "o"], "no such file or folder"),
        (["render", "none", "--out", "o"], "no such file or folder"),
        (["manifest", ".", "--out", "file/x.jsonl"], "cannot be written|can be written"),
    ],
)
def test_wrong_command_lines_end_with_status_2(
    tmp_path: Path, monkeypatch: Any, command: Any, args: list[str], named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    code, _, err = command(*args)
    assert code == 2
    assert re.search(named, err)


def test_the_table_in_a_folder_of_clips_is_found(tmp_path: Path, command: Any) -> None:
    clips, out = tmp_path / "clips", tmp_path / "m.jsonl"
    clips.mkdir()
    for name in "ab":
        soundfile.write(clips / f"{name}.wav", np.zeros(RATE), RATE)
    (clips / "licences.csv").write_text("path,licence,source\na.wav,CC0 1.0,Ann\n", encoding="utf-8")
    assert command("manifest", clips, "--out", out)[0] == 0
    assert [row.licence for row in read_manifest(out)] == ["CC0 1.0", "unknown"]
    (tmp_path / "other.csv").write_text("path,licence\nb.wav,MIT\n", encoding="utf-8")
    assert command("manifest", clips, "--out", out, "--licences", tmp_path / "other.csv")[0] == 0
    assert [row.licence for row in read_manifest(out)] == ["unknown", "MIT"]
