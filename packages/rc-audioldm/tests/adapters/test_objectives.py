"""Losses, recall, schedule, split and search spaces."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pentatonic.errors import FormatError, InputError, UsageError
from rc_audioldm.adapters.pair_vectors import read_pairs, split_by_group
from rc_audioldm.adapters.training.losses import contrastive_logits, contrastive_loss, state_loss
from rc_audioldm.adapters.training.objective import ObjectiveConfig
from rc_audioldm.adapters.training.recall import chance, recalls
from rc_audioldm.adapters.training.schedule import warmup_then_cosine
from rc_audioldm.adapters.training.search_space import (
    ALWAYS_SAMPLED,
    Choices,
    Interval,
    parse_space,
    sweep_overrides,
)


def numbers(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "io.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("temperature", ["0.07", "0.2"])
def test_the_contrastive_loss_and_recall_meet_the_golden(golden: Callable, temperature: str) -> None:
    expected = golden("contrastive")
    audio, text = expected.tensors["audio"], expected.tensors["text"]
    close = {"atol": expected.tolerance, "rtol": 1e-6}
    name = f"temp{temperature}"
    logits = contrastive_logits(audio, text, float(temperature))
    torch.testing.assert_close(logits, expected.tensors[f"logits/{name}"], **close)
    loss = contrastive_loss(audio, text, float(temperature))
    torch.testing.assert_close(loss[None], expected.tensors[f"loss/{name}"], **close)
    # The original's t2a asks with audio.
    found = recalls(audio, text, torch.arange(7), (1, 2, 5, 10))
    for k in (1, 2, 5, 10):
        wanted = numbers(expected.folder)[name]["recalls"]
        assert found[f"audio_to_text@{k}"] == pytest.approx(wanted[f"t2a@{k}"])
        assert found[f"text_to_audio@{k}"] == pytest.approx(wanted[f"a2t@{k}"])


def test_rows_of_the_same_caption_are_no_negatives() -> None:
    torch.manual_seed(0)
    audio, text = torch.randn(3, 4), torch.randn(3, 4)
    text[1] = text[0]
    alone = contrastive_loss(audio, text, 0.1, torch.tensor([0, 1, 2]))
    torch.testing.assert_close(alone, contrastive_loss(audio, text, 0.1))
    masked = contrastive_loss(audio, text, 0.1, torch.tensor([0, 0, 1]))
    # By hand: rows 0 and 1 have the third text as their only negative, the third row has both others.
    logits = contrastive_logits(audio, text, 0.1)
    by_row = [
        -logits[i, i] + torch.logsumexp(logits[i, keep], 0)
        for i, keep in ((0, [0, 2]), (1, [1, 2]), (2, [0, 1, 2]))
    ]
    by_column = [
        -logits[i, i] + torch.logsumexp(logits[keep, i], 0)
        for i, keep in ((0, [0, 2]), (1, [1, 2]), (2, [0, 1, 2]))
    ]
    torch.testing.assert_close(masked, (torch.stack(by_row).mean() + torch.stack(by_column).mean()) / 2)


def test_recall_names_its_directions_and_counts_duplicates_as_hits() -> None:
    # Both audios are nearest to text 0, so one audio finds its text; each text finds its own audio.
    audio = torch.tensor([[1.0, 0.0], [0.9, 0.1]])
    text = torch.tensor([[1.0, 0.05], [0.0, 1.0]])
    found = recalls(audio, text, torch.tensor([0, 1]), (1,))
    assert found == {"audio_to_text@1": 0.5, "text_to_audio@1": 1.0}
    assert recalls(audio, text, torch.tensor([0, 0]), (1,))["audio_to_text@1"] == 1.0
    assert recalls(audio, text, torch.tensor([0, 1]), (5,))["audio_to_text@5"] == 1.0


def test_a_collapsed_space_has_no_recall() -> None:
    found = recalls(torch.ones(50, 4), torch.ones(50, 4), torch.arange(50), (1,))
    assert found["audio_to_text@1"] == pytest.approx(1 / 50)


def test_chance_is_that_of_random_rankings() -> None:
    captions = torch.tensor([0, 0, 0, 1, 2, 3])
    random = np.random.default_rng(0)
    drawn = np.stack([random.permutation(6)[:2] for _ in range(20_000)])
    measured = np.mean([(captions.numpy()[drawn] == caption).any(1).mean() for caption in captions.tolist()])
    assert chance(captions, (2,))["chance@2"] == pytest.approx(measured, abs=0.01)
    assert chance(captions, (10,))["chance@10"] == 1


def test_the_state_loss_meets_the_golden(golden: Callable) -> None:
    expected = golden("style2lm_loss")
    loss = state_loss(expected.tensors["y_hat"], expected.tensors["y"])
    torch.testing.assert_close(loss[None], expected.tensors["loss"], atol=expected.tolerance, rtol=0)


def test_the_schedule_meets_the_golden_and_stays_at_its_end(golden: Callable) -> None:
    case = golden("lr_schedule")
    expected = numbers(case.folder)
    settings = {name: expected[name] for name in ("base_lr", "warmup_steps", "total_steps", "min_lr")}
    total = settings["total_steps"]
    ours = [warmup_then_cosine(step, **settings) for step in range(total + 2)]
    theirs = expected["lrs_after_each_step"]
    assert len(theirs) == total + 2
    assert ours[:total] == pytest.approx(theirs[:total], abs=case.tolerance)
    assert ours[total:] == [settings["min_lr"]] * 2 and theirs[total] > settings["min_lr"]


def test_scores_are_what_the_original_minimises(golden: Callable) -> None:
    expected = numbers(golden("lr_schedule").folder)["objective"]
    # The recalls behind the golden, by their right names: its a2t is text to audio.
    metrics = {"loss": 1.23, "audio_to_text@1": 0.3, "text_to_audio@1": 0.5}
    for select, name in (("loss", "val_loss"), ("audio_to_text", "t2a_r1"), ("text_to_audio", "a2t_r1")):
        assert ObjectiveConfig(select=select).score(metrics) == pytest.approx(expected[name])
    assert ObjectiveConfig().score(metrics) == pytest.approx(expected["combo_r1"])


def plain(space: dict[str, Interval | Choices]) -> dict[str, Any]:
    return {
        name: {"kind": "float", "low": each.low, "high": each.high, "log": each.log}
        if isinstance(each, Interval)
        else {"kind": "categorical", "choices": list(each.values)}
        for name, each in space.items()
    }


def test_search_spaces_are_read_as_the_original_does(golden: Callable) -> None:
    spaces = numbers(golden("lr_schedule").folder)["suggest_space"]
    spaces |= numbers(golden("search_space_edges").folder)["spaces"]
    for text, expected in spaces.items():
        if "raises" in expected:
            with pytest.raises(UsageError, match="lr:"):
                parse_space(text)
        else:
            found = plain(parse_space(text))
            assert found == expected
            assert [list(map(type, each.get("choices", []))) for each in found.values()] == [
                list(map(type, each.get("choices", []))) for each in expected.values()
            ]


def test_search_spaces_become_overrides() -> None:
    assert sweep_overrides(parse_space("lr:[1e-4,3e-3] log; temp:[0.03,0.2]; batch:{16,32}")) == [
        "optim.lr=tag(log,interval(0.0001,0.003))",
        "objective.temperature=interval(0.03,0.2)",
        "data.batch_size=choice(16,32)",
    ]
    assert len(sweep_overrides(parse_space(ALWAYS_SAMPLED))) == 5
    for text in (
        "speed:[1,2]",
        "batch:{}",
        "lr:[2,1]",
        "lr:[0,1] log",
        "lr:[nan,1]",
        "batch:{1,2",
        "lr:[1,2",
    ):
        with pytest.raises(UsageError):
            sweep_overrides(parse_space(text))


def test_groups_are_never_torn_apart() -> None:
    groups = [f"g{row % 10}" for row in range(100)]
    train, val = split_by_group(groups, 0.25, seed=1)
    assert len(val) == 20 and sorted([*train, *val]) == list(range(100))
    assert not {groups[row] for row in train} & {groups[row] for row in val}
    assert split_by_group(groups, 0.25, seed=1)[1].tolist() == val.tolist()
    assert any(split_by_group(groups, 0.25, seed)[1].tolist() != val.tolist() for seed in range(2, 6))
    # A group that is larger than the share cannot be taken in part.
    assert split_by_group(["big"] * 9 + ["small"] * 3, 0.1, seed=0)[1].tolist() == [9, 10, 11]
    with pytest.raises(InputError, match="1 groups"):
        split_by_group(["a"] * 4, 0.5, seed=0)
    with pytest.raises(UsageError, match="val_fraction"):
        split_by_group(groups, 1.0, seed=0)


def test_pairs_come_back_from_their_folder_and_bad_ones_are_refused(pairs_folder: Callable) -> None:
    folder = pairs_folder(8, states=True)
    pairs = read_pairs(folder)
    assert len(pairs) == 8 and pairs.states is not None and pairs.states.shape == (8, 3, 8)
    assert pairs.caption_numbers().tolist() == list(range(8))
    audio = np.array(pairs.audio)
    audio[5] = 0
    np.save(folder / "audio.npy", audio)
    with pytest.raises(InputError, match="row 5"):
        read_pairs(folder)
    np.save(folder / "audio.npy", audio[:, :3])
    with pytest.raises(InputError, match="audio"):
        read_pairs(folder)
    np.save(folder / "audio.npy", np.array(pairs.audio))
    (folder / "pairs.jsonl").write_text('{"caption": "a", "group": ""}\n')
    with pytest.raises(FormatError, match=r"pairs\.jsonl:1"):
        read_pairs(folder)
