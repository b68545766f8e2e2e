"""Tracks and crops: every kind of data folder, crops as a function of the key, and files that are not what they say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from omar_rq.training.data import CropDataset, Track, open_tracks
from pentatonic.errors import AudioError, FormatError, InputError, NonFiniteAudio
from pentatonic.training import ItemKey

RATE = 16000


def write_raw(path: Path, samples: np.ndarray, dtype: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples.astype(dtype).tofile(path)


def ramp(n: int) -> np.ndarray:
    return np.arange(n) / n


def test_files_of_the_original_are_read_without_a_manifest(tmp_path):
    write_raw(tmp_path / "aa" / "aa047.mmap", ramp(1000), "<f2")
    write_raw(tmp_path / "ab" / "ab123.mmap", ramp(500), "<f2")
    (tmp_path / "list.txt").write_text("ab/ab123.mmap\n")
    assert [track.samples for track in open_tracks(tmp_path)] == [1000, 500]
    (listed,) = open_tracks(tmp_path, tmp_path / "list.txt", raw_sample_rate=24000)
    assert (listed.samples, listed.sample_rate) == (500, 24000)
    np.testing.assert_allclose(listed.read(100, 50).numpy(), ramp(500)[100:150], atol=5e-4)


def test_manifest_with_shards_and_integers(tmp_path):
    write_raw(tmp_path / "shard.bin", np.arange(300), "<i2")
    entries = [
        {"path": "shard.bin", "sample_rate": RATE, "samples": 100, "dtype": "int16", "offset": 0},
        {"path": "shard.bin", "sample_rate": RATE, "samples": 200, "dtype": "int16", "offset": 100},
    ]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    first, second = open_tracks(tmp_path)
    assert torch.equal(first.read(90, 50) * 32768, torch.arange(90.0, 100.0))
    assert torch.equal(second.read(0, 3) * 32768, torch.tensor([100.0, 101.0, 102.0]))


def test_audio_files_are_tracks_and_are_resampled(tmp_path):
    tone = np.sin(2 * np.pi * 440 * np.arange(44100) / 44100)
    soundfile.write(tmp_path / "tone.wav", tone, 44100)
    crops = CropDataset(open_tracks(tmp_path), crop_s=0.5, sample_rate=RATE, random=False)
    crop = crops[ItemKey(0, 0)]
    assert crop.shape == (8000,)
    spectrum = np.abs(np.fft.rfft(crop.numpy() * np.hanning(8000)))
    assert spectrum.argmax() == 220  # 440 Hz at 2 Hz per bin


@pytest.mark.parametrize("spare", [0, 1, 5])
def test_crops_cover_every_start_and_no_more(tmp_path, spare):
    write_raw(tmp_path / "a.mmap", np.arange(16 + spare), "<f2")
    crops = CropDataset(open_tracks(tmp_path), crop_s=16 / RATE, sample_rate=RATE, seed=1)
    starts = {int(crops[ItemKey(epoch, 0)][0]) for epoch in range(200)}
    assert starts == set(range(spare + 1))


def test_a_crop_depends_on_seed_epoch_and_index_alone(tmp_path):
    for name in "ab":
        write_raw(tmp_path / f"{name}.mmap", ramp(5000), "<f2")

    def crop(seed: int, epoch: int, index: int) -> torch.Tensor:
        torch.rand(1), np.random.default_rng().random()
        return CropDataset(open_tracks(tmp_path), crop_s=0.01, sample_rate=RATE, seed=seed)[
            ItemKey(epoch, index)
        ]

    assert torch.equal(crop(0, 2, 1), crop(0, 2, 1))
    assert len({float(crop(*key)[0]) for key in [(0, 2, 1), (1, 2, 1), (0, 3, 1), (0, 2, 0)]}) == 4


def test_short_tracks_are_padded_on_the_right_and_validation_takes_the_middle(tmp_path):
    write_raw(tmp_path / "short.mmap", np.ones(10), "<f2")
    padded = CropDataset(open_tracks(tmp_path), crop_s=16 / RATE, sample_rate=RATE)[ItemKey(0, 0)]
    assert padded.tolist() == [1.0] * 10 + [0.0] * 6
    write_raw(tmp_path / "short.mmap", np.arange(20), "<f2")
    middle = CropDataset(open_tracks(tmp_path), crop_s=16 / RATE, sample_rate=RATE, random=False)
    assert middle[ItemKey(0, 0)].tolist() == list(range(2, 18))


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        '{"path": "../outside.mmap", "sample_rate": 16000, "samples": 5, "dtype": "float16"}',
        '{"path": "/etc/passwd", "sample_rate": 16000, "samples": 5, "dtype": "float16"}',
        '{"path": "a.mmap", "sample_rate": 16000, "samples": 5, "dtype": "float64"}',
        '{"path": "a.mmap", "sample_rate": 16000, "samples": -5, "dtype": "float16"}',
        '{"path": "a.mmap", "samples": 5, "dtype": "float16"}',
        "[1, 2]",
    ],
)
def test_a_wrong_manifest_line_is_named(tmp_path, line):
    write_raw(tmp_path / "a.mmap", ramp(5), "<f2")
    good = json.dumps({"path": "a.mmap", "sample_rate": RATE, "samples": 5, "dtype": "float16"})
    (tmp_path / "manifest.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(FormatError, match=r"manifest\.jsonl:2"):
        open_tracks(tmp_path)


def test_a_listed_path_cannot_leave_the_folder(tmp_path):
    (tmp_path / "list.txt").write_text("../../etc/passwd\n")
    with pytest.raises(FormatError, match=r"list\.txt:1"):
        open_tracks(tmp_path, tmp_path / "list.txt")


def test_unusable_tracks_raise_input_errors(tmp_path):
    write_raw(tmp_path / "nan.mmap", np.array([0.0, np.nan, 1.0]), "<f2")
    with pytest.raises(NonFiniteAudio):
        Track(tmp_path / "nan.mmap", RATE, 3, "float16").read(0, 3)
    with pytest.raises(AudioError, match="truncated or changed"):
        Track(tmp_path / "nan.mmap", RATE, 100, "float16").read(0, 100)
    with pytest.raises(AudioError, match="does not exist"):
        Track(tmp_path / "gone.mmap", RATE, 100, "float16").read(0, 100)
    (tmp_path / "text.wav").write_text("this is not audio")
    (broken,) = [t for t in open_tracks(tmp_path, None) if t.path.suffix == ".wav"] or [
        Track(tmp_path / "text.wav", 1, 1)
    ]
    with pytest.raises(InputError):
        broken.read(0, 1)
    with pytest.raises(InputError, match="no tracks"):
        (tmp_path / "empty").mkdir()
        open_tracks(tmp_path / "empty")
