"""Adapters to language states learn from the language model itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pentatonic.errors import IncompatibleVectors, InputError, UsageError
from rc_audioldm.adapters.pairs_from_bank import pairs_from_bank
from rc_audioldm.adapters.teacher import teacher_states
from rc_audioldm.bank.clips import BankClip
from rc_audioldm.bank.style_bank import StyleBank
from rc_audioldm.clap.header import ClapHeader
from rc_audioldm.data.manifest import ManifestRow
from rc_audioldm.prompts.encoder import PromptEncoder
from rc_audioldm.weights import load_directory

WIDTH = 16
HEADER = ClapHeader("clap", "", "abc", "bank", "windows", "mean", "float32", WIDTH)


def vectors(rows: int) -> np.ndarray:
    values = np.random.default_rng(0).normal(size=(rows, WIDTH)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_states_are_those_of_the_clip_in_the_place_of_the_prompt(directories: Callable[..., Path]) -> None:
    model, rows = load_directory(directories("audioldm2")), vectors(2)
    states = teacher_states(model, 3 * rows, ["drum", "a harp"])
    assert states.shape == (2, model.state_count, model.language_model.config.n_embd)
    encoder = PromptEncoder(model)
    for row, caption, own in zip(rows, ["drum", "a harp"], states, strict=True):
        expected = encoder.encode(caption, torch.from_numpy(row)).states
        torch.testing.assert_close(torch.from_numpy(own), expected, atol=1e-5, rtol=0)
    assert not np.allclose(teacher_states(model, rows, ["drum", "a harp"], caption_text=False), states)
    with pytest.raises(UsageError, match="vectors"):
        teacher_states(model, rows[:, :3], ["drum", "a harp"])
    with pytest.raises(UsageError, match="AudioLDM 1"):
        teacher_states(load_directory(directories("audioldm")), rows, ["drum", "a harp"])


def test_clips_of_a_bank_meet_their_captions() -> None:
    asked: list[str] = []

    def embed_text(texts: list[str]) -> torch.Tensor:
        asked.extend(texts)
        return torch.from_numpy(vectors(len(texts)))

    encoder: Any = SimpleNamespace(header=HEADER, embed_text=embed_text)
    bank = StyleBank(vectors(4), [BankClip(f"{name}.wav") for name in "abcd"], HEADER)
    rows = [
        ManifestRow("d", "d.wav", caption="harp"),
        ManifestRow("a#1", "a.wav", caption="drum", more={"src_id": "a"}),
        ManifestRow("b", "b.wav", caption="harp", more={"group": "piece"}),
        ManifestRow("c", "c.wav"),
        ManifestRow("e", "e.wav", caption="not in the bank"),
    ]
    pairs = pairs_from_bank(bank, rows, encoder)
    assert (pairs.captions, pairs.groups) == (["drum", "harp", "harp"], ["a", "piece", "d"])
    assert asked == ["drum", "harp"] and np.array_equal(pairs.text[1], pairs.text[2])
    np.testing.assert_allclose(pairs.audio, vectors(4)[[0, 1, 3]], atol=1e-6)
    with pytest.raises(InputError, match="none of its clips"):
        pairs_from_bank(bank, rows[4:], encoder)
    other: Any = SimpleNamespace(header=ClapHeader("x", "", "z", "bank", "windows", "mean", "float32", WIDTH))
    with pytest.raises(IncompatibleVectors):
        pairs_from_bank(bank, rows, other)
