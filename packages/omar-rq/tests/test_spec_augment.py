"""SpecAugment: draws of each item, what they do to a spectrogram, and where they act in pre-training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omar_rq.config import (
    ConformerConfig,
    CQTConfig,
    MelFrontendConfig,
    ModelConfig,
    QuantizerConfig,
)
from omar_rq.frontends.spec_augment import SpecAugmentation, draw, stretch
from omar_rq.gin import model_config, parse, write_gin
from omar_rq.training.objective import MaskedPrediction
from pentatonic.errors import ConfigError

MEL = MelFrontendConfig()
AUGMENTED = replace(MEL, stretch_factor=1.25, freq_mask_param=80, time_mask_param=20)


def pretraining(frontend: MelFrontendConfig) -> MaskedPrediction:
    torch.manual_seed(0)
    return MaskedPrediction(
        ModelConfig(
            input=frontend,
            targets=(frontend,),
            net=ConformerConfig(embed_dim=16, depth=1, num_heads=2),
            quantizer=QuantizerConfig(codebook_size=64),
        )
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(0, 257), st.integers(0, 60))
def test_draws_stay_in_their_ranges(seed, frames, widest_bins, widest_frames):
    config = replace(
        MEL, stretch_factor=0.5, freq_mask_param=widest_bins, time_mask_param=widest_frames
    )  # a factor and its inverse are the same range
    drawn = draw(config, (16, frames), generator(seed))
    assert ((drawn.speed >= 0.5) & (drawn.speed <= 2)).all()
    for bounds, places, widest in (
        (drawn.bins, 257, widest_bins),
        (drawn.frames, frames, min(widest_frames, frames)),
    ):
        first, end = bounds.T
        assert (first >= 0).all() and (end <= places).all()
        assert ((end - first >= 0) & (end - first <= widest)).all()


def test_items_of_a_batch_differ_and_the_whole_range_occurs():
    drawn = draw(AUGMENTED, (4000, 100), generator())
    assert drawn.speed.unique().numel() > 3000
    width = drawn.bins[:, 1] - drawn.bins[:, 0]
    assert set(width.tolist()) == set(range(81))
    assert drawn.bins[:, 0].min() == 0 and drawn.bins[:, 1].max() == 257
    assert (drawn.frames[:, 1] - drawn.frames[:, 0]).float().mean() == pytest.approx(10, abs=0.5)


def test_masks_silence_exactly_what_they_say():
    power = torch.rand(2, 257, 30) + 1
    drawn = SpecAugmentation(torch.ones(2), torch.tensor([[3, 7], [0, 0]]), torch.tensor([[0, 0], [10, 30]]))
    out = drawn(power)
    assert (out[0, 3:7] == 0).all() and torch.equal(out[0, :3], power[0, :3])
    assert torch.equal(out[0, 7:], power[0, 7:])
    assert (out[1, :, 10:] == 0).all() and torch.equal(out[1, :, :10], power[1, :, :10])
    assert torch.equal(drawn.speed_only(power), power)


def test_stretch_reads_a_ramp_at_each_speed():
    ramp = torch.arange(41.0).expand(3, 5, 41)
    out = stretch(ramp, torch.tensor([1.0, 0.5, 2.0]))
    torch.testing.assert_close(out[0], ramp[0], rtol=0, atol=0)
    torch.testing.assert_close(out[1, 0], torch.arange(41) / 2)
    torch.testing.assert_close(out[2, 0, :21], 2 * torch.arange(21.0))
    torch.testing.assert_close(out[2, 0, 21:], 40 - 2 * torch.arange(1.0, 21.0))  # mirrored
    assert torch.equal(stretch(ramp[:, :, :1], torch.tensor([1.0, 0.5, 2.0])), ramp[:, :, :1])


def test_it_acts_in_training_only_and_depends_on_the_generator_alone():
    audio = torch.randn(2, 16000, generator=generator()) * 0.1
    module, plain = pretraining(AUGMENTED), pretraining(MEL)
    module.train()
    first, tokens = module.patches_and_tokens(audio, generator(1))
    again, same = module.patches_and_tokens(audio, generator(1))
    other, _ = module.patches_and_tokens(audio, generator(2))
    assert torch.equal(first, again) and torch.equal(tokens, same) and not torch.equal(first, other)
    expected, expected_tokens = plain.train().patches_and_tokens(audio, generator(1))
    assert not torch.equal(first, expected)
    evaluated, evaluated_tokens = module.eval().patches_and_tokens(audio, generator(1))
    assert torch.equal(evaluated, expected) and torch.equal(evaluated_tokens, expected_tokens)


def test_without_it_masks_are_drawn_as_before():
    state = generator(1)
    pretraining(MEL).train().patches_and_tokens(torch.randn(1, 16000), state)
    assert torch.equal(state.get_state(), generator(1).get_state())


def test_targets_follow_the_speed_but_not_the_masks():
    tone = torch.sin(torch.arange(16000) ** 1.5 * 0.004)  # rises, so that its speed can be heard
    audio = torch.stack((tone, tone.flip(0)))
    masks = pretraining(replace(MEL, freq_mask_param=200, time_mask_param=30)).train()
    patches, tokens = masks.patches_and_tokens(audio, generator(3))
    clean, clean_tokens = pretraining(MEL).patches_and_tokens(audio)
    assert torch.equal(tokens, clean_tokens) and not torch.equal(patches, clean)
    speed = pretraining(replace(MEL, stretch_factor=2.0)).train()
    patches, tokens = speed.patches_and_tokens(audio, generator(3))
    assert not torch.equal(tokens, clean_tokens)
    own = speed.tokenizer.quantizers[0][0](patches)
    assert torch.equal(own, tokens[..., 0])  # the tokens are those of the patches that are seen


def test_settings_are_checked_and_survive_both_files():
    for wrong in ({"stretch_factor": 0.0}, {"freq_mask_param": 258}, {"time_mask_param": -1}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            replace(MEL, **wrong)
    config = pretraining(AUGMENTED).config
    assert ModelConfig.from_dict(config.to_dict()) == config
    assert model_config(parse(write_gin(config))) == config
    cqt = CQTConfig(sample_rate=16000)
    with pytest.raises(ConfigError, match="the only target"):
        MaskedPrediction(replace(config, targets=(config.input, cqt)))
