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
from notagen.model import CharDecoder, DecoderCache, NotaGen

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
    drafter: CharDecoder | None = None,
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
        drafter: Faster character decoder that guesses the characters where there is no grammar; what it guesses decides
            how long this takes and nothing else. ``None``: nothing is guessed.

    Returns:
        Patches including their known ids, each up to its first end character or 16 ids long.
    """
    device = vectors.device
    given = torch.tensor([[*ids, *[-1] * (PATCH_SIZE - len(ids))] for ids in known], device=device)
    # Sampling is float64, which Apple GPUs do not have.
    drawing = torch.device("cpu") if device.type == "mps" else device
    uniforms = torch.tensor(
        np.stack([_uniforms(rng, len(ids)) for rng, ids in zip(rngs, known, strict=True)]), device=drawing
    )
    constrained = [
        (row, grammar)
        for row, grammar in enumerate(grammars)
        if grammar is not None and EOS not in known[row]
    ]
    # Operations start faster in this mode, for which a compiled step would be compiled again.
    with torch.inference_mode(step is None):
        if drafter is None or constrained:
            chosen = _draw_in_turn(
                model.char_decoder, vectors, given, uniforms, sampling, constrained=constrained, step=step
            )
        else:
            chosen = _draft_and_check(model.char_decoder, drafter, vectors, given, uniforms, sampling)
    return [ids[: ids.index(EOS) + 1] if EOS in ids else ids for ids in chosen.tolist()]


def _draw_in_turn(
    decoder: CharDecoder,
    vectors: Tensor,
    given: Tensor,
    uniforms: Tensor,
    sampling: Sampling,
    *,
    start: int = 0,
    constrained: Sequence[tuple[int, Grammar]] = (),
    step: CharStep | None = None,
) -> Tensor:
    """Draw one character after another.

    Args:
        decoder: The character decoder.
        vectors: ``(B, C)``.
        given: ``(B, S)`` int64: known ids, -1 elsewhere.
        uniforms: ``(B, S)`` float64 in [0, 1).
        sampling: How characters are chosen.
        start: Number of places that all rows know, which are read at once; 0 with ``step``.
        constrained: Rows with their grammars.
        step: As in :func:`sample_patches`.

    Returns:
        ``(B, S)`` int64; what follows the end of a patch means nothing.
    """
    cache = DecoderCache(decoder.trunk, len(vectors))
    chosen = given.clamp_min(0)
    ended = (given[:, :start] == EOS).any(1)
    lengths = (given >= 0).sum(1).tolist() if constrained else []
    inputs = torch.cat((vectors[:, None], decoder.embed(given[:, :start])), dim=1)
    for place in range(start, PATCH_SIZE):
        followed = [(row, grammar) for row, grammar in constrained if place >= lengths[row]]
        allowed = _allowed(followed, len(vectors)).to(uniforms.device) if followed else None
        if step is None:
            logits = decoder.logits(decoder.trunk(inputs, cache)[:, -1])
            p = probabilities(logits.to(uniforms.device), sampling, allowed)
            drawn = draw(p, uniforms[:, place]).to(given.device)
        else:
            drawn = step(inputs[:, 0], place, uniforms[:, place], allowed)
        chosen[:, place] = torch.where(given[:, place] < 0, drawn, given[:, place])
        ids = chosen[:, place].tolist() if followed else []
        for row, grammar in followed:
            grammar.feed(ids[row])
        constrained = [(row, grammar) for row, grammar in constrained if not ids or ids[row] != EOS]
        ended |= chosen[:, place] == EOS
        if ended.all():
            break
        inputs = decoder.embed(chosen[:, place, None])
    return chosen


def _draft_and_check(
    decoder: CharDecoder,
    drafter: CharDecoder,
    vectors: Tensor,
    given: Tensor,
    uniforms: Tensor,
    sampling: Sampling,
) -> Tensor:
    """As :func:`_draw_in_turn`, with one pass of the decoder for several characters (speculative decoding).

    The number of each place decides which character follows those before it. So one pass over guessed characters tells
    at which place the first wrong one stands, and which is right there; the drafter goes on after it.
    """
    chosen, rows = given.clone(), torch.arange(len(given), device=given.device)
    places = torch.arange(PATCH_SIZE, device=given.device)
    while len(rows):
        known = chosen[rows]
        start = int((known >= 0).sum(1).min())
        guessed = _draw_in_turn(drafter, vectors[rows], known, uniforms[rows], sampling, start=start)
        logits = decoder(vectors[rows], guessed[:, :-1])
        right = torch.where(known < 0, draw(probabilities(logits, sampling), uniforms[rows]), known)
        # Places up to the first wrong one; what follows was drawn after a wrong character.
        checked = places <= torch.where(right == guessed, PATCH_SIZE, places).amin(1, keepdim=True)
        chosen[rows] = torch.where(checked, right, known)
        complete = checked.all(1) | ((right == EOS) & checked).any(1)
        rows = rows[~complete]
    return chosen


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
