"""The characters of single patches, drawn by the character decoder, and how likely they are.

Shape legend: B patches, S = 16 characters of a patch, C width, V = 128 characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from notagen.codec import EOS, PATCH_SIZE, VOCABULARY_SIZE, Patch, padded
from notagen.generation.compiled_step import CharStep
from notagen.generation.grammar import Grammar
from notagen.generation.sampling import Sampling, draw, probabilities
from notagen.model import DecoderCache, NotaGen

_ANYTHING = (1 << VOCABULARY_SIZE) - 1


@torch.no_grad()
def sample_patches(
    model: NotaGen,
    vectors: Tensor,
    known: Sequence[Sequence[int]],
    rngs: Sequence[np.random.RandomState],
    sampling: Sampling,
    grammars: Sequence[Grammar | None] = (),
    step: CharStep | None = None,
) -> list[Patch]:
    """Draw the characters of one patch of each piece.

    Args:
        model: The model.
        vectors: ``(B, C)`` from the patch decoder, one for each patch to write.
        known: Ids that the patches start with, at most 16 each.
        rngs: Random stream of each piece. One number is drawn for each of the 16 positions that is not known, also
            after the end of the patch, so that the stream does not depend on where patches end.
        sampling: How characters are chosen.
        grammars: Grammar of each piece, which has followed its known ids and is fed with the drawn ones; ``None``: any
            character may follow. Empty: none of the pieces has one.
        step: Compiled character decoder for this model and sampling with at least B rows; ``None``: not compiled.

    Returns:
        Patches including their known ids, each up to its first end character or 16 ids long.
    """
    decoder, device = model.char_decoder, vectors.device
    cache = DecoderCache(decoder.trunk, len(vectors))
    given = torch.tensor([[*ids, *[-1] * (PATCH_SIZE - len(ids))] for ids in known], device=device)
    # Sampling is float64, which Apple GPUs do not have.
    drawing = torch.device("cpu") if device.type == "mps" else device
    uniforms = torch.tensor(
        np.stack([_uniforms(rng, len(ids)) for rng, ids in zip(rngs, known, strict=True)]), device=drawing
    )
    chosen = torch.zeros_like(given)
    inputs, ended = vectors, torch.zeros(len(vectors), dtype=torch.bool, device=device)
    constrained = [
        (row, grammar)
        for row, grammar in enumerate(grammars)
        if grammar is not None and EOS not in known[row]
    ]
    for place in range(PATCH_SIZE):
        followed = [(row, grammar) for row, grammar in constrained if place >= len(known[row])]
        allowed = _allowed(followed, len(vectors)).to(drawing) if followed else None
        if step is None:
            logits = decoder.logits(decoder.trunk(inputs[:, None], cache)[:, 0])
            drawn = draw(probabilities(logits.to(drawing), sampling, allowed), uniforms[:, place]).to(device)
        else:
            drawn = step(inputs, place, uniforms[:, place], allowed)
        chosen[:, place] = torch.where(given[:, place] < 0, drawn, given[:, place])
        ids = chosen[:, place].tolist() if followed else []
        for row, grammar in followed:
            grammar.feed(ids[row])
        constrained = [(row, grammar) for row, grammar in constrained if not ids or ids[row] != EOS]
        ended |= chosen[:, place] == EOS
        if ended.all():
            break
        inputs = decoder.embed(chosen[:, place])
    return [ids[: ids.index(EOS) + 1] if EOS in ids else ids for ids in chosen.tolist()]


@torch.no_grad()
def log_probabilities(
    model: NotaGen, vectors: Tensor, patches: Sequence[Patch], given: Sequence[int]
) -> list[float]:
    """Return the natural logarithm of the probability that the model itself, without filters, gives to patches.

    Args:
        model: The model.
        vectors: ``(B, C)`` from the patch decoder.
        patches: Ids of each patch, up to its first end character.
        given: Number of ids at the start of each patch that do not count.
    """
    ids = torch.tensor([padded(patch) for patch in patches], device=vectors.device)
    each = model.char_decoder(vectors, ids[:, :-1]).float().log_softmax(-1).gather(-1, ids[..., None])
    places = torch.arange(PATCH_SIZE, device=vectors.device)
    lengths = torch.tensor([[count, len(patch)] for count, patch in zip(given, patches, strict=True)])
    counts = (places >= lengths[:, :1].to(places)) & (places < lengths[:, 1:].to(places))
    return each[..., 0].masked_fill(~counts, 0.0).sum(-1).tolist()


def _allowed(followed: Sequence[tuple[int, Grammar]], rows: int) -> Tensor:
    """Return ``(B, V)`` bool: the allowed characters; all of them in rows without a grammar."""
    sets = [_ANYTHING] * rows
    for row, grammar in followed:
        sets[row] = grammar.allowed
    return torch.stack([_mask(allowed) for allowed in sets])


@lru_cache(maxsize=4096)
def _mask(allowed: int) -> Tensor:
    return torch.tensor([bool(allowed >> i & 1) for i in range(VOCABULARY_SIZE)])


def _uniforms(rng: np.random.RandomState, known: int) -> np.ndarray:
    """Return ``(S,)`` float64: the random numbers of one patch; 0 for known positions, which draw none."""
    return np.concatenate((np.zeros(known), rng.random_sample(PATCH_SIZE - known)))
