"""rc-audioldm-tiny, as it comes with the package."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from rc_audioldm import from_pretrained
from rc_audioldm.clap import from_pretrained as load_clap
from rc_audioldm.cli import main
from rc_audioldm.denoising.loop import Denoising
from rc_audioldm.denoising.sampling import Clip, Item, Sampling, sample
from rc_audioldm.model import AudioLDM
from rc_audioldm.prompts.encoder import PromptEncoder

NAME = "rc-audioldm-tiny"


@pytest.fixture(scope="module")
def model() -> AudioLDM:
    return from_pretrained(NAME)


def made(model: AudioLDM, *items: Item, batch_size: int = 4) -> list[Clip]:
    settings = Sampling(seconds=1.28, denoising=Denoising(steps=20), batch_size=batch_size)
    return list(sample(model, items, settings))


def test_its_clap_passes_the_self_test_and_shares_its_space_with_prompts(model: AudioLDM) -> None:
    encoder = load_clap(NAME)  # refuses a collapsed text tower
    text = "a low cello phrase"
    torch.testing.assert_close(
        PromptEncoder(model).clap(text), encoder.embed_text([text])[0], rtol=0, atol=1e-6
    )


def test_different_instruments_and_registers_sound_different(model: AudioLDM) -> None:
    clips = made(
        model,
        Item("a low cello phrase"),
        Item("a high flute note", index=1),
        Item("a fast drum beat", index=2),
    )
    low, high, drums = (clip.audio for clip in clips)
    assert all(0.005 < float(each.square().mean().sqrt()) < 0.5 for each in (low, high, drums))

    def centre_hz(samples: torch.Tensor) -> float:
        power = torch.fft.rfft(samples).abs().square()
        return float((power * torch.linspace(0, 8000, len(power))).sum() / power.sum())

    assert centre_hz(low) < 700 < centre_hz(high)


def test_a_clip_is_the_same_in_any_batch(model: AudioLDM) -> None:
    items = [Item("a harp chord"), Item("an oboe note", index=1)]
    for alone, together in zip(made(model, *items, batch_size=1), made(model, *items), strict=True):
        torch.testing.assert_close(alone.latents, together.latents, rtol=0, atol=1e-5)
        # The search for phases amplifies the last digits.
        assert float((alone.audio - together.audio).abs().max()) < 0.01 * float(alone.audio.abs().max())


def test_info_says_what_it_is_and_that_its_weights_are_free(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["rc-audioldm", "info", NAME, "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    about = json.loads(capsys.readouterr().out)
    assert (about["licence"], about["family"], about["sample_rate"]) == ("Apache-2.0", "audioldm", 16_000)
