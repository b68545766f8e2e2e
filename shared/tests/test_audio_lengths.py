"""Lengths in headers: which ones are promises, and that all samples are read where they are not."""

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

from pentatonic.audio import Audio, info, load, stream
from pentatonic.audio.ffmpeg import FFmpegSource
from pentatonic.errors import CorruptAudio, EmptyAudio, TruncatedAudio

RATE = 44100
N = 30_000
UNKNOWN = [0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFF00, 0xFFFFFFFF]


def noise(n: int = N, channels: int = 2) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (n, channels)).astype(np.float32)


def encode(audio_format: str, subtype: str = "PCM_16", channels: int = 2) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(channels=channels), RATE, format=audio_format, subtype=subtype)
    return buffer.getvalue()


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    def write(data: bytes, name: str = "a") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def read_all(path: Path) -> Audio:
    """load(), after it was compared with info() and stream()."""
    audio = load(path, mono=False)
    assert info(path).frames == audio.samples.shape[1]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        blocks: list[Tensor] = list(stream(path, block_s=0.1))
    assert torch.equal(torch.cat(blocks), load(path).samples[0])
    assert [str(each.message) for each in caught] == [f"{path}: {text}" for text in audio.meta["warnings"]]
    start = audio.samples.shape[1] // 2 + 1
    rest = load(path, mono=False, offset_s=start / audio.sample_rate).samples
    assert torch.equal(rest, audio.samples[:, start:])
    return audio


def length_field(audio_format: str, data: bytes) -> tuple[int, str]:
    """Position and coding of the length of the samples."""
    if audio_format == "RF64":
        return data.index(b"ds64") + 16, "<Q"
    if audio_format == "W64":
        return data.index(bytes.fromhex("64617461f3acd3118cd100c04f8edb8a")) + 16, "<Q"
    if audio_format == "AU":
        return 8, ">I"
    if audio_format == "AIFF":
        return data.index(b"SSND") + 4, ">I"
    if audio_format == "SVX":
        return data.index(b"BODY") + 4, ">I"
    return data.index(b"data") + 4, ">q" if audio_format == "CAF" else "<I"


CHUNKED = ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF"]


@pytest.mark.parametrize("audio_format", CHUNKED)
@pytest.mark.parametrize("size", UNKNOWN)
def test_length_as_programs_write_it_to_a_pipe(put, audio_format: str, size: int) -> None:
    data = encode(audio_format)
    whole = load(put(data, "whole"), mono=False).samples
    at, coding = length_field(audio_format, data)
    audio = read_all(put(patched(data, at, struct.pack(coding, size))))
    assert torch.equal(audio.samples, whole)
    if audio_format == "AU" and size == 0xFFFFFFFF:
        assert audio.meta["warnings"] == []  # the format's own way to say that the length is not known
    else:
        stated = size - 24 if audio_format == "W64" else size
        assert f"the header states {stated} bytes of samples" in audio.meta["warnings"][0]


@pytest.mark.parametrize("audio_format", CHUNKED)
def test_length_0_with_samples_behind(put, audio_format: str) -> None:
    data = encode(audio_format)
    whole = load(put(data, "whole"), mono=False).samples
    at, coding = length_field(audio_format, data)
    for empty in {"W64": (0, 24), "AIFF": (0, 8)}.get(audio_format, (0,)):
        audio = read_all(put(patched(data, at, struct.pack(coding, empty))))
        assert torch.equal(audio.samples[:, :N], whole)
        assert audio.samples.shape[1] == N


def test_length_0_with_other_chunks_behind_is_empty(put) -> None:
    data = encode("WAV")
    start = data.index(b"data") + 8
    empty = patched(data[:start], start - 4, bytes(4)) + b"LIST\x0c\0\0\0INFOIART\0\0\0\0"
    with pytest.raises(EmptyAudio):
        load(put(empty))
    assert info(put(empty)).frames == 0


def test_all_ones_in_a_w64(put) -> None:
    data = encode("W64")
    at, _ = length_field("W64", data)
    piped = patched(patched(data, at, b"\xff" * 8), 16, b"\xff" * 8)
    assert torch.equal(read_all(put(piped)).samples, load(put(data, "whole"), mono=False).samples)


def test_caf_up_to_the_end_of_the_file(put) -> None:
    data = encode("CAF")
    at, _ = length_field("CAF", data)
    audio = read_all(put(patched(data, at, b"\xff" * 8)))
    assert audio.samples.shape == (2, N)
    assert audio.meta["warnings"] == []


@pytest.mark.parametrize("audio_format", [*CHUNKED, "SVX"])
def test_a_promise_is_kept_to_the_block(put, audio_format: str) -> None:
    channels = 1 if audio_format == "SVX" else 2
    data = encode(audio_format, channels=channels)
    end = len(data)
    one_short = read_all(put(data[: end - 1]))
    assert one_short.samples.shape == (channels, N - 1)
    assert "the header states" in one_short.meta["warnings"][0]
    with pytest.raises(TruncatedAudio, match="the header promises"):
        load(put(data[: end - 2 * channels]))
    assert load(put(data[: end - 2 * channels]), strict=False, mono=False).samples.shape == (channels, N - 1)


@pytest.mark.parametrize(
    ("audio_format", "subtype"),
    [("WAV", "GSM610"), ("WAV", "IMA_ADPCM"), ("WAV", "MS_ADPCM"), ("CAF", "ALAC_16")],
)
def test_last_block_of_an_encoding_in_blocks(put, audio_format: str, subtype: str) -> None:
    data = encode(audio_format, subtype, channels=1)
    n = load(put(data, "whole")).samples.shape[1]
    if subtype != "ALAC_16":  # its table of packets is at the end
        audio = read_all(put(data[:-1]))
        assert n - 4096 < audio.samples.shape[1] <= n
        assert audio.meta["warnings"]
    with pytest.raises(CorruptAudio):
        load(put(data[:-5000]))


def test_count_of_samples_of_a_compressed_wav_is_no_promise(put) -> None:
    data = encode("WAV", "GSM610", channels=1)
    whole = read_all(put(data, "whole")).samples
    at = data.index(b"fact") + 8
    for count in (0, 100, 10_000_000):
        assert torch.equal(read_all(put(patched(data, at, struct.pack("<I", count)))).samples, whole)


# Ogg --------------------------------------------------------------------------------------------------------------


def ogg(subtype: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(10 * 48000, 1), 48000, format="OGG", subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_without_an_end_page(put, subtype: str) -> None:
    data = ogg(subtype)
    whole = load(put(data, "whole")).samples
    audio = read_all(put(data[: data.rindex(b"OggS")]))
    n = audio.samples.shape[1]
    assert 8 * 48000 < n < 10 * 48000
    assert torch.equal(audio.samples[:, : n - 1000], whole[:, : n - 1000])
    assert "without the page that ends the stream" in audio.meta["warnings"][0]


# Through FFmpeg ---------------------------------------------------------------------------------------------------


class Pipe:
    """A file that can only be written."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> int:
        """Append."""
        self.data += bytes(data)
        return len(data)


def mux(
    target: io.BytesIO | Pipe, muxer: str, codec: str, sample_format: str = "s16", **options: str
) -> None:
    av = pytest.importorskip("av")
    samples = noise().T
    if sample_format == "s16":
        samples = (samples.T.reshape(1, -1) * 32767).astype(np.int16)
    with av.open(target, "w", format=muxer, options=options) as container:
        encoder = container.add_stream(codec, rate=RATE)
        encoder.layout = "stereo"
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples), format=sample_format, layout="stereo"
        )
        frame.sample_rate, frame.pts = RATE, 0
        for packet in [*encoder.encode(frame), *encoder.encode(None)]:
            container.mux(packet)


@pytest.mark.parametrize(
    ("muxer", "codec", "options"),
    [
        ("wav", "pcm_s16le", {}),
        ("wav", "pcm_s16le", {"rf64": "always"}),
        ("w64", "pcm_s16le", {}),
        ("aiff", "pcm_s16be", {}),
        ("au", "pcm_s16be", {}),
        ("caf", "pcm_s16le", {}),
        ("flac", "flac", {}),
        ("ogg", "flac", {}),
        ("matroska", "flac", {}),
        ("wv", "wavpack", {}),
    ],
)
def test_written_to_a_pipe(put, muxer: str, codec: str, options: dict[str, str]) -> None:
    sample_format = "fltp" if codec == "wavpack" else "s16"
    pipe, file = Pipe(), io.BytesIO()
    mux(pipe, muxer, codec, sample_format, **options)
    mux(file, muxer, codec, sample_format, **options)
    audio = read_all(put(pipe.data))
    assert audio.samples.shape == (2, N)
    assert torch.equal(audio.samples, load(put(file.getvalue(), "file"), mono=False).samples)


@pytest.mark.parametrize("codec", ["libmp3lame", "aac"])
def test_duration_of_matroska_is_no_promise(put, codec: str) -> None:
    file = io.BytesIO()
    mux(file, "matroska", codec, "fltp")
    data = file.getvalue()
    at = data.index(b"\x44\x89\x88") + 3  # Duration, a float of eight bytes, in ms
    (duration,) = struct.unpack_from(">d", data, at)
    assert duration == pytest.approx(1000 * N / RATE, abs=60)
    whole = read_all(put(data, "whole")).samples
    assert torch.equal(read_all(put(patched(data, at, struct.pack(">d", 10 * duration)))).samples, whole)
    with pytest.raises(TruncatedAudio, match="the header promises"):
        load(put(data[: len(data) // 2]))


def without_edit_list(data: bytes) -> bytes:
    assert data.count(b"edts") == 1
    return data.replace(b"edts", b"free")


def test_mp4_without_an_edit_list(put) -> None:
    file = io.BytesIO()
    mux(file, "mp4", "aac", "fltp")
    whole = read_all(put(file.getvalue(), "whole")).samples
    n_whole = whole.shape[1]
    assert N - RATE // 1000 <= n_whole <= N, "the edit list counts in ms"
    data = without_edit_list(file.getvalue())
    audio = read_all(put(data))
    n = audio.samples.shape[1]
    assert N <= n <= N + 2 * 1024, "the priming of the encoder stays in"
    assert torch.equal(audio.samples[:, 1024 : 1024 + n_whole], whole)
    # The index states more than there is: a longer last packet, and a longer track.
    table = data.index(b"stts") + 8
    for at in (table + 8 * struct.unpack_from(">I", data, table)[0], data.index(b"mdhd") + 20):
        data = patched(data, at, struct.pack(">I", struct.unpack_from(">I", data, at)[0] + 5000))
    assert torch.equal(read_all(put(data)).samples[:, :n], audio.samples)


def test_mp4_with_an_edit_list_states_its_length(put, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    mux(file, "mp4", "aac", "fltp")
    path = put(file.getvalue())
    n = load(path).samples.shape[1]
    monkeypatch.setattr(FFmpegSource, "blocks", None)  # nothing is decoded
    assert info(path).frames == n


def test_mp4_cut_inside_its_samples(put, tmp_path: Path) -> None:
    mux(str(tmp_path / "whole"), "mp4", "aac", "fltp", movflags="faststart")
    with pytest.raises(TruncatedAudio, match="the header promises"):
        load(put((tmp_path / "whole").read_bytes()[:-100]))


def test_avi_cut_in_half(put) -> None:
    file = io.BytesIO()
    mux(file, "avi", "pcm_s16le")
    data = file.getvalue()
    assert read_all(put(data)).samples.shape == (2, N)
    with pytest.raises(TruncatedAudio, match="the header promises"):
        load(put(data[: len(data) // 2]))
    assert read_all(put(patched(data, 4, bytes(4)))).samples.shape == (2, N)
