"""Broken, odd and hostile files: each gives its own typed error, which names the file."""

from __future__ import annotations

import io
import os
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pentatonic.audio import AudioLimits, info, load, stream
from pentatonic.errors import (
    AudioError,
    AudioFileNotFound,
    AudioLimitExceeded,
    AudioTooShort,
    CorruptAudio,
    EmptyAudio,
    NonFiniteAudio,
    TruncatedAudio,
    UnsupportedFormat,
    UsageError,
)

RATE = 44100
ENCODINGS = {
    "wav": ("WAV", "PCM_16"),
    "wavex": ("WAVEX", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def signal(n: int = RATE) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(n)
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(n) / RATE) + 0.05 * noise).astype(np.float32)


def encode(name: str, samples: np.ndarray | None = None, sample_rate: int | None = None) -> bytes:
    audio_format, subtype = ENCODINGS[name]
    buffer = io.BytesIO()
    data = signal() if samples is None else samples
    rate = sample_rate or (48000 if name == "opus" else RATE)
    soundfile.write(buffer, data, rate, format=audio_format, subtype=subtype)
    return buffer.getvalue()


def float_wav(samples: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def damaged(data: bytes) -> bytes:
    return patched(data, len(data) // 2, np.random.default_rng(1).bytes(500))


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    def write(data: bytes, name: str = "track.bin") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def assert_raises(kind: type[AudioError], path: Path, **options) -> AudioError:
    """load() and stream() raise exactly this kind, and the message names the file and only it."""
    with pytest.raises(kind) as from_load:
        load(path, **options)
    with pytest.raises(kind) as from_stream:
        list(stream(path, **options))
    for error in (from_load.value, from_stream.value):
        assert type(error) is kind
        assert str(error).startswith(f"{path}: ")
        assert "libsndfile" not in str(error).lower()
        assert "\n" not in str(error)
    return from_load.value


def test_missing_dangling_looping_and_directory(tmp_path: Path) -> None:
    (tmp_path / "dangling.wav").symlink_to(tmp_path / "nowhere.wav")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    for name in ("missing.wav", "dangling.wav", "loop.wav", "pipe.wav", "."):
        assert_raises(AudioFileNotFound, tmp_path / name)
        with pytest.raises(AudioFileNotFound):
            info(tmp_path / name)


def test_unreadable_file(put, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(encode("wav"))

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    error = assert_raises(AudioError, path)
    assert "Permission denied" in str(error)


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.vox", "a.au", "a"])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        np.random.default_rng(0).bytes(200_000),
        b"la la la\n" * 5000,
        "not music".encode("utf-16"),
        b"RIFF\x00\x01\x00\x00AVI LIST" + bytes(300),
        b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.mp3\n",
    ],
    ids=["empty", "random", "text", "utf16", "avi", "playlist"],
)
def test_not_audio(put, data: bytes, name: str) -> None:
    path = put(data, name)
    assert_raises(UnsupportedFormat, path)
    with pytest.raises(UnsupportedFormat):
        info(path)


@pytest.mark.parametrize("name", sorted(ENCODINGS))
def test_header_cut(put, name: str) -> None:
    path = put(encode(name)[:20])
    with pytest.raises(CorruptAudio):
        load(path)
    with pytest.raises(CorruptAudio):
        load(path, strict=False)


def test_header_cut_of_a_wav_is_corrupt_not_truncated(put) -> None:
    assert_raises(CorruptAudio, put(encode("wav")[:20]))


@pytest.mark.parametrize("name", ["wav", "aiff", "au", "ogg"])
def test_no_frames(put, name: str) -> None:
    path = put(encode(name, signal(0)))
    assert_raises(EmptyAudio, path)
    audio = load(path, strict=False, sample_rate=16000)
    assert audio.samples.shape == (1, 0)
    assert audio.meta["warnings"] == ["no samples"]
    assert info(path).frames == 0


def test_sample_rate_zero(put) -> None:
    assert_raises(CorruptAudio, put(patched(encode("wav"), 24, bytes(4))))


@pytest.mark.parametrize("name", ["wav", "wavex", "rf64", "w64", "aiff", "au"])
def test_pcm_cut_in_half(put, name: str) -> None:
    whole = encode(name)
    path = put(whole[: len(whole) // 2])
    error = assert_raises(TruncatedAudio, path)
    assert "promises" in str(error)
    audio = load(path, strict=False)
    expected = load(put(whole, "whole")).samples
    n = audio.samples.shape[1]
    assert 21_900 < n < 22_050
    assert torch.equal(audio.samples, expected[:, :n])
    assert "promises" in audio.meta["warnings"][0]
    with pytest.warns(UserWarning, match="promises"):
        blocks = list(stream(path, strict=False, block_s=0.1))
    assert torch.equal(torch.cat(blocks), audio.samples[0])


@pytest.mark.parametrize("name", ["caf", "opus", "ogg"])
def test_containers_that_need_their_end(put, name: str) -> None:
    whole = encode(name)
    assert_raises(TruncatedAudio, put(whole[: len(whole) // 2]))


def test_ogg_cut_between_pages(put) -> None:
    whole = encode("ogg", signal(20 * RATE))
    last_page = whole.rfind(b"OggS")
    stopped = load(put(whole[:last_page]))
    assert 0.8 * 20 * RATE < stopped.samples.shape[1] < 20 * RATE
    assert "without the page that ends the stream" in stopped.meta["warnings"][0]
    assert_raises(TruncatedAudio, put(whole[: last_page + 20]))
    assert_raises(CorruptAudio, put(whole[:last_page] + bytes(100_000)))
    tagged = put(whole + b"TAG" + bytes(125), "tagged")
    assert load(tagged).samples.shape == (1, 20 * RATE)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0xFFFFFF00, 0x80000000, 0x7FFFFFFF, 0x7FFFF000])
def test_header_claims_gigabytes(put, size: int) -> None:
    data = patched(encode("wav")[:1044], 40, struct.pack("<I", size))
    audio = load(put(data))
    assert audio.samples.shape == (1, 500)
    assert audio.meta["warnings"] == [f"the header states {size} bytes of samples, 1000 are there"]
    assert_raises(TruncatedAudio, put(patched(data, 40, struct.pack("<I", 0x7FFFEFFF))))


def test_au_of_unknown_size_is_whole(put) -> None:
    data = patched(encode("au"), 8, b"\xff" * 4)
    assert load(put(data)).samples.shape == (1, RATE)


def test_mp4_boxes(put) -> None:
    """Sizes of boxes are 32 bits, 64 bits, or 0 for the rest of the file."""
    head = b"\x00\x00\x00\x10ftypM4A \x00\x00\x00\x00"
    long = b"\x00\x00\x00\x01mdat" + struct.pack(">Q", 16 + 1000)
    assert "promises 1000 bytes" in str(assert_raises(TruncatedAudio, put(head + long + bytes(999))))
    for whole in (head + long + bytes(1000), head + b"\x00\x00\x00\x00mdat" + bytes(1000), head[:13]):
        with pytest.raises((CorruptAudio, UnsupportedFormat)) as caught:
            load(put(whole))
        assert not isinstance(caught.value, TruncatedAudio)


def test_mp3_cut_in_half(put) -> None:
    whole = encode("mp3", signal(10 * RATE))
    path = put(whole[: len(whole) // 2])
    error = assert_raises(TruncatedAudio, path)
    assert isinstance(error, TruncatedAudio)
    assert 0.4 * 10 * RATE < error.samples_decoded < 0.6 * 10 * RATE
    audio = load(path, strict=False)
    assert audio.samples.shape == (1, error.samples_decoded)
    assert "promises 441000 samples" in audio.meta["warnings"][0]
    assert load(path, duration_s=2.0).samples.shape == (1, 2 * RATE), "the good part alone is not a fault"


def test_mp3_with_garbage_inside(put) -> None:
    path = put(damaged(encode("mp3")))
    error = assert_raises(CorruptAudio, path)
    assert isinstance(error, CorruptAudio)
    audio = load(path, strict=False)
    assert 0 < audio.samples.shape[1] == error.samples_decoded < RATE - 1152
    assert audio.meta["warnings"]


@pytest.mark.parametrize("junk", [np.random.default_rng(2).bytes(3000), bytes(3000)], ids=["random", "zeros"])
@pytest.mark.parametrize("name", ["a.mp3", "a.wav", "a"])
def test_mp3_behind_junk(put, junk: bytes, name: str) -> None:
    mp3 = encode("mp3")
    clean = load(put(mp3, "clean")).samples
    assert clean.shape == (1, RATE)
    assert torch.equal(load(put(junk + mp3, name)).samples, clean)


@pytest.mark.parametrize("name", ["mp3", "flac"])
def test_id3_tags_in_front(put, name: str) -> None:
    data = encode(name)
    tag = b"ID3\x04\x00\x00\x00\x00\x08\x00" + bytes(1024)
    footer_tag = b"ID3\x04\x00\x10\x00\x00\x00\x10" + bytes(16) + b"3DI\x04\x00\x10\x00\x00\x00\x10"
    clean = load(put(data, "clean")).samples
    assert torch.equal(load(put(tag + footer_tag + data)).samples, clean)


@pytest.mark.parametrize("change", [damaged, lambda data: data[: len(data) // 2]], ids=["garbage", "cut"])
def test_flac_damage(put, change: Callable[[bytes], bytes]) -> None:
    data = encode("flac")
    path = put(change(data))
    error = assert_raises(CorruptAudio, path)
    assert isinstance(error, CorruptAudio)
    assert 16_000 < error.samples_decoded < 25_000
    audio = load(path, strict=False)
    clean = load(put(data, "clean")).samples
    assert torch.equal(audio.samples, clean[:, : error.samples_decoded])
    assert "decoding failed" in audio.meta["warnings"][0]
    assert load(path, duration_s=0.3).samples.shape == (1, 13230)
    for strict, kind in ((True, CorruptAudio), (False, AudioTooShort)):
        with pytest.raises(kind, match=r"cannot seek|nothing could be decoded"):
            load(path, offset_s=0.55, strict=strict)


def test_flac_damage_in_the_first_frame(put) -> None:
    data = encode("flac")
    path = put(patched(data, 8400, bytes(len(data) - 8400)))
    error = assert_raises(CorruptAudio, path)
    assert isinstance(error, CorruptAudio)
    assert load(path, strict=False).samples.shape[1] == error.samples_decoded


@pytest.mark.parametrize("name", ["ogg", "opus"])
def test_ogg_garbage(put, name: str) -> None:
    whole = encode(name, signal(20 * RATE))
    path = put(damaged(whole))
    assert_raises(CorruptAudio, path)
    audio = load(path, strict=False)
    assert 0.9 * 20 * RATE < audio.samples.shape[1] <= 20 * RATE
    assert "checksum" in audio.meta["warnings"][0]
    lost_page = whole.find(b"OggS", len(whole) // 2)
    assert_raises(CorruptAudio, put(whole[: lost_page + 1] + whole[lost_page + 2 :]))


@pytest.mark.parametrize("name", sorted(ENCODINGS))
def test_suffix_is_ignored(put, name: str) -> None:
    data = encode(name)
    reference = load(put(data, f"a.{name}")).samples
    for suffix in ("wav", "mp3", "ogg", "txt", "vox"):
        assert torch.equal(load(put(data, f"b.{suffix}")).samples, reference)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_samples(put, bad: float) -> None:
    samples = signal()
    samples[1000] = samples[40_000] = bad
    path = put(float_wav(samples))
    error = assert_raises(NonFiniteAudio, path)
    assert "0.023 s" in str(error)
    assert_raises(NonFiniteAudio, path, strict=False)
    audio = load(path, nonfinite="zero")
    samples[1000] = samples[40_000] = 0
    assert torch.equal(audio.samples[0], torch.from_numpy(samples))
    assert audio.meta["warnings"] == ["2 NaN or infinite samples were set to 0"]
    assert audio.meta["peak"] == np.abs(samples).max()


def test_opposite_infinities_do_not_cancel(put) -> None:
    samples = np.stack([signal(100), signal(100)], axis=1)
    samples[7] = np.inf, -np.inf
    assert_raises(NonFiniteAudio, put(float_wav(samples)))


def test_float_samples_beyond_full_scale_pass_and_are_flagged(put) -> None:
    samples = signal()
    samples[5] = -5.0
    audio = load(put(float_wav(samples)))
    assert torch.equal(audio.samples[0], torch.from_numpy(samples))
    assert audio.meta["peak"] == 5.0
    assert "peak 5" in audio.meta["warnings"][0]


@pytest.mark.parametrize(
    ("subtype", "tolerance"), [("PCM_U8", 8e-3), ("PCM_24", 2e-7), ("DOUBLE", 1e-7), ("ULAW", 3e-2)]
)
def test_sample_formats(put, subtype: str, tolerance: float) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, signal(), RATE, format="WAV", subtype=subtype)
    audio = load(put(buffer.getvalue()))
    assert audio.samples.dtype == torch.float32
    assert (audio.samples[0] - torch.from_numpy(signal())).abs().max() <= tolerance


def test_double_beyond_float32_is_not_finite(put) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.array([0.1, 1e300]), RATE, format="WAV", subtype="DOUBLE")
    assert_raises(NonFiniteAudio, put(buffer.getvalue()))


def test_eight_channels_and_the_limit(put) -> None:
    samples = np.random.default_rng(3).uniform(-1, 1, (1000, 8)).astype(np.float32)
    path = put(float_wav(samples))
    expected = samples.astype(np.float64).mean(axis=1)
    assert np.abs(load(path).samples[0].numpy() - expected).max() < 1e-7
    assert torch.equal(load(path, mono=False).samples, torch.from_numpy(samples.T))
    assert "8 channels" in str(assert_raises(AudioLimitExceeded, path, limits=AudioLimits(max_channels=7)))
    assert_raises(AudioLimitExceeded, put(float_wav(np.zeros((10, 65)))))
    load(put(float_wav(np.zeros((10, 64)))))


@pytest.mark.parametrize(
    ("rate", "allowed"), [(1, False), (999, False), (1000, True), (768000, True), (768001, False)]
)
def test_sample_rate_limits(put, rate: int, allowed: bool) -> None:
    path = put(encode("wav", sample_rate=rate))
    if allowed:
        assert load(path).sample_rate == rate
        return
    assert f"{rate} Hz" in str(assert_raises(AudioLimitExceeded, path))
    with pytest.raises(AudioLimitExceeded):
        info(path)


def test_duration_and_size_limits(put) -> None:
    path = put(encode("flac", np.zeros(20 * 8000, np.float32), 8000))  # silence: a thousandfold expansion
    assert path.stat().st_size < 10_000
    assert_raises(AudioLimitExceeded, path, limits=AudioLimits(max_duration_s=19.9))
    assert_raises(AudioLimitExceeded, path, limits=AudioLimits(max_bytes=path.stat().st_size - 1))
    with pytest.raises(AudioLimitExceeded, match="memory"):
        load(path, limits=AudioLimits(max_bytes=4 * 20 * 8000 - 1))
    load(path, limits=AudioLimits(max_bytes=4 * 20 * 8000))
    load(path, duration_s=1, limits=AudioLimits(max_bytes=4 * 8000))
    assert sum(map(len, stream(path, limits=AudioLimits(max_bytes=10_000)))) == 20 * 8000


def unknown_length_flac(samples: np.ndarray, rate: int) -> bytes:
    """As an encoder writes it into a pipe: STREAMINFO without a number of samples."""
    data = bytearray(encode("flac", samples, rate))
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    return bytes(data)


def test_flac_of_unknown_length(put) -> None:
    path = put(unknown_length_flac(signal(), RATE))
    known = load(put(encode("flac"), "known")).samples
    assert torch.equal(load(path).samples, known)
    assert info(path).frames == RATE
    assert torch.equal(load(path, offset_s=0.5, duration_s=0.1).samples, known[:, 22050:26460])
    with pytest.raises(AudioTooShort):
        load(path, offset_s=1.5)
    limits = AudioLimits(max_duration_s=0.9)
    assert_raises(AudioLimitExceeded, path, limits=limits)
    with pytest.raises(AudioLimitExceeded):
        info(path, limits=limits)
    with pytest.raises(AudioLimitExceeded, match="memory"):
        load(path, limits=AudioLimits(max_bytes=4 * RATE - 1))


@pytest.mark.parametrize(
    "options",
    [
        {"sample_rate": 0},
        {"sample_rate": 16000.0},
        {"offset_s": -1.0},
        {"offset_s": float("nan")},
        {"duration_s": 0.0},
        {"duration_s": float("inf")},
        {"nonfinite": "ignore"},
    ],
)
def test_arguments_out_of_range(put, options: dict) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        load(put(encode("wav")), **options)


@pytest.mark.parametrize("block_s", [0.0, -1.0, float("nan"), float("inf")])
def test_block_length_out_of_range(put, block_s: float) -> None:
    with pytest.raises(UsageError, match="block_s"):
        stream(put(encode("wav")), block_s=block_s)


SMALL = {name: encode(name, signal(3000)) for name in ENCODINGS}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(ENCODINGS)),
    edits=st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), min_size=1, max_size=4),
    keep=st.floats(0, 1),
)
def test_mutated_headers_give_typed_errors_or_audio(
    tmp_path: Path, name: str, edits: list, keep: float
) -> None:
    data = bytearray(SMALL[name])
    for at, value in edits:
        data[at % len(data)] = value
    path = tmp_path / "mutated"
    path.write_bytes(bytes(data[: max(1, round(keep * len(data)))]) if keep < 0.5 else bytes(data))
    for strict in (True, False):
        try:
            audio = load(path, strict=strict, nonfinite="zero", sample_rate=None)
        except AudioError as error:
            assert str(error).startswith(f"{path}: ")
        else:
            assert torch.isfinite(audio.samples).all()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                blocks = list(stream(path, strict=strict, nonfinite="zero"))
            assert torch.equal(torch.cat([*blocks, torch.zeros(0)]), audio.samples[0])
