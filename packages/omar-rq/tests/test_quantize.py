"""8-bit products: close to float32, the same in a stream and in a batch, and told apart from float32 in reports."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from omar_rq import from_pretrained, quantize
from omar_rq.conformer import Pointwise
from omar_rq.embed import fingerprint
from omar_rq.quantize import number_type, rounded_weights
from omar_rq.streaming import stream_embeddings
from pentatonic.errors import BackendUnavailable, UsageError
from pentatonic.int8 import has_integer_products

needs_vnni = pytest.mark.skipif(not has_integer_products(), reason="no products of 8-bit integers")


@pytest.fixture(scope="module")
def model():
    return from_pretrained("omar-rq-tiny")


@pytest.fixture(scope="module")
def audio(model):
    time_s = torch.arange(3 * model.sample_rate) / model.sample_rate
    noise = 0.02 * torch.randn(len(time_s), generator=torch.Generator().manual_seed(0))
    return torch.stack(
        [0.3 * torch.sin(6.28 * hz * time_s * (1 + 0.1 * time_s)) + noise for hz in (220, 550)]
    )


@needs_vnni
def test_the_embeddings_stay_close(model, audio):
    rate = model.sample_rate
    small = quantize.quantize(model)
    expected = model.extract_embeddings(audio, range(5), sample_rate=rate)
    found = small.extract_embeddings(audio, range(5), sample_rate=rate)
    error = ((found - expected).square().mean((1, 2, 3)) / expected.square().mean((1, 2, 3))).sqrt()
    assert (error > 1e-4).all() and (error < 0.1).all(), error
    assert not any(isinstance(layer, nn.Linear | Pointwise) for layer in small.trunk.modules())
    alone = small.extract_embeddings(audio[1], range(5), sample_rate=rate)
    torch.testing.assert_close(alone[:, 0], found[:, 1], rtol=0, atol=1e-4)


@needs_vnni
def test_a_stream_gives_the_embeddings_of_one_pass(model, audio):
    small = quantize.quantize(model)
    pieces = list(stream_embeddings(small, audio[0].split(7000)))
    streamed = torch.cat([piece[0] for piece in pieces])
    expected = small.extract_embeddings(audio[0], sample_rate=model.sample_rate)[0, 0]
    # A rounding error of the last bit may turn an input to the next of 255 levels.
    assert ((streamed - expected).square().mean() / expected.square().mean()).sqrt() < 0.02


@needs_vnni
def test_reports_tell_it_from_float32(model):
    small = quantize.quantize(model)
    assert (number_type(model), number_type(small)) == ("fp32", "int8")
    assert fingerprint(model) != fingerprint(small) == fingerprint(quantize.quantize(model))
    name = "trunk.blocks.0.conv.pointwise_in.weight"
    weight = model.state_dict()[name].squeeze(-1)
    error = (rounded_weights(small)[name] - weight).abs().amax(1)
    assert (error <= 0.51 / 127 * weight.abs().amax(1) * 1.01).all() and error.max() > 0


def test_where_there_are_no_such_products(model, monkeypatch):
    with pytest.raises(UsageError, match="bfloat16"):
        quantize.quantize(from_pretrained("omar-rq-tiny", dtype=torch.bfloat16))
    monkeypatch.setattr(quantize, "has_integer_products", lambda: False)
    with pytest.raises(BackendUnavailable, match="VNNI"):
        quantize.quantize(model)
