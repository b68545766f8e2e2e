"""The vocoder without weights: the pitch and level that a spectrogram states, and files of its configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pentatonic.errors import ConfigError
from pentatonic.mel import MelFrontend
from rc_audioldm.components import COMPONENTS, chosen, load_component, save_component
from rc_audioldm.griffin_lim import GriffinLimConfig, GriffinLimVocoder

HALF_A_BAND_HZ = 24  # below 1 kHz, where bands are evenly spaced
VOCODER = COMPONENTS["audioldm"]["vocoder"]


def tone(pitch_hz: float, count: int = 10_240) -> Tensor:
    """Four partials."""
    time = torch.arange(count) / 16_000
    return sum(torch.sin(2 * torch.pi * pitch_hz * part * time) / part for part in range(1, 5)) * 0.1  # type: ignore[return-value]


def log_mel(samples: Tensor) -> Tensor:
    """``(T, M)``, a frame for every 160 samples."""
    return MelFrontend.preset("audioldm")(samples).T[: len(samples) // 160]


def distance(made: Tensor, wanted: Tensor) -> float:
    """Of two sounds by the magnitudes of their spectrograms, relative to those of the second."""
    one, other = log_mel(made).exp(), log_mel(wanted).exp()
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("pitch_hz", [220.0, 523.25, 987.77])
def test_the_strongest_partial_and_the_level_come_back(pitch_hz: float) -> None:
    samples = tone(pitch_hz)
    (made,) = GriffinLimVocoder(GriffinLimConfig())(log_mel(samples)[None])
    assert made.shape == samples.shape
    spectrum = torch.fft.rfft(made[2048:-2048] * torch.hann_window(len(made) - 4096)).abs()
    found_hz = float(spectrum.argmax()) * 16_000 / (len(made) - 4096)
    assert abs(found_hz - pitch_hz) < HALF_A_BAND_HZ
    assert 0.5 < float(made.square().mean() / samples.square().mean()) < 2
    assert distance(made, samples) < distance(tone(1.3 * pitch_hz), samples) / 2


def test_a_clip_is_the_same_in_any_batch() -> None:
    vocoder = GriffinLimVocoder(GriffinLimConfig(iterations=20))
    mels = torch.stack([log_mel(tone(pitch)) for pitch in (200.0, 300.0, 450.0)])
    together = vocoder(mels)
    for alone, row in zip(mels, together, strict=True):
        assert torch.equal(vocoder(alone[None])[0], row)


def test_more_rounds_come_nearer_to_the_spectrogram() -> None:
    mel = log_mel(tone(440.0))
    made = {
        rounds: GriffinLimVocoder(GriffinLimConfig(iterations=rounds))(mel[None])[0] for rounds in (1, 60)
    }
    assert distance(made[60], tone(440.0)) < 0.8 * distance(made[1], tone(440.0))


def test_its_folder_holds_a_configuration_alone(tmp_path: Path) -> None:
    component = chosen(VOCODER, ["rc_audioldm", "GriffinLimVocoder"], "model_index.json: vocoder")
    assert (component.library, component.has_weights) == ("rc_audioldm", False)
    save_component(component, GriffinLimVocoder(GriffinLimConfig(iterations=7)), tmp_path / "vocoder")
    assert [file.name for file in (tmp_path / "vocoder").iterdir()] == ["config.json"]
    loaded = load_component(component, tmp_path / "vocoder")
    assert loaded.config == GriffinLimConfig(iterations=7)
    assert chosen(VOCODER, ["transformers", "SpeechT5HifiGan"], "").has_weights
    with pytest.raises(ConfigError, match="SpeechT5HifiGan or GriffinLimVocoder"):
        chosen(VOCODER, ["rc_audioldm", "AudioLDM"], "model_index.json: vocoder")
    with pytest.raises(ConfigError):  # only a vocoder may be one
        chosen(COMPONENTS["audioldm"]["vae"], ["rc_audioldm", "GriffinLimVocoder"], "model_index.json: vae")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"mel": "whisper"}, "vocoder.mel is 'whisper'"),
        ({"mel": "clap"}, "natural logarithms"),
        ({"iterations": 0}, "iterations"),
        ({"iterations": 10**9}, "iterations"),
        ({"model_in_dim": 80}, "model_in_dim gives 80"),
        ({"upsample_rates": [8, 8]}, "upsample_rates gives 64"),
        ({"sampling_rate": 48_000}, "sampling_rate gives 48000"),
        ({"weights": "x"}, "weights"),
    ],
)
def test_other_settings_are_refused(values: dict, said: str, tmp_path: Path) -> None:
    component = chosen(VOCODER, ["rc_audioldm", "GriffinLimVocoder"], "")
    (tmp_path / "config.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        load_component(component, tmp_path)
