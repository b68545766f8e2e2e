"""Formats that are detected, and by which decoder they are read; what is not audio stays refused."""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pentatonic.audio import AUDIO_SUFFIXES, AudioLimits, find_files, info, load, stream
from pentatonic.audio.formats.identify import identify
from pentatonic.errors import AudioError, AudioLimitExceeded, CorruptAudio, EmptyAudio, UnsupportedFormat

# First bytes of files that FFmpeg alone reads.
MARKS = {
    "AC3": (b"\x0b\x77\x00\x00\x00\x40" + bytes(122)) * 4,
    "AMR": b"#!AMR\n",
    "APE": b"MAC ",
    "ASF": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    "AVI": b"RIFF\0\0\0\0AVI LIST",
    "DSDIFF": b"FRM8" + bytes(8) + b"DSD ",
    "DSF": b"DSD \x1c" + bytes(7),
    "DTS": b"\x7f\xfe\x80\x01",
    "EAC3": (b"\x0b\x77\x00\x3f\x00\x80" + bytes(122)) * 4,
    "FLV": b"FLV\x01",
    "MATROSKA": b"\x1a\x45\xdf\xa3",
    "MP4": b"\0\0\0\x08wide",
    "MPC": b"MP+",
    "MPC8": b"MPCK",
    "MPEG-PS": b"\0\0\x01\xba",
    "MPEG-TS": (b"\x47\0\0\x10" + bytes(184)) * 4,
    "REALMEDIA": b".RMF\0\0\0",
    "SHORTEN": b"ajkg",
    "TAK": b"tBaK",
    "TTA": b"TTA1",
    "WAVPACK": b"wvpk",
}


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    def write(data: bytes, name: str = "a") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize("name", MARKS)
def test_without_the_extra_the_error_names_it(put, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    path = put(MARKS[name] + bytes(1000))
    message = rf"{name} files need FFmpeg: pip install 'pentatonic\[ffmpeg\]'"
    with pytest.raises(UnsupportedFormat, match=message):
        load(path)
    with pytest.raises(UnsupportedFormat, match=message):
        info(path)


def test_without_the_extra_an_unreadable_header_may_be_an_encoding(
    put, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    ogg_flac = b"OggS\0\2" + bytes(20) + b"\x01\x33\x7fFLAC\1\0\0\1fLaC" + bytes(38)
    for data in (ogg_flac, b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x99\x99\1\0\x40\x1f\0\0" + bytes(100)):
        with pytest.raises(
            CorruptAudio, match=r"its encoding needs FFmpeg: pip install 'pentatonic\[ffmpeg\]'"
        ):
            load(put(data), strict=False)


@pytest.mark.parametrize("name", sorted(MARKS.keys() - {"AC3", "EAC3"}))
@pytest.mark.parametrize(
    "rest", [b"", bytes(3000), np.random.default_rng(0).bytes(3000)], ids=["end", "0", "random"]
)
def test_a_mark_alone_is_no_audio(put, name: str, rest: bytes) -> None:
    pytest.importorskip("av")
    path = put(MARKS[name] + rest)
    with pytest.raises((UnsupportedFormat, CorruptAudio, EmptyAudio)):
        load(path)


@pytest.mark.parametrize(
    "data",
    [
        b"\x47\0\0\x10" + bytes(184),
        (b"\x47\0\0\x10" + bytes(184)) * 3 + b"\x48" + bytes(400),
        (b"\x47" + bytes(187)) * 9,
        b"\x0b\x77\x00\x00\x00\x40" + bytes(122) + b"\x0b\x78" + bytes(400),
        b"\x0b\x77\x00\x00\xc0\x40" + bytes(400),
        b"FORM\0\0\1\0ILBM" + bytes(300),
        b"DSD is short for direct stream digital\n" * 99,
        b"GGGG" * 1000,
        b"ftypical text\n" * 99,
    ],
)
def test_weak_marks_have_to_repeat(put, data: bytes) -> None:
    path = put(data)
    assert identify(path)[0] is None, "no decoder sees it"
    with pytest.raises(UnsupportedFormat):
        load(path)


def dsf(n_blocks: int) -> bytes:
    """A tone as one-bit samples at 2.8 MHz, least significant bit first, two channels in blocks of 4,096 bytes."""
    n_bytes = 4096 * n_blocks
    time = np.arange(8 * n_bytes) / 2_822_400
    target, bits, error = 0.4 * np.sin(2 * np.pi * 1000 * time), np.empty(8 * n_bytes, np.uint8), 0.0
    for at, value in enumerate(target.tolist()):  # delta-sigma modulation of the first order
        error += value
        bits[at] = error >= 0
        error -= 1 if bits[at] else -1
    channel = np.packbits(bits, bitorder="little").tobytes()
    data = b"".join(channel[at : at + 4096] * 2 for at in range(0, n_bytes, 4096))
    form = struct.pack("<4sQIIIIIIQII", b"fmt ", 52, 1, 0, 2, 2, 2_822_400, 1, 8 * n_bytes, 4096, 0)
    size = 28 + 52 + 12 + len(data)
    return (
        struct.pack("<4sQQQ", b"DSD ", 28, size, 0)
        + form
        + struct.pack("<4sQ", b"data", 12 + len(data))
        + data
    )


def test_dsf(put) -> None:
    pytest.importorskip("av")
    path = put(dsf(3))
    audio = load(path, mono=False)
    assert audio.sample_rate == 352_800
    assert audio.samples.shape == (2, 3 * 4096)
    assert info(path).frames == 3 * 4096
    tone = np.sin(2 * np.pi * 1000 * np.arange(3 * 4096) / 352_800)
    smooth = np.convolve(audio.samples[0].numpy(), np.ones(64) / 64, "same")
    assert np.corrcoef(smooth, tone)[0, 1] > 0.98
    part = load(path, mono=False, offset_s=777 / 352_800, duration_s=5000 / 352_800).samples
    assert torch.equal(part, audio.samples[:, 777:5777])


def tta(n: int, channels: int = 2) -> bytes:
    av = pytest.importorskip("av")
    buffer = io.BytesIO()
    samples = (np.random.default_rng(0).uniform(-0.5, 0.5, (1, n * channels)) * 32767).astype(np.int16)
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
    with av.open(buffer, "w", format="tta") as container:
        encoder = container.add_stream("tta", rate=8000)
        encoder.layout = layout
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        frame.sample_rate, frame.pts = 8000, 0
        for packet in [*encoder.encode(frame), *encoder.encode(None)]:
            container.mux(packet)
    return buffer.getvalue()


def test_limits_hold_for_ffmpeg_too(put) -> None:
    path = put(tta(20 * 8000, 6))
    for limits, reason in (
        (AudioLimits(max_duration_s=19.9), "longer than"),
        (AudioLimits(max_channels=5), "6 channels"),
        (AudioLimits(max_sample_rate=7999), "8000 Hz"),
        (AudioLimits(max_bytes=path.stat().st_size - 1), "bytes"),
    ):
        for read in (load, info, lambda *args, **options: list(stream(*args, **options))):
            with pytest.raises(AudioLimitExceeded, match=reason):
                read(path, limits=limits)
    with pytest.raises(AudioLimitExceeded, match="memory"):
        load(put(tta(20 * 8000, 1)), limits=AudioLimits(max_bytes=600_000))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=5))
def test_mutated_files_of_ffmpeg_give_typed_errors_or_audio(put, edits: list) -> None:
    data = bytearray(tta(3000))
    for at, value in edits:
        data[at] = value
    path = put(bytes(data))
    for strict in (True, False):
        try:
            audio = load(path, strict=strict, nonfinite="zero")
        except AudioError as error:
            assert str(error).startswith(f"{path}: ")
        else:
            assert torch.isfinite(audio.samples).all()


def test_folders_are_searched_for_all_that_is_read(tmp_path: Path) -> None:
    names = (
        "mp1 mp2 mp3 voc nist sph ircam tta ac3 amr avi ts dsf flac ogg oga spx wv mov mkv webm mp4 3gp wma"
    )
    wanted = sorted(tmp_path / f"a.{suffix}" for suffix in names.split())
    for path in [*wanted, tmp_path / "notes.txt", tmp_path / "cover.png", tmp_path / "list.m3u"]:
        path.touch()
    assert find_files([tmp_path]) == wanted
    assert not {".txt", ".m3u", ".m3u8", ".pls", ".cue", ".mid", ".jpg", ".png", ".json"} & AUDIO_SUFFIXES
