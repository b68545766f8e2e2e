"""Masking of tokens, against the draw of the original and its statistics."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from cm3p.losses import IGNORED
from cm3p.tokens.beatmap import CM3PBeatmapTokenizer
from cm3p.training.masking import Masking
from pentatonic.errors import ConfigError

GOLDENS = Path(__file__).parent / "goldens"


@pytest.fixture(scope="module")
def golden() -> dict:
    return json.loads((GOLDENS / "mlm_masking" / "cases.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tokenizer() -> CM3PBeatmapTokenizer:
    return CM3PBeatmapTokenizer(max_time=16000, add_cls_token=True, separate_new_combo_token=False)


def _original(golden: dict) -> torch.Tensor:
    exact = golden["exact_torch_seed0"]
    seen, labels = torch.tensor(exact["input_ids"]), torch.tensor(exact["labels"])
    return torch.where(labels == IGNORED, seen, labels)


def test_draw_equals_the_original(golden: dict, tokenizer: CM3PBeatmapTokenizer) -> None:
    ids = _original(golden)
    before = ids.clone()
    torch.manual_seed(0)
    seen, labels = Masking.of(tokenizer, 0.15)(ids)
    assert seen.tolist() == golden["exact_torch_seed0"]["input_ids"]
    assert labels.tolist() == golden["exact_torch_seed0"]["labels"]
    assert torch.equal(ids, before)


def test_statistics_equal_the_original(golden: dict, tokenizer: CM3PBeatmapTokenizer) -> None:
    ids = _original(golden)
    for case in golden["stats"]:
        seen, labels = Masking.of(tokenizer, case["prob"])(ids, torch.Generator().manual_seed(case["seed"]))
        chosen = labels != IGNORED
        masked = chosen & (seen == tokenizer.mask_token_id)
        assert int(chosen.sum()) == case["selected"]
        assert int(masked.sum()) == case["mask"]
        assert torch.equal(seen[~chosen], ids[~chosen])
        assert torch.equal(labels[chosen], ids[chosen])


def test_random_tokens_can_leave_out_special_ones(tokenizer: CM3PBeatmapTokenizer) -> None:
    ids = torch.zeros(20000, dtype=torch.int64)
    special = set(tokenizer.all_special_ids)

    def drawn(random_special_tokens: bool) -> set[int]:
        masking = Masking.of(tokenizer, 1.0, (0.0, 1.0, 0.0), random_special_tokens=random_special_tokens)
        seen, _ = masking(ids, torch.Generator().manual_seed(0))
        return set(seen.tolist())

    assert special & drawn(True) == special - {tokenizer.audio_token_id}
    assert not special & drawn(False)


@pytest.mark.parametrize(
    ("probability", "split"), [(1.5, (0.8, 0.1, 0.1)), (0.1, (0.8, 0.1)), (0.1, (0.9, 0.2, 0.1))]
)
def test_impossible_shares_are_refused(
    tokenizer: CM3PBeatmapTokenizer, probability: float, split: Sequence[float]
) -> None:
    with pytest.raises(ConfigError, match="masked_lm"):
        Masking.of(tokenizer, probability, split)
