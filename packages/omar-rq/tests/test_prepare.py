"""`omar-rq prepare` and `omar-rq stats`: what they write, what they survive, what they measure."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml

from omar_rq.config import ModelConfig
from omar_rq.frontends import build_frontend
from omar_rq.training import prepare as prepare_module
from omar_rq.training.data import CropDataset, default_filelist, open_tracks
from omar_rq.training.prepare import PrepareConfig, prepare
from omar_rq.training.stats import RunningMoments, StatsConfig, frontend_stats
from omar_rq.training.stats import main as stats_main
from pentatonic.cli import PartialFailure
from pentatonic.errors import CheckpointError, ConfigError, FormatError, UsageError
from pentatonic.training import ItemKey

pytestmark = pytest.mark.usefixtures("decode_here")

RATE = 16000


@pytest.fixture
def music(tmp_path) -> Path:
    folder = tmp_path / "music"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index, name in enumerate(["a.wav", "a.flac", "sub/a.wav", "sub/b.wav"]):
        soundfile.write(folder / name, 0.1 * (index + 1) * rng.uniform(-1, 1, 4000 + index), RATE)
    return folder


def config_for(music: Path, out: Path, **changes) -> PrepareConfig:
    return PrepareConfig(input=str(music), output=str(out), workers=1, **changes)


@pytest.mark.parametrize(("dtype", "step"), [("float16", 2**-12), ("int16", 2**-15)])
def test_every_file_becomes_a_track_of_its_own(music, tmp_path, dtype, step):
    report = prepare(config_for(music, tmp_path / "out", dtype=dtype))
    assert (report.count("done"), report.count("failed")) == (4, 0)
    tracks = {track.path.name: track for track in open_tracks(tmp_path / "out")}
    assert set(tracks) == {"a_wav.mmap", "a_flac.mmap", "b_wav.mmap"}  # sub/a.wav lies in sub/
    assert len(open_tracks(tmp_path / "out")) == 4
    source, _ = soundfile.read(music / "sub" / "b.wav", dtype="float32")
    read = tracks["b_wav.mmap"].read(0, 10**6).numpy()
    np.testing.assert_allclose(read, source, atol=step)


def test_the_report_has_flags_and_what_was_passed_over(music, tmp_path):
    soundfile.write(music / "quiet.wav", np.full(RATE, 5e-4), RATE)
    (music / "sub" / "cover.jpg").touch()
    report = prepare(config_for(music, tmp_path / "out"))
    flags = {Path(entry["path"]).name: entry.get("flags") for entry in report.entries}
    assert flags["quiet.wav"] == ["quiet (peak -66.2 dBFS)"] and flags["b.wav"] == ["short (0.25 s)"]
    assert json.loads((tmp_path / "out" / "report.json").read_text())["passed_over"] == {".jpg": 1}


def test_tracks_are_resampled_and_split_by_name(music, tmp_path):
    prepare(config_for(music, tmp_path / "out", sample_rate=8000, val_fraction=0.5, seed=3))
    entries = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()]
    assert {entry["samples"] for entry in entries} == {2000, 2001, 2002}
    lists = {split: (tmp_path / "out" / f"{split}.jsonl").read_text() for split in ("train", "val")}
    assert [json.loads(line) for line in lists["train"].splitlines()] == [
        path.relative_to(tmp_path / "out").as_posix()
        for path in (track.path for track in open_tracks(tmp_path / "out", tmp_path / "out" / "train.jsonl"))
    ]
    for split, names in (
        (split, [json.loads(line) for line in text.splitlines()]) for split, text in lists.items()
    ):
        assert names == [entry["path"] for entry in entries if entry["split"] == split]
    prepare(config_for(music, tmp_path / "again", sample_rate=8000, val_fraction=0.5, seed=3))
    assert (tmp_path / "again" / "val.jsonl").read_text() == lists["val"]


# Names as a file system stores them. None of them is passed over by a search; one is too long for its output.
HOSTILE = [
    *(b"a.b.wav", b"a_b.wav", b"A_B.wav", b"a.b_wav.wav", b" lead.wav", b"trail .wav", b"tab\t.wav"),
    *(b"line\nend.wav", "sep\u2028arator.wav".encode(), "next\x85line.wav".encode(), b"cr\r.wav"),
    *(b"latin-\xe9.wav", b'"quoted".wav', b"-.wav", b"a.b.wav.wav", b"x" * 250 + b".wav"),
]


def test_recordings_of_any_name_reach_the_trainer_or_the_report(tmp_path):
    music = tmp_path / "music"
    music.mkdir()
    for index, name in enumerate(HOSTILE):
        with (music / os.fsdecode(name)).open("wb") as file:
            soundfile.write(file, np.full(2000 + index, 0.5), RATE, format="WAV")
    out = tmp_path / "out"
    config = config_for(music, out, val_fraction=0.3)
    report = prepare(config)
    failed = {Path(entry["path"]).name for entry in report.entries if entry["status"] == "failed"}
    assert failed == {os.fsdecode(HOSTILE[-1])}
    splits = [open_tracks(out, default_filelist(out, split)) for split in ("train", "val")]
    tracks = [track for split in splits for track in split]
    assert all(splits) and len({track.path.name.casefold() for track in tracks}) == len(tracks)
    # By their lengths: each recording arrived once, as itself.
    assert sorted(track.samples for track in tracks) == [2000 + index for index in range(len(HOSTILE) - 1)]
    assert all(len(track.read(0, 10**6)) == track.samples for track in tracks)
    listing = (out / "manifest.jsonl").read_text()
    again = prepare(config)
    assert (again.count("skipped"), again.count("failed")) == (len(tracks), 1)
    assert (out / "manifest.jsonl").read_text() == listing


def test_a_recording_that_comes_later_takes_no_name_away(music, tmp_path):
    soundfile.write(music / "x_y.wav", np.full(1000, 0.5), RATE)
    prepare(config_for(music, tmp_path / "out"))
    soundfile.write(music / "x.y.wav", np.full(1001, 0.5), RATE)  # before the other in order
    report = prepare(config_for(music, tmp_path / "out"))
    assert (report.count("skipped"), report.count("done")) == (5, 1)
    by_name = {track.path.name: track.samples for track in open_tracks(tmp_path / "out")}
    assert by_name["x_y_wav.mmap"] == 1000
    (later,) = (name for name in by_name if name.startswith("x_y_wav-"))
    assert by_name[later] == 1001


def test_wrong_lines_of_a_list_are_named(music, tmp_path):
    (tmp_path / "list.jsonl").write_text('"a.wav"\n\n17\n')
    with pytest.raises(FormatError, match=r"list.jsonl:3: not a JSON string"):
        open_tracks(music, tmp_path / "list.jsonl")
    (tmp_path / "list.jsonl").write_text('"../../a.wav"\n')
    with pytest.raises(FormatError, match="leaves the data folder"):
        open_tracks(music, tmp_path / "list.jsonl")


def test_bad_files_are_named_and_cost_nothing_else(music, tmp_path):
    prepare(config_for(music, tmp_path / "clean"))
    (music / "zero.wav").touch()
    (music / "text.mp3").write_text("no audio here")
    soundfile.write(music / "nan.wav", np.full(100, np.nan), RATE, subtype="FLOAT")
    report = prepare(config_for(music, tmp_path / "out"))
    failed = {Path(entry["path"]).name for entry in report.entries if entry["status"] == "failed"}
    assert failed == {"zero.wav", "text.mp3", "nan.wav"}
    assert (tmp_path / "out" / "manifest.jsonl").read_text() == (
        tmp_path / "clean" / "manifest.jsonl"
    ).read_text()
    assert not [path for path in (tmp_path / "out").rglob("*") if "nan" in path.name]


def test_a_second_run_decodes_nothing_again(music, tmp_path, monkeypatch):
    prepare(config_for(music, tmp_path / "out"))
    before = (tmp_path / "out" / "manifest.jsonl").read_text()
    monkeypatch.setattr("omar_rq.training.prepare.convert", lambda *_: pytest.fail("decoded again"))
    report = prepare(config_for(music, tmp_path / "out"))
    assert report.count("skipped") == 4
    assert (tmp_path / "out" / "manifest.jsonl").read_text() == before


def test_a_killed_run_goes_on_from_its_partial_listing(music, tmp_path):
    out = tmp_path / "out"
    prepare(config_for(music, out))
    whole = (out / "manifest.jsonl").read_text()
    lines = whole.splitlines(keepends=True)
    (out / "manifest.jsonl.partial").write_text("".join(lines[:2]) + lines[2][:20])  # cut within a line
    (out / "manifest.jsonl").unlink()
    report = prepare(config_for(music, out))
    assert (report.count("skipped"), report.count("done")) == (2, 2)
    assert (out / "manifest.jsonl").read_text() == whole
    assert not (out / "manifest.jsonl.partial").exists()


# --- going on after a run that ended early


@pytest.fixture
def converted(monkeypatch) -> Iterator[Callable[..., list[str]]]:
    """``converted(config, stop=n)`` prepares, and returns the names of the files that were decoded.

    The run ends with an error before file ``stop`` is decoded, where it is given, as if it were killed there.
    """
    convert = prepare_module.convert

    def run(config: PrepareConfig, stop: int | None = None, error: BaseException | None = None) -> list[str]:
        names: list[str] = []

        def count(source: Path, *args: Any) -> Any:
            if len(names) == stop:
                raise error or RuntimeError("killed")
            names.append(source.relative_to(config.input).as_posix())
            return convert(source, *args)

        monkeypatch.setattr(prepare_module, "convert", count)
        if stop is None:
            prepare(config)
        else:
            with pytest.raises(type(error) if error else RuntimeError):
                prepare(config)
        return names

    yield run


NAMES = ["a.flac", "a.wav", "sub/a.wav", "sub/b.wav"]
HALF_A_LINE = '{"path": "sub/a_wav.mmap", "sample_r'


def test_a_run_goes_on_where_it_was_killed(music, tmp_path, converted):
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert converted(config_for(music, whole)) == NAMES
    for stop, expected in ((1, NAMES[:1]), (2, NAMES[1:3])):
        assert converted(config_for(music, out), stop=stop) == expected
        with (out / "manifest.jsonl.partial").open("a") as listing:
            listing.write(f"\n{HALF_A_LINE}")
        assert not (out / "manifest.jsonl").exists()
    assert converted(config_for(music, out)) == NAMES[3:]
    for name in ("manifest.jsonl", "train.jsonl", "val.jsonl"):
        assert (out / name).read_text() == (whole / name).read_text()
    assert not (out / "manifest.jsonl.partial").exists()
    assert converted(config_for(music, out)) == []


@pytest.mark.parametrize("same_size", [True, False])
def test_a_source_that_has_changed_is_converted_again(music, tmp_path, converted, same_size):
    out = tmp_path / "out"
    converted(config_for(music, out))
    source = music / "sub" / "a.wav"
    status = source.stat()
    soundfile.write(source, np.full(4002 if same_size else 4100, 0.5), RATE)
    if same_size:
        os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
        assert source.stat().st_size == status.st_size
    else:
        os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert converted(config_for(music, out)) == ["sub/a.wav"]
    (track,) = (track for track in open_tracks(out) if track.path == out / "sub" / "a_wav.mmap")
    samples = track.read(0, 10**6)
    assert len(samples) == (4002 if same_size else 4100) and torch.all((samples - 0.5).abs() < 1e-3)
    assert converted(config_for(music, out)) == []


def test_the_last_of_several_entries_of_a_source_counts(music, tmp_path, converted):
    """After a change and a kill, the old entry is in the manifest and the new one in the partial listing."""
    out = tmp_path / "out"
    converted(config_for(music, out))
    for name in ("a.flac", "a.wav"):
        soundfile.write(music / name, np.full(5000, 0.5), RATE)
    assert converted(config_for(music, out), stop=1) == ["a.flac"]
    assert converted(config_for(music, out)) == ["a.wav"]
    assert sorted(track.samples for track in open_tracks(out)) == [4002, 4003, 5000, 5000]


@pytest.mark.parametrize("damage", ["removed", "truncated", "longer", "folder"])
def test_a_track_that_is_not_whole_is_converted_again(music, tmp_path, converted, damage):
    out = tmp_path / "out"
    converted(config_for(music, out))
    track = out / "sub" / "a_wav.mmap"
    content = track.read_bytes()
    track.unlink()
    if damage == "folder":
        track.mkdir()
        assert converted(config_for(music, out)) == ["sub/a.wav"]  # and fails
        track.rmdir()
    elif damage != "removed":
        track.write_bytes(content[:-2] if damage == "truncated" else content + b"\0\0")
    assert converted(config_for(music, out)) == ["sub/a.wav"]
    assert track.read_bytes() == content and len(open_tracks(out)) == 4


def test_a_source_that_is_gone_leaves_the_listings(music, tmp_path, converted):
    converted(config_for(music, tmp_path / "out"))
    (music / "sub" / "a.wav").unlink()
    assert converted(config_for(music, tmp_path / "out")) == []
    assert {track.samples for track in open_tracks(tmp_path / "out")} == {4000, 4001, 4003}
    listed = "".join((tmp_path / "out" / f"{split}.jsonl").read_text() for split in ("train", "val"))
    assert len(listed.splitlines()) == 3 and "sub/a" not in listed


def test_another_split_needs_no_decoding(music, tmp_path, converted):
    converted(config_for(music, tmp_path / "out", val_fraction=0.0))
    assert converted(config_for(music, tmp_path / "out", val_fraction=1.0)) == []
    assert (tmp_path / "out" / "train.jsonl").read_text() == ""
    assert len((tmp_path / "out" / "val.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize("change", [{"sample_rate": 8000}, {"dtype": "int16"}])
@pytest.mark.parametrize("stop", [None, 1])
def test_tracks_of_other_settings_are_not_mixed(music, tmp_path, converted, change, stop):
    converted(config_for(music, tmp_path / "out"), stop=stop)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="another output folder"):
        prepare(config_for(music, tmp_path / "out", **change))
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_lines_of_other_programs_are_no_tracks(music, tmp_path, converted):
    out = tmp_path / "out"
    converted(config_for(music, out))
    listing = out / "manifest.jsonl"
    whole = listing.read_text()
    entries = [json.loads(line) for line in whole.splitlines()]
    foreign = [17, {}, {"path": "a_wav.mmap"}, entries[0] | {"path": "../elsewhere.mmap"}, entries[1]]
    listing.write_text("".join(f"{json.dumps(entry)}\n" for entry in foreign) + "not JSON\n\n")
    assert converted(config_for(music, out)) == ["a.flac", "sub/a.wav", "sub/b.wav"]
    assert listing.read_text() == whole
    assert not (tmp_path / "elsewhere.mmap").exists()


def test_an_interrupt_leaves_a_report_of_what_is_not_done(music, tmp_path, converted):
    out = tmp_path / "out"
    (music / "a.flac").write_bytes(b"no audio")
    assert converted(config_for(music, out), stop=2, error=KeyboardInterrupt()) == NAMES[:2]
    report = json.loads((out / "report.json").read_text())
    assert report["counts"] == {"done": 1, "skipped": 0, "failed": 1, "not done": 2}
    assert [Path(entry["path"]).name for entry in report["inputs"][2:]] == ["a.wav", "b.wav"]
    assert not (out / "manifest.jsonl").exists()
    assert converted(config_for(music, out)) == ["a.flac", "sub/a.wav", "sub/b.wav"]


@pytest.mark.parametrize("place", ["write", "folder"])
def test_a_full_disk_ends_the_run_and_not_the_work(music, tmp_path, monkeypatch, place):
    out = tmp_path / "out"
    full = OSError(errno.ENOSPC, "No space left on device")
    fsync, mkdir = os.fsync, Path.mkdir
    written = []

    def third(*_: Any) -> None:
        written.append(0)
        if len(written) == 3:
            raise full
        fsync(*_)

    def no_folder(path: Path, *args: Any, **options: Any) -> None:
        if path == out / "sub" and place == "folder":
            raise full
        mkdir(path, *args, **options)

    with monkeypatch.context() as patch:
        if place == "write":  # of the second file; each has its own and that of its folder
            patch.setattr(os, "fsync", third)
        patch.setattr(Path, "mkdir", no_folder)
        with pytest.raises((CheckpointError, OSError), match="No space left on device"):
            prepare(config_for(music, out))
    report = prepare(config_for(music, out))
    assert (report.count("skipped"), report.count("done")) == ((1, 3) if place == "write" else (2, 2))


def test_a_name_that_is_taken_by_a_folder_fails_alone(music, tmp_path):
    (music / "a_wav.mmap").mkdir()
    soundfile.write(music / "a_wav.mmap" / "inside.wav", np.full(1000, 0.5), RATE)
    report = prepare(config_for(music, tmp_path / "out"))
    assert (report.count("done"), report.count("failed")) == (4, 1)


def test_wrong_options_are_refused(music, tmp_path):
    with pytest.raises(ConfigError, match="float64"):
        prepare(config_for(music, tmp_path / "out", dtype="float64"))
    with pytest.raises(UsageError, match="not a folder"):
        prepare(config_for(tmp_path / "missing", tmp_path / "out"))
    prepare(config_for(music, tmp_path / "out"))
    with pytest.raises(UsageError, match="another output folder"):
        prepare(config_for(music, tmp_path / "out", sample_rate=8000))


def test_moments_equal_those_of_all_values_at_once():
    values = torch.randn(5, 700, dtype=torch.float64) * torch.arange(1, 6)[:, None] + 3
    moments = RunningMoments(5)
    for part in values.split([1, 99, 600], dim=1):
        moments.update(part)
    summary = moments.summary()
    assert summary["mean"] == pytest.approx(values.mean().item(), abs=1e-12)
    assert summary["std"] == pytest.approx(values.std(correction=0).item(), abs=1e-12)
    assert summary["std_dims"] == pytest.approx(values.std(1, correction=0).tolist(), abs=1e-12)


def test_stats_leave_normalisation_out_and_name_skipped_tracks(music, tmp_path):
    conf = Path(__file__).parents[1] / "src" / "omar_rq" / "conf" / "model" / "debug.yaml"
    (music / "broken.wav").write_text("no audio")
    model = yaml.safe_load(conf.read_text())
    stats = frontend_stats(StatsConfig(model=model, root=str(music), crop_s=0.2))
    assert [Path(path).name for path in stats["skipped"]] == ["broken.wav"]
    # Normalised by what was measured, the same crops have mean 0 and deviation 1.
    model["input"] |= {"norm_mean": stats["mel"]["mean"], "norm_std": stats["mel"]["std"]}
    frontend = build_frontend(ModelConfig.from_dict(model).input)
    tracks = open_tracks(music)
    crops = CropDataset(tracks, crop_s=0.2, sample_rate=RATE)
    good = [index for index, track in enumerate(tracks) if track.path.name != "broken.wav"]
    values = [frontend(crops[ItemKey(0, index)][None])[0] for index in good]
    joined = torch.cat(values, dim=1)
    assert len(good) == 4
    assert joined.mean().item() == pytest.approx(0, abs=1e-4)
    assert joined.std(correction=0).item() == pytest.approx(1, abs=1e-4)


def test_stats_end_with_partial_failure_and_still_write(music, tmp_path):
    (music / "broken.wav").write_text("no audio")
    with pytest.raises(PartialFailure, match=r"broken\.wav"):
        stats_main(["model=debug", f"root={music}", "crop_s=0.2", f"output={tmp_path / 's.json'}"])
    assert json.loads((tmp_path / "s.json").read_text())["mel"]["frames"] > 0
