"""Finding audio files and writing them."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from pentatonic.audio import AUDIO_SUFFIXES, find_files, info, load, save
from pentatonic.errors import AudioError, AudioFileNotFound, EmptyAudio, NonFiniteAudio, UsageError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def noise(channels: int, n: int) -> torch.Tensor:
    return torch.rand((channels, n), generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9


def test_find_in_folders(tmp_path: Path) -> None:
    wanted = [tmp_path / name for name in ("a.wav", "b/c.FLAC", "b/d/e.m4a", "z.mp3")]
    touch(
        *wanted,
        tmp_path / "cover.jpg",
        tmp_path / "b/notes.txt",
        tmp_path / "._a.wav",
        tmp_path / ".git/x.wav",
    )
    assert find_files([tmp_path]) == sorted(wanted)
    assert find_files([str(tmp_path)], recursive=False) == [tmp_path / "a.wav", tmp_path / "z.mp3"]
    assert find_files([tmp_path, tmp_path / "b", tmp_path / "a.wav"]) == sorted(wanted)


def test_named_files_are_kept(tmp_path: Path) -> None:
    odd, missing = tmp_path / "take.raw", tmp_path / "missing.wav"
    touch(odd)
    assert find_files([odd, missing]) == [missing, odd]
    with pytest.raises(AudioFileNotFound):
        load(missing)
    assert find_files([]) == []


def test_every_readable_suffix_is_found() -> None:
    assert {".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".m4a"} <= AUDIO_SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in AUDIO_SUFFIXES)


def test_loops_of_links_end(tmp_path: Path) -> None:
    touch(tmp_path / "album/one.wav", tmp_path / "other/two.wav")
    (tmp_path / "album/up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "other/side").symlink_to(tmp_path / "album", target_is_directory=True)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    (tmp_path / "dangling.wav").symlink_to(tmp_path / "nowhere.wav")
    found = find_files([tmp_path])
    assert found == sorted(
        tmp_path / name for name in ("album/one.wav", "dangling.wav", "loop.wav", "other/two.wav")
    ), "every file once, and the broken links so that they are reported"
    assert find_files([tmp_path / "loop.wav"]) == [tmp_path / "loop.wav"]


def test_linked_folders_are_searched(tmp_path: Path) -> None:
    touch(tmp_path / "disk/a.wav")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/linked").symlink_to(tmp_path / "disk", target_is_directory=True)
    assert find_files([tmp_path / "corpus"]) == [tmp_path / "corpus/linked/a.wav"]


def test_folders_without_permission_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "closed/a.wav", tmp_path / "open/b.wav")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert find_files([tmp_path]) == [tmp_path / "closed", tmp_path / "open/b.wav"]


def test_paths_that_cannot_be_examined_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", refuse)
    assert find_files([tmp_path / "a.wav"]) == [tmp_path / "a.wav"]


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "PCM_16", 2**-15),
        ("a.wav", "FLOAT", 0),
        ("a.wav", "DOUBLE", 0),
        ("a.WAV", "PCM_24", 2**-23),
        ("a.rf64", "PCM_16", 2**-15),
        ("a.w64", "PCM_16", 2**-15),
        ("a.aif", "PCM_16", 2**-15),
        ("a.aiff", "PCM_24", 2**-23),
        ("a.au", "FLOAT", 0),
        ("a.caf", "PCM_16", 2**-15),
        ("a.flac", "PCM_24", 2**-23),
    ],
)
def test_save_then_load(tmp_path: Path, name: str, subtype: str, tolerance: float) -> None:
    samples = noise(2, 5000)
    save(tmp_path / name, samples, 24000, subtype=subtype)
    assert info(tmp_path / name).subtype == subtype
    audio = load(tmp_path / name, mono=False)
    assert audio.sample_rate == 24000
    assert (audio.samples - samples).abs().max() <= tolerance
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("name", "subtype"), [("a.ogg", "VORBIS"), ("a.opus", "OPUS"), ("a.mp3", "MPEG_LAYER_III")]
)
def test_save_lossy(tmp_path: Path, name: str, subtype: str) -> None:
    tone = 0.5 * torch.sin(2 * torch.pi * 440 * torch.arange(48000 * 3) / 48000)
    save(tmp_path / name, tone, 48000, subtype=subtype)
    audio = load(tmp_path / name)
    assert audio.samples.shape == (1, 48000 * 3)
    assert (audio.samples[0] - tone)[2000:-2000].abs().max() < 0.05


@pytest.mark.slow
def test_save_long_vorbis(tmp_path: Path) -> None:
    """The encoder of libsndfile overflows its stack when it is given minutes at once."""
    save(tmp_path / "a.ogg", noise(2, 44100 * 180), 44100, subtype="VORBIS")
    assert info(tmp_path / "a.ogg").frames == 44100 * 180


def test_shapes_and_kinds_of_samples(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    save(path, np.linspace(-0.5, 0.5, 100), 16000, subtype="FLOAT")
    assert load(path).samples.shape == (1, 100)
    save(str(path), noise(3, 100).requires_grad_(), 16000, subtype="FLOAT")
    assert torch.equal(load(path, mono=False).samples, noise(3, 100))
    save(path, noise(1, 100).half(), 16000, subtype="FLOAT")
    assert torch.equal(load(path).samples, noise(1, 100).half().float())


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "ULAW"])
def test_clipping_warns(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "a.wav"
    with pytest.warns(UserWarning, match=r"a\.wav: peak 1\.5 .* clipped"):
        save(path, torch.tensor([0.0, 1.5, -1.5, 0.5]), 16000, subtype=subtype)
    out = load(path).samples[0]
    assert 0.97 < out[1] <= 1
    assert -1 <= out[2] < -0.97


def test_no_clipping_where_there_is_room(tmp_path: Path) -> None:
    samples = torch.tensor([0.0, 1.5, -3.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
        save(tmp_path / "b.wav", torch.tensor([1.0, -1.0]), 16000)
    assert torch.equal(load(tmp_path / "a.wav").samples[0], samples)


def test_refused_samples(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with pytest.raises(EmptyAudio, match=r"a\.wav"):
        save(path, torch.zeros(0), 16000)
    with pytest.raises(NonFiniteAudio, match=r"a\.wav"):
        save(path, torch.tensor([0.0, float("nan")]), 16000)
    for samples in (torch.zeros(10, dtype=torch.int16), torch.zeros(1, 1, 10)):
        with pytest.raises(UsageError, match="floating point"):
            save(path, samples, 16000)
    assert not path.exists()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.m4a", {}, r"'\.m4a'; one of \.wav"),
        ("a", {}, "unknown suffix"),
        ("a.mp3", {}, "MPEG_LAYER_III"),
        ("a.wav", {"subtype": "PCM_12"}, "PCM_16"),
        ("a.wav", {"sample_rate": 0}, "0 Hz"),
        ("a.mp3", {"sample_rate": 12345, "subtype": "MPEG_LAYER_III"}, "12345 Hz"),
        ("a.flac", {"samples": torch.zeros(9, 10)}, "9 channels"),
    ],
)
def test_refused_formats(tmp_path: Path, name: str, options: dict, message: str) -> None:
    arguments = {"samples": torch.zeros(10), "sample_rate": 16000, **options}
    with pytest.raises(UsageError, match=message):
        save(tmp_path / name, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    save(path, torch.full((10,), 0.5), 16000)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AudioError, match="No space left"):
        save(path, torch.zeros(10), 16000)
    assert load(path).samples[0, 0] == 0.5
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.wav"]


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="nowhere"):
        save(tmp_path / "nowhere" / "a.wav", torch.zeros(10), 16000)


def test_saved_files_are_readable_by_others(tmp_path: Path) -> None:
    save(tmp_path / "a.wav", noise(2, 100), 16000)
    samples, rate = soundfile.read(tmp_path / "a.wav")
    assert (samples.shape, rate) == ((100, 2), 16000)
