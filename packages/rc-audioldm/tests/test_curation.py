"""Curation of FSD50K: the original's choice, and our lists of classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pentatonic.errors import ConfigError
from rc_audioldm.data.curation.curate import STATS_FILE, curate, statistics, write_curation
from rc_audioldm.data.curation.music_classes import MusicClasses, read_classes
from rc_audioldm.data.layouts.audio_index import AudioIndex
from rc_audioldm.data.manifest import read_manifest

RATE = 8000


@pytest.fixture
def tree(tmp_path: Path, golden: Any) -> tuple[Path, Any]:
    """The small tree of the golden."""
    io = json.loads((golden("data_prep").folder / "io.json").read_text(encoding="utf-8"))
    rows = {"dev": [], "eval": []}
    for name, labels in io["labels"].items():
        split = "eval" if name == "105" else "dev"
        rows[split].append(f'{name},"{labels}",,' + ("" if split == "eval" else "train"))
        seconds = 5.5 if name == "103" else 7
        folder = tmp_path / f"FSD50K.{split}_audio"
        folder.mkdir(exist_ok=True)
        soundfile.write(folder / f"{name}.wav", np.full(round(seconds * RATE), 0.01), RATE)
    rows["dev"].append("999,Piano,,train")
    for split, lines in rows.items():
        (tmp_path / f"{split}.csv").write_text("\n".join(["fname,labels,mids,split", *lines]))
    return tmp_path, io


def test_the_choice_of_the_original(tree: Any) -> None:
    root, io = tree
    tables = [root / "dev.csv", root / "eval.csv"]
    classes = MusicClasses(**{name: tuple(each) for name, each in io["config"].items()})
    found = curate(tables, AudioIndex(root), classes)
    for name, expected in io["curation"].items():
        paths = [f"<root>/{row.path}" for row in found.buckets[name]]
        assert paths == [row["path"] for row in expected]
    wanted = io["curation_stats"]
    assert {key: value for key, value in statistics(found).items() if key in wanted} == {
        key: value for key, value in wanted.items() if key != "audio_root"
    }
    write_curation(root / "out", found)
    assert json.loads((root / "out" / STATS_FILE).read_text())["kept"] == wanted["kept"]
    for name, rows in found.buckets.items():
        assert list(read_manifest(root / "out" / f"{name}.jsonl", root)) == rows


def test_a_folder_named_dev_does_not_make_the_split(tree: Any) -> None:
    root, _ = tree
    (root / "FSD50K.dev_audio" / "105.wav").write_bytes((root / "FSD50K.eval_audio" / "105.wav").read_bytes())
    table = root / "dev" / "eval.csv"
    table.parent.mkdir()
    table.write_text((root / "eval.csv").read_text())
    index, classes = AudioIndex(root), read_classes()
    assert (
        curate([table], index, classes).buckets["instrumental_strict"][0].path == "FSD50K.eval_audio/105.wav"
    )
    legacy = curate([table], index, classes, legacy=True).buckets["instrumental_strict"]
    assert legacy[0].path == "FSD50K.dev_audio/105.wav"


def test_the_least_length_is_long_enough_and_a_clip_counts_once(tree: Any) -> None:
    root, _ = tree
    tables = [root / "dev.csv", root / "dev.csv"]
    found = curate(tables, AudioIndex(root), read_classes(), {"strict": 7.0, "relaxed": 5.5})
    names = {bucket: [Path(row.path).stem for row in rows] for bucket, rows in found.buckets.items()}
    assert names["instrumental_strict"] == ["100"]
    assert names["instrumental_relaxed"] == ["100", "103"]
    assert found.too_short == {"strict": 1, "relaxed": 0}
    assert found.rows == 2 * 6


def test_a_clip_without_a_readable_header_is_reported_and_left_out(tree: Any) -> None:
    root, _ = tree
    (root / "FSD50K.eval_audio" / "105.wav").write_bytes(b"RIFF")
    found = curate([root / "eval.csv"], AudioIndex(root), read_classes())
    assert not any(found.buckets.values())
    (entry,) = found.report.entries
    assert entry["path"].endswith("105.wav")
    assert entry["status"] == "failed"
    legacy = curate([root / "eval.csv"], AudioIndex(root), read_classes(), legacy=True)
    assert [len(rows) for rows in legacy.buckets.values()] == [1, 0, 1, 0]


def test_our_lists_sort_every_class_of_the_vocabulary() -> None:
    classes = read_classes()
    positive, vocal = set(classes.pos), set(classes.vocal)
    strict, relaxed = set(classes.neg_strict), set(classes.neg_relaxed)
    assert len(positive | vocal | strict) == 200
    assert not positive & (vocal | strict)
    assert relaxed < strict
    assert not relaxed & vocal


@pytest.mark.parametrize(
    ("labels", "strict", "relaxed", "vocals"),
    [
        ("Piano,Keyboard_(musical),Musical_instrument,Music", True, True, "instrumental"),
        ("Female_singing,Singing,Human_voice,Music", True, True, "with_vocals"),
        ("Speech,Human_voice,Guitar,Music", False, True, "with_vocals"),
        ("Bicycle_bell,Bell,Musical_instrument,Music,Bicycle,Vehicle", False, False, "instrumental"),
        ("Applause,Guitar,Music", False, True, "instrumental"),
        ("Engine,Music", False, False, "instrumental"),
        ("Speech,Human_voice", False, False, "with_vocals"),
    ],
)
def test_what_counts_as_music(labels: str, strict: bool, relaxed: bool, vocals: str) -> None:
    classes = read_classes()
    names = tuple(labels.lower().split(","))
    assert (classes.is_music(names, "strict"), classes.is_music(names, "relaxed")) == (strict, relaxed)
    assert classes.vocals(names) == vocals


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "not JSON"),
        ('{"pos": []}', "classes.vocal is missing"),
        ('{"pos": [], "vocal": [], "neg_strict": [], "neg_relaxed": []}', "classes.pos is empty"),
        ('{"pos": "music", "vocal": [], "neg_strict": [], "neg_relaxed": []}', "classes.pos is 'music'"),
        ('{"pos": ["music"], "vocal": [], "neg_strict": [], "neg_relaxed": [], "neg": []}', "unknown key"),
    ],
)
def test_wrong_lists_are_named(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "classes.json").write_text(text)
    with pytest.raises(ConfigError, match=named):
        read_classes(tmp_path / "classes.json")
