"""FLAC of every number of bits, and streams that differ from their header."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from pentatonic.audio import info, load, stream
from pentatonic.audio.formats.flac import WatchedStream, read_stream_header
from pentatonic.errors import CorruptAudio, UnsupportedFormat

BLOCK = 1024
RATES = {44100: 9, 48000: 10, 8000: 4, 22050: 6}
BITS = {8: 1, 12: 2, 16: 4, 20: 5, 24: 6, 32: 7}


def crc_table(bits: int, polynomial: int) -> list[int]:
    table = []
    for value in range(256):
        rest = value << bits - 8
        for _ in range(8):
            rest = (rest << 1 ^ polynomial if rest >> bits - 1 else rest << 1) & (1 << bits) - 1
        table.append(rest)
    return table


CRC_TABLES = {8: crc_table(8, 0x07), 16: crc_table(16, 0x8005)}


def crc(data: bytes, bits: int) -> bytes:
    value = 0
    for byte in data:
        value = (value << 8 ^ CRC_TABLES[bits][value >> bits - 8 ^ byte]) & (1 << bits) - 1
    return value.to_bytes(bits // 8, "big")


def coded(number: int) -> bytes:
    return chr(number).encode("utf-8", "surrogatepass")


def frame(samples: np.ndarray, number: int, rate: int, bits: int, *, varies: bool = False) -> bytes:
    """One frame (n, C) of samples that are stored as they are."""
    n, channels = samples.shape
    rate_code, rate_bytes = (RATES[rate], b"") if rate in RATES else (13, rate.to_bytes(2, "big"))
    head = bytes(
        [0xFF, 0xF9 if varies else 0xF8, 7 << 4 | rate_code, channels - 1 << 4 | BITS.get(bits, 0) << 1]
    )
    head += coded(number) + (n - 1).to_bytes(2, "big") + rate_bytes
    head += crc(head, 8)
    body = "".join(
        "00000010"
        + "".join(format(int(value) & (1 << bits) - 1, f"0{bits}b") for value in samples[:, channel])
        for channel in range(channels)
    )
    body += "0" * (-len(body) % 8)
    data = head + int(body, 2).to_bytes(len(body) // 8, "big")
    return data + crc(data, 16)


def flac(
    parts: Sequence[tuple[np.ndarray, int]], bits: int = 16, *, total: int | None = None, varies: bool = False
) -> bytes:
    """A stream of parts (samples, rate); the header has the rate and the channels of the first."""
    frames, number, n = [], 0, 0
    for samples, rate in parts:
        for start in range(0, len(samples), BLOCK):
            block = samples[start : start + BLOCK]
            frames.append(frame(block, n if varies else number, rate, bits, varies=varies))
            number, n = number + 1, n + len(block)
    first, rate = parts[0]
    fields = rate << 44 | first.shape[1] - 1 << 41 | bits - 1 << 36 | (n if total is None else total)
    info_block = BLOCK.to_bytes(2, "big") * 2 + bytes(6) + fields.to_bytes(8, "big") + bytes(16)
    return b"fLaC\x80\x00\x00\x22" + info_block + b"".join(frames)


def noise(n: int, bits: int = 16, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-(1 << bits - 2), 1 << bits - 2, (n, channels))


@pytest.fixture
def put(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(data: bytes) -> Path:
        path = tmp_path / "a.flac"
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize("bits", [8, 12, 15, 16, 20, 24, 32])
def test_every_number_of_bits(put, bits: int) -> None:
    if bits not in (8, 16, 24):
        pytest.importorskip("av")
    samples = noise(3 * BLOCK + 77, bits, 2)
    path = put(flac([(samples, 44100)], bits))
    audio = load(path, mono=False)
    expected = torch.from_numpy(samples.T / float(1 << bits - 1)).float()
    assert (audio.samples - expected).abs().max() <= 2**-24
    assert info(path).frames == len(samples)
    part = load(path, mono=False, offset_s=1025 / 44100, duration_s=1500 / 44100).samples
    assert torch.equal(part, audio.samples[:, 1025:2525])


def test_bits_that_only_ffmpeg_reads_name_the_extra(put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    path = put(flac([(noise(100, 12), 44100)], 12))
    with pytest.raises(UnsupportedFormat, match=r"FLAC of 12 bits.*pip install 'pentatonic\[ffmpeg\]'"):
        load(path)


def test_damage_to_flac_that_only_ffmpeg_reads(put) -> None:
    pytest.importorskip("av")
    data = flac([(noise(20 * BLOCK, 12), 44100)], 12)
    path = put(data[: len(data) // 2])
    with pytest.raises(CorruptAudio):
        load(path)
    assert load(path, strict=False).samples.shape[1] in range(8 * BLOCK, 11 * BLOCK)


@pytest.mark.parametrize("varies", [False, True])
@pytest.mark.parametrize("stated", [1, 3000, 20_000])
def test_header_that_states_too_few_samples(put, stated: int, varies: bool) -> None:
    samples = noise(40 * BLOCK + 7)
    whole = load(put(flac([(samples, 44100)], varies=varies))).samples
    path = put(flac([(samples, 44100)], total=stated, varies=varies))
    audio = load(path)
    assert torch.equal(audio.samples, whole)
    assert info(path).frames == len(samples)
    assert torch.equal(torch.cat(list(stream(path))), whole[0])
    part = load(path, offset_s=30_001 / 44100, duration_s=1001 / 44100).samples
    assert torch.equal(part, whole[:, 30_001:31_002])


def test_header_that_states_too_many_samples_is_a_promise(put) -> None:
    path = put(flac([(noise(4 * BLOCK), 44100)], total=5 * BLOCK))
    with pytest.raises(CorruptAudio):
        load(path)
    assert load(path, strict=False).samples.shape == (1, 4 * BLOCK)


@pytest.mark.parametrize("varies", [False, True])
@pytest.mark.parametrize(
    ("rate", "channels"),
    [(48000, 1), (22050, 1), (12345, 1), (44100, 2)],
    ids=["48", "22", "coded", "channels"],
)
def test_format_that_changes_inside_the_stream(put, rate: int, channels: int, varies: bool) -> None:
    first, second = noise(70 * BLOCK), noise(8 * BLOCK, channels=channels, seed=1)
    path = put(flac([(first, 44100), (second, rate), (noise(8 * BLOCK, seed=2), 44100)], varies=varies))
    with pytest.raises(
        CorruptAudio, match=r"change.* after 71680 samples|after 71680 samples.* change"
    ) as caught:
        load(path)
    assert caught.value.samples_decoded == len(first)
    with pytest.raises(CorruptAudio, match="change"):
        list(stream(path))
    whole = load(path, strict=False)
    assert np.array_equal(whole.samples[0].numpy() * 32768, first[:, 0])
    assert "change" in whole.meta["warnings"][0]
    good = load(path, offset_s=1 / 44100, duration_s=60 * BLOCK / 44100)
    assert np.array_equal(good.samples[0].numpy() * 32768, first[1 : 60 * BLOCK + 1, 0])


@pytest.mark.parametrize("n_bytes", [1, 7, 64, 1031, 4099])
def test_changes_are_found_wherever_reads_end(put, n_bytes: int) -> None:
    path = put(flac([(noise(7 * BLOCK), 44100), (noise(5 * BLOCK, seed=1), 48000)]))
    with path.open("rb") as file, path.open("rb", buffering=0) as raw:
        stream_header = read_stream_header(file, 0)
        assert stream_header is not None
        watched = WatchedStream(raw, 0, path.stat().st_size, stream_header, {})
        while watched.read(n_bytes):
            pass
    assert watched.change is not None
    assert watched.change.start(stream_header) == 7 * BLOCK


@pytest.mark.parametrize("change_at", [1, 7, 63, 64, 65])
def test_changes_are_found_near_the_ends_of_blocks(put, change_at: int) -> None:
    parts = [(noise(change_at * BLOCK), 44100), (noise(40 * BLOCK, seed=1), 48000)]
    with pytest.raises(CorruptAudio, match=f"after {change_at * BLOCK} samples"):
        load(put(flac(parts)))


def test_samples_that_look_like_frame_headers_are_no_change(put) -> None:
    """The header of a frame at 48 kHz, again and again among the samples."""
    samples = noise(20 * BLOCK)
    fake = np.frombuffer(frame(noise(BLOCK), 3, 48000, 16)[:10], ">i2")
    for at in range(100, len(samples) - 100, 997):
        samples[at : at + 5, 0] = fake
    audio = load(put(flac([(samples, 44100)])))
    assert np.array_equal(audio.samples[0].numpy() * 32768, samples[:, 0])
    assert audio.meta["warnings"] == []
