"""Pieces through a SoundFont: as long as they are written, as loud as by the synthesiser; what is missing is said."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import symusic
import torch
from typer.testing import CliRunner

from notagen.cli import app
from notagen.sound import synth
from notagen.sound.performance import perform, until
from notagen.sound.synth import PEAK, render_audio
from pentatonic.audio.soundfont import find_soundfont
from pentatonic.errors import BackendUnavailable, FormatError, PentatonicError, UsageError

RATE = 16000
TUNE = 'X:1\nL:1/4\nQ:1/4=60\nM:4/4\nK:C\nV:1 nm="Flute"\n[V:1]A z A z|z4|\n'
LONG = "X:1\nL:1/4\nQ:1/4=60\nM:4/4\nK:C\nCDEF|[Q:1/4=120]GABc|[M:3/4][K:D]def|\n"


@pytest.fixture(scope="module")
def soundfont() -> Path:
    try:
        return find_soundfont()
    except BackendUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a stand-in for FluidSynth is told; it answers with two seconds that are loud on the left."""
    told = []

    def render(midi: bytes, soundfont: Path, sample_rate: int, **options: Any) -> np.ndarray:
        told.append((symusic.Score.from_midi(midi), soundfont, sample_rate))
        return np.stack([np.full(2 * sample_rate, 4.0), np.full(2 * sample_rate, 1.0)]).astype(np.float32)

    monkeypatch.setattr(synth, "render_midi", render)
    return told


def test_a_piece_keeps_its_silence_its_peak_and_both_sides(played: list[Any]) -> None:
    samples = render_audio(TUNE, sample_rate=RATE, soundfont=Path("a.sf2"))
    assert samples.dtype == torch.float32 and samples.shape == (2, 8 * RATE)
    assert float(samples[0, 0]) == pytest.approx(PEAK) and float(samples[1, 0]) == pytest.approx(PEAK / 4)
    assert not samples[:, 2 * RATE :].any()
    midi, font, rate = played[0]
    assert (font, rate) == (Path("a.sf2"), RATE)
    assert [(note.time, note.pitch) for note in midi.tracks[0].notes] == [(0, 69), (960, 69)]
    assert midi.tracks[0].program == 73


def test_a_long_piece_is_cut_and_faded(played: list[Any]) -> None:
    samples = render_audio(LONG, sample_rate=RATE, max_duration_s=1.5, soundfont=Path("a.sf2"))
    assert samples.shape == (2, 1.5 * RATE)
    assert float(samples[0, RATE - 1]) == pytest.approx(PEAK) and not samples[:, -1].any()
    assert [note.pitch for note in played[0][0].tracks[0].notes] == [60, 62]
    whole = render_audio(LONG, sample_rate=RATE, soundfont=Path("a.sf2"))
    assert whole.shape == (2, 7.5 * RATE) and len(played[1][0].tracks[0].notes) == 11


def test_what_is_cut_leaves_no_later_tempo_meter_or_key() -> None:
    whole = perform(LONG)
    assert until(whole, 7.5) is whole
    cut = until(whole, 4.0)
    assert [note.pitch for note in cut.tracks[0].notes] == [60, 62, 64, 65]
    assert (len(whole.tempi), len(whole.meters), len(whole.keys)) == (2, 2, 2)
    assert (cut.tempi, cut.meters, cut.keys) == (whole.tempi[:1], whole.meters[:1], whole.keys[:1])
    assert (cut.length, cut.duration_s) == (1, 4.0)


def test_a_piece_without_notes_is_silent(played: list[Any]) -> None:
    samples = render_audio(
        "X:1\nL:1/4\nQ:1/4=60\nM:4/4\nK:C\nz4|\n", sample_rate=RATE, soundfont=Path("a.sf2")
    )
    assert samples.shape == (2, 4 * RATE) and not samples.any() and not played


def test_the_notes_sound_when_they_are_due(soundfont: Path) -> None:
    samples = render_audio(TUNE, sample_rate=RATE, soundfont=soundfont).mean(0).numpy()
    loudness = np.abs(samples[: 8 * RATE]).reshape(16, -1).max(axis=1)
    assert loudness[[0, 4]].min() > 0.3 and loudness[[3, 7]].max() < 0.1 and loudness[10:].max() < 0.01
    spectrum = np.abs(np.fft.rfft(samples[RATE // 4 : RATE // 4 + RATE // 2], RATE))
    assert spectrum[438:443].max() == pytest.approx(spectrum.max())


def test_convert_plays_through_a_soundfont(soundfont: Path, tmp_path: Path) -> None:
    (tmp_path / "tune.abc").write_text(TUNE)
    words = ["convert", str(tmp_path / "tune.abc"), "--to", "wav"]
    for out, more in (
        ("built-in", []),
        ("font", ["--soundfont", str(soundfont)]),
        ("auto", ["--soundfont", "auto"]),
    ):
        result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / out), *more])
        assert result.exit_code == 0, result.output
    assert soundfile.info(tmp_path / "built-in" / "tune.wav").channels == 1
    font = (tmp_path / "font" / "tune.wav").read_bytes()
    assert font == (tmp_path / "auto" / "tune.wav").read_bytes()
    assert soundfile.info(tmp_path / "font" / "tune.wav").channels == 2


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (
            ["--to", "midi", "--soundfont", "auto"],
            UsageError,
            "--soundfont is for sound, and --to midi writes none",
        ),
        (["--to", "wav", "--soundfont", "none.sf2"], UsageError, "no such file or folder: none.sf2"),
        (["--to", "wav", "--soundfont", "tune.abc"], FormatError, "tune.abc: this is no SoundFont"),
        (
            ["--to", "wav", "--soundfont", "auto"],
            BackendUnavailable,
            "the program fluidsynth is not installed",
        ),
    ],
)
def test_a_soundfont_that_cannot_be_played_is_an_error(
    words: list[str],
    kind: type[PentatonicError],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tune.abc").write_text(TUNE)
    there = kind is FormatError
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/fluidsynth" if there else None)
    result = CliRunner().invoke(app, ["convert", "tune.abc", "--out", "out", *words])
    assert isinstance(result.exception, kind) and said in str(result.exception)
    assert not (tmp_path / "out").exists()
