"""Eight-bit weights beside the original ones."""

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file as load_golden
from torch import nn

from notagen.codec import encode_train
from notagen.generation.decoding import Limits, Request, generate
from notagen.model import NotaGen, NotaGenConfig
from notagen.quantize import Int8Linear, quantize
from notagen.weights import load_file
from pentatonic.errors import UsageError

GOLDENS = Path(__file__).parent / "goldens"


@pytest.fixture(scope="module")
def untrained():
    torch.manual_seed(0)
    config = NotaGenConfig(patch_layers=3, char_layers=2, width=256, heads=4, patch_length=40)
    model = NotaGen(config).eval()
    with torch.no_grad():  # small weights would make all characters about as likely
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(3)
    return model


@pytest.fixture(scope="module")
def trained():
    return load_file(GOLDENS / "generation_e2e" / "weights.safetensors")


def piece_of(model):
    cases = json.loads((GOLDENS / "generation_e2e" / "cases.json").read_text())["cases"]
    text = next(case["original"] for case in cases if "original" in case)
    return torch.tensor([encode_train(text, model.config.patch_length)])


def assert_close(model, patches, masks, *, loss, probability):
    """Relative bound of the loss, absolute bound of any probability."""
    eight_bit = quantize(model)
    with torch.no_grad():
        _, vectors, targets = model._pairs(patches, masks)
        _, other_vectors, _ = eight_bit._pairs(patches, masks)
        p = model.char_decoder(vectors, targets).softmax(-1)
        q = eight_bit.char_decoder(other_vectors, targets).softmax(-1)
        assert 0 < (p - q).abs().max() < probability
        expected = model.loss(patches, masks)
        assert abs(eight_bit.loss(patches, masks) - expected) < loss * expected


@pytest.mark.parametrize("name", ["model_tiny_a", "model_tiny_b"])
def test_golden_models(name):
    heads = json.loads((GOLDENS / name / "meta.json").read_text())["config"]["num_heads"]
    model = load_file(GOLDENS / name / "weights.safetensors", heads=heads)
    io = load_golden(GOLDENS / name / "io.safetensors")
    assert_close(model, io["patches"], io["masks"], loss=1e-3, probability=0.15)


def test_untrained_model(untrained):
    patches = torch.randint(3, 128, (2, 30, 16), generator=torch.Generator().manual_seed(1))
    assert_close(untrained, patches, torch.ones(2, 30), loss=2e-3, probability=0.02)


def test_trained_model(trained):
    patches = piece_of(trained)
    # Its loss on the piece it knows by heart is near 0, where a relative bound says little.
    assert_close(trained, patches, torch.ones(patches.shape[:2]), loss=0.05, probability=0.05)


@pytest.mark.parametrize("shape", [(1, 64), (5, 64), (2, 3, 64)])
def test_layer_is_the_product_with_rounded_weights(shape):
    torch.manual_seed(2)
    linear = nn.Linear(64, 96)
    layer = Int8Linear(linear)
    rounded = layer.weight.float() * layer.scales.float()[:, None]
    assert ((rounded - linear.weight).abs() <= 0.51 * layer.scales.float()[:, None]).all()
    x = torch.randn(shape).bfloat16().float()
    torch.testing.assert_close(layer(x), x @ rounded.T + linear.bias, atol=0.01, rtol=0.01)


def test_outputs_of_zeros_stay_zero():
    linear = nn.Linear(32, 32)
    nn.init.zeros_(linear.weight)
    assert torch.equal(Int8Linear(linear)(torch.randn(3, 32)), linear.bias.detach().expand(3, -1))


def test_original_stays_and_shares_nothing(untrained):
    before = copy.deepcopy(untrained.state_dict())
    eight_bit = quantize(untrained)
    assert all(torch.equal(value, before[name]) for name, value in untrained.state_dict().items())
    assert not any(isinstance(module, nn.Linear) for module in eight_bit.modules())
    assert not eight_bit.training
    ours = {value.data_ptr() for value in untrained.state_dict().values()}
    assert ours.isdisjoint(value.data_ptr() for value in eight_bit.state_dict().values())
    bytes_of = [sum(v.nbytes for v in model.state_dict().values()) for model in (untrained, eight_bit)]
    assert bytes_of[1] < 0.45 * bytes_of[0]


def test_pieces_do_not_depend_on_the_batch(untrained):
    model = quantize(untrained)
    requests = [Request("%Classical\n" * n, seed=n) for n in range(5)]
    limits = Limits(patches=12)
    alone = [generate(model, [request], limits=limits)[0] for request in requests]
    assert generate(model, requests, batch_size=3, limits=limits) == alone
    assert generate(model, requests, batch_size=5, limits=limits) == alone


def test_wrong_models(untrained):
    narrow = NotaGen(NotaGenConfig(patch_layers=1, char_layers=1, width=40, heads=2, patch_length=4))
    with pytest.raises(UsageError, match="multiple of 32, got 40"):
        quantize(narrow)
    with pytest.raises(UsageError, match="meta"):
        quantize(copy.deepcopy(untrained).to("meta"))
