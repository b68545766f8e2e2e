"""In every format a part of a file is what the whole file has there, and info() states what load() returns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from pentatonic.audio import info, load, stream
from pentatonic.errors import AudioTooShort

N = 20_011
# Formats without a mark at their start, by which they could be told from other files.
UNMARKED = {"RAW", "SD2", "HTK", "MAT4", "MAT5", "MPC2K", "SDS"}
NOT_WRITTEN = {
    ("AIFF", "DWVW_12"),
    ("MP3", "MPEG_LAYER_I"),
    ("MP3", "MPEG_LAYER_II"),
    ("WAV", "MPEG_LAYER_III"),
}
ENCODINGS = [
    (audio_format, subtype)
    for audio_format in soundfile.available_formats()
    for subtype in soundfile.available_subtypes(audio_format)
    if audio_format not in UNMARKED and (audio_format, subtype) not in NOT_WRITTEN
]
MONO_ONLY = {"GSM610", "G721_32", "G723_24", "G723_40", "NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32"}
MONO_ONLY |= {"DWVW_16", "DWVW_24", "DPCM_8", "DPCM_16"}


def noise(n: int, channels: int) -> np.ndarray:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (n, channels)).astype(np.float32)
    samples[n // 3 : n // 2] *= 1e-3  # so that the bit rate varies
    return samples


def write(path: Path, audio_format: str, subtype: str, n: int = N, rate: int = 44100, **options) -> Path:
    channels = 1 if subtype in MONO_ONLY or audio_format in ("SVX", "WVE") else 2
    rate = 48000 if subtype == "OPUS" else 8000 if audio_format == "WVE" else rate
    options |= {"subtype": subtype, "format": audio_format}
    with soundfile.SoundFile(path, "w", rate, channels, **options) as file:
        file.write(noise(n, channels))
    return path


def assert_law(path: Path) -> None:
    whole = load(path, mono=False)
    rate, n = whole.sample_rate, whole.samples.shape[1]
    assert n > 0
    assert info(path).frames == n
    assert info(path).sample_rate == rate
    for start, count in ((1, 1), (777, 4097), (n // 2 + 1, 999), (n - 4999, 2500), (n - 5, 100)):
        part = load(path, mono=False, offset_s=start / rate, duration_s=count / rate).samples
        assert torch.equal(part, whole.samples[:, start : start + count]), (start, count)
    rest = load(path, mono=False, offset_s=(n // 3) / rate).samples
    assert torch.equal(rest, whole.samples[:, n // 3 :])
    with pytest.raises(AudioTooShort):
        load(path, offset_s=n / rate)
    mono = load(path).samples[0]
    assert torch.equal(torch.cat(list(stream(path, block_s=0.1))), mono)
    middle = list(stream(path, block_s=0.1, offset_s=777 / rate, duration_s=9001 / rate))
    assert torch.equal(torch.cat(middle), mono[777 : 777 + 9001])


@pytest.mark.parametrize(("audio_format", "subtype"), ENCODINGS)
def test_formats_of_libsndfile(tmp_path: Path, audio_format: str, subtype: str) -> None:
    path = write(tmp_path / "a", audio_format, subtype)
    assert_law(path)
    assert N <= info(path).frames < N + 1024  # some encodings fill the last block
    assert info(path).subtype == subtype


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("rate", [8000, 16000, 22050, 32000, 44100])
@pytest.mark.parametrize("level", [0.1, 0.99])
def test_mp3_of_all_versions(tmp_path: Path, rate: int, mode: str, level: float) -> None:
    options = {"bitrate_mode": mode, "compression_level": level}
    path = write(tmp_path / "a", "MP3", "MPEG_LAYER_III", 200_011, rate, **options)
    assert_law(path)
    # Where the first frame has no room for a length header, the delay and the padding of the encoder are not dropped.
    assert 200_011 <= info(path).frames < 200_011 + 3 * 1152


# muxer, encoder, format of its samples, sample rate
FFMPEG = {
    "aac": ("adts", "aac", "fltp", 44100),
    "aac-in-mp4": ("mp4", "aac", "fltp", 44100),
    "aac-in-mov": ("mov", "aac", "fltp", 44100),
    "aac-in-ts": ("mpegts", "aac", "fltp", 44100),
    "ac3": ("ac3", "ac3", "fltp", 48000),
    "ac3-in-44100": ("ac3", "ac3", "fltp", 44100),
    "ac3-in-avi": ("avi", "ac3", "fltp", 48000),
    "adpcm-in-wav": ("wav", "adpcm_swf", "s16", 44100),
    "alac-in-caf": ("caf", "alac", "s16p", 44100),
    "alac-in-mp4": ("mp4", "alac", "s16p", 44100),
    "amr": ("amr", "libopencore_amrnb", "s16", 8000),
    "amr-in-3gp": ("3gp", "libopencore_amrnb", "s16", 8000),
    "eac3": ("eac3", "eac3", "fltp", 48000),
    "flac-in-matroska": ("matroska", "flac", "s16", 44100),
    "flac-in-ogg": ("ogg", "flac", "s16", 44100),
    "g722-in-wav": ("wav", "g722", "s16", 16000),
    "ircam": ("ircam", "pcm_s16le", "s16", 44100),
    "mp2": ("mp2", "mp2", "s16", 44100),
    "mp2-in-16000": ("mp2", "mp2", "s16", 16000),
    "mp2-in-mpeg": ("vob", "mp2", "s16", 44100),
    "mp3-in-flv": ("flv", "libmp3lame", "fltp", 44100),
    "mp3-in-matroska": ("matroska", "libmp3lame", "fltp", 44100),
    "mp3-in-wav": ("wav", "libmp3lame", "fltp", 44100),
    "opus-in-webm": ("webm", "libopus", "s16", 48000),
    "pcm-in-avi": ("avi", "pcm_s16le", "s16", 44100),
    "pcm-in-mov": ("mov", "pcm_s16be", "s16", 44100),
    "realmedia": ("rm", "ac3", "fltp", 44100),
    "tta": ("tta", "tta", "s16", 44100),
    "voc": ("voc", "pcm_s16le", "s16", 44100),
    "wavpack": ("wv", "wavpack", "s16p", 44100),
    "wma": ("asf", "wmav2", "fltp", 44100),
}


def write_ffmpeg(path: Path, name: str) -> Path:
    av = pytest.importorskip("av")
    muxer, codec, sample_format, rate = FFMPEG[name]
    layout = "mono" if "amr" in name or "g722" in name else "stereo"
    samples = noise(N, 1 if layout == "mono" else 2).T
    if sample_format.startswith("s16"):
        samples = (samples * 32767).astype(np.int16)
    if not sample_format.endswith("p"):
        samples = samples.T.reshape(1, -1)
    with av.open(str(path), "w", format=muxer) as container:
        encoder = container.add_stream(codec, rate=rate)
        encoder.layout = layout
        encoder.bit_rate = 12_200 if "amr" in name else 128_000
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format=sample_format, layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        for packet in [*encoder.encode(frame), *encoder.encode(None)]:
            container.mux(packet)
    return path


@pytest.mark.parametrize("name", FFMPEG)
def test_formats_of_ffmpeg(tmp_path: Path, name: str) -> None:
    path = write_ffmpeg(tmp_path / "a", name)
    assert_law(path)
    assert N - 2048 < info(path).frames < N + 3 * 2048  # encoders add and players drop a few blocks
    assert load(path).meta["warnings"] == []
