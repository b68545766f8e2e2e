"""How improbable a masked language model finds the tokens of hit objects.

In each pass all tokens of every k-th object of a window are masked, so that k passes cover every object once, whatever
their number. The masked objects of a pass are k apart: what the model knows of one is its neighbours and the number of
its tokens. The passes are a function of the window alone, without random choices.

A token's *surprisal* is -log2 of the probability that the model gives to it. Positions are always uncertain and beats
hardly ever, so surprisals of different tokens do not compare. The *excess* does: the surprisal minus the entropy of
the prediction, which is the surprisal that the model itself expected.

Shapes: B windows of a batch, L tokens, n masked tokens, C vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cm3p.faults.tokens import NO_OBJECT, Aspect, ObjectWindow, combo_partners
from cm3p.inference.loading import LoadedModel
from cm3p.model import CM3PForMaskedLM, CM3PModel
from pentatonic.errors import UsageError

DEFAULT_PASSES = 8
"""Passes: every 8th object is masked at a time, about as many tokens as in training."""
_LN_2 = float(np.log(2))
ASPECTS = tuple(Aspect)


@dataclass(frozen=True)
class TokenScores:
    """Scores of tokens; a type token that also says whether a combo starts has two.

    Args:
        windows: (n,) int64 number of the window.
        objects: (n,) int64 index of the hit object.
        aspects: (n,) int64 place in :data:`ASPECTS`.
        ids: (n,) int64 the token.
        bits: (n,) float32 surprisal.
        entropy: (n,) float32 of the prediction, in bits.
        expected: (n,) int64 the most probable token.
        probability: (n,) float32 of ``expected``.
    """

    windows: np.ndarray
    objects: np.ndarray
    aspects: np.ndarray
    ids: np.ndarray
    bits: np.ndarray
    entropy: np.ndarray
    expected: np.ndarray
    probability: np.ndarray

    @property
    def excess(self) -> np.ndarray:
        """(n,) float32: surprisal beyond what the model expected, in bits."""
        return self.bits - self.entropy


@dataclass(frozen=True)
class _Pass:
    """A window with some objects masked: its number, and the places that are."""

    window: int
    places: list[int]


def masked_places(window: ObjectWindow, passes: int) -> list[list[int]]:
    """Return the places that each pass masks; every token of an object is in exactly one of them.

    Args:
        window: L tokens.
        passes: k.

    Returns:
        For each pass that masks something, ascending places.
    """
    rank: dict[int, int] = {}
    places: list[list[int]] = [[] for _ in range(passes)]
    for place, index in enumerate(window.objects):
        if index != NO_OBJECT:
            places[rank.setdefault(index, len(rank)) % passes].append(place)
    return [each for each in places if each]


def require_decoder(loaded: LoadedModel) -> Any:
    """Return the model, if it predicts tokens.

    Raises:
        UsageError: It has no decoder head.
    """
    model = loaded.model
    if isinstance(model, CM3PForMaskedLM) or (isinstance(model, CM3PModel) and model.config.has_decoder_head):
        return model
    what = type(model).__name__ + (" without a decoder head" if isinstance(model, CM3PModel) else "")
    raise UsageError(
        f"{loaded.name} is a {what}, which predicts no tokens; allowed: a CM3PForMaskedLM, or a CM3PModel that was "
        "trained with masked tokens (has_decoder_head in its configuration)"
    )


def token_scores(
    loaded: LoadedModel,
    windows: Sequence[ObjectWindow],
    *,
    passes: int = DEFAULT_PASSES,
    batch_size: int = 16,
) -> TokenScores:
    """Score every token of every hit object.

    Args:
        loaded: A model with a decoder.
        windows: All with audio, or all without.
        passes: k; as many times more work than one pass.
        batch_size: Windows at a time.

    Raises:
        UsageError: The model has no decoder head, or ``passes`` is below 1.
    """
    if passes < 1:
        raise UsageError(f"the number of passes is {passes}; allowed: 1 and more")
    model = require_decoder(loaded)
    partners = combo_partners(loaded.processor.beatmap_tokenizer)
    work = [
        _Pass(number, places)
        for number, window in enumerate(windows)
        for places in masked_places(window, passes)
    ]
    work.sort(key=lambda each: len(windows[each.window].ids), reverse=True)
    found = [_no_scores()]
    for start in range(0, len(work), batch_size):
        batch = work[start : start + batch_size]
        logits = _masked_logits(loaded, model, windows, batch)
        found.append(_scores(logits, windows, batch, partners))
    joined = {
        each.name: np.concatenate([getattr(part, each.name) for part in found])
        for each in fields(TokenScores)
    }
    order = np.lexsort((joined["objects"], joined["windows"]))
    return TokenScores(**{name: values[order] for name, values in joined.items()})


@torch.inference_mode()
def _masked_logits(
    loaded: LoadedModel, model: Any, windows: Sequence[ObjectWindow], batch: Sequence[_Pass]
) -> Tensor:
    """(n, C) float32 logits of the masked places, window by window."""
    tokenizer = loaded.processor.beatmap_tokenizer
    length = max(len(windows[each.window].ids) for each in batch)
    ids = torch.full((len(batch), length), tokenizer.pad_token_id)
    valid, chosen = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    for row, each in enumerate(batch):
        sequence = windows[each.window].ids
        ids[row, : len(sequence)] = torch.tensor(sequence)
        valid[row, : len(sequence)] = 1
        chosen[row, each.places] = True
    ids[chosen] = tokenizer.mask_token_id
    parts = [part for each in batch if (part := windows[each.window].features) is not None]
    features = torch.cat(parts).to(loaded.device, loaded.dtype) if parts else None
    encoded = model.beatmap_model(ids.to(loaded.device), features, valid.to(loaded.device)).encoded
    masked = encoded.tokens[
        encoded.layout.take(chosen.to(loaded.device))
    ]  # logits of no other place are computed
    return model.decoder(model.head(masked)).float()


def _scores(
    logits: Tensor, windows: Sequence[ObjectWindow], batch: Sequence[_Pass], partners: dict[int, int]
) -> TokenScores:
    places = [(each.window, place) for each in batch for place in each.places]
    ids = torch.tensor([windows[window].ids[place] for window, place in places], device=logits.device)
    log_p = logits.log_softmax(-1)
    own = log_p.gather(1, ids[:, None])[:, 0]
    entropy = -(log_p.exp() * log_p).sum(1)
    best, expected = log_p.max(1)
    scores = TokenScores(
        windows=np.array([window for window, _ in places], np.int64),
        objects=np.array([windows[window].objects[place] for window, place in places], np.int64),
        aspects=np.array(
            [ASPECTS.index(windows[window].aspects[place]) for window, place in places], np.int64
        ),
        ids=ids.cpu().numpy(),
        bits=(-own / _LN_2).cpu().numpy(),
        entropy=(entropy / _LN_2).cpu().numpy(),
        expected=expected.cpu().numpy(),
        probability=best.exp().cpu().numpy(),
    )
    rows = np.flatnonzero(np.isin(scores.ids, list(partners)))
    return _split_combos(scores, log_p[rows.tolist()].double(), rows, partners) if len(rows) else scores


def _split_combos(
    scores: TokenScores, log_p: Tensor, rows: np.ndarray, partners: dict[int, int]
) -> TokenScores:
    """Give type tokens that say whether a combo starts one score for the type and one for the combo.

    The type is judged by the probability of both forms together, the combo by that of its form among the two.

    Args:
        scores: Of all masked tokens.
        log_p: (r, C) log probabilities of such tokens.
        rows: (r,) their places.
        partners: Of :func:`~cm3p.faults.tokens.combo_partners`.
    """
    own = torch.tensor(scores.ids[rows], device=log_p.device)
    other = torch.tensor([partners[int(each)] for each in scores.ids[rows]], device=log_p.device)
    pair = log_p.gather(1, torch.stack((own, other), 1))
    both = pair.logsumexp(1)
    p = log_p.exp()
    # The distribution over types, in which the two forms of every type are one outcome.
    outcomes = p.clone()
    for first, second in partners.items():
        if first < second:
            outcomes[:, first] += outcomes[:, second]
            outcomes[:, second] = 0
    best, expected = outcomes.max(1)
    type_entropy = torch.special.entr(outcomes).sum(1)
    share = (pair - both[:, None]).exp()
    form = share.argmax(1)
    of_type = {
        "bits": -both / _LN_2,
        "entropy": type_entropy / _LN_2,
        "expected": torch.where((expected == own) | (expected == other), own, expected),
        "probability": best,
    }
    of_combo = {
        "bits": (both - pair[:, 0]) / _LN_2,
        "entropy": torch.special.entr(share).sum(1) / _LN_2,
        "expected": torch.where(form == 0, own, other),
        "probability": share.max(1).values,
    }
    merged = {each.name: getattr(scores, each.name).copy() for each in fields(TokenScores)}
    extra = {name: values[rows] for name, values in merged.items()}
    for name, values in of_type.items():
        merged[name][rows] = values.cpu().numpy()
        extra[name] = of_combo[name].cpu().numpy().astype(merged[name].dtype)
    extra["aspects"] = np.full(len(rows), ASPECTS.index(Aspect.NEW_COMBO))
    return TokenScores(**{name: np.concatenate((merged[name], extra[name])) for name in merged})


def _no_scores() -> TokenScores:
    whole = {"windows", "objects", "aspects", "ids", "expected"}
    return TokenScores(
        **{
            each.name: np.zeros(0, np.int64 if each.name in whole else np.float32)
            for each in fields(TokenScores)
        }
    )
