"""Preparing spectrograms, and the crops of training: what is stored, what is survived, what is drawn."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from myna_rpe.config import FrontendName
from myna_rpe.embed import read_track
from myna_rpe.frontend import Frontend
from myna_rpe.training import prepare as prepare_module
from myna_rpe.training.data import CropConfig, Views
from myna_rpe.training.metadata import read_jamendo_splits
from myna_rpe.training.prepare import PrepareConfig, prepare
from myna_rpe.training.spectrograms import (
    INDEX,
    SpectrogramFolder,
    SpectrogramWriter,
    StoredTrack,
    write_index,
)
from pentatonic import audio
from pentatonic.errors import ConfigError, FormatError, InputError, UsageError
from pentatonic.training import ItemKey
from pentatonic.training.teacher import TeacherTargets, write_teacher_targets

RATE = 16000


@pytest.fixture(autouse=True)
def decode_here(monkeypatch) -> None:
    """Decode in this process: starting a decoder process for every call takes longer than the tests."""

    class InThisProcess:
        stream = staticmethod(audio.stream)

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

    monkeypatch.setattr(audio, "DecodingProcess", InThisProcess)


def make_music(folder: Path, names: list[str], seconds: float = 1.0) -> Path:
    rng = np.random.default_rng(0)
    for index, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        samples = 0.2 * rng.uniform(-1, 1, int(RATE * seconds) + 512 * index)
        soundfile.write(folder / name, samples, RATE)
    return folder


@pytest.fixture
def music(tmp_path) -> Path:
    return make_music(tmp_path / "music", ["a.wav", "a.flac", "sub/b.wav", "sub/c.wav"])


def config_for(music: Path, out: Path, **changes) -> PrepareConfig:
    return PrepareConfig(input=str(music), output=str(out), **{"frontend": "myna", **changes})


def stored(
    folder: Path, frames: list[int], *, frontend: FrontendName = "myna", **fields
) -> SpectrogramFolder:
    """A folder of spectrograms whose values are their frame numbers, plus 1000 for each track."""
    folder.mkdir(exist_ok=True)
    (folder / "header.json").write_text(json.dumps({"settings": {"frontend": frontend}}))
    writer = SpectrogramWriter(folder)
    tracks = [
        writer.write((torch.arange(count) + 1000.0 * n).expand(128, -1), f"{n}.wav")
        for n, count in enumerate(frames)
    ]
    write_index(folder, tracks)
    return SpectrogramFolder(folder)


def test_every_file_is_stored_as_the_front_end_gives_it(music, tmp_path):
    report = prepare(config_for(music, tmp_path / "out"))
    assert report.counts == {"done": 4, "skipped": 0, "failed": 0}
    folder = SpectrogramFolder(tmp_path / "out")
    assert folder.frontend == "myna"
    assert [track.source for track in folder.tracks] == ["a.flac", "a.wav", "sub/b.wav", "sub/c.wav"]
    for track in folder.tracks:
        samples = audio.load(music / track.source).samples[0]
        expected = Frontend("myna")([samples]).mel
        got = torch.from_numpy(folder.read(track, 0, 10**6)).float().T
        torch.testing.assert_close(got, expected, rtol=2**-10, atol=2**-14)
    header = json.loads((tmp_path / "out" / "header.json").read_text())["settings"]
    assert header["mel"]["hop_length"] == 512 and header["order"] == "time-major"
    assert not (tmp_path / "out" / "index.jsonl.partial").exists()


def test_bad_inputs_are_in_the_report(music, tmp_path):
    (music / "broken.wav").write_bytes(b"RIFF")
    soundfile.write(music / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(music / "tiny.wav", np.full(10, 0.5), RATE)
    (music / "notes.txt").touch()
    report = prepare(config_for(music, tmp_path / "out"))
    failed = {Path(entry["path"]).name for entry in report.entries if entry["status"] == "failed"}
    assert failed == {"broken.wav", "silent.wav"} and report.passed_over == {".txt": 1}
    assert any(track.source == "tiny.wav" for track in SpectrogramFolder(tmp_path / "out").tracks)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["counts"]["failed"] == 2


def test_a_second_run_reads_only_what_changed_and_what_is_new(music, tmp_path):
    out = tmp_path / "out"
    prepare(config_for(music, out))
    before = {track.source: track for track in SpectrogramFolder(out).tracks}
    make_music(music, ["new.wav"], seconds=0.5)
    soundfile.write(music / "a.wav", np.full(RATE, 0.1), RATE)
    (music / "sub" / "c.wav").unlink()
    report = prepare(config_for(music, out))
    assert report.counts == {"done": 2, "skipped": 2, "failed": 0}
    folder = SpectrogramFolder(out)
    after = {track.source: track for track in folder.tracks}
    assert set(after) == {"a.wav", "a.flac", "sub/b.wav", "new.wav"}
    assert after["sub/b.wav"] == before["sub/b.wav"] and after["a.wav"].start != before["a.wav"].start
    high = [folder.read(after[name], 5, 1)[:, 64:].max() for name in ("a.wav", "a.flac")]
    assert high[0] < 1e-3 < high[1]  # a constant now, and noise
    with pytest.raises(UsageError, match="frontend myna, not myna-rpe"):
        prepare(config_for(music, out, frontend="myna-rpe"))


def test_a_stopped_run_goes_on_from_the_tracks_that_are_whole(music, tmp_path, monkeypatch):
    out = tmp_path / "out"
    seen = []

    def stop_at_the_third(item, frontend):
        seen.append(item.source.name)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return read_track(item, frontend)

    monkeypatch.setattr(prepare_module, "read_track", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        prepare(config_for(music, out))
    assert not (out / "index.jsonl").exists()
    with (out / "index.jsonl.partial").open("a") as file:
        file.write('\n{"source": "sub/b.wav", "sh')  # as a kill leaves it
    with (out / "shard-00000.f16").open("ab") as file:
        file.write(b"frames that no line names")
    monkeypatch.setattr(prepare_module, "read_track", read_track)
    report = prepare(config_for(music, out))
    done = report.count("skipped")
    assert 1 <= done <= 3 and report.count("done") == 4 - done  # what follows the third may be read ahead
    straight = tmp_path / "straight"
    prepare(config_for(music, straight))
    one, other = SpectrogramFolder(out), SpectrogramFolder(straight)
    for track, expected in zip(one.tracks, other.tracks, strict=True):
        assert track.source == expected.source
        np.testing.assert_array_equal(one.read(track, 0, 10**6), other.read(expected, 0, 10**6))


HEADER = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\n"


def write_splits(folder: Path, **rows: str) -> Path:
    folder.mkdir(exist_ok=True)
    for split in ("train", "validation", "test"):
        (folder / f"autotagging_top50tags-{split}.tsv").write_text(HEADER + rows.get(split, ""))
    return folder


def test_official_split_files_decide_split_artist_and_album(tmp_path):
    music = make_music(tmp_path / "music", ["48/948.wav", "16/1116.low.wav", "00/200.wav", "00/7.wav"])
    splits = write_splits(
        tmp_path / "splits",
        train="track_0000948\tartist_000087\talbum_000149\t48/948.mp3\t212.7\tgenre---rock\tmood/theme---dark\n"
        "track_0000999\tartist_000087\talbum_000149\t99/999.mp3\t100.0\tgenre---rock\n",
        validation="track_0001116\tartist_000088\talbum_000150\t16/1116.mp3\t99.1\tgenre---jazz\n",
        test="track_0000200\tartist_000089\talbum_000151\t00/200.mp3\t50.0\tinstrument---piano\n",
    )
    report = prepare(config_for(music, tmp_path / "out", splits=str(splits)))
    tracks = {track.source: track for track in SpectrogramFolder(tmp_path / "out").tracks}
    assert {source: track.split for source, track in tracks.items()} == {
        "48/948.wav": "train",
        "16/1116.low.wav": "val",
        "00/200.wav": "test",
    }
    assert (tracks["48/948.wav"].artist, tracks["48/948.wav"].album) == ("artist_000087", "album_000149")
    reasons = {Path(entry["path"]).name: entry.get("reason") for entry in report.entries}
    assert reasons["7.wav"] == "not listed in the split files" and "no such file" in str(reasons["999.mp3"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"train": "track_1\tartist_1\n"}, "train.tsv:2: not a row"),
        (
            {
                "train": "track_1\tartist_1\talbum_1\t00/1.mp3\t1\ta---b\n",
                "test": "track_2\tartist_1\talbum_2\t00/2.mp3\t1\ta---b\n",
            },
            "must not share an artist",
        ),
        ({"train": "track_1\tartist_1\talbum_1\t00/1.mp3\t1\ta---b\n" * 2}, "twice"),
    ],
)
def test_wrong_split_files_are_refused(tmp_path, rows, message):
    with pytest.raises(FormatError, match=message):
        read_jamendo_splits(write_splits(tmp_path / "splits", **rows))
    (tmp_path / "splits" / "other-train.tsv").write_text(HEADER)
    with pytest.raises(InputError, match="2 files"):
        read_jamendo_splits(tmp_path / "splits")


def test_tracks_of_an_artist_stay_in_one_split(tmp_path):
    names = [f"{n}.wav" for n in range(12)]
    music = make_music(tmp_path / "music", names, seconds=0.2)
    lines = [{"path": name, "artist": f"artist {n % 4}"} for n, name in enumerate(names)]
    lines[0] |= {"split": "test", "album": "first"}
    (tmp_path / "about.jsonl").write_text("\n".join(map(json.dumps, lines)))
    config = config_for(music, tmp_path / "out", metadata=str(tmp_path / "about.jsonl"), val_fraction=0.5)
    prepare(config)
    tracks = SpectrogramFolder(tmp_path / "out").tracks
    assert [track.album for track in tracks if track.split == "test"] == ["first"]
    splits = {track.artist: set() for track in tracks}
    for track in tracks:
        if track.source != "0.wav":
            splits[track.artist].add(track.split)
    assert all(len(found) == 1 for found in splits.values())
    assert set.union(*splits.values()) == {"train", "val"}


def test_shards_roll_over_and_broken_folders_are_refused(tmp_path):
    writer = SpectrogramWriter(tmp_path, shard_frames=10)
    tracks = [writer.write(torch.full((128, 6), float(n)), f"{n}.wav") for n in range(5)]
    assert [(track.shard, track.start) for track in tracks] == [(0, 0), (0, 6), (1, 0), (1, 6), (2, 0)]
    with pytest.raises(InputError, match="myna-rpe prepare"):
        SpectrogramFolder(tmp_path)
    (tmp_path / "header.json").write_text(json.dumps({"settings": {"frontend": "myna-rpe"}}))
    write_index(tmp_path, tracks)
    folder = SpectrogramFolder(tmp_path)
    for opened in (folder, copy.copy(folder)):  # the copy as a loader process gets it
        assert not opened._shards
        assert [float(opened.read(track, 2, 9).mean()) for track in tracks] == [0, 1, 2, 3, 4]
    assert folder.read(tracks[3], 2, 9).shape == (4, 128)
    (tmp_path / "shard-00002.f16").write_bytes(b"short")
    with pytest.raises(InputError, match=r"shard-00002\.f16 is missing or truncated"):
        SpectrogramFolder(tmp_path)
    (tmp_path / "index.jsonl").write_text('{"source": "a", "shard": 0, "start": 0, "frames": 0}\n')
    with pytest.raises(FormatError, match=r"index.jsonl:1: .*frames 1 or more"):
        SpectrogramFolder(tmp_path)


def test_values_beyond_float16_stay_finite(tmp_path):
    track = SpectrogramWriter(tmp_path).write(torch.full((128, 2), 1e6), "loud.wav")
    assert track.frames == 2
    assert (np.fromfile(tmp_path / "shard-00000.f16", "<f2") == 65504).all()


def test_crops_are_a_function_of_seed_epoch_and_item(tmp_path):
    views = Views(stored(tmp_path, [100, 400]), "train", CropConfig(frames=32), seed=1)
    keys = [ItemKey(3, 1), ItemKey(3, 0)]
    batch = views.collate([views[key] for key in keys])
    again = views.collate([views[key] for key in keys])
    other = views.collate([views[ItemKey(4, key.index)] for key in keys])
    one, two = batch["views"]
    assert one.shape == two.shape == (2, 128, 32) and one.dtype == torch.float32
    assert torch.equal(one, again["views"][0]) and not torch.equal(one, other["views"][0])
    assert not torch.equal(one, two)
    assert batch["index"].tolist() == [1, 0] and batch["epoch"].tolist() == [3, 3]
    for row, number in enumerate((1, 0)):
        first = float(one[row, 0, 0]) - 1000 * number
        np.testing.assert_array_equal(one[row, 5], 1000 * number + first + np.arange(32))
    starts = [views.starts(views[ItemKey(epoch, 1)], [32, 32])[0] for epoch in range(400)]
    assert min(starts) < 10 and max(starts) > 358 and max(starts) <= 368


def test_views_may_have_to_be_near_each_other(tmp_path):
    config = CropConfig(frames=32, views=3, max_frame_distance=7)
    views = Views(stored(tmp_path, [120]), "train", config)
    distances = []
    for epoch in range(200):
        first, *others = views.starts(views[ItemKey(epoch, 0)], [32] * 3)
        assert all(0 <= other <= 88 for other in others)
        distances += [other - first for other in others]
    assert (min(distances), max(distances)) == (-7, 7)


def test_short_tracks_are_padded_with_what_stands_for_nothing(tmp_path):
    paddings: dict[FrontendName, float] = {"myna": 0.0, "myna-rpe": -80.0}
    for frontend, padding in paddings.items():
        folder = stored(tmp_path / frontend, [20, 50], frontend=frontend)
        batch = (views := Views(folder, "train", CropConfig(frames=32))).collate(
            [views[ItemKey(0, 0)], views[ItemKey(0, 1)]]
        )
        assert [frames.tolist() for frames in batch["frames"]] == [[20, 32], [20, 32]]
        assert bool((batch["views"][0][0, :, 20:] == padding).all())
        np.testing.assert_array_equal(batch["views"][0][0, 7, :20], np.arange(20))


def test_lengths_of_a_batch_are_drawn_evenly_in_their_logarithm(tmp_path):
    folder = stored(tmp_path, [3000, 900, 2500])
    config = CropConfig(frames=128, max_frames=2048)
    views = Views(folder, "train", config, seed=5)
    lengths = [views.lengths([views[ItemKey(epoch, 0)], views[ItemKey(epoch, 2)]]) for epoch in range(400)]
    assert all(one == other for one, other in lengths)
    drawn = np.array([one for one, _ in lengths])
    assert drawn.min() >= 128 and drawn.max() <= 2048 and not (drawn % 16).any()
    halves = [int(((drawn >= 2**n * 128) & (drawn < 2 ** (n + 1) * 128)).sum()) for n in range(4)]
    assert min(halves) > 70  # of 100 expected in each octave
    config.independent_lengths = True
    pairs = [views.lengths([views[ItemKey(epoch, 0)]]) for epoch in range(20)]
    assert sum(one != other for one, other in pairs) > 15
    batch = views.collate([views[ItemKey(0, 0)]])
    assert [view.shape[-1] for view in batch["views"]] == pairs[0]
    config.full_probability = 1.0
    assert views.lengths([views[ItemKey(0, 0)], views[ItemKey(0, 1)]]) == [896, 896]


def test_wrong_crops_are_refused():
    wrong: list[dict[str, Any]] = [
        {"views": 1},
        {"frames": 0},
        {"max_frames": 100},
        {"full_probability": 2.0},
    ]
    for values in wrong:
        with pytest.raises(ConfigError, match="crops"):
            CropConfig(**values)


def taught(folder, targets, hop_s, *, name="judge", patch_s=None):
    sources = [f"{number}.wav" for number in range(2)]
    write_teacher_targets(folder, name, targets, hop_s, index=INDEX, sources=sources, patch_s=patch_s)


def read_targets(folder):
    return TeacherTargets(folder, "judge", index=INDEX)


def test_the_target_of_a_crop_is_the_mean_over_the_patches_that_it_overlaps(tmp_path):
    folder = stored(tmp_path, [10, 400])  # 31.25 frames a second: 12.8 s
    values = np.arange(5, dtype=np.float32)
    targets = [
        (np.zeros((0, 3)), np.zeros((0, 2))),
        (np.stack([values] * 3, 1), np.stack([values / 8] * 2, 1)),
    ]
    taught(tmp_path, targets, 2.0, patch_s=3.0)
    teacher = read_targets(tmp_path)
    assert (teacher.vector_width, teacher.tag_width) == (3, 2)
    np.testing.assert_allclose(teacher.vector_mean, 2.0)
    np.testing.assert_allclose(teacher.vector_std, np.sqrt(2.0), rtol=1e-6)
    # Patches are about 0-3, 2-5, 4-7, 6-9 and 8-11 seconds.
    for start_s, end_s, patches in ((0, 2, [0]), (0, 2.1, [0, 1]), (3, 4, [1]), (2.9, 6.5, [0, 1, 2, 3])):
        found = teacher.of_crop(1, start_s, end_s)
        np.testing.assert_allclose(found["vectors"], np.mean(patches), rtol=1e-6)
        np.testing.assert_allclose(found["tags"], np.mean(patches) / 8, rtol=1e-3)
    assert np.isnan(teacher.of_crop(1, 11.0, 12.0)["vectors"]).all()
    assert np.isnan(teacher.of_crop(0, 0.0, 1.0)["tags"]).all()
    views = Views(folder, "train", CropConfig(frames=32), teacher=teacher)
    batch = views.collate([views[ItemKey(0, 1)]])
    start_s = views.starts(views[ItemKey(0, 1)], [32, 32])[1] / 31.25
    expected = teacher.of_crop(1, start_s, start_s + 32 / 31.25)["vectors"]
    np.testing.assert_array_equal(batch["vectors"][1][0], expected)
    assert len(batch["tags"]) == 2


def test_targets_that_do_not_fit_are_refused(tmp_path):
    stored(tmp_path, [10, 20])
    good = (np.zeros((2, 3)), None)
    with pytest.raises(InputError, match="2 tracks, and there are targets of 1"):
        taught(tmp_path, [good], 1.0)
    with pytest.raises(InputError, match=r"1\.wav: targets"):
        taught(tmp_path, [good, (np.zeros((2, 4)), None)], 1.0)
    with pytest.raises(InputError, match="not finite"):
        taught(tmp_path, [good, (np.full((2, 3), 1e9), None)], 1.0)
    with pytest.raises(UsageError, match="letters"):
        taught(tmp_path, [good, good], 1.0, name="../judge")
    assert not list(tmp_path.glob("teacher-*"))
    with pytest.raises(InputError, match="no targets of a teacher 'judge'"):
        read_targets(tmp_path)
    taught(tmp_path, [good, good], 1.0)
    assert read_targets(tmp_path).tag_width == 0
    rows = tmp_path / "teacher-judge-rows.npy"
    rows.write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"teacher-judge-rows\.npy: "):
        read_targets(tmp_path)
    rows.unlink()
    with pytest.raises(InputError, match=r"teacher-judge-rows\.npy: "):
        read_targets(tmp_path)
    write_index(tmp_path, [StoredTrack("0.wav", 0, 0, 10)])
    with pytest.raises(InputError, match=r"another index\.jsonl"):
        read_targets(tmp_path)
