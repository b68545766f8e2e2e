from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omar_rq import quantizers
from omar_rq.config import QuantizerConfig
from omar_rq.quantizers import FiniteScalarQuantizer, RandomProjectionQuantizer, build_quantizers
from pentatonic.errors import ConfigError, UsageError

FSQ_TAGS = ["l6_mel", "l6_cqt", "l6_enc_seed1", "l4", "l5", "l6_nosym", "l875_nosym", "noproj"]


def build_random(config):
    return RandomProjectionQuantizer(
        config["input_dim"],
        config["codebook_size"],
        config["codebook_dim"],
        config["seed"],
        config["diff_input"],
    )


@pytest.mark.parametrize("case", ["rpq_tokens", "rpq_tokens_small", "rpq_tokens_diff_input"])
def test_random_projection_golden(case, golden, golden_weights):
    io, meta = golden(case)
    quantizer = build_random(meta["config"])
    state = quantizer.state_dict()
    assert set(state) == {"random_projection", "codebook"}
    for name, value in golden_weights(case).items():
        assert torch.equal(state[name], value)
    clear = io["distance_margin"] > 1e-5 if "distance_margin" in io else torch.ones_like(io["tokens"]).bool()
    tokens = quantizer(io["x"])
    assert tokens.dtype == torch.int64
    assert clear.sum() > 40
    assert torch.equal(tokens[clear], io["tokens"][clear])


def test_random_projection_release_codebook(golden):
    io, meta = golden("rpq_tokens")
    codebook = build_random(meta["config"]).codebook
    assert torch.equal(codebook[:128], io["codebook_first128"])
    assert torch.allclose(codebook.sum(1), io["codebook_row_sums"], atol=1e-5, rtol=0)


def test_search_in_chunks_equals_one_search(golden, monkeypatch):
    io, meta = golden("rpq_tokens_small")
    quantizer = build_random(meta["config"])
    whole = quantizer(io["x"])
    monkeypatch.setattr(quantizers, "_SEARCH_ELEMENTS", 7 * quantizer.codebook_size)
    assert torch.equal(quantizer(io["x"]), whole)


def test_search_memory_is_bounded(monkeypatch):
    largest = []
    argmax = torch.Tensor.argmax
    monkeypatch.setattr(
        torch.Tensor, "argmax", lambda x, *args, **kw: largest.append(x.numel()) or argmax(x, *args, **kw)
    )
    quantizer = RandomProjectionQuantizer(4, codebook_size=64, codebook_dim=2)
    monkeypatch.setattr(quantizers, "_SEARCH_ELEMENTS", 640)
    quantizer(torch.randn(2, 55, 4))
    assert max(largest) <= 640
    assert sum(largest) == 110 * 64


def test_loaded_codebook_is_searched(golden):
    io, meta = golden("rpq_tokens_small")
    source = build_random(meta["config"])
    other = build_random({**meta["config"], "seed": 77})
    assert not torch.equal(other(io["x"]), io["tokens"])
    torch.nn.ModuleList([other]).load_state_dict({f"0.{k}": v for k, v in source.state_dict().items()})
    assert torch.equal(other(io["x"]), io["tokens"])


def test_random_projection_ignores_autocast_and_casts(golden):
    io, meta = golden("rpq_tokens")
    quantizer = build_random(meta["config"]).to(torch.bfloat16)
    assert quantizer.codebook.dtype == torch.float32
    clear = io["distance_margin"] > 1e-5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(quantizer(io["x"])[clear], io["tokens"][clear])


def build_scalar(config):
    return FiniteScalarQuantizer(
        config["dim"], config["levels"], config["seed"], preserve_symmetry=config["preserve_symmetry"]
    )


@pytest.mark.parametrize("tag", FSQ_TAGS)
def test_finite_scalar_golden(tag, golden, golden_weights):
    io, meta = golden("fsq_tokens")
    config = meta["config"][tag]
    quantizer = build_scalar(config)
    state = quantizer.state_dict()
    stored = {k: v for k, v in golden_weights("fsq_tokens").items() if k.startswith(tag + ".")}
    assert (tag == "noproj") == (not stored)
    for name, value in stored.items():
        torch.testing.assert_close(state[name.removeprefix(tag + ".")], value, atol=0, rtol=0)
    projections = [f"project_{way}.{kind}" for way in ("in", "out") for kind in ("weight", "bias")]
    assert set(state) == (set() if tag == "noproj" else set(projections))
    x, tokens = io[f"{tag}.x"], io[f"{tag}.tokens"]
    torch.testing.assert_close(quantizer.project_in(x), io[f"{tag}.z"], atol=1e-6, rtol=0)
    assert torch.equal(quantizer(x), tokens)
    assert quantizer.codebook_size == config["codebook_size"]
    torch.testing.assert_close(quantizer.codes(tokens), io[f"{tag}.codes"], atol=1e-6, rtol=0)
    probe = io[f"{tag}.index_probe"]
    torch.testing.assert_close(quantizer.codes(probe), io[f"{tag}.index_probe_codes"], atol=1e-6, rtol=0)


@given(levels=st.lists(st.integers(2, 9), min_size=1, max_size=4), symmetric=st.booleans())
@settings(max_examples=30, deadline=None)
def test_codes_quantise_back_to_their_token(levels, symmetric):
    quantizer = FiniteScalarQuantizer(len(levels), levels, preserve_symmetry=symmetric)
    tokens = torch.arange(quantizer.codebook_size)[:: max(1, quantizer.codebook_size // 50)]
    codes = quantizer.codes(tokens)
    # The latent that each bound maps exactly onto the code.
    if symmetric:
        z = torch.atanh(codes.clamp(-0.9999, 0.9999))
    else:
        count = torch.tensor(levels)
        half_range, offset = (count - 1) * 1.001 / 2, 0.5 * (count % 2 == 0)
        z = torch.atanh((codes * (count // 2) + offset) / half_range) - torch.atanh(offset / half_range)
    assert torch.equal(quantizer(z), tokens)
    assert codes.unique(dim=0).shape[0] == len(tokens)


def test_decode_projects_codes_out():
    quantizer = FiniteScalarQuantizer(12, [4, 4, 4], seed=3)
    tokens = torch.tensor([[0, 21, 63]])
    decoded = quantizer.decode(tokens)
    assert decoded.shape == (1, 3, 12)
    expected = quantizer.codes(tokens) @ quantizer.project_out.weight.T + quantizer.project_out.bias
    torch.testing.assert_close(decoded, expected)


@pytest.mark.parametrize("token", [-1, 64])
def test_codes_reject_unknown_tokens(token):
    with pytest.raises(UsageError, match="allowed: 0 to 63"):
        FiniteScalarQuantizer(12, [4, 4, 4]).codes(torch.tensor([0, token]))


@pytest.mark.parametrize("levels", [[], [6, 1]])
def test_levels_below_two_are_refused(levels):
    with pytest.raises(ConfigError, match="fsq_levels"):
        FiniteScalarQuantizer(12, levels)


def test_finite_scalar_ignores_autocast_and_casts(golden):
    io, meta = golden("fsq_tokens")
    quantizer = build_scalar(meta["config"]["l6_mel"]).to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(quantizer(io["l6_mel.x"]), io["l6_mel.tokens"])


@pytest.mark.parametrize("config", [
    QuantizerConfig(num_codebooks=2, codebook_size=32, seed=4),
    QuantizerConfig(type="finite_scalar_quantizer", num_codebooks=2, codebook_size=7776, seed=4),
])  # fmt: skip
def test_building_leaves_the_global_random_state_alone(config):
    before = torch.get_rng_state()
    first, second = build_quantizers(config, 24)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(p.requires_grad for p in first.parameters())
    x = torch.randn(2, 50, 24, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(first(x), second(x))
    again = build_quantizers(config, 24)[1]
    assert torch.equal(again(x), second(x))


def test_codebook_c_has_seed_plus_c():
    config = QuantizerConfig(num_codebooks=3, codebook_size=32, seed=4)
    assert torch.equal(
        build_quantizers(config, 24)[2].codebook, RandomProjectionQuantizer(24, 32, seed=6).codebook
    )


def test_scalar_codebook_size_is_derived_with_a_warning():
    config = QuantizerConfig(type="finite_scalar_quantizer", codebook_size=7776, fsq_levels=(5,) * 5)
    with pytest.warns(UserWarning, match="7776.*3125"):
        (quantizer,) = build_quantizers(config, 24)
    assert quantizer.codebook_size == 3125


def test_quantisers_get_real_tensors_when_the_rest_has_none():
    with torch.device("meta"):
        built = [RandomProjectionQuantizer(8, 16), FiniteScalarQuantizer(8, [3, 3])]
    for quantizer in built:
        assert quantizer(torch.randn(1, 2, 8)).device.type == "cpu"
