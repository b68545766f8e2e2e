"""Characters that are guessed and checked beside characters that are drawn in turn."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from notagen.codec import BOS, EOS
from notagen.generation import drafting
from notagen.generation.decoding import Limits, Request, generate
from notagen.generation.drafting import drafter_for
from notagen.generation.patch_drawing import sample_patches
from notagen.generation.sampling import Sampling
from notagen.model import CharDecoder, NotaGen, NotaGenConfig
from notagen.quantize import eight_bit_copy
from notagen.weights import load_file

WEIGHTS = Path(__file__).parent / "goldens" / "generation_e2e" / "weights.safetensors"
HEADER = "%%score 1 2\nL:1/8\nM:4/4\nK:C\nV:1\nV:2\n"
SAMPLINGS = [Sampling(), Sampling(top_k=0, top_p=0.98, temperature=1.5), Sampling(compat=True)]


def small_model(seed):
    torch.manual_seed(seed)
    model = NotaGen(NotaGenConfig(patch_layers=1, char_layers=2, width=64, heads=2, patch_length=64)).eval()
    with torch.no_grad():  # small weights would make all characters about as likely
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4)
    return model


@pytest.fixture(scope="module")
def model():
    return small_model(0)


@pytest.fixture
def passes(monkeypatch):
    """Rows of each pass of a character decoder over whole patches."""
    calls, inner = [], CharDecoder.forward

    def forward(self, vectors, targets):
        calls.append(len(vectors))
        return inner(self, vectors, targets)

    monkeypatch.setattr(CharDecoder, "forward", forward)
    return calls


def patches_of(model, known, sampling=SAMPLINGS[0], **options):
    vectors = torch.randn(len(known), 64, generator=torch.Generator().manual_seed(5))
    rngs = [np.random.RandomState(seed) for seed in range(len(known))]
    patches = sample_patches(model, vectors, known, rngs, sampling, **options)
    return patches, [rng.random_sample() for rng in rngs]


DRAFTERS = {
    "the same": lambda model: copy.deepcopy(model.char_decoder),
    "rounded": lambda model: eight_bit_copy(model.char_decoder),
    "another": lambda model: small_model(1).char_decoder,
}


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("drafter", DRAFTERS)
@pytest.mark.parametrize(
    "known",
    [[[]], [[65, 66]], [[]] * 8, [[], [*range(40, 56)], [65], [66, EOS], [BOS, EOS], [*range(40, 55)]]],
)
def test_patches_are_those_drawn_in_turn(model, known, drafter, sampling, passes):
    expected = patches_of(model, known, sampling)
    assert not passes
    assert patches_of(model, known, sampling, drafter=DRAFTERS[drafter](model)) == expected
    assert passes
    if drafter == "the same":
        assert passes == [len(known)]


def test_some_of_the_cases_end_early_and_some_do_not(model):
    lengths = {len(patch) for patch in patches_of(model, [[]] * 64)[0]}
    assert min(lengths) < 8
    assert max(lengths) == 16


def test_each_pass_settles_a_character_at_least(model, passes):
    with torch.no_grad():
        wrong = small_model(1).char_decoder
        wrong.embed.weight.mul_(-1)
    patches, _ = patches_of(model, [[]] * 8, drafter=wrong)
    assert passes[0] == 8
    assert len(passes) <= max(map(len, patches))
    assert passes == sorted(passes, reverse=True)


@pytest.mark.parametrize("constrained", [False, True])
def test_pieces_are_the_same(monkeypatch, passes, constrained):
    trained = load_file(WEIGHTS)
    requests = [Request(HEADER, seed=seed) for seed in range(4)]
    options = {"limits": Limits(patches=10), "batch_size": 2, "constrained": constrained}
    monkeypatch.setattr(drafting, "has_integer_products", lambda: False)
    expected = generate(trained, requests, **options)
    before = len(passes)
    monkeypatch.setattr(drafting, "has_integer_products", lambda: True)
    monkeypatch.setattr(drafting, "_FEWEST_WEIGHTS", 0)
    assert generate(trained, requests, **options) == expected
    assert len(passes) > 2 * before


def test_where_guesses_save_time(model, monkeypatch):
    monkeypatch.setattr(drafting, "has_integer_products", lambda: True)
    assert drafter_for(model, 1) is None
    monkeypatch.setattr(drafting, "_FEWEST_WEIGHTS", 100_000)
    assert isinstance(drafter_for(model, 2), CharDecoder)
    assert drafter_for(model, 3) is None
    assert drafter_for(copy.deepcopy(model).bfloat16(), 1) is None
    assert drafter_for(copy.deepcopy(model).to("meta"), 1) is None
    narrow = NotaGen(NotaGenConfig(patch_layers=1, char_layers=3, width=104, heads=2, patch_length=4))
    assert drafter_for(narrow, 1) is None
    monkeypatch.setattr(drafting, "has_integer_products", lambda: False)
    assert drafter_for(model, 1) is None
