"""The Transformer trunk against recorded values of the original."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from omar_rq.config import MelFrontendConfig, ModelConfig, TransformerConfig
from omar_rq.transformer import Transformer
from omar_rq.weights import key_map

TINY = TransformerConfig(
    embed_dim=16, head_dims=16, depth=2, num_heads=4, num_patches=20, alpha_deepnorm=2.21
)
CASES = {
    "transformer_deepnorm": TINY,
    "transformer_prenorm": dataclasses.replace(TINY, do_deepnorm=False),
    "transformer_vit_cls": TransformerConfig(
        **{"patch_size": (8, 4), "embed_dim": 32, "head_dims": 10, "depth": 1, "num_heads": 4},
        **{"num_patches": 13, "alpha_deepnorm": 2.21},
        **{"do_classification": True, "do_vit_tokenization": True},
    ),
}


def trunk_with(weights, config) -> Transformer:
    keys = key_map(ModelConfig(input=MelFrontendConfig(), net=config))
    ours = keys.to_ours({f"net.{key}": value for key, value in weights.items()})
    trunk = Transformer(config).eval()
    trunk.load_state_dict({key.removeprefix("trunk."): value for key, value in ours.items()})
    return trunk


def random_trunk(**changes) -> Transformer:
    torch.manual_seed(0)
    trunk = Transformer(dataclasses.replace(TINY, beta_deepnorm=1.0, **changes)).eval()
    torch.nn.init.normal_(trunk.position_table)
    return trunk


@pytest.mark.parametrize("case", ["transformer_deepnorm", "transformer_prenorm"])
@torch.no_grad()
def test_trunk_equals_the_recorded_one(case, golden, golden_weights):
    io, _ = golden(case)
    trunk = trunk_with(golden_weights(case), CASES[case])
    torch.testing.assert_close(trunk(io["x"])[0], io["out"], rtol=0, atol=5e-6)
    torch.testing.assert_close(trunk(io["x_long"])[0], io["out_long"], rtol=0, atol=5e-6)


@torch.no_grad()
def test_classifier_equals_the_recorded_one(golden, golden_weights):
    io, _ = golden("transformer_vit_cls")
    trunk = trunk_with(golden_weights("transformer_vit_cls"), CASES["transformer_vit_cls"])
    out, layers = trunk(io["x"])
    assert out.shape == (2, 13, 32) and torch.equal(layers[0], out)
    torch.testing.assert_close(trunk.classify(out), io["out"], rtol=0, atol=5e-6)


@torch.no_grad()
def test_own_patches_go_frequency_row_by_row():
    trunk = Transformer(dataclasses.replace(CASES["transformer_vit_cls"], do_classification=False)).eval()
    x = torch.randn(1, 16, 24)
    rows = x.unflatten(1, (2, 8)).unflatten(3, (6, 4)).permute(0, 1, 3, 2, 4).reshape(12, 32)
    expected = rows @ trunk.patch_embed.weight.reshape(32, 32).T + trunk.patch_embed.bias
    torch.testing.assert_close(trunk._tokens(x)[0], expected, rtol=0, atol=2e-6)


@torch.no_grad()
def test_positions_are_those_of_the_table_and_none_beyond():
    trunk = random_trunk()
    x = torch.randn(1, 25, 16)
    coded = trunk._with_positions(x)
    assert torch.equal(coded[:, :20], x[:, :20] + trunk.position_table)
    assert torch.equal(coded[:, 20:], x[:, 20:])
    short = torch.randn(1, 7, 16)
    assert torch.equal(trunk._with_positions(short), short + trunk.position_table[:, :7])


@pytest.mark.parametrize("do_deepnorm", [True, False])
@torch.no_grad()
def test_early_exit_gives_the_same_bits(do_deepnorm):
    trunk = random_trunk(do_deepnorm=do_deepnorm)
    x = torch.randn(2, 9, 16)
    last, outputs = trunk(x, layers=(0, 1))
    assert torch.equal(trunk(x, layers=(0,))[0], outputs[0])
    assert torch.equal(last, outputs[1]) and not torch.equal(outputs[0], outputs[1])


@torch.no_grad()
def test_causal_trunk_reads_no_later_token():
    x = torch.randn(1, 12, 16)
    changed = x.clone()
    changed[0, 8] += 1.0
    for causal, reached in ((True, 8), (False, 0)):
        trunk = random_trunk(causal=causal)
        assert (trunk(x)[0] != trunk(changed)[0]).any(-1)[0].nonzero().min() == reached


@pytest.mark.parametrize("changes", [{}, {"causal": False}, {"causal": False, "do_classification": True}])
@torch.no_grad()
def test_padded_rows_give_what_they_give_alone(changes):
    trunk = random_trunk(**changes)
    head = int(trunk.config.do_classification)
    padded = torch.full((2, 12, 16), 7.0)
    short = padded[1, :5] = torch.randn(5, 16)
    together = trunk(padded, lengths=torch.tensor([12, 5]))[0]
    alone = trunk(short[None])[0][0]
    torch.testing.assert_close(together[1, : 5 + head], alone, rtol=0, atol=2e-6)


def test_norm_eps_is_that_of_the_original():
    block = random_trunk().blocks[0]
    assert block.norm_attention.eps == block.norm_mlp.eps == random_trunk().norm.eps == 1e-5


def test_init_scales_weights_with_deepnorm_alone():
    for do_deepnorm, factor in ((True, 0.5), (False, 1.0)):
        config = dataclasses.replace(TINY, do_deepnorm=do_deepnorm)
        torch.manual_seed(1)
        plain = Transformer(dataclasses.replace(config, beta_deepnorm=1.0)).blocks[0]
        torch.manual_seed(1)
        scaled = Transformer(dataclasses.replace(config, beta_deepnorm=0.5)).blocks[0]
        assert torch.equal(scaled.mlp.up.weight, factor * plain.mlp.up.weight)
        assert torch.equal(scaled.attention.out.weight, factor * plain.attention.out.weight)
        assert torch.equal(scaled.attention.qkv.weight[:32], plain.attention.qkv.weight[:32])
