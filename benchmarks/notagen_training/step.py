"""A training step of the small model, without dropout and optimiser, in two ways."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from notagen_original.network import SMALL, plain_trunk
from torch import Tensor

from notagen.codec import PAD, VOCABULARY_SIZE, encode_train
from notagen.model import NotaGen
from notagen.training.data import collate
from notagen.training.objective import NotaGenTraining

PIECES, PATCHES = 8, 128  # of a batch, and at most of a piece
GOLDENS = Path(__file__).parents[2] / "packages" / "notagen" / "tests" / "goldens"


def pieces(count: int, patches: int) -> list[Tensor]:
    """Patches of the longest real pieces, each cut."""
    cases = json.loads((GOLDENS / "preprocess.json").read_text(encoding="utf-8"))["cases"]
    texts = [next(iter(case["augmented"].values())) for case in cases if any(case["augmented"].values())]
    found = [torch.tensor(encode_train(text, patches, rng=random.Random(0))) for text in texts]
    return sorted(found, key=len, reverse=True)[:count]


def original_loss(model: NotaGen, batch: list[Tensor]) -> Tensor:
    """The original's loss: the mean cross-entropy of all characters that are not padding."""
    patches = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(piece)) for piece in batch], batch_first=True) > 0
    decoder = model.patch_decoder
    one_hot = F.one_hot(patches, VOCABULARY_SIZE).flatten(2).float()
    vectors = plain_trunk(decoder.trunk, one_hot @ decoder.embed.weight + decoder.embed_bias)
    targets, vectors = patches[:, 1:][mask[:, 1:]], vectors[:, :-1][mask[:, 1:]]
    table = model.char_decoder.embed.weight
    x = torch.cat((vectors[:, None], table[targets]), dim=1)
    logits = plain_trunk(model.char_decoder.trunk, x)[:, :-1] @ table.T
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD)


def our_loss(model: NotaGenTraining, batch: list[Tensor], dtype: torch.dtype) -> Tensor:
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        return model(collate(batch))["loss"]


def rows(rounds: int) -> Iterator[dict[str, Any]]:
    torch.manual_seed(0)
    model, batch = NotaGenTraining(replace(SMALL, dropout=0.0)), pieces(PIECES, PATCHES)
    ways: dict[str, Callable[[], Tensor]] = {
        "original's, float32": lambda: original_loss(model, batch),
        "float32": lambda: our_loss(model, batch, torch.float32),
        "bfloat16": lambda: our_loss(model, batch, torch.bfloat16),
    }
    best = dict.fromkeys(ways, float("inf"))
    losses: dict[str, float] = {}
    for _ in range(rounds):
        for name, loss_of in ways.items():
            model.zero_grad()
            start_s = time.process_time()
            loss = loss_of()
            loss.backward()
            best[name] = min(best[name], time.process_time() - start_s)
            losses[name] = loss.item()
    expected = losses["original's, float32"]
    for name, seconds in best.items():
        if abs(losses[name] / expected - 1) > (0.01 if name == "bfloat16" else 1e-4):
            raise SystemExit(f"{name}: the loss is {losses[name]}, the original's {expected}")
        row = {"way": name, "pieces": len(batch), "patches": sum(map(len, batch)), "CPU s per step": seconds}
        yield {**row, "original / this": best["original's, float32"] / seconds, "loss": losses[name]}
