"""MPEG audio of all layers and versions: every sample, whatever the length header states."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from pentatonic.audio import info, load, stream
from pentatonic.audio.formats.mpeg import Frame, parse_header
from pentatonic.errors import CorruptAudio, TruncatedAudio, UnsupportedFormat

N = 100_000


def mp3(
    rate: int = 44100, channels: int = 2, n: int = N, mode: str = "VARIABLE", level: float = 0.5
) -> bytes:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (n, channels)).astype(np.float32)
    samples[n // 4 : n // 2] *= 1e-3
    buffer = io.BytesIO()
    options = {"bitrate_mode": mode, "compression_level": level}
    with soundfile.SoundFile(buffer, "w", rate, channels, "MPEG_LAYER_III", format="MP3", **options) as file:
        file.write(samples)
    return buffer.getvalue()


def frames(data: bytes) -> list[tuple[int, Frame]]:
    """(position, header) of every frame."""
    found, at = [], 0
    while (frame := parse_header(data[at : at + 4])) is not None:
        found.append((at, frame))
        at += frame.n_bytes
    return found


def headless(data: bytes) -> bytes:
    return data[parse_header(data).n_bytes :]  # type: ignore[union-attr]


def with_count(data: bytes, change: int) -> bytes:
    """The number of frames in the length header, changed."""
    at = max(data.find(b"Xing", 0, 200), data.find(b"Info", 0, 200)) + 8
    (count,) = struct.unpack_from(">I", data, at)
    return data[:at] + struct.pack(">I", count + change) + data[at + 4 :]


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    def write(data: bytes, name: str = "a.mp3") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def read_all(path: Path) -> Tensor:
    """load(), after it was compared with info(), stream() and a part."""
    samples = load(path, mono=False).samples
    n = samples.shape[1]
    assert info(path).frames == n
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.equal(torch.cat(list(stream(path, block_s=0.3))), load(path).samples[0])
    rate = info(path).sample_rate
    for start in (1, n // 2 + 1, n - 1001):
        part = load(path, mono=False, offset_s=start / rate, duration_s=1000 / rate).samples
        assert torch.equal(part, samples[:, start : start + 1000])
    return samples


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [44100, 22050, 11025])
def test_without_a_length_header_no_sample_is_missing(put, rate: int, channels: int, mode: str) -> None:
    data = mp3(rate, channels, mode=mode)
    music = headless(data)
    samples = read_all(put(music))
    first = parse_header(music)
    assert first is not None
    assert samples.shape == (channels, len(frames(music)) * first.n_samples)
    # The delay of encoder and decoder, which the length header states, is what a player drops.
    expected = load(put(data, "b.mp3"), mono=False).samples
    delay = 529 + 576
    assert expected.shape == (channels, N)
    assert torch.equal(samples[:, delay : delay + N], expected)


def test_a_stream_cut_out_of_another_keeps_its_first_frames(put) -> None:
    music = headless(mp3(22050, 1))
    start = frames(music)[20][0]
    samples, whole = read_all(put(music[start:])), load(put(music, "b.mp3"), mono=False).samples
    assert samples.shape[1] == whole.shape[1] - 20 * 576


@pytest.mark.parametrize("change", [-60, -2, -1])
def test_length_header_that_states_too_few_frames(put, change: int) -> None:
    data = mp3()
    expected = load(put(data, "b.mp3"), mono=False).samples
    samples = read_all(put(with_count(data, change)))
    assert torch.equal(samples[:, :N], expected)
    assert samples.shape == (2, N)


def test_length_header_that_counts_itself(put) -> None:
    data = mp3()
    path = put(with_count(data, 1))
    samples = read_all(path)
    assert torch.equal(samples[:, :N], load(put(data, "b.mp3"), mono=False).samples)
    assert N <= samples.shape[1] < N + 1152
    n = len(frames(data)) - 1
    assert load(path).meta["warnings"] == [f"the header states {n + 1} frames, {n} are there"]


def test_length_header_that_states_too_many_frames_is_a_promise(put) -> None:
    for change in (2, 50):
        with pytest.raises(CorruptAudio, match="the header promises"):
            load(put(with_count(mp3(), change)))


@pytest.mark.parametrize("header", [True, False])
def test_last_frame_incomplete(put, header: bool) -> None:
    data = mp3() if header else headless(mp3())
    whole = read_all(put(data, "b.mp3"))
    path = put(data[:-1])
    samples = read_all(path)
    n = samples.shape[1]
    assert whole.shape[1] - 1152 <= n < whole.shape[1]
    assert torch.equal(samples, whole[:, :n])
    assert load(path).meta["warnings"]
    if header:
        at = frames(data)[-3][0]
        with pytest.raises(TruncatedAudio):
            load(put(data[:at]))


def test_sample_rate_that_changes_inside_the_stream(put) -> None:
    first = headless(mp3())
    path = put(first + headless(mp3(48000)))
    with pytest.raises(CorruptAudio, match="the format changes inside the stream"):
        load(path)
    whole = load(path, strict=False, mono=False)
    assert torch.equal(whole.samples, load(put(first, "b.mp3"), mono=False).samples)
    assert "changes" in whole.meta["warnings"][0]


def test_two_files_in_one_are_both_read(put) -> None:
    data = mp3(n=50_000)
    samples = read_all(put(data + data))
    assert samples.shape[1] > 2 * 50_000
    assert torch.equal(samples[:, :50_000], load(put(data, "b.mp3"), mono=False).samples)


@pytest.mark.parametrize(("rate", "channels", "level"), [(44100, 2, 0.99), (44100, 1, 0.5), (48000, 2, 0.2)])
def test_parts_that_start_with_a_frame(put, rate: int, channels: int, level: float) -> None:
    """Frames need the ones before them: what they left in the reservoir of bits, and in the filters."""
    path = put(headless(mp3(rate, channels, n=400_000, mode="CONSTANT", level=level)))
    samples = load(path, mono=False).samples
    for frame in (1, 16, 33, 48, 64, 80, 160, 161, 256, 320):
        start = frame * 1152
        part = load(path, mono=False, offset_s=start / rate, duration_s=3000 / rate).samples
        assert torch.equal(part, samples[:, start : start + 3000])


def wav(music: bytes, tag: int, rate: int, fact: int) -> bytes:
    body = b"WAVEfmt " + struct.pack("<IHHIIHHHHIHHH", 30, tag, 2, rate, 16000, 1, 0, 12, 1, 2, 417, 1, 1393)
    body += b"fact" + struct.pack("<II", 4, fact) + b"data" + struct.pack("<I", len(music)) + music
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("rate", [44100, 22050])
@pytest.mark.parametrize("fact", [0, 500, 10_000_000])
def test_mp3_in_wav(put, rate: int, fact: int) -> None:
    music = headless(mp3(rate))
    expected = load(put(music, "b.mp3"), mono=False).samples
    path = put(wav(music, 0x55, rate, fact), "a.wav")
    assert torch.equal(read_all(path), expected)
    assert load(path).meta["warnings"] == []
    assert (info(path).format, info(path).subtype) == ("WAV", "MPEG_LAYER_III")
    with pytest.raises(TruncatedAudio, match="the header promises"):
        load(put(wav(music, 0x55, rate, fact)[:-3000], "cut.wav"))


def layer_1(n_frames: int, channels: int, seed: int = 0) -> bytes:
    """Layer I frames of 448 kbit/s at 32 kHz with random samples (ISO/IEC 11172-3, 2.4.1.5)."""
    random = np.random.default_rng(seed)
    head = bytes([0xFF, 0xFF, 14 << 4 | 2 << 2, 0xC0 if channels == 1 else 0])
    size = 4 * (12 * 448_000 // 32_000)
    data = b""
    for _ in range(n_frames):
        fields = [(3, 4)] * 4 * channels + [
            (0, 4)
        ] * 28 * channels  # four bits a sample in four bands, none above
        fields += [(10, 6)] * 4 * channels
        fields += [(int(value), 4) for value in random.integers(0, 15, 12 * 4 * channels)]
        bits = "".join(format(value, f"0{width}b") for value, width in fields)
        bits += "0" * (-len(bits) % 8)
        data += (head + int(bits, 2).to_bytes(len(bits) // 8, "big")).ljust(size, b"\0")
    return data


@pytest.mark.parametrize("channels", [1, 2])
def test_layer_1(put, channels: int) -> None:
    samples = read_all(put(layer_1(40, channels), "a.mp1"))
    assert samples.shape == (channels, 40 * 384)
    assert samples.abs().max() > 0.01
    assert info(put(layer_1(40, channels))).subtype == "MPEG_LAYER_I"


@pytest.mark.parametrize("text", ["Aria: da capo\n" * 1000, "ÿÿ", "A", "Aria"])
def test_texts_in_utf_16_are_not_layer_1(put, text: str) -> None:
    with pytest.raises(UnsupportedFormat):
        load(put(text.encode("utf-16")))
