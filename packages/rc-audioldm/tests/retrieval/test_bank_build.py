"""Building a bank: rows in order, one computation per content, and a build that was stopped continues."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from pentatonic.audio import load
from pentatonic.checkpoint import verify_directory
from pentatonic.cli import Interrupted
from pentatonic.errors import CorruptCheckpoint, FormatError, IncompatibleVectors, InputError, UsageError
from rc_audioldm.bank import StyleBank, build_bank
from rc_audioldm.bank.duplicates import find_duplicates
from rc_audioldm.bank.journal import Computed, Journal
from rc_audioldm.bank.sources import find_clips
from rc_audioldm.clap import ClapEncoder, from_pretrained

RATE = 16000
NAMES = ["0.wav", "1.wav", "2.wav", "3.wav", "kit/tagged.ogg", "long.flac"]


class Counted:
    """Counts the windows that the audio tower of an encoder sees."""

    def __init__(self, encoder: ClapEncoder, monkeypatch: pytest.MonkeyPatch, stop_at: int = 10**9) -> None:
        self.windows, self.stop_at, tower = 0, stop_at, encoder._audio_tower

        def counted(spectrograms: torch.Tensor) -> torch.Tensor:
            if self.windows >= self.stop_at:
                raise KeyboardInterrupt
            self.windows += len(spectrograms)
            return tower(spectrograms)

        monkeypatch.setattr(encoder, "_audio_tower", counted)


def test_a_folder_becomes_a_bank(encoder: ClapEncoder, clips_folder: Path, tmp_path: Path) -> None:
    report = build_bank(encoder, find_clips(clips_folder), tmp_path / "bank")
    bank = StyleBank.open(tmp_path / "bank", encoder.header)
    assert report.counts == {"done": 6, "skipped": 0, "failed": 0} and report.passed_over == {".txt": 1}
    assert [clip.path for clip in bank.clips] == NAMES
    assert [clip.licence for clip in bank.clips] == ["unknown"] * 4 + ["CC BY 3.0", "unknown"]
    assert [clip.source for clip in bank.clips] == ["unknown"] * 4 + ["Ann: Bell", "unknown"]
    assert [clip.duration_s for clip in bank.clips] == [0.5, 1.5, 2.5, 3.5, 1.0, 9.0]
    assert [clip.windows for clip in bank.clips] == [1, 2, 4, 6, 1, 17]
    for row, clip in enumerate(bank.clips):
        samples = load(clips_folder / clip.path).samples[0]
        torch.testing.assert_close(torch.from_numpy(bank.rows([row])), encoder.embed_audio(samples, RATE))
        assert bank.audio_path(row).read_bytes() == (clips_folder / clip.path).read_bytes()
    assert isinstance(bank.vectors, np.memmap)
    verify_directory(tmp_path / "bank")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bank", "clips"]
    assert (
        json.loads((tmp_path / "bank" / "run.json").read_text())["settings"]["windows"]
        == encoder.header.windows
    )


def test_a_stopped_build_continues(
    encoder: ClapEncoder, clips_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_bank(encoder, find_clips(clips_folder), tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        Counted(encoder, patch, stop_at=8)
        build_bank(encoder, find_clips(clips_folder), tmp_path / "bank")
    assert not (tmp_path / "bank" / "bank.json").exists()
    statuses = [
        x["status"] for x in json.loads((tmp_path / "bank.building" / "report.json").read_text())["inputs"]
    ]
    assert "not done" in statuses
    with Journal(tmp_path / "bank.building", encoder.dimension) as journal:
        kept = len(journal)
    assert kept >= 2
    seen = Counted(encoder, monkeypatch)
    report = build_bank(encoder, find_clips(clips_folder), tmp_path / "bank")
    assert report.count("skipped") == kept
    assert seen.windows == sum([1, 2, 4, 6, 1, 17][kept:])
    for name in ("vectors.npy", "mapping.jsonl"):
        assert (tmp_path / "bank" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("count", [60, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_killed_build_continues_to_the_same_rows(
    encoder: ClapEncoder, clap_folder: Path, tmp_path: Path, count: int
) -> None:
    clips, out = tmp_path / "clips", tmp_path / "bank"
    clips.mkdir()
    noise = np.random.default_rng(0)
    for number in range(count):
        soundfile.write(clips / f"{number:05}.wav", 0.1 * noise.standard_normal(RATE // 10), RATE)
    code = "import sys; from rc_audioldm.cli import main; sys.argv[0] = 'rc-audioldm'; main()"
    arguments = ["bank", "build", clips, "--out", out, "--model", clap_folder, "--random-weights"]
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    kept = out.with_name("bank.building") / "clips.jsonl"
    try:
        while process.poll() is None and (not kept.exists() or kept.read_bytes().count(b"\n") < count // 3):
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait(timeout=120)
    done = kept.read_bytes().count(b"\n")
    assert process.returncode == -signal.SIGKILL and count // 3 <= done < count
    assert not out.exists()
    report = build_bank(encoder, find_clips(clips), out)
    assert report.counts == {"done": count - done, "skipped": done, "failed": 0}
    build_bank(encoder, find_clips(clips), tmp_path / "whole")
    assert (out / "mapping.jsonl").read_bytes() == (tmp_path / "whole/mapping.jsonl").read_bytes()
    rows, whole = StyleBank.open(out).vectors, StyleBank.open(tmp_path / "whole").vectors
    assert len(rows) == count
    np.testing.assert_array_equal(rows, whole)


def test_what_is_known_is_not_computed_again(
    encoder: ClapEncoder, clips_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "bank"
    build_bank(encoder, find_clips(clips_folder), out)
    before = StyleBank.open(out)
    (clips_folder / "2.wav").rename(clips_folder / "renamed.wav")
    shutil.copy(clips_folder / "0.wav", clips_folder / "copy.wav")
    (clips_folder / "3.wav").unlink()
    soundfile.write(clips_folder / "new.wav", np.sin(np.arange(RATE) / 5) * 0.1, RATE)
    (clips_folder / "licences.csv").write_text("path,licence,tags\n1.wav,CC0,drum;loud\nkit,CC-BY-NC 4.0,\n")
    old = {clip.sha256: np.array(before.vectors[row]) for row, clip in enumerate(before.clips)}
    seen = Counted(encoder, monkeypatch)
    build_bank(encoder, find_clips(clips_folder), out)
    bank = StyleBank.open(out)
    assert seen.windows == 1
    assert [c.path for c in bank.clips] == [
        *("0.wav", "1.wav", "copy.wav", "kit/tagged.ogg", "long.flac", "new.wav", "renamed.wav")
    ]
    for row, clip in enumerate(bank.clips):
        assert clip.path == "new.wav" or np.array_equal(bank.vectors[row], old[clip.sha256])
    assert bank.clips[1].licence == "CC0 1.0" and bank.clips[1].tags == ("drum", "loud")
    assert bank.clips[3].licence == "CC BY-NC 4.0"  # a table counts more than tags of the file
    assert bank.clips[2].duplicate_of == 0


def test_clips_that_cannot_be_used_are_named(
    encoder: ClapEncoder, clips_folder: Path, tmp_path: Path
) -> None:
    (clips_folder / "broken.wav").write_bytes(b"RIFFxxxxWAVEjunk")
    (clips_folder / "empty.wav").write_bytes(b"")
    (clips_folder / "text.mp3").write_text("no audio at all")
    (clips_folder / "gone.wav").symlink_to(tmp_path / "nothing")
    report = build_bank(encoder, find_clips(clips_folder), tmp_path / "bank")
    failed = {Path(x["path"]).name: x["reason"] for x in report.entries if x["status"] == "failed"}
    assert set(failed) == {"broken.wav", "empty.wav", "text.mp3", "gone.wav"} and all(failed.values())
    assert report.exit_code == 3
    assert [clip.path for clip in StyleBank.open(tmp_path / "bank").clips] == NAMES


def test_no_bank_without_clips(encoder: ClapEncoder, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    with pytest.raises(InputError, match="has no audio files"):
        find_clips(tmp_path / "clips")
    (tmp_path / "clips" / "a.wav").write_bytes(b"")
    with pytest.raises(InputError, match="none of 1 clips can be used"):
        build_bank(encoder, find_clips(tmp_path / "clips"), tmp_path / "bank")
    assert not (tmp_path / "bank").exists() and (tmp_path / "bank.building" / "report.json").is_file()
    with pytest.raises(InputError, match="is missing"):
        find_clips(tmp_path / "other")


def test_banks_of_other_headers_are_not_mixed(
    encoder: ClapEncoder, clip_other: ClapEncoder, clips_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bank"
    build_bank(encoder, find_clips(clips_folder), out)
    with pytest.raises(IncompatibleVectors, match=r"windows '1 s, hop 0\.5 s"):
        build_bank(clip_other, find_clips(clips_folder), out)
    with pytest.raises(IncompatibleVectors, match="windows"):
        StyleBank.open(out, clip_other.header)
    build_bank(clip_other, find_clips(clips_folder), out, overwrite=True)
    assert StyleBank.open(out, clip_other.header).clips[3].windows == 3
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(UsageError, match="is no bank"):
        build_bank(encoder, find_clips(clips_folder), tmp_path / "other")


@pytest.fixture(scope="module")
def clip_other(clap_folder: Path) -> ClapEncoder:
    return from_pretrained(clap_folder, random_weights=True, windows="clapback-embed")


def test_a_build_with_other_settings_is_not_continued(
    encoder: ClapEncoder,
    clip_other: ClapEncoder,
    clips_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        Counted(encoder, patch, stop_at=3)
        build_bank(encoder, find_clips(clips_folder), tmp_path / "bank")
    with pytest.raises(UsageError, match=r"was made with windows 1 s, hop 0\.5 s"):
        build_bank(clip_other, find_clips(clips_folder), tmp_path / "bank")
    build_bank(clip_other, find_clips(clips_folder), tmp_path / "bank", overwrite=True)
    assert [c.windows for c in StyleBank.open(tmp_path / "bank", clip_other.header).clips] == [
        1,
        1,
        2,
        3,
        1,
        9,
    ]


def test_manifests_and_lists_keep_their_order(clips_folder: Path, tmp_path: Path) -> None:
    rows = [
        {"id": 7, "path": "long.flac", "license": "Sampling+", "labels": "Bell,Music"},
        {"id": 8, "path": str(clips_folder / "0.wav"), "licence": ""},
        {"id": 9, "path": "../outside.wav"},
        {"id": 10, "path": "/etc/passwd"},
        {"id": 11, "path": "a\0b"},
    ]
    manifest = clips_folder / "m.jsonl"
    manifest.write_text("\ufeff" + "".join(f"{json.dumps(row)}\n\n" for row in rows), encoding="utf-8")
    found = find_clips(manifest)
    assert [clip.name for clip in found.clips] == ["long.flac", "0.wav"]
    first = found.clips[0].information
    assert (first.licence, first.tags, first.id) == ("CC Sampling+", ("Bell", "Music"), "7")
    assert found.clips[1].information.licence == "unknown"
    assert len(found.refused) == 3 and "etc/passwd" in "".join(found.refused)
    paths = tmp_path / "list.txt"
    paths.write_text("# a list\n\n1.wav\n0.wav\n")
    assert [clip.name for clip in find_clips(paths, root=clips_folder).clips] == ["1.wav", "0.wav"]
    (clips_folder / "link.wav").symlink_to("/etc/hostname")
    paths.write_text("link.wav\n")
    assert list(find_clips(paths, root=clips_folder).refused) == ["link.wav"]
    with pytest.raises(UsageError, match="the source is a folder"):
        find_clips(clips_folder, root=clips_folder)
    manifest.write_text('{"id": 1}\n')
    with pytest.raises(FormatError, match=r"m.jsonl:1: path is None"):
        find_clips(manifest)


def test_what_is_refused_is_in_the_report(encoder: ClapEncoder, clips_folder: Path, tmp_path: Path) -> None:
    manifest = clips_folder / "m.jsonl"
    manifest.write_text('{"path": "0.wav"}\n{"path": "../x.wav"}\n{"path": "missing.wav"}\n')
    report = build_bank(encoder, find_clips(manifest), tmp_path / "bank")
    assert report.counts == {"done": 1, "skipped": 0, "failed": 2}
    assert len(StyleBank.open(tmp_path / "bank")) == 1


def test_the_clip_information_of_fsd50k(tmp_path: Path) -> None:
    folder = tmp_path / "FSD50K.dev_audio"
    folder.mkdir()
    (tmp_path / "FSD50K.metadata").mkdir()
    soundfile.write(folder / "64760.wav", np.zeros(100), RATE)
    soundfile.write(folder / "1.wav", np.zeros(100), RATE)
    values = {
        "64760": {
            "title": "bell",
            "tags": ["bell", "metal"],
            "license": "http://creativecommons.org/licenses/by-nc/3.0/",
            "uploader": "ann",
        }
    }
    (tmp_path / "FSD50K.metadata" / "dev_clips_info_FSD50K.json").write_text(json.dumps(values))
    other, clip = (each.information for each in find_clips(folder).clips)
    assert (clip.licence, clip.source, clip.tags, clip.id) == (
        "CC BY-NC 3.0",
        "ann",
        ("bell", "metal"),
        "64760",
    )
    assert other.licence == "unknown"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "a,b\n1,2\n", "has no clips"),
        ("t.jsonl", "[1]\n", "is no table of clips"),
        ("t.json", "[]", "allowed: an object"),
        ("t.xml", "<a/>", "tables in .csv"),
        ("t.csv", "path\n\xff", "has no clips|not UTF-8"),
    ],
)
def test_tables_that_cannot_be_read(
    clips_folder: Path, tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(FormatError, match=message):
        find_clips(clips_folder, tables=[tmp_path / name])


ABOUT = Computed(1.0, 2, "unknown", "", ("x",), ("quiet",))


def fill(folder: Path, count: int) -> None:
    with Journal(folder, 3) as journal:
        for i in range(count):
            journal.add(f"hash{i}", np.full(3, i, np.float32), ABOUT)


@pytest.mark.parametrize("cut_vectors", [0, 1, 5, 12, 13])
@pytest.mark.parametrize("cut_lines", [0, 1, 50])
def test_half_written_ends_of_a_journal_are_cut_off(tmp_path: Path, cut_vectors: int, cut_lines: int) -> None:
    fill(tmp_path, 4)
    for name, cut in (("vectors.f32", cut_vectors), ("clips.jsonl", cut_lines)):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) - cut])
    with Journal(tmp_path, 3) as journal:
        count = len(journal)
        assert count == 4 - max(-(-cut_vectors // 12), min(cut_lines, 1))
        journal.add("another", np.full(3, 9, np.float32), ABOUT)
    with Journal(tmp_path, 3) as journal:
        assert len(journal) == count + 1
        for i in range(count):
            vector, about = journal.get(f"hash{i}") or pytest.fail("is missing")
            assert vector.tolist() == [i] * 3 and about == ABOUT
        assert "another" in journal and "hash9" not in journal


def test_altered_vectors_of_a_journal_are_not_used(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    content = bytearray((tmp_path / "vectors.f32").read_bytes())
    content[13] ^= 1
    (tmp_path / "vectors.f32").write_bytes(content)
    assert len(Journal(tmp_path, 3)) == 1
    (tmp_path / "clips.jsonl").unlink()
    assert len(Journal(tmp_path, 3)) == 0


def test_near_duplicates_refer_to_the_first() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((400, 16)).astype(np.float32)
    rows[7], rows[9], rows[300] = rows[3] * 2, rows[3] + 0.01, rows[5]
    marked = find_duplicates(rows)
    assert {i: m for i, m in enumerate(marked) if m is not None} == {7: 3, 9: 3, 300: 5}
    assert find_duplicates(rows, 1.1) == [None] * 400
    same = np.ones((200, 4), np.float32)  # more of them than are looked at first
    assert find_duplicates(same) == [None] + [0] * 199
    with pytest.raises(UsageError, match="at least nan"):
        find_duplicates(rows, float("nan"))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda f: (f / "bank.json").unlink(), FormatError, "is missing"),
        (lambda f: (f / "bank.json").write_text("{}"), FormatError, "is no bank of version 1"),
        (lambda f: (f / "bank.json").write_text("{"), FormatError, "not JSON"),
        (
            lambda f: np.save(f / "vectors.npy", np.zeros((0, 24), np.float32)),
            FormatError,
            "the bank is empty",
        ),
        (
            lambda f: np.save(f / "vectors.npy", np.ones((6, 9), np.float32)),
            FormatError,
            "the header says 24",
        ),
        (
            lambda f: np.save(f / "vectors.npy", np.ones((5, 24), np.float32)),
            FormatError,
            "5 vectors and 6 lines",
        ),
        (lambda f: np.save(f / "vectors.npy", np.ones((6, 24))), FormatError, "float64 of shape"),
        (lambda f: (f / "vectors.npy").write_bytes(b"x" * 80), FormatError, "not a .npy file"),
        (
            lambda f: np.save(f / "vectors.npy", np.array([{}] * 6), allow_pickle=True),
            FormatError,
            "not a .npy file",
        ),
        (lambda f: (f / "mapping.jsonl").write_text('{"row": 0}\n'), FormatError, "path is None"),
        (lambda f: (f / "mapping.jsonl").write_text("[" * 9000), FormatError, "not JSON"),
        (
            lambda f: (f / "mapping.jsonl").write_text('{"path": "a", "duplicate_of": 3}'),
            FormatError,
            "rows before 0",
        ),
    ],
)
def test_damaged_banks(
    encoder: ClapEncoder, built: Path, tmp_path: Path, change: Any, error: type[Exception], message: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(built, folder)
    change(folder)
    with pytest.raises(error, match=message):
        StyleBank.open(folder)
    with pytest.raises(CorruptCheckpoint):
        verify_directory(folder)


@pytest.fixture(scope="module")
def built(encoder: ClapEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    (folder / "clips").mkdir()
    for i in range(6):
        soundfile.write(folder / "clips" / f"{i}.wav", np.sin(np.arange(4000) * 0.02 * (i + 1)) * 0.1, RATE)
    build_bank(encoder, find_clips(folder / "clips"), folder / "bank")
    return folder / "bank"
