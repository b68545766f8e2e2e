"""Metadata with 256 variations of each entry: tokens that the metadata tower encodes, and the loss.

    python benchmarks/cm3p_variations.py

The original pads every variation to 128 tokens and encodes all of them. Ours leaves out the padding, and encodes equal
sequences of a batch once. The tower has the sizes of the released model and random weights; the vectors of the beatmaps
are random. The loss of both ways must be equal to 1e-5. The aim is 10x fewer encoded tokens; how many sequences are
equal depends on the data, so there are three batches of 8 entries, each with 128 tags:

- training: 8 maps, 30,000 mappers, half of the maps with tags, each field dropped with a probability of 0.2, as in the
  experiments of the original. Nearly all variations differ, and what is saved is the padding
- one map: 8 windows of a map, whose metadata say nothing of the window
- small data set: as training, with 40 mappers and 12 tags, so that empty entries fill up the variations

"without equal ones" is what equal sequences alone save: valid tokens before, divided by valid tokens after.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from cm3p_original.models import V7, full_model, processor
from cm3p_original.network import metadata_vectors
from machine import markdown_table, write_results
from torch import Tensor

from cm3p.losses import contrastive_loss
from cm3p.model import CM3PModel
from cm3p.tokens.entries import drop_fields, encode_entries
from cm3p.tokens.metadata import CM3PMetadataTokenizer

PADDED_LENGTH = 128
TOLERANCE = 1e-5
_SEQUENCES_AT_ONCE = 256
_STATUSES = ("graveyard", "wip", "pending", "ranked", "approved", "qualified", "loved")


def tokenizer(mappers: int, tags: int) -> CM3PMetadataTokenizer:
    """Return a tokenizer of so many mappers and tags."""
    return CM3PMetadataTokenizer(
        modes={0: "osu", 1: "taiko", 2: "fruits", 3: "mania"},
        statuses=dict(enumerate(_STATUSES, -2)),
        mappers={number: f"mapper {number}" for number in range(1, mappers + 1)},
        tags={
            number: {"name": f"kind/tag {number}", "ruleset_id": None, "description": ""}
            for number in range(1, tags + 1)
        },
        add_cls_token=True,
        min_year=2007,
    )  # fmt: skip


def entry(words: CM3PMetadataTokenizer, rng: np.random.Generator) -> dict[str, Any]:
    """Return the metadata of a made map, half of the times with tags."""
    tags = (
        rng.choice(list(words.tags), rng.integers(1, 5), replace=False).tolist() if rng.random() < 0.5 else []
    )
    return {
        "difficulty": rng.uniform(1, 8), "year": int(rng.integers(2007, 2024)), "mode": 0, "status": "ranked",
        "mapper": int(rng.choice(list(words.mappers))), "cs": 4.0, "hitsounded": True, "song_length": 0.0,
        "song_position": rng.random(), "global_sv": 1.4, "mania_keycount": None, "hold_note_ratio": None,
        "scroll_speed_ratio": None, "tags": tags or None,
    }  # fmt: skip


def batches(count: int) -> dict[str, tuple[CM3PMetadataTokenizer, Sequence[Mapping[str, Any]]]]:
    """Return tokenizer and entries of each kind of batch."""
    rng = np.random.default_rng(0)
    np.random.seed(0)  # of dropout and variations
    many, few = tokenizer(30_000, 128), tokenizer(40, 12)
    return {
        "training": (many, drop_fields([entry(many, rng) for _ in range(count)], 0.2)),
        "one map": (many, [{**entry(many, rng), "song_position": None}] * count),
        "small data set": (few, drop_fields([entry(few, rng) for _ in range(count)], 0.2)),
    }


def encoded_tokens(model: CM3PModel, ids: Tensor, mask: Tensor) -> tuple[Tensor, int]:
    """Return ``(M, V, D)`` vectors of norm 1, and the number of tokens that the encoder gets."""
    counts: list[int] = []
    hook = model.metadata_model.encoder.register_forward_hook(
        lambda _, arguments, __: counts.append(arguments[0].shape[:-1].numel())
    )
    vectors = F.normalize(model.get_metadata_features(ids, mask), dim=-1)
    hook.remove()
    return vectors, sum(counts)


def measured(
    name: str, words: CM3PMetadataTokenizer, entries: Sequence[Mapping[str, Any]], variations: int
) -> dict[str, Any]:
    """Return the line of one batch."""
    encoding = encode_entries(
        words, entries, variations, return_tensors="pt", padding="max_length", truncation=True, max_length=PADDED_LENGTH
    )  # fmt: skip
    ids, mask, classes = (
        encoding[key] for key in ("input_ids", "attention_mask", "metadata_variation_classes")
    )
    model = full_model(V7, processor(words), num_hidden_layers=1)  # the beatmap tower is not used
    beatmaps = F.normalize(torch.randn(len(entries), 512, generator=torch.Generator().manual_seed(0)), dim=-1)
    start_s = time.perf_counter()
    ours, tokens = encoded_tokens(model, ids, mask)
    middle_s = time.perf_counter()
    flat = [part.flatten(0, 1).split(_SEQUENCES_AT_ONCE) for part in (ids, mask)]
    theirs = torch.cat(
        [metadata_vectors(model, *(part[None] for part in parts))[0] for parts in zip(*flat, strict=True)]
    )
    end_s = time.perf_counter()
    losses = [
        float(contrastive_loss(vectors.reshape(ours.shape) @ beatmaps.T * model.logit_scale.exp(), classes))
        for vectors in (ours, theirs)
    ]
    if abs(losses[0] - losses[1]) > TOLERANCE:
        raise SystemExit(f"{name}: the losses are {losses}")
    return {
        "batch": name,
        "sequences": ids.shape[:2].numel(),
        "padded tokens, original": ids.numel(),
        "tokens encoded, ours": tokens,
        "original / ours": ids.numel() / tokens,
        "without equal ones": int(mask.sum()) / tokens,
        "s, original's way": end_s - middle_s,
        "s, ours": middle_s - start_s,
        "times as fast": (end_s - middle_s) / (middle_s - start_s),
        "loss, original's way": f"{losses[1]:.6f}",
        "loss, ours": f"{losses[0]:.6f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=8)
    parser.add_argument("--variations", type=int, default=256)
    arguments = parser.parse_args()
    with torch.inference_mode():
        rows = [
            measured(name, words, entries, arguments.variations)
            for name, (words, entries) in batches(arguments.entries).items()
        ]
    print(markdown_table(rows))
    options = f"--entries {arguments.entries} --variations {arguments.variations}"
    command = f"python benchmarks/cm3p_variations.py {options}"
    print(f"\nwritten: {write_results('cm3p_variations', rows, command=command)}")


if __name__ == "__main__":
    main()
