"""Zero-shot labels: which value of a field of metadata does a map's embedding point to?

Two ways to ask:

``alone``: all other fields of metadata are unknown.
``exchanged``: all other fields are those of the map, and this one is exchanged, as in the variations of training.

In the second way the other fields may give the answer away: a number of keys fits no ruleset but mania, and some years
fit no mapper. So it has a control in which the mean embedding of the maps of all other sets takes the place of the
map's: what can be read from metadata alone.

Scores are those of ``cm3p classify --zero-shot``: probabilities over the candidates, their mean over the windows.

Shapes: N maps, n maps that count, C candidates, W windows of a map, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cm3p.inference.loading import LoadedModel
from cm3p.metadata import CM3PMetadata
from cm3p.model import CM3PModel
from cm3p.quality.corpus import Corpus
from cm3p.quality.labels import (
    FIELDS,
    LabelResult,
    Labels,
    StarResult,
    judge_labels,
    judge_stars,
    label_table,
)
from cm3p.tokens.metadata import CM3PMetadataTokenizer
from pentatonic.statistics import DEFAULT_RESAMPLES

ALONE, EXCHANGED, CONTROL = "alone", "exchanged", "exchanged, without the map"
WAYS = (ALONE, EXCHANGED, CONTROL)
MOST_CANDIDATES = 64
STAR_STEP = 0.25
_SEQUENCES = 2048  # entries of metadata at a time


@dataclass(frozen=True)
class ZeroShot:
    """Zero-shot results of a model, by the way of asking.

    Args:
        way: One of :data:`WAYS`.
        labels: Of each field.
        stars: Of the difficulty; None where no map has a star rating.
    """

    way: str
    labels: list[LabelResult]
    stars: StarResult | None


def zero_shot(
    loaded: LoadedModel,
    corpus: Corpus,
    number: int = 0,
    *,
    most_candidates: int = MOST_CANDIDATES,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> list[ZeroShot]:
    """Judge a model by its zero-shot labels; none for a model without a metadata tower.

    Args:
        loaded: The model.
        corpus: Maps with its vectors.
        number: Of the model among those of the corpus.
        most_candidates: Of a field, the most frequent ones; maps with other values are left out.
        resamples: Of sets, for the intervals.
        seed: Of the resamples.
    """
    if not isinstance(loaded.model, CM3PModel):
        return []
    asked = _Asked(loaded, corpus, number)
    found: dict[str, list[LabelResult]] = {way: [] for way in WAYS}
    for field in FIELDS:
        labels = known_labels(loaded.processor.metadata_tokenizer, corpus, field, most_candidates)
        if labels is None:
            continue
        entries = [_entry(field, value) for value in labels.candidates]
        for way, scores in asked.scores(labels.maps, entries, labels.allowed).items():
            found[way].append(judge_labels(labels, scores, resamples=resamples, seed=seed))
    stars = _predicted_stars(asked, corpus)
    return [
        ZeroShot(
            way,
            found[way],
            None
            if way not in stars
            else judge_stars(stars[way], corpus.facts, resamples=resamples, seed=seed),
        )
        for way in WAYS
    ]


def known_labels(tokenizer: CM3PMetadataTokenizer, corpus: Corpus, field: str, most: int) -> Labels | None:
    """Return the labels of a field, with those values as candidates that a model's vocabulary has."""
    unknown = tokenizer.tokenize(CM3PMetadata())

    def known(value: Any) -> bool:
        if field == "year" and not tokenizer.min_year <= value <= tokenizer.max_year:
            return False  # it would be clipped
        return tokenizer.tokenize(_entry(field, value)) != unknown

    return label_table(corpus.facts, field, most=most, known=known)


def _entry(field: str, value: Any) -> CM3PMetadata:
    return CM3PMetadata(**{field: [value] if field == "tags" else value})  # type: ignore[typeddict-item]


def _predicted_stars(asked: _Asked, corpus: Corpus) -> dict[str, np.ndarray]:
    """Way -> (N,) expected star rating over a grid of candidates."""
    stars = corpus.facts.stars
    known = np.flatnonzero(~np.isnan(stars))
    if len(known) < 2:
        return {}
    low, high = np.floor(stars[known].min() / STAR_STEP), np.ceil(stars[known].max() / STAR_STEP)
    grid = np.arange(low, max(high, low + 1) + 1) * STAR_STEP
    entries = [CM3PMetadata(difficulty=float(each)) for each in grid]
    found = {}
    for way, scores in asked.scores(known, entries).items():
        found[way] = np.full(len(stars), np.nan)
        found[way][known] = scores @ grid
    return found


class _Asked:
    """A model that is asked about the maps of a corpus."""

    def __init__(self, loaded: LoadedModel, corpus: Corpus, number: int) -> None:
        model = loaded.model
        assert isinstance(model, CM3PModel)
        self._loaded, self._model, self._corpus = loaded, model, corpus
        self._windows = corpus.windows[number]
        self._scale = float(model.logit_scale.detach().float().exp())
        vectors, groups = corpus.vectors(number), corpus.facts.groups
        of_sets = np.zeros((corpus.facts.sets, vectors.shape[1]))
        np.add.at(of_sets, groups, vectors)
        others = of_sets.sum(0) - of_sets[groups]
        self._others = others / np.maximum(np.linalg.norm(others, axis=1, keepdims=True), 1e-12)

    def scores(
        self, maps: np.ndarray, entries: Sequence[CM3PMetadata], allowed: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Return (n, C) mean probabilities of candidates over windows, by the way of asking.

        Args:
            maps: (n,) numbers of maps.
            entries: C candidates: metadata of one field each.
            allowed: (n, C) bool: candidates that count for each map; None: all.
        """
        shape = len(maps), len(entries)
        allowed = np.ones(shape, dtype=bool) if allowed is None else allowed
        alone = self._vectors(entries)
        found = {way: np.zeros(shape) for way in WAYS}
        at_once = max(1, _SEQUENCES // len(entries))
        for start in range(0, len(maps), at_once):
            rows = range(start, min(start + at_once, len(maps)))
            exchanged = self._vectors(
                [{**self._corpus.metadata[maps[row]], **entry} for row in rows for entry in entries]
            )
            for row, vectors in zip(rows, exchanged.reshape(len(rows), len(entries), -1), strict=True):
                windows, others = self._windows[maps[row]], self._others[maps[row]][None]
                for way, seen, known in (
                    (ALONE, windows, alone),
                    (EXCHANGED, windows, vectors),
                    (CONTROL, others, vectors),
                ):
                    found[way][row] = self._probabilities(seen, known, allowed[row])
        return found

    def _probabilities(self, windows: np.ndarray, candidates: np.ndarray, allowed: np.ndarray) -> np.ndarray:
        logits = np.where(allowed, windows @ candidates.T * self._scale, -np.inf)
        p = np.exp(logits - logits.max(1, keepdims=True))
        return (p / p.sum(1, keepdims=True)).mean(0)

    @torch.inference_mode()
    def _vectors(self, entries: Sequence[Any]) -> np.ndarray:
        """(M, D) unit vectors of metadata."""
        found = []
        for start in range(0, len(entries), _SEQUENCES):
            encoded = self._loaded.processor(metadata=list(entries[start : start + _SEQUENCES]))
            encoded = encoded.to(self._loaded.device)
            vectors = self._model.get_metadata_features(encoded["input_ids"], encoded["attention_mask"])
            found.append(torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy())
        return np.concatenate(found)
