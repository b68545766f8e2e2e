"""The conformer block against recorded values of the original, and what must hold for any conformer."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from omar_rq.config import ConformerConfig, MelFrontendConfig, ModelConfig
from omar_rq.conformer import BRANCH_NORM_EPS, CONV_CONTEXT, Conformer, Rotary, sinusoidal_table
from omar_rq.weights import key_map
from pentatonic.attention import Causal, KVCache, attention
from pentatonic.errors import ConfigError
from pentatonic.rope import apply_rope, rope_frequencies, rope_table

TINY = ConformerConfig(embed_dim=16, depth=1, num_heads=2)
CASES = {
    "conformer_block_deepnorm_rope": TINY,
    "conformer_block_plain_rope": dataclasses.replace(TINY, use_deepnorm=False),
    "conformer_block_sinusoidal_1head": dataclasses.replace(
        TINY, num_heads=1, mlp_residual_factor=0.5, use_deepnorm=False, use_rope=False
    ),
}


def trunk_with(weights, config) -> Conformer:
    """A trunk of one block that holds the recorded tensors."""
    keys = key_map(ModelConfig(input=MelFrontendConfig(), net=config))
    ours = keys.to_ours({f"net.layers.0.{k}": v for k, v in weights.items() if "rotary" not in k})
    trunk = Conformer(config).eval()
    trunk.load_state_dict({key.removeprefix("trunk."): value for key, value in ours.items()})
    return trunk


def random_trunk(**changes) -> Conformer:
    """Two blocks with weights large enough that every part matters, batch statistics included."""
    torch.manual_seed(0)
    trunk = Conformer(dataclasses.replace(TINY, depth=2, beta_deepnorm=1.0, **changes)).eval()
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)
            nn.init.normal_(module.bias)
    return trunk


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_block_equals_the_recorded_one(case, golden, golden_weights):
    io, _ = golden(case)
    trunk = trunk_with(golden_weights(case), CASES[case])
    torch.testing.assert_close(trunk(io["x"])[0], io["out"], rtol=0, atol=5e-6)


@pytest.mark.parametrize("case", ["conformer_block_deepnorm_rope", "conformer_block_plain_rope"])
@torch.no_grad()
def test_parts_of_the_block_equal_the_recorded_ones(case, golden, golden_weights):
    io, _ = golden(case)
    trunk = trunk_with(golden_weights(case), CASES[case])
    block, code = trunk.blocks[0], trunk.position_code(torch.arange(37))
    got = {
        "ff1": block.ff1(io["x"]),
        "after_ff1": io["x"] + block.residual_factor * block.ff1(io["x"]),
        "attention": block.attention(io["after_ff1"], code, Causal()),
        "after_attention": block.attend(io["x"], code, Causal()),
        "conv": block.conv(io["after_attention"]),
        "ff2": block.ff2(io["after_attention"] + io["conv"]),
        "out": block.finish(io["after_attention"], io["conv"]),
    }
    for name, value in got.items():
        torch.testing.assert_close(value, io[name], rtol=0, atol=5e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_deepnorm_residual_equals_the_recorded_one(golden, golden_weights):
    io, meta = golden("deepnorm")
    weights = golden_weights("deepnorm")
    block = Conformer(dataclasses.replace(TINY, alpha_deepnorm=meta["config"]["alpha"])).blocks[0]
    norm = block.norm_attention
    norm.load_state_dict({name: weights[f"layer_norm.{name}"] for name in ("weight", "bias")})
    torch.testing.assert_close(norm(block.alpha * io["x"] + io["gx"]), io["out"], rtol=0, atol=1e-6)


def test_rotary_code_equals_the_recorded_one(golden):
    io, meta = golden("rope")
    code = Rotary(*rope_table(torch.arange(37), meta["config"]["dim"]))
    torch.testing.assert_close(code(io["x"]), io["out"], rtol=0, atol=1e-6)
    assert torch.equal(rope_frequencies(meta["config"]["dim"]), io["freqs_param"])


def test_sinusoidal_table_equals_the_recorded_one(golden):
    io, _ = golden("conformer_block_sinusoidal_1head")
    assert torch.equal(sinusoidal_table(torch.arange(16), 16), io["encodings_first16"])


def test_norm_eps_is_that_of_the_original():
    block = Conformer(TINY).blocks[0]
    branch = (block.ff1.norm, block.ff2.norm, block.conv.norm, block.conv.batch_norm)
    assert [norm.eps for norm in branch] == [6.1e-5] * 4 == [BRANCH_NORM_EPS] * 4
    assert block.norm_attention.eps == block.norm_out.eps == 1e-5
    assert block.conv.batch_norm.momentum == 0.1


@torch.no_grad()
def test_early_exit_gives_the_same_bits():
    trunk = random_trunk()
    x = torch.randn(2, 20, 16)
    everything, outputs = trunk(x, layers=(0, 1))
    first, only = trunk(x, layers=(0,))
    assert torch.equal(first, outputs[0]) and torch.equal(only[0], outputs[0])
    assert torch.equal(everything, outputs[1]) and torch.equal(trunk(x)[1][0], everything)


def test_early_exit_runs_no_later_block():
    trunk = random_trunk()
    trunk.blocks[1].forward = lambda *_: pytest.fail("block 1 ran")
    trunk(torch.randn(1, 4, 16), layers=(0,))


@torch.no_grad()
def test_one_layer_looks_15_tokens_ahead_and_no_further():
    trunk = random_trunk()
    x = torch.randn(1, 60, 16)
    changed = x.clone()
    changed[0, 40] += 1.0
    differs = (trunk(x, layers=(0,))[0] != trunk(changed, layers=(0,))[0]).any(-1)[0]
    assert differs.nonzero().min() == 40 - CONV_CONTEXT


@pytest.mark.parametrize("changes", [{}, {"causal": False}, {"use_rope": False, "causal": False}])
@torch.no_grad()
def test_padded_rows_give_what_they_give_alone(changes):
    trunk = random_trunk(**changes)
    lengths = [33, 12, 1]
    rows = [torch.randn(n, 16) for n in lengths]
    padded = torch.full((3, 33, 16), 7.0)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    together = trunk(padded, lengths=torch.tensor(lengths))[0]
    for i, row in enumerate(rows):
        torch.testing.assert_close(together[i, : len(row)], trunk(row[None])[0][0], rtol=0, atol=2e-6)


@torch.no_grad()
def test_bidirectional_attention_sees_the_future():
    x = torch.randn(1, 60, 16)
    changed = x.clone()
    changed[0, 59] += 1.0
    for causal, reached in ((True, 59 - CONV_CONTEXT), (False, 0)):
        trunk = random_trunk(causal=causal)
        differs = (trunk(x, layers=(0,))[0] != trunk(changed, layers=(0,))[0]).any(-1)[0]
        assert differs.nonzero().min() == reached


@torch.no_grad()
def test_parts_can_be_driven_piece_by_piece():
    """Keys and gated tokens of earlier pieces are enough to continue: what a streaming encoder relies on."""
    trunk = random_trunk()
    block, x = trunk.blocks[0], torch.randn(1, 50, 16)
    cache = KVCache(1, 2, 50, 8)
    attended = []
    for start, piece in zip((0, 20, 23), x.split([20, 3, 27], dim=1), strict=True):
        code = trunk.position_code(torch.arange(start, start + piece.shape[1]))
        attended.append(block.attend(piece, code, Causal(), cache))
    attended = torch.cat(attended, dim=1)
    gated = nn.functional.pad(block.conv.gate(attended), (0, 0, CONV_CONTEXT, CONV_CONTEXT))
    mixed = [block.conv.mix(gated[:, i : i + 10 + 2 * CONV_CONTEXT]) for i in range(0, 50, 10)]
    out = block.finish(attended, torch.cat(mixed, dim=1))
    torch.testing.assert_close(out, trunk(x, layers=(0,))[0], rtol=0, atol=2e-6)


@torch.no_grad()
def test_positions_are_exact_in_bfloat16():
    """Rounded positions would give 257 the code of 256: relative phases must stay those of float32."""
    code = random_trunk().position_code(torch.arange(250, 260))
    x = torch.ones(1, 1, 10, 8)
    exact = apply_rope(x, *rope_table(torch.arange(250, 260), 8), style="interleaved")
    assert torch.equal(code(x.bfloat16()), exact.bfloat16())
    trunk = random_trunk().bfloat16()
    out, _ = trunk(torch.randn(1, 300, 16, dtype=torch.bfloat16))
    assert out.dtype == torch.bfloat16 and out.isfinite().all()


def test_rounded_positions_are_those_of_the_original_under_autocast():
    config = ConformerConfig(embed_dim=16, depth=1, num_heads=2)
    rounded = Conformer(dataclasses.replace(config, rope_positions="bf16"))
    positions = torch.tensor([0, 255, 256, 257, 259, 260, 511, 512, 748, 749, 759, 760])
    heard = torch.tensor([0, 255, 256, 256, 260, 260, 512, 512, 748, 748, 760, 760])
    code, exact = rounded.position_code(positions), Conformer(config).position_code(heard)
    assert isinstance(code, Rotary) and isinstance(exact, Rotary)
    assert code.cos.dtype == torch.float32
    assert torch.equal(code.cos, exact.cos) and torch.equal(code.sin, exact.sin)
    with pytest.raises(ConfigError, match="rope_positions"):
        dataclasses.replace(config, rope_positions="fp16")


def test_init_scales_what_deepnorm_scales():
    torch.manual_seed(1)
    plain = Conformer(dataclasses.replace(TINY, beta_deepnorm=1.0)).state_dict()
    torch.manual_seed(1)
    scaled = Conformer(dataclasses.replace(TINY, beta_deepnorm=0.5)).state_dict()
    changed = {key for key in plain if not torch.equal(plain[key], scaled[key])}
    parts = ("ff1.up", "ff1.down", "ff2.up", "ff2.down", "attention.qkv", "attention.out")
    assert changed == {f"blocks.0.{part}.weight" for part in parts}
    for key in changed - {"blocks.0.attention.qkv.weight"}:
        assert torch.equal(scaled[key], 0.5 * plain[key])
    factor = torch.ones(48, 1)
    factor[32:] = 0.5
    key = "blocks.0.attention.qkv.weight"
    assert torch.equal(scaled[key], factor * plain[key])


def test_dropout_acts_in_training_only():
    trunk = Conformer(TINY)
    x = torch.randn(1, 8, 16)
    assert not torch.equal(trunk.train()(x)[0], trunk(x)[0])
    assert torch.equal(trunk.eval()(x)[0], trunk(x)[0])


@pytest.mark.parametrize("changes", [{}, {"use_rope": False}, {"causal": False}])
@torch.no_grad()
def test_the_attention_kernels_give_the_same_embeddings(changes, monkeypatch):
    pytest.importorskip("triton")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    trunk = random_trunk(**changes).to(device)
    x = torch.randn(2, 19, 16, generator=torch.Generator().manual_seed(2)).to(device)
    lengths = torch.tensor([19, 11], device=device)
    expected, _ = trunk(x, lengths=lengths)
    used = []

    def by_kernels(*tensors, **options):
        used.append(options["rope"])
        return attention(*tensors, backend="triton", **options)

    monkeypatch.setattr("omar_rq.conformer.attention", by_kernels)
    got, _ = trunk(x, lengths=lengths)
    assert [rope is not None for rope in used] == [changes.get("use_rope", True)] * 2
    torch.testing.assert_close(got[0], expected[0], rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(got[1, :11], expected[1, :11], rtol=1e-5, atol=2e-5)
