"""The model against recorded numbers, and its cached against its plain computation."""

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file as load_golden

from notagen.codec import encode_train
from notagen.model import DecoderCache, NotaGen, NotaGenConfig
from notagen.weights import load_file
from pentatonic.attention import attention, decode_attention
from pentatonic.errors import ConfigError, UsageError

GOLDENS = Path(__file__).parent / "goldens"
TINY = NotaGenConfig(patch_layers=2, char_layers=2, width=32, heads=4, patch_length=12)


@pytest.fixture(scope="module", params=["model_tiny_a", "model_tiny_b"])
def golden(request):
    directory = GOLDENS / request.param
    meta = json.loads((directory / "meta.json").read_text())
    model = load_file(directory / "weights.safetensors", heads=meta["config"]["num_heads"])
    return model, load_golden(directory / "io.safetensors"), meta


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return NotaGen(TINY).eval()


def random_patches(*shape):
    return torch.randint(3, 128, (*shape, 16), generator=torch.Generator().manual_seed(1))


def close(value, expected):
    torch.testing.assert_close(value.detach(), expected, atol=2e-5, rtol=1e-5)


def test_hidden_states_as_recorded(golden):
    model, io, meta = golden
    assert model.config.patch_length == meta["config"]["patch_length"]
    real = io["masks"].bool()
    close(model.patch_decoder(io["patches"])[real], io["patch_hidden"][real])
    close(model.patch_decoder(io["ctx_patches"][None])[0, -1], io["ctx_hidden_last"])


def test_char_logits_as_recorded(golden):
    model, io, _ = golden
    real = io["masks"][:, 1:].bool()
    vectors = model.patch_decoder(io["patches"])[:, :-1][real][:12]
    targets = io["patches"][:, 1:][real][:12]
    logits = model.char_decoder(vectors, targets)
    meaningful = torch.cat((torch.ones(12, 1, dtype=torch.bool), targets != 0), dim=1)
    close(logits[meaningful], io["char_logits"][meaningful])


def test_next_character_distribution_as_recorded(golden):
    model, io, _ = golden
    vector = model.patch_decoder(io["ctx_patches"][None])[:, -1]
    logits = model.char_decoder(vector, io["teacher_next_patch"][None, :15])
    close(logits[0].softmax(-1), io["next_char_probs"])


def test_loss_as_recorded(golden):
    model, io, _ = golden
    patches, masks = io["patches"], io["masks"]
    before = masks.clone()
    rel = {"rtol": 1e-5, "atol": 0}
    torch.testing.assert_close(model.loss(patches, masks).detach(), io["loss"][0], **rel)
    each = [model.loss(patches[i : i + 1], masks[i : i + 1]) for i in range(len(patches))]
    torch.testing.assert_close(torch.stack(each).detach(), io["loss_per_piece"], **rel)
    sums = model.log_probabilities(patches, masks).detach()
    torch.testing.assert_close(sums, io["sum_logprob_per_piece"], **rel)
    assert torch.equal(masks, before)


def test_batch_is_what_the_codec_gives(golden):
    _, io, meta = golden
    random.seed(meta["python_random_seed_for_encoding"])
    pieces = [encode_train(text, meta["config"]["patch_length"]) for text in meta["texts"]]
    for patches, ids, mask in zip(pieces, io["patches"], io["masks"], strict=True):
        assert patches == ids[mask.bool()].tolist()


def test_every_weight_is_trained(tiny):
    patches = random_patches(1, 12)
    tiny.loss(patches, torch.ones(1, 12)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in tiny.parameters())


def test_fresh_weights_are_scaled_by_depth():
    torch.manual_seed(0)
    model = NotaGen(NotaGenConfig(patch_layers=8, char_layers=2, width=64, heads=1, patch_length=4))
    block = model.patch_decoder.trunk.blocks[0]
    assert block.mlp.up.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert block.mlp.down.weight.std().item() == pytest.approx(0.005, rel=0.05)
    assert model.char_decoder.trunk.blocks[1].attention.out.weight.std().item() == pytest.approx(
        0.01, rel=0.05
    )
    assert not block.mlp.up.bias.any()


@torch.no_grad()
def test_cache_step_by_step_equals_the_whole(tiny, monkeypatch):
    monkeypatch.setattr("notagen.model._FIRST_TOKENS", 1)  # so that it grows
    patches = random_patches(2, 12)
    cache = DecoderCache(tiny.patch_decoder.trunk, 2)
    steps = [tiny.patch_decoder(patches[:, :5], cache)]
    steps += [tiny.patch_decoder(patches[:, i : i + 1], cache) for i in range(5, 12)]
    torch.testing.assert_close(torch.cat(steps, 1), tiny.patch_decoder(patches))
    assert cache.lengths == [12, 12]


@torch.no_grad()
def test_cache_with_rows_of_different_lengths(tiny, monkeypatch):
    monkeypatch.setattr("notagen.model._FIRST_TOKENS", 3)
    patches = random_patches(3, 8)
    whole = tiny.patch_decoder(patches)
    cache = DecoderCache(tiny.patch_decoder.trunk, 3)
    lengths = [2, 6, 4]
    for row, length in enumerate(lengths):
        tiny.patch_decoder(patches[row, None, :length], cache.row(row, length))
        cache.lengths[row] = length
    for step in range(2):
        new = torch.stack([patches[row, length + step] for row, length in enumerate(lengths)])[:, None]
        hidden = tiny.patch_decoder(new, cache)[:, 0]
        for row, length in enumerate(lengths):
            torch.testing.assert_close(hidden[row], whole[row, length + step])
    cache.drop(0)  # row 2 becomes row 0
    assert cache.lengths == [6, 8]
    hidden = tiny.patch_decoder(patches[2, None, 6:7].repeat(2, 1, 1), cache)
    torch.testing.assert_close(hidden[0, 0], whole[2, 6])


def test_too_long_contexts_are_refused(tiny):
    with pytest.raises(UsageError, match="13 tokens are more than the 12 positions"):
        tiny.patch_decoder(random_patches(1, 13))


def test_wrong_shapes_are_refused(tiny):
    with pytest.raises(UsageError, match=r"mask \(B, N\)"):
        tiny.loss(random_patches(1, 5), torch.ones(1, 4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 30}, "not a multiple of 4 heads"),
        ({"heads": 0}, "heads is 0; allowed: whole numbers from 1 up to"),
        ({"dropout": 1.0}, "dropout"),
        ({"layers": 3}, "allowed: patch_layers"),
    ],
)
def test_wrong_configurations_are_refused(change, message):
    assert NotaGenConfig.from_dict(TINY.to_dict()) == TINY
    with pytest.raises(ConfigError, match=message):
        NotaGenConfig.from_dict({**TINY.to_dict(), **change})


@torch.no_grad()
def test_the_attention_kernels_give_the_same_numbers(tiny, monkeypatch):
    pytest.importorskip("triton")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tiny.to(device)
    patches = random_patches(2, 9).to(device)

    def run():
        whole = tiny.patch_decoder(patches)
        cache, steps = DecoderCache(tiny.patch_decoder.trunk, 2), []
        cache.lengths = [0, 2]  # rows of different lengths
        for start, stop in ((0, 3), (3, 4), (4, 9)):
            steps.append(tiny.patch_decoder(patches[:, start:stop], cache))
        return whole, torch.cat(steps, dim=1)

    expected = run()
    used = []
    for name, function in (("attention", attention), ("decode_attention", decode_attention)):

        def by_kernels(*tensors, function=function, name=name, **options):
            options.pop("dropout_p", None)
            used.append(name)
            return function(*tensors, backend="triton", **options)

        monkeypatch.setattr(f"notagen.model.{name}", by_kernels)
    for a, b in zip(run(), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-5)
    assert set(used) == {"attention", "decode_attention"}
