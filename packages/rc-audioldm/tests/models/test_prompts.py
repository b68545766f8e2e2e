"""Files of prompts, words that are added to them, tokens, and prompts encoded by themselves."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2Model

from pentatonic.checkpoint import load_tensors, save_tensors
from pentatonic.errors import InputError, UsageError
from rc_audioldm.legacy.augmentation import augmented_prompt, path_words
from rc_audioldm.prompts import tokens
from rc_audioldm.prompts.augmentation import LabelledNeighbour, augment, style_words
from rc_audioldm.prompts.conditions import Condition, unet_inputs
from rc_audioldm.prompts.encoder import PromptEncoder
from rc_audioldm.prompts.files import read_prompts
from rc_audioldm.prompts.language_states import language_states
from rc_audioldm.weights import load_directory

RULES = json.loads((Path(__file__).parent.parent / "goldens/text_rules/io.json").read_text(encoding="utf-8"))


def test_a_file_of_prompts(tmp_path: Path) -> None:
    path, case = tmp_path / "prompts.txt", RULES["read_prompts_bom"]
    path.write_text(case["file"], encoding="utf-8")
    assert read_prompts(path) == case["retrieval_scripts"]
    path.write_bytes(b"\xef\xbb\xbfa \xff b\r\n\t#no\r\n\r\n\xef\xbb\xbf  c\n")
    assert read_prompts(path) == ["a  b", "c"]


@pytest.mark.parametrize("content", [b"", b"# only\n\n", b"a" * 10_001])
def test_files_without_usable_prompts(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"prompts\.txt"):
        read_prompts(path)
    with pytest.raises(InputError, match="missing"):
        read_prompts(tmp_path / "none.txt")


def test_the_words_of_paths_and_prompts_of_the_original() -> None:
    for version in (1, 2):
        for path, expected in RULES[f"tags_v{version}"].items():
            assert path_words(path, version) == expected  # type: ignore[arg-type]
    paths = [[each["path"] for each in row["neighbors"]] for row in RULES["neighbors"]] + [[]]
    for index, prompt in enumerate(RULES["base_prompts"]):
        own = paths[index]
        assert augmented_prompt(prompt, own, 1) == RULES["augmented_v1"][index]
        assert augmented_prompt(prompt, own, 2) == RULES["augmented_v2"][index]
        prior = augmented_prompt(prompt, own, 2, neighbours=2, text_prior="instrumental music, no vocals")
        assert prior == RULES["augmented_v2_prior"][index]
    with pytest.raises(UsageError, match="allowed: 1, 2"):
        path_words("x", 3)  # type: ignore[arg-type]


def test_words_of_labels() -> None:
    neighbours = [
        LabelledNeighbour(["Music", "Bowed_string_instrument", "Male_singing"], 0.5),
        LabelledNeighbour(["Piano", "Keyboard_(musical)", "music"], 0.3),
        LabelledNeighbour(["Piano", "White_noise", "Cello"], 0.25),
    ]
    expected = ["music", "piano", "bowed string instrument", "keyboard musical"]
    assert style_words("a solo cello", neighbours) == expected
    assert style_words("music for piano", neighbours, most=1) == ["bowed string instrument"]
    assert style_words("x", neighbours, most=0) == []
    assert "cello" not in style_words("a solo cello", neighbours)
    assert not {"male singing", "white noise"} & set(style_words("x", neighbours, most=99))
    with pytest.raises(UsageError, match="most style words"):
        style_words("x", neighbours, most=-1)


def test_labels_with_more_weight_come_first() -> None:
    neighbours = [
        LabelledNeighbour(["Flute"], 0.4),
        LabelledNeighbour(["Harp"], 0.3),
        LabelledNeighbour(["Harp"], 0.3),
    ]
    assert style_words("x", neighbours) == ["harp", "flute"]


def test_words_are_added_as_far_as_they_fit() -> None:
    assert augment("p", ["aa", "bbbb", "c"], lambda text: len(text) <= 8) == "p, aa, c"
    assert augment("p", []) == "p"


class Broken:
    """A tokenizer without merges, as some versions of the library read it."""

    model_max_length = 10**30
    pad_token_id = None

    def __call__(self, text: str, **_: Any) -> Any:
        return {"input_ids": [ord(character) for character in text]}

    def __len__(self) -> int:
        return 300


def test_the_limit_of_tokens() -> None:
    assert tokens.token_limit(Broken(), 38) == 38  # type: ignore[arg-type]
    assert tokens.token_limit(SimpleNamespace(model_max_length=16), 38) == 16  # type: ignore[arg-type]
    with pytest.raises(InputError, match="characters"):
        tokens.tokenize(Broken(), "x" * 100_001, 10)  # type: ignore[arg-type]


def test_each_text_is_encoded_once(directories: Any, family: str) -> None:
    model = load_directory(directories(family))
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    handles = [module.register_forward_hook(count) for module in model.modules().values()]
    encoder = PromptEncoder(model)
    first = encoder.encode("slow warm strings")
    once = calls
    assert once > 0 or family == "audioldm2"
    assert encoder.encode("slow warm strings").states is first.states
    encoder.encode_negative("", "slow warm strings")
    twice = calls
    encoder.encode_negative("", "slow warm strings")
    assert calls == twice
    for handle in handles:
        handle.remove()


def test_another_clap_vector_in_the_place_of_the_text(directories: Any, family: str) -> None:
    encoder = PromptEncoder(load_directory(directories(family)))
    plain = encoder.encode("drum")
    own = encoder.encode("drum", clap=encoder.clap("drum"))
    other = encoder.encode("drum", clap=torch.nn.functional.normalize(torch.ones(16), dim=0))
    for name in ("vector", "states", "text"):
        value = getattr(plain, name)
        assert value is None or torch.equal(value, getattr(own, name))
    changed = "vector" if family == "audioldm" else "states"
    assert not torch.allclose(getattr(plain, changed), getattr(other, changed), atol=1e-3)
    with pytest.raises(UsageError, match="norm 1"):
        encoder.encode("drum", clap=torch.ones(16))
    with pytest.raises(UsageError, match="shape"):
        encoder.encode("drum", clap=torch.ones(3))


def test_longer_prompts_are_cut_at_the_limit(directories: Any) -> None:
    encoder = PromptEncoder(load_directory(directories("audioldm2")))
    long = "a solo piano melody in a small room " * 50
    assert encoder.text_length(long) == 30
    assert encoder.encode(long).states.shape == (8, 12)  # type: ignore[union-attr]


def test_whether_a_prompt_is_read_to_its_end(directories: Any, family: str) -> None:
    encoder = PromptEncoder(load_directory(directories(family)))
    assert encoder.fits("a solo piano melody")
    words = style_words(
        "drum", [LabelledNeighbour(["piano", "flute", "cello", "strings", "harp", "bass"], 1.0)]
    )
    longer = augment("drum", words * 20, encoder.fits)
    assert encoder.fits(longer) and longer.startswith("drum, piano")
    assert not encoder.fits(f"{longer}, cello, cello, cello")


def test_conditions_of_unequal_length_in_a_batch(tiny: Any) -> None:
    model = tiny("audioldm2")
    torch.manual_seed(0)
    rows = [Condition(states=torch.randn(n, 12), text=torch.randn(t, 20)) for n, t in ((8, 3), (16, 5))]
    latents = torch.randn(2, 4, 6, 4)
    together = model.unet(latents, 500, **unet_inputs(rows)).sample
    padded = model.unet(latents, 500, **unet_inputs(rows, text_length=40)).sample
    for index, row in enumerate(rows):
        alone = model.unet(latents[index : index + 1], 500, **unet_inputs([row])).sample
        for result in (together, padded):
            torch.testing.assert_close(result[index : index + 1], alone, atol=1e-5, rtol=0)
    single = unet_inputs(rows[:1])
    assert single["encoder_attention_mask"] is None and single["encoder_attention_mask_1"] is None


def test_a_bias_of_states_weighs_them(tiny: Any) -> None:
    model = tiny("audioldm2")
    torch.manual_seed(0)
    own, other, text = torch.randn(8, 12), torch.randn(8, 12), torch.randn(3, 20)
    latents = torch.randn(1, 4, 6, 4)
    both = Condition(states=torch.cat([own, other]), text=text)

    def heard(condition: Condition) -> torch.Tensor:
        return model.unet(latents, 500, **unet_inputs([condition])).sample

    alone = heard(Condition(states=own, text=text))
    bias = torch.zeros(16)
    torch.testing.assert_close(heard(both.replaced(states_bias=bias)), heard(both), atol=1e-5, rtol=0)
    bias[8:] = -1000.0
    torch.testing.assert_close(heard(both.replaced(states_bias=bias)), alone, atol=1e-5, rtol=0)
    assert not torch.allclose(heard(both), alone, atol=1e-5)
    with pytest.raises(UsageError, match="float32"):
        unet_inputs([both.replaced(states_bias=bias)], dtype=torch.float16)


def test_conditions_that_cannot_be_in_a_batch() -> None:
    one, two = Condition(vector=torch.ones(3)), Condition(states=torch.ones(8, 2), text=torch.ones(4, 2))
    with pytest.raises(UsageError, match="one batch"):
        unet_inputs([one, two])
    with pytest.raises(UsageError, match="text_length is 3"):
        unet_inputs([two], text_length=3)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"activation_function": "relu"},
        {"scale_attn_by_inverse_layer_idx": True},
        {"scale_attn_weights": False},
        {"n_inner": 20},
    ],
    ids=str,
)
@pytest.mark.parametrize("count", [1, 8])
def test_the_states_of_a_cache_are_those_of_the_models_own_forward(
    changes: dict[str, Any], count: int
) -> None:
    model = language_model(**changes)
    sequence, mask = torch.randn(3, 12, 24), torch.ones(3, 12, dtype=torch.int64)
    mask[0, 4:9], mask[1, :3] = 0, 0  # padding between tokens, and before all others
    exact = language_states(model.double(), sequence.double(), mask, count)
    plain = language_states(model, sequence.double(), mask, count, cached=False)
    assert exact.shape == (3, count, 24)
    torch.testing.assert_close(exact, plain, atol=1e-10, rtol=0)
    unmasked = language_states(model, sequence.double(), torch.ones_like(mask), count)
    assert torch.equal(exact[2], unmasked[2]) and not torch.allclose(exact[0], unmasked[0], atol=1e-3)
    alone = language_states(model, sequence[:1].double(), mask[:1], count)
    torch.testing.assert_close(alone, exact[:1], atol=1e-10, rtol=0)


def test_the_states_of_a_cache_in_float32() -> None:
    model, sequence, mask = language_model(), torch.randn(2, 12, 24), torch.ones(2, 12, dtype=torch.int64)
    states = language_states(model, sequence, mask, 8)
    plain = language_states(model, sequence, mask, 8, cached=False)
    torch.testing.assert_close(states, plain, atol=1e-5, rtol=0)
    with pytest.raises(InputError, match="takes 12 positions of the language model and its states 13"):
        language_states(model, sequence, mask, 13)


def test_a_model_that_made_states_is_saved_with_the_same_weights(tmp_path: Path) -> None:
    model = language_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for cached in (True, True, False):
        language_states(model, torch.randn(2, 3, 24), torch.ones(2, 3, dtype=torch.int64), 2, cached=cached)
    save_tensors(tmp_path / "model.safetensors", model.state_dict())
    after = load_tensors(tmp_path / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def language_model(**changes: Any) -> Any:
    """A GPT-2 whose states differ from position to position."""
    torch.manual_seed(0)
    sizes = {"n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": 24, "initializer_range": 0.3}
    specials: dict[str, Any] = {"vocab_size": 5, "bos_token_id": None, "eos_token_id": None}
    return GPT2Model(GPT2Config(**specials, **(sizes | changes))).eval()
