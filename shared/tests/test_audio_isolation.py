"""Decoding in a process of its own: the same blocks and errors, and a crash that costs one file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import soundfile
import torch

from pentatonic import audio
from pentatonic.audio import AudioLimits, DecodingProcess
from pentatonic.errors import (
    AudioFileNotFound,
    AudioLimitExceeded,
    CorruptAudio,
    EmptyAudio,
    NonFiniteAudio,
    TruncatedAudio,
    UnsupportedFormat,
    UsageError,
)


@pytest.fixture(scope="module")
def decoder():
    with DecodingProcess() as process:
        yield process


def noise(path, seconds: float, rate: int = 8000):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (int(seconds * rate), 2))
    soundfile.write(path, samples, rate)
    return path


def test_blocks_equal_those_of_this_process(decoder, tmp_path):
    path = noise(tmp_path / "ä b\n.wav", 70.0)
    for rate in (None, 16000):
        own, theirs = (list(source.stream(path, sample_rate=rate)) for source in (audio, decoder))
        assert [len(block) for block in own] == [len(block) for block in theirs]
        assert all(torch.equal(one, other) for one, other in zip(own, theirs, strict=True))


def test_errors_are_the_same(decoder, tmp_path):
    (tmp_path / "text.mp3").write_text("no audio")
    noise(tmp_path / "cut.wav", 2.0)
    data = (tmp_path / "cut.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(data[: len(data) // 2])
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 8000)
    for name, kind in (
        ("gone.wav", AudioFileNotFound),
        ("text.mp3", UnsupportedFormat),
        ("cut.wav", TruncatedAudio),
        ("empty.wav", EmptyAudio),
    ):
        messages = []
        for source in (audio, decoder):
            with pytest.raises(kind) as caught:
                list(source.stream(tmp_path / name))
            messages.append((str(caught.value), getattr(caught.value, "samples_decoded", None)))
        assert messages[0] == messages[1]
    with pytest.raises(UsageError):
        list(decoder.stream(noise(tmp_path / "a.wav", 1.0), sample_rate=-1))


def test_warnings_come_through(decoder, tmp_path):
    path = noise(tmp_path / "cut.wav", 2.0)
    path.write_bytes(path.read_bytes()[:9000])
    texts = []
    for source in (audio, decoder):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            list(source.stream(path, strict=False))
        texts.append([str(warning.message) for warning in caught])
    assert texts[0] == texts[1] != []


def test_parts_and_limits(decoder, tmp_path):
    path = noise(tmp_path / "a.wav", 3.0)
    options = {"offset_s": 0.5, "duration_s": 1.25, "sample_rate": 16000}
    own, theirs = (list(source.stream(path, **options)) for source in (audio, decoder))
    assert [len(block) for block in theirs] == [20000]
    assert all(torch.equal(one, other) for one, other in zip(own, theirs, strict=True))
    for limits in (AudioLimits(max_duration_s=2.9), AudioLimits(max_channels=1)):
        with pytest.raises(AudioLimitExceeded):
            list(decoder.stream(path, limits=limits))
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan), 8000, subtype="FLOAT")
    with pytest.raises(NonFiniteAudio):
        list(decoder.stream(tmp_path / "nan.wav"))
    with pytest.warns(UserWarning, match="NaN"):
        assert not any(block.any() for block in decoder.stream(tmp_path / "nan.wav", nonfinite="zero"))


def test_notes_of_decoders_do_not_pass_for_the_end_of_a_crash(decoder, tmp_path, capfd):
    path = tmp_path / "damaged.mp3"
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 100 * 8000)
    soundfile.write(path, samples, 8000, format="MP3")
    data = path.read_bytes()
    path.write_bytes(data[:5000] + bytes(500) + data[5500:])
    first = next(iter(audio.stream(path)))
    assert len(first) == 30 * 8000
    assert "Illegal Audio-MPEG-Header" in capfd.readouterr().err, "the decoder has something to say"
    blocks = decoder.stream(path)
    next(blocks)
    os.kill(decoder.pid, signal.SIGSEGV)
    with pytest.raises(CorruptAudio) as caught:
        list(blocks)
    assert str(caught.value) == f"{path}: the decoder crashed (SIGSEGV)"
    assert capfd.readouterr().err == ""


def test_a_decoder_that_needs_too_much_memory_is_stopped(tmp_path):
    path = noise(tmp_path / "a.wav", 1.0)
    with DecodingProcess(memory_bytes=1 << 20) as decoder, pytest.raises(CorruptAudio, match="the decoder"):
        list(decoder.stream(path))


def test_a_crash_costs_one_file(decoder, tmp_path):
    long, short = noise(tmp_path / "long.wav", 200.0), noise(tmp_path / "short.wav", 1.0)
    blocks = decoder.stream(long)
    first = next(blocks)
    os.kill(decoder.pid, signal.SIGSEGV)
    with pytest.raises(CorruptAudio, match=r"long\.wav: the decoder crashed \(SIGSEGV\)"):
        list(blocks)
    assert len(first) == 30 * 8000
    assert sum(map(len, decoder.stream(short))) == 8000


def test_a_file_that_is_left_early_does_not_answer_for_the_next(decoder, tmp_path):
    long, short = noise(tmp_path / "long.wav", 200.0), noise(tmp_path / "short.wav", 1.0)
    blocks = decoder.stream(long)
    next(blocks)
    blocks.close()
    assert sum(map(len, decoder.stream(short))) == 8000


def test_a_decoder_that_hangs_is_stopped(tmp_path):
    path = noise(tmp_path / "long.wav", 60.0)
    with DecodingProcess(block_limit_s=0.01) as decoder, pytest.raises(CorruptAudio, match="stopped after"):
        list(decoder.stream(path))  # starting the process alone takes longer


def test_the_process_ends_with_its_owner(tmp_path):
    with DecodingProcess() as decoder:
        list(decoder.stream(noise(tmp_path / "a.wav", 1.0)))
        pid = decoder.pid
    assert decoder.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_options_reach_the_decoder(decoder, tmp_path):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 24000).astype(np.float32)
    samples[9000] = np.nan
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, 8000, subtype="FLOAT")
    part = {"offset_s": 1.0, "duration_s": 0.5}
    with pytest.raises(NonFiniteAudio, match=r"1\.125 s"):
        list(decoder.stream(path, **part))
    with pytest.warns(UserWarning, match="1 NaN"):
        (block,) = decoder.stream(path, nonfinite="zero", **part)
    expected = samples[8000:12000].copy()
    expected[1000] = 0
    np.testing.assert_array_equal(block.numpy(), expected)
    with pytest.raises(AudioLimitExceeded, match=r"longer than 2\.5 s"):
        list(decoder.stream(path, limits=AudioLimits(max_duration_s=2.5)))


def test_the_decoder_needs_no_torch():
    """Importing it would take each decoding process seconds and half a gigabyte."""
    code = "import sys, pentatonic.audio.decoder; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
