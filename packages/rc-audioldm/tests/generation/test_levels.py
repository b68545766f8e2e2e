"""Loud clips are turned down as a whole, and said to be; all others keep their samples."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from rc_audioldm.denoising.sampling import Clip, sample
from rc_audioldm.generation.generate import generate
from rc_audioldm.generation.settings import Settings
from rc_audioldm.level import CEILING, gain_text, gain_texts, turn_down

PEAK = 1.6


def louder(clip: Clip) -> Clip:
    """The clip at a peak of 1.6."""
    return replace(clip, audio=clip.audio * (PEAK / clip.audio.abs().max()))


def make_loud(monkeypatch: pytest.MonkeyPatch, index: int) -> None:
    """Make clips of a request loud."""

    def loud(*arguments: Any, **more: Any) -> Any:
        for clip in sample(*arguments, **more):
            yield louder(clip) if clip.item.index == index else clip

    monkeypatch.setattr("rc_audioldm.generation.batches.sample", loud)


@pytest.fixture
def loud_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose clips of the second request are loud."""
    make_loud(monkeypatch, 1)


def test_only_what_is_beyond_full_scale_is_turned_down() -> None:
    samples = torch.tensor([0.2, -1.0, 0.5])
    same, gain = turn_down(samples)
    assert same is samples and gain == 1.0 and gain_text(gain) == ""
    down, gain = turn_down(samples * PEAK)
    torch.testing.assert_close(down, samples * CEILING)
    assert gain == pytest.approx(CEILING / PEAK)
    assert gain_text(gain) == "was turned down by 4.2 dB, as its peak was 1.6 times full scale"
    assert turn_down(torch.zeros(0))[1] == 1.0
    assert gain_texts(1.0, {0.0: 1.0, 0.5: gain}) == [f"at strength 0.5 {gain_text(gain)}"]


def test_a_loud_clip_is_turned_down_and_no_other(
    options: Any, command: Callable[..., int], tmp_path: Path, capsys: Any, request: Any
) -> None:
    prompts = ("drum", "a harp", "bass")
    assert command(*options, "--out", tmp_path / "before", "--knob", *prompts) == 0
    assert "turned down" not in capsys.readouterr().err
    request.getfixturevalue("loud_second")
    out = tmp_path / "loud"
    assert command(*options, "--out", out, "--knob", *prompts) == 0
    told = "001_v0 a harp  was turned down by 4.2 dB, as its peak was 1.6 times full scale"
    assert capsys.readouterr().err.count(told) == 1
    for folder in ("wav", "knob"):
        for path in (tmp_path / "before" / folder).glob("*.wav"):
            after = out / folder / path.name
            if not path.name.startswith("001"):
                assert after.read_bytes() == path.read_bytes()
                continue
            quiet, loud = soundfile.read(path)[0], soundfile.read(after)[0]
            assert np.abs(loud).max() == pytest.approx(CEILING, abs=1e-4)
            # The shape of the wave is that of the quiet clip, within the 16 bits of that.
            expected = quiet * CEILING / np.abs(quiet).max()
            assert np.abs(loud - expected).max() < 2**-15 / np.abs(quiet).max() + 2**-15
    items = [json.loads(line) for line in (out / "items.jsonl").read_text().splitlines()]
    assert [item["gain"] for item in items] == [1.0, pytest.approx(CEILING / PEAK), 1.0]
    assert items[1]["knob_gains"] == {name: pytest.approx(CEILING / PEAK) for name in ("0", "0.5", "1")}
    entries = json.loads((out / "report.json").read_text())["inputs"]
    assert [len(entry.get("flags", ())) for entry in entries if "turned" in str(entry)] == [4]
    rows = json.loads((out / "metrics/per_item.json").read_text())
    assert [row["clipped_samples"] for row in rows] == [0, 0, 0]


def test_similarities_are_those_of_the_clip_that_is_given(
    models: Any, finder: Any, loud_second: None
) -> None:
    from rc_audioldm.denoising.loop import Denoising
    from rc_audioldm.denoising.sampling import Sampling

    how = Settings(sampling=Sampling(seconds=0.01675, denoising=Denoising("ddim", 2)), causal=True)
    model = models["audioldm"]
    loud = list(generate(model, ["drum", "a harp"], how, finder=finder))[1]
    assert loud.audio.abs().max() <= 1 and loud.gain < 1
    vector = finder.encoder.embed_audio(loud.audio, model.sample_rate)[0]
    assert loud.vector is not None and torch.equal(loud.vector, vector)
    # Left-out clips are heard at the level of the whole, so that repeating it makes no difference.
    assert loud.causal is not None and loud.causal.repeat_mel_db == pytest.approx(0, abs=1e-4)


def test_the_report_says_it(tmp_path: Path, options: Any, command: Any, loud_second: None) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "run"
    reporting = [each for each in options if each != "--no-report"]
    assert command(*reporting, "--out", out, "drum", "a harp") == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    shown = page[: page.index("<script")]  # tables are there once more, as data
    told = "was turned down by 4.2 dB, as its peak was 1.6 times full scale"
    assert shown.count(told) == 1 and shown.index(told) > shown.index("001_v0: a harp")


def test_the_page_in_the_browser_says_it(
    models: Any, clap: Any, bank: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    from rc_audioldm.app.results import clip_html
    from rc_audioldm.app.studio import Studio, Wanted
    from rc_audioldm.generation.finish import ModelNote

    studio = Studio(models["audioldm"], ModelNote("tiny", "", "unknown"), clap, bank)
    wanted = Wanted("drum", "", "clap-in", 0.5, 0.01675, 2, 3.0, 1, 2, "unknown", None)
    quiet = studio.make(wanted, lambda *_: None)
    assert quiet.levels == () and "turned down" not in clip_html(quiet)
    make_loud(monkeypatch, 0)
    loud = studio.make(wanted, lambda *_: None)
    assert loud.levels == ("was turned down by 4.2 dB, as its peak was 1.6 times full scale",)
    assert f"The clip {loud.levels[0]}." in clip_html(loud)
    (tmp_path / "loud.wav").write_bytes(loud.wav)
    assert np.abs(soundfile.read(tmp_path / "loud.wav")[0]).max() == pytest.approx(CEILING, abs=1e-4)
