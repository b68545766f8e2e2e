"""Tags written into files: the sound stays, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from omar_rq.annotations.tag_writing import TagWriter
from pentatonic import audio
from pentatonic.errors import InputError, UnsupportedFormat

av = pytest.importorskip("av")
KINDS = {"a.flac": "FLAC", "a.ogg": "OGG", "a.mp3": "MP3"}


@pytest.fixture(scope="module")
def writer() -> Iterator[TagWriter]:
    with TagWriter(audio.stream) as made:
        yield made


def sound(path: Path) -> np.ndarray:
    return audio.load(path, mono=False).samples.numpy()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def tags(path: Path) -> dict[str, str]:
    with av.open(str(path)) as file:
        found = {**file.metadata, **file.streams.audio[0].metadata}
    return {name.lower(): text for name, text in found.items()}


def make(path: Path, title: str = "") -> Path:
    samples = np.random.default_rng(0).uniform(-0.2, 0.2, (22050, 2)).astype(np.float32)
    if path.suffix == ".m4a":
        with av.open(str(path), "w", format="ipod") as file:
            stream = file.add_stream("aac", rate=44100)
            stream.layout = "stereo"
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(samples.T), format="fltp", layout="stereo"
            )
            frame.sample_rate = 44100
            file.metadata["title"] = title
            for packet in (*stream.encode(frame), *stream.encode(None)):
                file.mux(packet)
        return path
    with soundfile.SoundFile(path, "w", 44100, 2, format=KINDS.get(path.name)) as file:
        if title:
            file.title = title
        file.write(samples)
    return path


@pytest.mark.parametrize("name", [*KINDS, "a.m4a"])
def test_the_sound_stays_and_a_backup_is_kept(name: str, writer: TagWriter, tmp_path: Path) -> None:
    path = make(tmp_path / name, title="Old <&> title")
    path.chmod(0o640)
    before, content = sound(path), path.read_bytes()
    done = writer.write(path, "genre", "rock; pop")
    assert (done.before, done.after, done.backup) == (None, "rock; pop", path.with_name(f"{name}.bak"))
    assert tags(path)["genre"] == "rock; pop" and tags(path)["title"] == "Old <&> title"
    assert np.array_equal(sound(path), before) and path.with_name(f"{name}.bak").read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o640
    again = writer.write(path, "genre", "jazz")
    assert again.before == "rock; pop" and again.backup == path.with_name(f"{name}.bak1")
    assert tags(path)["genre"] == "jazz" and np.array_equal(sound(path), before)
    assert writer.write(path, "genre", "jazz").backup is None, "what is there already is not written again"
    assert names(tmp_path) == [name, f"{name}.bak", f"{name}.bak1"]


def test_a_dry_run_writes_nothing(writer: TagWriter, tmp_path: Path) -> None:
    path = make(tmp_path / "a.flac")
    content = path.read_bytes()
    done = writer.write(path, "mood", "dark", dry_run=True)
    assert (done.before, done.after, done.backup) == (None, "dark", None)
    assert path.read_bytes() == content and names(tmp_path) == ["a.flac"]


def test_a_link_is_kept(writer: TagWriter, tmp_path: Path) -> None:
    path = make(tmp_path / "a.flac")
    link = tmp_path / "link.flac"
    link.symlink_to(path)
    writer.write(link, "mood", "dark")
    assert link.is_symlink() and tags(path)["mood"] == "dark"


def test_a_tag_without_a_place_is_refused(writer: TagWriter, tmp_path: Path) -> None:
    path = make(tmp_path / "a.m4a")
    content = path.read_bytes()
    with pytest.raises(InputError, match="no place for the tag 'mood'"):
        writer.write(path, "mood", "dark")
    assert path.read_bytes() == content and names(tmp_path) == ["a.m4a"]


@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.txt", "gone.mp3"])
def test_other_files_are_refused_by_name(name: str, writer: TagWriter, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "a.txt":
        path.write_text("text")
    elif name.startswith("a."):
        soundfile.write(path, np.zeros(100), 8000)
    with pytest.raises(InputError, match=name) as refused:
        writer.write(path, "genre", "rock")
    if name != "gone.mp3":
        assert isinstance(refused.value, UnsupportedFormat) and "allowed: FLAC, OGG, MP3, MP4" in str(
            refused.value
        )


def test_a_broken_file_stays_as_it_is(writer: TagWriter, tmp_path: Path) -> None:
    path = make(tmp_path / "a.flac")
    content = path.read_bytes()[:60]
    path.write_bytes(content)
    with pytest.raises(InputError):
        writer.write(path, "genre", "rock")
    assert path.read_bytes() == content and names(tmp_path) == ["a.flac"]


def test_a_cue_sheet_would_be_lost(writer: TagWriter, tmp_path: Path) -> None:
    path = make(tmp_path / "a.flac")
    content = path.read_bytes()
    path.write_bytes(content[:42] + bytes([5, 0, 0, 4]) + b"cues" + content[42:])
    with pytest.raises(UnsupportedFormat, match="a cue sheet in it would be lost"):
        writer.write(path, "genre", "rock")


def test_a_sound_that_would_change_is_refused(
    writer: TagWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "a.flac")
    content = path.read_bytes()
    monkeypatch.setattr(writer, "_sound", lambda path: str(path))
    with pytest.raises(InputError, match="its sound would change"):
        writer.write(path, "genre", "rock")
    assert path.read_bytes() == content and names(tmp_path) == ["a.flac"]


def test_covers_are_kept(writer: TagWriter, tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp3")
    from io import BytesIO

    cover = BytesIO()
    with av.open(cover, "w", format="image2pipe") as file:
        stream = file.add_stream("png", rate=1)
        stream.width = stream.height = 16
        stream.pix_fmt = "rgb24"
        for packet in (*stream.encode(av.VideoFrame(16, 16, "rgb24")), *stream.encode(None)):
            file.mux(packet)
    with_cover = tmp_path / "b.mp3"
    with av.open(str(path)) as source, av.open(str(with_cover), "w", format="mp3") as target:
        sounding = target.add_stream_from_template(source.streams.audio[0])
        cover.seek(0)
        with av.open(cover, format="png_pipe") as image:
            picture = target.add_stream_from_template(image.streams.video[0])
            picture.disposition = av.stream.Disposition.attached_pic
            for packet in image.demux():
                if packet.size:
                    packet.stream = picture
                    target.mux(packet)
        for packet in source.demux():
            if packet.size:
                packet.stream = sounding
                target.mux(packet)
    before = sound(with_cover)
    writer.write(with_cover, "genre", "rock")
    with av.open(str(with_cover)) as file:
        (stream,) = file.streams.video
        assert bytes(next(p for p in file.demux(stream) if p.size)) == cover.getvalue()
    assert np.array_equal(sound(with_cover), before) and tags(with_cover)["genre"] == "rock"


def test_the_command(studio: Path, tmp_path: Path, run, decode_here: None) -> None:
    samples, rate = soundfile.read(studio / "song.wav")
    soundfile.write(tmp_path / "song.flac", samples, rate)
    soundfile.write(tmp_path / "song.wav", samples, rate)
    words = ["tag", tmp_path, "--probe", studio / "tagging", "--write", "--field", "mood"]
    status, out, err = run(*words, "--dry-run")
    assert status == 3 and "tags are not written into WAV files" in err
    assert "  would write mood: none -> " in out and "mood" not in tags(tmp_path / "song.flac")
    status, out, _ = run(*words)
    assert status == 3 and f"(backup: {tmp_path / 'song.flac.bak'})" in out
    assert set(tags(tmp_path / "song.flac")["mood"].split("; ")) == {"piano", "drums"}
    status, out, _ = run("tag", tmp_path / "song.flac", *words[2:], "--threshold", 1)
    assert status == 0 and "nothing to write: no label reaches 1" in out
