"""The shape that MARBLE-like benchmarks expect, and the values of the model behind it."""

from __future__ import annotations

import pytest
import torch

from omar_rq.config import ConformerConfig, ModelConfig, WaveformConfig
from omar_rq.marble import LayerSelector, MarbleEncoder, pool_time
from omar_rq.model import OmarRQ
from omar_rq.signals import LayerIndexError
from pentatonic.errors import AudioTooShort, UsageError


@pytest.fixture(scope="module")
def encoder() -> MarbleEncoder:
    torch.manual_seed(0)
    net = ConformerConfig(embed_dim=16, depth=3, num_heads=2)
    return MarbleEncoder(OmarRQ(ModelConfig(input=WaveformConfig(patch_size=(1, 400)), net=net)))


def test_hidden_states_are_the_layers_of_the_model(encoder):
    audio = 0.1 * torch.randn(2, 24_000)
    hidden = encoder(audio)
    assert hidden.shape == (2, encoder.n_layers, 60, encoder.width) == (2, 4, 60, 16)
    assert not hidden.requires_grad and encoder.token_rate == 60
    expected = encoder.model.extract_embeddings(audio, range(3), sample_rate=24_000)
    torch.testing.assert_close(hidden[:, 1:].transpose(0, 1), expected)
    patches = (audio / 0.1908563740990311).reshape(2, 60, 400)
    torch.testing.assert_close(hidden[:, 0], encoder.model.embed(patches).detach())
    assert encoder(audio[0].numpy(), 12_000).shape == (1, 4, 120, 16)
    with pytest.raises(UsageError, match="one length"):
        encoder([audio[0], audio[1, :12_000]])
    with pytest.raises(AudioTooShort):
        encoder(audio[:, :100])


def test_layers_are_chosen_averaged_and_weighted():
    hidden = torch.randn(2, 4, 5, 3)
    torch.testing.assert_close(LayerSelector(4, [-2])(hidden), hidden[:, 2])
    torch.testing.assert_close(LayerSelector(4, [0, 3])(hidden), (hidden[:, 0] + hidden[:, 3]) / 2)
    assert not any(weight.requires_grad for weight in LayerSelector(4).parameters())
    learned = LayerSelector(4, learned=True)
    with torch.no_grad():
        learned.logits.copy_(torch.tensor([0.0, 0.0, 20.0, 0.0]))
    torch.testing.assert_close(learned(hidden), hidden[:, 2], atol=1e-5, rtol=0)
    learned(hidden).sum().backward()
    assert learned.logits.grad is not None
    with pytest.raises(LayerIndexError, match="-4 to 3"):
        LayerSelector(4, [4])
    with pytest.raises(UsageError, match="empty"):
        LayerSelector(4, [])


def test_time_is_pooled():
    hidden = torch.randn(2, 5, 3)
    assert torch.equal(pool_time(hidden, "none"), hidden)
    for how, expected in {
        "mean": hidden.mean(1),
        "max": hidden.max(1).values,
        "first": hidden[:, 0],
        "last": hidden[:, 4],
    }.items():
        assert torch.equal(pool_time(hidden, how), expected)
    with pytest.raises(UsageError, match="none, mean"):
        pool_time(hidden, "median")  # type: ignore[arg-type]
