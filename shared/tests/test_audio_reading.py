"""Reading whole audio files: what info, load and stream return."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from pentatonic.audio import AudioInfo, AudioLimits, info, load, resample, stream
from pentatonic.audio.formats.mpeg import parse_header
from pentatonic.errors import AudioTooShort, CorruptAudio, TruncatedAudio, UnsupportedFormat

RATE = 44100
FORMATS = [
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("FLAC", "PCM_24"),
    ("OGG", "VORBIS"),
    ("MP3", "MPEG_LAYER_III"),
]


def noise(n: int, channels: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (n, channels)).astype(np.float32)


def write(path: Path, samples: np.ndarray, audio_format: str = "WAV", subtype: str = "FLOAT") -> Path:
    with soundfile.SoundFile(path, "w", RATE, samples.shape[1], subtype, format=audio_format) as file:
        for start in range(0, len(samples), 1 << 16):
            file.write(samples[start : start + (1 << 16)])
    return path


def blocks_of(path: Path, **options) -> list[Tensor]:
    return list(stream(path, **options))


def test_info(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(22050), "WAV", "PCM_24")
    assert info(path) == AudioInfo(path, RATE, 2, 22050, 0.5, "WAV", "PCM_24")
    assert info(str(path)) == info(path)


@pytest.mark.parametrize(("audio_format", "subtype"), FORMATS)
def test_info_agrees_with_load(tmp_path: Path, audio_format: str, subtype: str) -> None:
    path = write(tmp_path / "a", noise(50_000), audio_format, subtype)
    audio = load(path, mono=False)
    assert audio.samples.shape == (2, info(path).frames) == (2, 50_000)
    assert audio.samples.dtype == torch.float32
    assert audio.sample_rate == info(path).sample_rate == RATE
    assert audio.meta["source_channels"] == 2
    assert audio.meta["source_sample_rate"] == RATE
    assert audio.meta["warnings"] == []
    assert audio.meta["peak"] == audio.samples.abs().max()


def test_samples_are_exact_and_mono_is_the_mean(tmp_path: Path) -> None:
    samples = noise(100_000, 3)
    path = write(tmp_path / "a.wav", samples)
    assert torch.equal(load(path, mono=False).samples, torch.from_numpy(samples.T))
    mono = load(path).samples
    assert mono.shape == (1, 100_000)
    expected = samples.astype(np.float64).mean(axis=1).astype(np.float32)
    assert np.array_equal(mono[0].numpy(), expected)


def test_downmix_comes_before_resampling(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(30_000))
    expected = resample(load(path).samples, RATE, 16000)
    assert torch.equal(load(path, sample_rate=16000).samples, expected)


@pytest.mark.parametrize("sample_rate", [None, 16000, 24000, 48000])
@pytest.mark.parametrize(("audio_format", "subtype"), FORMATS)
def test_stream_equals_load_bit_for_bit(
    tmp_path: Path, audio_format: str, subtype: str, sample_rate: int | None
) -> None:
    path = write(tmp_path / "a", noise(150_001), audio_format, subtype)
    whole = load(path, sample_rate=sample_rate).samples[0]
    assert len(whole) == -(-150_001 * (sample_rate or RATE) // RATE)
    for block_s in (0.01, 0.5, 1.0, 100.0):
        size = round(block_s * (sample_rate or RATE))
        blocks = blocks_of(path, sample_rate=sample_rate, block_s=block_s)
        assert torch.equal(torch.cat(blocks), whole)
        assert {len(block) for block in blocks[:-1]} <= {size}
        assert 0 < len(blocks[-1]) <= size


def test_a_part_is_streamed_as_it_is_loaded(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(100_000))
    for part in ({"offset_s": 0.7}, {"duration_s": 0.3}, {"offset_s": 1.1, "duration_s": 0.9}):
        for rate in (None, 16000):
            blocks = blocks_of(path, sample_rate=rate, block_s=0.1, **part)
            assert torch.equal(torch.cat(blocks), load(path, sample_rate=rate, **part).samples[0])


def test_whole_blocks(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(4410, 1))
    blocks = blocks_of(path, block_s=0.05)
    assert [len(block) for block in blocks] == [2205, 2205]
    assert torch.equal(torch.cat(blocks), load(path).samples[0])


def test_channels_are_resampled_apart(tmp_path: Path) -> None:
    samples = noise(100_000, 2)
    path = write(tmp_path / "a.wav", samples)
    both = load(path, sample_rate=16000, mono=False).samples
    for channel in range(2):
        alone = load(write(tmp_path / "b.wav", samples[:, channel : channel + 1]), sample_rate=16000).samples
        assert torch.equal(both[channel], alone[0])


@pytest.mark.parametrize(("audio_format", "subtype"), FORMATS)
def test_parts_are_sample_exact(tmp_path: Path, audio_format: str, subtype: str) -> None:
    n = 20 * RATE
    tolerance = 3e-7 if audio_format == "MP3" else 0  # its decoder sums in another order after a seek
    path = write(tmp_path / "a", noise(n, 1), audio_format, subtype)
    whole = load(path).samples
    for start, count in (
        (0, 100),
        (1, 70_000),
        (65_536, 65_536),
        (100_001, 5000),
        (n - 2000, 2000),
        (n - 1, 1),
    ):
        part = load(path, offset_s=start / RATE, duration_s=count / RATE).samples
        assert (part - whole[:, start : start + count]).abs().max() <= tolerance, (start, count)
    tail = load(path, offset_s=19.5, duration_s=100.0).samples
    assert (tail - whole[:, round(19.5 * RATE) :]).abs().max() <= tolerance
    with pytest.raises(AudioTooShort, match="past the end at 20 s"):
        load(path, offset_s=20.0)


def test_stream_holds_no_more_than_a_block(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(500_000, 1))
    largest = max(block.untyped_storage().nbytes() for block in blocks_of(path, block_s=0.5))
    assert largest <= 4 * (RATE // 2 + (1 << 16))


def test_stream_closes_the_file_when_it_is_left_early(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(200_000, 1))
    descriptors = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    for _ in range(20):
        blocks = stream(path, block_s=0.1)
        next(blocks)
        blocks.close()  # type: ignore[attr-defined]
    if descriptors:
        assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def vbr_mp3(channels: int) -> tuple[bytes, bytes]:
    """A quiet part behind a loud one; with its length header, and without."""
    samples = noise(10 * RATE, channels)
    samples[RATE:] *= 1e-4
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer,
        "w",
        RATE,
        channels,
        "MPEG_LAYER_III",
        format="MP3",
        compression_level=0.5,
        bitrate_mode="VARIABLE",
    ) as file:
        file.write(samples)
    data = buffer.getvalue()
    assert b"Xing" in data[:100]
    second_frame = parse_header(data).n_bytes
    return data, data[second_frame:]


@pytest.mark.parametrize("channels", [1, 2])
def test_mp3_without_a_length_header_is_read_to_its_end(tmp_path: Path, channels: int) -> None:
    data, headless = vbr_mp3(channels)
    path = tmp_path / "a.mp3"
    path.write_bytes(headless)
    assert soundfile.info(path).frames < 0.5 * 10 * RATE, "the decoder alone loses most of it"
    reference = tmp_path / "b.mp3"
    reference.write_bytes(data)
    audio, expected = load(path).samples, load(reference).samples
    # Without the header the encoder's delay and padding stay in; behind the delay the samples are the same.
    assert 0 < audio.shape[1] - expected.shape[1] < 4 * 1152
    assert audio.shape[1] == info(path).frames
    delay = next(
        d
        for d in range(3000)
        if torch.equal(audio[0, d + RATE : d + RATE + 99], expected[0, RATE : RATE + 99])
    )
    assert torch.equal(audio[0, delay + RATE : delay + 9 * RATE], expected[0, RATE : 9 * RATE])
    part = load(path, offset_s=7.0, duration_s=0.5).samples
    assert (part - audio[:, 7 * RATE : 7 * RATE + RATE // 2]).abs().max() < 3e-7


@pytest.mark.parametrize("layer", [2, 3])
def test_mpeg_without_a_length_header_may_have_tags_behind(tmp_path: Path, layer: int) -> None:
    path = tmp_path / "a.mp3"
    if layer == 2:
        write_ffmpeg(path, "mp2", "mp2", tones())
        assert info(path).subtype == "MPEG_LAYER_II"
    else:
        path.write_bytes(vbr_mp3(1)[1])
    clean = load(path).samples
    path.write_bytes(path.read_bytes() + b"TAG" + bytes(20_000))
    audio = load(path)
    assert audio.meta["warnings"] == []
    assert torch.equal(audio.samples, clean)


# FFmpeg -----------------------------------------------------------------------------------------------------------


def tones(seconds: float = 2.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return np.stack([0.3 * np.sin(2 * np.pi * f * time) for f in (440, 330)]).astype(np.float32)


def write_ffmpeg(
    path: Path,
    muxer: str,
    codec: str,
    samples: np.ndarray,
    sample_format: str = "fltp",
    layout: str = "stereo",
    **options: str,
) -> Path:
    av = pytest.importorskip("av")
    with av.open(str(path), "w", format=muxer, options=options) as container:
        encoder = container.add_stream(codec, rate=RATE)
        encoder.layout = layout
        frame = av.AudioFrame.from_ndarray(samples, format=sample_format, layout=layout)
        frame.sample_rate, frame.pts = RATE, 0
        for packet in [*encoder.encode(frame), *encoder.encode(None)]:
            container.mux(packet)
    return path


FFMPEG_FILES = {
    "m4a": ("mp4", "aac", {}),
    "faststart": ("mp4", "aac", {"movflags": "faststart"}),
    "alac": ("mp4", "alac", {}),
    "mka": ("matroska", "aac", {}),
    "aac": ("adts", "aac", {}),
    "wavpack": ("wv", "wavpack", {}),
    "alac-in-caf": ("caf", "alac", {}),
    "adpcm-in-wav": ("wav", "adpcm_swf", {}),
    "fragmented": ("mp4", "aac", {"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
}


@pytest.mark.parametrize("name", FFMPEG_FILES)
def test_ffmpeg_formats(tmp_path: Path, name: str) -> None:
    muxer, codec, options = FFMPEG_FILES[name]
    samples = tones()
    path = write_ffmpeg(tmp_path / "a.wav", muxer, codec, samples, **options)
    audio = load(path, mono=False)
    assert (audio.sample_rate, audio.samples.shape[0]) == (RATE, 2)
    assert samples.shape[1] - 2048 < audio.samples.shape[1] <= samples.shape[1] + 2048
    assert info(path).frames == audio.samples.shape[1]
    assert info(path).subtype == codec
    middle = slice(20_000, 60_000)
    delays = [0, 1024] if codec == "aac" else [0]
    errors = [
        np.abs(np.roll(audio.samples.numpy(), -d, 1)[:, middle] - samples[:, middle]).max() for d in delays
    ]
    assert min(errors) < 0.03
    blocks = blocks_of(path, sample_rate=16000, block_s=0.3)
    assert torch.equal(torch.cat(blocks), load(path, sample_rate=16000).samples[0])
    part = load(path, mono=False, offset_s=0.5, duration_s=0.25).samples
    assert torch.equal(part, audio.samples[:, 22050 : 22050 + 11025])
    with pytest.raises(AudioTooShort):
        load(path, offset_s=5.0)


def test_m4a_has_the_length_that_was_encoded(tmp_path: Path) -> None:
    path = write_ffmpeg(tmp_path / "a.m4a", "mp4", "aac", tones(1.0))
    assert load(path).samples.shape == (1, RATE)


def test_more_channels_than_ffmpeg_frames_have_planes(tmp_path: Path) -> None:
    samples = noise(9000, 16)
    path = write_ffmpeg(tmp_path / "a.wv", "wv", "wavpack", samples.reshape(1, -1), "flt", "hexadecagonal")
    audio = load(path, mono=False).samples
    assert audio.shape == (16, 9000)
    assert (audio - torch.from_numpy(samples.T)).abs().max() < 0.005  # 8 bits


@pytest.mark.parametrize("name", ["m4a", "faststart", "mka", "wavpack"])
def test_ffmpeg_cut_in_half(tmp_path: Path, name: str) -> None:
    muxer, codec, options = FFMPEG_FILES[name]
    path = write_ffmpeg(tmp_path / "a", muxer, codec, tones(), **options)
    whole = load(path).samples
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(CorruptAudio) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    if name == "m4a":  # the index was at the end
        assert isinstance(caught.value, TruncatedAudio)
        with pytest.raises(CorruptAudio):
            load(path, strict=False)
        return
    part = load(path, strict=False)
    assert part.meta["warnings"]
    n = part.samples.shape[1]
    assert 0.2 * whole.shape[1] < n < 0.7 * whole.shape[1]
    assert torch.equal(part.samples, whole[:, :n])


def test_stream_that_changes_its_channels(tmp_path: Path) -> None:
    path = write_ffmpeg(tmp_path / "a", "adts", "aac", tones())
    n = load(path).samples.shape[1]
    mono = write_ffmpeg(tmp_path / "b", "adts", "aac", tones()[:1], layout="mono")
    path.write_bytes(path.read_bytes() + mono.read_bytes())
    with pytest.raises(CorruptAudio, match="change inside the stream"):
        load(path)
    assert abs(load(path, strict=False).samples.shape[1] - n) <= 1024


def test_container_without_audio(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "video.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        encoder = container.add_stream("mpeg4", rate=10)
        encoder.width = encoder.height = 32
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        for packet in [*encoder.encode(frame), *encoder.encode(None)]:
            container.mux(packet)
    with pytest.raises(UnsupportedFormat, match="no audio stream"):
        load(path)


def test_without_the_ffmpeg_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    path = tmp_path / "a.m4a"
    path.write_bytes(b"\x00\x00\x00\x1cftypM4A " + bytes(1000))
    with pytest.raises(UnsupportedFormat, match=r"pip install 'pentatonic\[ffmpeg\]'"):
        load(path)
    caf = tmp_path / "a.caf"
    caf.write_bytes(b"caff\x00\x01\x00\x00desc" + bytes(100))
    with pytest.raises(CorruptAudio, match="CAF header"):
        load(caf)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    folder = tmp_path / "M\udcfcller"
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("the file system wants UTF-8")
    write(tmp_path / "a.wav", noise(100, 1)).rename(folder / "a.wav")
    write_ffmpeg(tmp_path / "a.wv", "wv", "wavpack", tones(0.1)).rename(folder / "http:a.wv")
    assert load(folder / "a.wav").samples.shape == (1, 100)
    assert load(folder / "http:a.wv").samples.shape == (1, 4410)


@pytest.mark.slow
def test_import_is_light() -> None:
    code = "import sys, pentatonic.audio; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "soundfile" in loaded
    assert not {"torchaudio", "av", "librosa", "scipy"} & set(loaded)


def test_default_limits_hold_six_hours_of_mono_at_48_khz() -> None:
    limits = AudioLimits()
    assert 4 * limits.max_duration_s * 48000 <= limits.max_bytes
