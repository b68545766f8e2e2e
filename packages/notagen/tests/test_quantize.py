"""Eight-bit weights beside the original ones."""

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file as load_golden
from torch import nn

from notagen import quantize as quantize_module
from notagen.codec import encode_train
from notagen.generation.decoding import Limits, Request, generate
from notagen.model import NotaGen, NotaGenConfig
from notagen.quantize import Int8Linear, Int8ProductLinear, compilable, has_integer_products, quantize
from notagen.weights import from_pretrained, load_file
from pentatonic.errors import UsageError

GOLDENS = Path(__file__).parent / "goldens"


NEEDS_VNNI = pytest.mark.skipif(
    not has_integer_products(), reason="this processor has no products of 8-bit integers"
)


@pytest.fixture(params=["weights", pytest.param("products", marks=NEEDS_VNNI)])
def way(request, monkeypatch):
    """Both kinds of layers, whichever this processor would get."""
    monkeypatch.setattr(quantize_module, "has_integer_products", lambda: request.param == "products")
    return request.param


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
def test_golden_models(name, way):
    heads = json.loads((GOLDENS / name / "meta.json").read_text())["config"]["num_heads"]
    model = load_file(GOLDENS / name / "weights.safetensors", heads=heads)
    io = load_golden(GOLDENS / name / "io.safetensors")
    assert_close(model, io["patches"], io["masks"], loss=1e-3, probability=0.15)


def test_untrained_model(untrained, way):
    patches = torch.randint(3, 128, (2, 30, 16), generator=torch.Generator().manual_seed(1))
    assert_close(untrained, patches, torch.ones(2, 30), loss=2e-3, probability=0.02)


def test_trained_model(trained, way):
    patches = piece_of(trained)
    # Its loss on the piece it knows by heart is near 0, where a relative bound says little.
    assert_close(trained, patches, torch.ones(patches.shape[:2]), loss=0.05, probability=0.05)


def test_bits_per_character_of_the_bundled_model(way):
    model = from_pretrained("notagen-tiny")
    patches = piece_of(model)
    masks = torch.ones(patches.shape[:2])
    with torch.no_grad():
        expected, rounded = model.loss(patches, masks), quantize(model).loss(patches, masks)
    assert expected > 0.1  # it does not know the piece by heart
    assert 0 < abs(rounded - expected) < 0.01 * expected


@pytest.mark.parametrize("shape", [(1, 64), (5, 64), (2, 3, 64)])
def test_layer_is_the_product_with_rounded_weights(shape):
    torch.manual_seed(2)
    linear = nn.Linear(64, 96)
    layer = Int8Linear(linear)
    rounded = layer.weight.float() * layer.scales.float()[:, None]
    assert ((rounded - linear.weight).abs() <= 0.51 * layer.scales.float()[:, None]).all()
    x = torch.randn(shape).bfloat16().float()
    torch.testing.assert_close(layer(x), x @ rounded.T + linear.bias, atol=0.01, rtol=0.01)


def levels_and_rows(shape):
    """Rows of whole numbers up to 127, and floats that are rounded to them, each row on a scale of its own."""
    levels = torch.randint(-127, 128, shape).double()
    levels[..., 0] = 127
    nearby = levels + torch.empty(shape).double().uniform_(-0.45, 0.45)
    nearby[..., 0] = 127
    scales = torch.logspace(-30, 6, shape[:-1].numel()).double().reshape(*shape[:-1], 1)
    return levels * scales, (nearby.clamp(-127, 127) * scales).float()


@NEEDS_VNNI
@pytest.mark.parametrize("shape", [(1, 64), (8, 64), (2, 3, 3072), (300, 64)])
def test_product_of_integers_is_that_of_rounded_rows_and_weights(shape):
    torch.manual_seed(2)
    linear = nn.Linear(shape[-1], 96)
    nn.init.zeros_(linear.bias)
    layer, plain = Int8ProductLinear(linear), Int8Linear(linear)
    weight = plain.weight.double() * plain.scales.double()[:, None]
    torch.testing.assert_close(layer.rounded_weight.double(), weight, atol=0, rtol=1e-7)
    rounded, x = levels_and_rows(torch.Size(shape))
    expected = rounded @ weight.T
    scale = rounded.abs().amax(-1, keepdim=True) * weight.abs().sum(-1)
    assert ((layer(x).double() - expected).abs() <= 1e-6 * scale).all()


@NEEDS_VNNI
def test_product_of_integers_has_no_overflow():
    linear = nn.Linear(4096, 32)
    nn.init.ones_(linear.weight)
    x = torch.ones(2, 4096) * torch.tensor([[1.0], [-1.0]])
    expected = 4096 * x[:, :1] + linear.bias
    # Pairs of products that were added in 16 bits would lose a third or more.
    torch.testing.assert_close(Int8ProductLinear(linear)(x), expected, rtol=0.005, atol=0)


@NEEDS_VNNI
@pytest.mark.parametrize("rows", [2, 7, 8, 33])
def test_rows_of_a_product_of_integers_are_independent(rows):
    torch.manual_seed(3)
    layer = Int8ProductLinear(nn.Linear(768, 96))
    x = torch.randn(rows, 768) * torch.logspace(-4, 4, rows)[:, None] + torch.randn(rows, 1)
    assert torch.equal(layer(x), torch.cat([layer(row[None]) for row in x]))


@NEEDS_VNNI
def test_compilable_copy_has_the_same_weights():
    torch.manual_seed(4)
    config = NotaGenConfig(patch_layers=1, char_layers=2, width=64, heads=2, patch_length=16)
    decoder = NotaGen(config).eval().char_decoder
    assert compilable(decoder) is decoder
    rounded = copy.deepcopy(
        decoder,
        {
            id(module): Int8ProductLinear(module)
            for module in decoder.modules()
            if isinstance(module, nn.Linear)
        },
    )
    weights_alone = copy.deepcopy(
        decoder,
        {id(module): Int8Linear(module) for module in decoder.modules() if isinstance(module, nn.Linear)},
    )
    result, expected = compilable(rounded).state_dict(), weights_alone.state_dict()
    assert result.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in result.items())


def test_outputs_of_zeros_stay_zero():
    linear = nn.Linear(32, 32)
    nn.init.zeros_(linear.weight)
    assert torch.equal(Int8Linear(linear)(torch.randn(3, 32)), linear.bias.detach().expand(3, -1))


@NEEDS_VNNI
def test_zeros_and_empty_batches():
    linear = nn.Linear(32, 32)
    assert torch.equal(Int8ProductLinear(linear)(torch.zeros(3, 32)), linear.bias.detach().expand(3, -1))
    assert Int8ProductLinear(linear)(torch.zeros(0, 32)).shape == (0, 32)
    nn.init.zeros_(linear.weight)
    assert torch.equal(Int8ProductLinear(linear)(torch.randn(3, 32)), linear.bias.detach().expand(3, -1))


def test_original_stays_and_shares_nothing(untrained, way):
    before = copy.deepcopy(untrained.state_dict())
    eight_bit = quantize(untrained)
    assert all(torch.equal(value, before[name]) for name, value in untrained.state_dict().items())
    assert not any(isinstance(module, nn.Linear) for module in eight_bit.modules())
    assert not eight_bit.training
    ours = {value.data_ptr() for value in untrained.state_dict().values()}
    assert ours.isdisjoint(value.data_ptr() for value in eight_bit.state_dict().values())
    linear = sum(isinstance(module, nn.Linear) for module in untrained.modules())
    layers = [module for module in eight_bit.modules() if isinstance(module, (Int8Linear, Int8ProductLinear))]
    assert len(layers) == linear
    bytes_of = [sum(v.nbytes for v in model.state_dict().values()) for model in (untrained, eight_bit)]
    assert bytes_of[1] < 0.45 * bytes_of[0]


def test_pieces_do_not_depend_on_the_batch(untrained, way):
    model = quantize(untrained)
    requests = [Request("%Classical\n" * n, seed=n) for n in range(8)]
    limits = Limits(patches=12)
    alone = [generate(model, [request], limits=limits)[0] for request in requests]
    assert generate(model, requests, batch_size=3, limits=limits) == alone
    assert generate(model, requests, batch_size=8, limits=limits) == alone


def test_wrong_models(untrained):
    narrow = NotaGen(NotaGenConfig(patch_layers=1, char_layers=1, width=40, heads=2, patch_length=4))
    with pytest.raises(UsageError, match="multiple of 32, got 40"):
        quantize(narrow)
    with pytest.raises(UsageError, match="meta"):
        quantize(copy.deepcopy(untrained).to("meta"))
