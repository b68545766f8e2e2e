"""Ledgers in WAV files and sidecars: what is written comes back, the sound stays, and strangers' files are bounded."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pentatonic import audio
from pentatonic.cli import run
from pentatonic.errors import FormatError
from rc_audioldm.cli import app
from rc_audioldm.ledger.files import find_ledger, read_ledger, sidecar_of, write_ledger
from rc_audioldm.ledger.ledger import Influence, Ledger
from rc_audioldm.ledger.wav_chunks import read_document, write_metadata

PROMPT = 'a slow cello <phrase> & "more" \u266b ]]>'
LEDGER = Ledger(
    prompt=PROMPT,
    prompt_used=f"{PROMPT}, warm",
    mode="clap-in",
    strength=0.5,
    seed=(1 << 63) - 1,
    model="cvssp/audioldm2",
    revision="abc",
    model_licence="CC BY-NC-SA 4.0",
    influences=(
        Influence("cello/a.wav", "CC BY 4.0", 0.75, 0.5, source="Ann", sha256="00", bank="bank", row=3),
        Influence("\u00e9tude.flac", "unknown", 0.25, effect=0.4, effect_rank=2),
    ),
)


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    path = tmp_path / "003__a slow cello.wav"
    audio.save(path, np.sin(np.arange(1001) / 5).astype(np.float32) / 2, 16_000)
    return path


def ledger(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        run(app, ["ledger", *map(str, arguments)])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_a_wav_keeps_its_samples_and_says_what_shaped_it(wav: Path) -> None:
    before, _ = soundfile.read(wav, dtype="int16")
    sidecar = write_ledger(wav, LEDGER)
    after, rate = soundfile.read(wav, dtype="int16")
    assert rate == 16_000 and np.array_equal(before, after) and audio.load(wav).samples.shape[-1] == 1001
    assert sidecar == wav.with_name("003__a slow cello.ledger.json")
    found = find_ledger(wav)
    assert (found.ledger, found.place, found.fits) == (LEDGER, "wav", True)
    assert read_ledger(sidecar) == LEDGER and find_ledger(sidecar).fits is True


def test_players_show_verdict_licences_and_credits(wav: Path) -> None:
    write_ledger(wav, replace(LEDGER, influences=LEDGER.influences[:1]))
    with soundfile.SoundFile(wav) as file:
        assert file.title == PROMPT
        assert file.copyright == "CC BY-NC-SA 4.0; CC BY 4.0"
        assert file.software.startswith("rc-audioldm")
        assert file.comment.startswith("non-commercial: CC BY-NC-SA 4.0 of model cvssp/audioldm2")
        assert 'Uses the sound "cello/a.wav" by Ann' in file.comment


def test_ffmpeg_reads_texts_and_samples(wav: Path) -> None:
    av = pytest.importorskip("av")
    before, _ = soundfile.read(wav, dtype="int16")
    write_ledger(wav, LEDGER)
    with av.open(str(wav)) as container:
        assert container.metadata["title"] == PROMPT and "CC BY-NC-SA 4.0" in container.metadata["copyright"]
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert np.array_equal(samples, before)


def test_writing_again_replaces_the_ledger_and_keeps_what_others_wrote(wav: Path) -> None:
    content = wav.read_bytes()
    artist = b"IART\x04\0\0\0Bob\0" + b"ICMT\x08\0\0\0before\0\0"
    note = struct.pack("<4sI", b"LIST", 4 + len(artist)) + b"INFO" + artist + b"junk\x03\0\0\0abc\0"
    extended = content + note
    wav.write_bytes(extended[:4] + struct.pack("<I", len(extended) - 8) + extended[8:])
    write_ledger(wav, LEDGER)
    first = wav.read_bytes()
    write_ledger(wav, LEDGER)
    assert wav.read_bytes() == first and b"junk\x03\0\0\0abc\0" in first
    write_ledger(wav, replace(LEDGER, seed=1))
    assert read_ledger(wav).seed == 1
    with soundfile.SoundFile(wav) as file:
        assert file.artist == "Bob" and "before" not in file.comment
    assert first.count(b"iXML") == 1 and first.count(b"INFO") == 1


def test_without_its_metadata_the_sidecar_speaks_and_a_changed_sound_is_noticed(wav: Path) -> None:
    write_ledger(wav, LEDGER)
    samples, rate = soundfile.read(wav, dtype="int16")
    soundfile.write(wav, samples, rate)
    assert read_document(wav) is None
    found = find_ledger(wav)
    assert (found.place, found.fits) == ("sidecar", True)
    soundfile.write(wav, samples // 2, rate)
    assert find_ledger(wav).fits is False
    sidecar_of(wav).unlink()
    with pytest.raises(FormatError, match="has no ledger"):
        find_ledger(wav)


def test_samples_of_an_odd_number_of_bytes_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "odd.wav"
    sound = np.random.default_rng(0).normal(0, 0.1, (501, 1))
    soundfile.write(path, sound, 44_100, subtype="PCM_24")  # 1,503 bytes
    before, _ = soundfile.read(path)
    write_ledger(path, LEDGER)
    assert np.array_equal(soundfile.read(path)[0], before) and read_ledger(path) == LEDGER


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: [values], "allowed: an object"),
        (lambda values: {**values, "format": "other"}, "allowed: an object with the format"),
        (lambda values: {**values, "version": 2}, "version 2; allowed: 1"),
        (lambda values: {**values, "extra": 1}, "unknown key extra"),
        (lambda values: {**values, "seed": "1"}, "seed is '1'"),
        (lambda values: {**values, "strength": float("inf")}, "strength is inf"),
        (lambda values: {**values, "influences": {}}, "influences is {}"),
        (lambda values: {**values, "influences": [{}] * 5000}, "at most 4096 clips"),
        (
            lambda values: {**values, "influences": [{"clip": "a", "licence": "", "weight": 1}]},
            r"\[0\].licence",
        ),
        (
            lambda values: {**values, "influences": [{"clip": "a", "licence": "x", "weight": 2}]},
            r"\[0\].weight",
        ),
        (lambda values: {key: values[key] for key in values if key != "model"}, "model is missing"),
    ],
)
def test_a_ledger_that_was_tampered_with_is_refused_by_name(
    tmp_path: Path, change: Any, message: str
) -> None:
    path = tmp_path / "x.ledger.json"
    path.write_text(json.dumps(change(LEDGER.as_dict())), encoding="utf-8")
    with pytest.raises(FormatError, match=message) as raised:
        read_ledger(path)
    assert str(path) in str(raised.value)


def test_the_verdict_of_a_file_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "x.ledger.json"
    path.write_text(json.dumps({**LEDGER.as_dict(), "verdict": "publishable"}), encoding="utf-8")
    assert read_ledger(path).verdict == "unknown"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a RIFF WAVE file"),
        (b"OggS" + bytes(40), "is not a RIFF WAVE file"),
        (b"RIFF\0\0\0\0WAVEfmt \xff\xff\xff\x7f", "ends behind the file"),
        (b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 1001, "more than 1000 chunks"),
        (b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0", "has no samples"),
    ],
)
def test_what_is_not_a_complete_wav_is_refused_and_left_alone(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message):
        write_metadata(path, {}, "{}")
    assert path.read_bytes() == content and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "xml",
    [
        b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><BWFXML><USER>&b;</USER></BWFXML>',
        b"<BWFXML><USER>",
        "<BWFXML/>".encode("utf-16"),
    ],
)
def test_ixml_of_strangers_is_read_in_bounds(wav: Path, xml: bytes) -> None:
    content = wav.read_bytes() + b"iXML" + struct.pack("<I", len(xml)) + xml + b"\0" * (len(xml) % 2)
    wav.write_bytes(content)
    with pytest.raises(FormatError, match="iXML"):
        read_ledger(wav)


def test_the_command_shows_verdict_and_credits_and_names_what_has_no_ledger(
    wav: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_ledger(wav, LEDGER)
    status, out, err = ledger(capsys, wav)
    assert status == 0, err
    assert f"{wav}: unknown" in out and "unknown licence of clip \u00e9tude.flac: nobody says" in out
    assert "0.250   0.400" in out and "https://creativecommons.org/licenses/by/4.0/" in out
    other = wav.with_name("other.wav")
    audio.save(other, np.zeros(10, np.float32), 16_000)
    status, out, err = ledger(capsys, wav.parent, "--json")
    (document,) = json.loads(out)
    assert status == 3 and "other.wav" in err
    assert document["verdict"] == "unknown" and document["samples_unchanged"] is True
    assert ledger(capsys, wav.with_name("none.wav"))[0] == 2


def test_a_folder_without_recordings_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("none", encoding="utf-8")
    status, out, err = ledger(capsys, tmp_path)
    assert status == 2 and out == "" and f"no WAV files in {tmp_path}" in err
