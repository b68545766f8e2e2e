"""The embedding-quality suite: everything that is measured of a model, beside baselines on the same maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cm3p.embedding.table import EmbeddingTable
from cm3p.embedding.vectors import vector_header
from cm3p.inference.loading import LoadedModel
from cm3p.quality.clustering import ClusterResult, tag_clustering
from cm3p.quality.corpus import Corpus, ReadOptions, Selection, read_corpus, untrained
from cm3p.quality.facts import MapFacts
from cm3p.quality.frechet import FrechetResult, compare_sets
from cm3p.quality.labels import FIELDS, LabelResult, StarResult, judge_labels, judge_stars
from cm3p.quality.linear import inverse_frequencies, label_scores, predicted_stars, weighted_bags
from cm3p.quality.retrieval import RetrievalResult, retrieval
from cm3p.quality.zero_shot import MOST_CANDIDATES, ZeroShot, known_labels, zero_shot
from pentatonic.cli import BatchReport
from pentatonic.errors import IncompatibleVectors, InputError, UsageError
from pentatonic.statistics import DEFAULT_RESAMPLES

MODEL, UNTRAINED, BAGS = "model", "untrained network", "bag of tokens"


@dataclass(frozen=True)
class EvaluateOptions:
    """What is measured.

    Args:
        read: How maps are read and embedded.
        untrained: Also measure a network of the same configuration before training.
        against: Maps to take the Fréchet distance to; None: it is not measured.
        train: Training maps, from which classifiers of bags of tokens learn; None: there are none.
        probe: Embed the training maps, too, and learn the same classifiers from embeddings.
        most_candidates: Values of a field at most, the most frequent ones.
        resamples: Of sets, for the intervals.
        seed: Of everything random.
    """

    read: ReadOptions = field(default_factory=ReadOptions)
    untrained: bool = False
    against: Selection | None = None
    train: Selection | None = None
    probe: bool = False
    most_candidates: int = MOST_CANDIDATES
    resamples: int = DEFAULT_RESAMPLES
    seed: int = 0


@dataclass(frozen=True)
class SpaceQuality:
    """What embeddings of one system are worth without its metadata tower.

    Args:
        system: Such as ``model`` or ``bag of tokens``.
        retrieval: By field.
        tags: None where too few maps have tags.
        distance: To the maps of ``against``; None if there are none, or the system has no vectors of them.
    """

    system: str
    retrieval: list[RetrievalResult]
    tags: ClusterResult | None
    distance: FrechetResult | None = None


@dataclass(frozen=True)
class LabelQuality:
    """How well one system labels maps.

    Args:
        system: Such as ``model``.
        way: ``alone`` and others of zero-shot labels; ``trained`` for a classifier that learnt from labelled maps.
        labels: By field.
        stars: Of the difficulty.
    """

    system: str
    way: str
    labels: list[LabelResult]
    stars: StarResult | None


@dataclass
class Quality:
    """Everything that was measured.

    Args:
        maps: Counts of the evaluated maps by label.
        spaces: Retrieval, tags and distances of each system.
        labels: Zero-shot and learnt labels of each system.
        about: What was measured, and how.
    """

    maps: dict[str, Any]
    spaces: list[SpaceQuality] = field(default_factory=list)
    labels: list[LabelQuality] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)


def evaluate(
    loaded: LoadedModel, selection: Selection, options: EvaluateOptions = EvaluateOptions()
) -> tuple[Quality, BatchReport]:
    """Evaluate a model on maps, at best maps that it was not trained on.

    Args:
        loaded: A model with embeddings; zero-shot labels need a full one.
        selection: The maps.
        options: What is measured.

    Returns:
        What was measured, and what became of each map, those of ``against`` and ``train`` included.

    Raises:
        UsageError: The model has no embeddings, or mapsets to learn from are evaluated, too.
        InputError: There are no maps, or none can be used.
        Interrupted: Ctrl-C.
    """
    if options.train is not None:
        _require_other_sets(selection, options.train)
    models = [loaded, *([untrained(loaded, options.seed)] if options.untrained else [])]
    names = [MODEL, *([UNTRAINED] if options.untrained else [])]
    corpus, report = read_corpus(models, loaded.processor, selection, options.read)
    train = _read_more(
        models if options.probe else [], loaded, options.train, options, report, "training maps"
    )
    against = _read_more(models, loaded, options.against, options, report, "embedding the other maps")
    quality = Quality(corpus.facts.counts(), about=_about(loaded, selection, options, train, against))
    frequencies = inverse_frequencies((train or corpus).bags)
    spaces = [(name, corpus.vectors(number)) for number, name in enumerate(names)]
    spaces.append((BAGS, weighted_bags(corpus.bags, frequencies)))
    others: list[np.ndarray | None] = [None] * len(spaces)
    if against is not None:
        others = [
            *(against.vectors(number) for number in range(len(names))),
            weighted_bags(against.bags, frequencies),
        ]
    for (name, vectors), other in zip(spaces, others, strict=True):
        facts = None if against is None else against.facts
        quality.spaces.append(_space(name, vectors, corpus.facts, other, facts, options))
    for number, (name, model) in enumerate(zip(names, models, strict=True)):
        quality.labels += _zero_shot(name, model, corpus, number, options)
    if train is not None:
        of_train = weighted_bags(train.bags, frequencies)
        quality.labels.append(_learnt(BAGS, loaded, corpus, train.facts, of_train, spaces[-1][1], options))
        for number, name in enumerate(names if options.probe else []):
            of_train = train.vectors(number)
            quality.labels.append(
                _learnt(name, loaded, corpus, train.facts, of_train, spaces[number][1], options)
            )
    return quality, report


def evaluate_embeddings(
    file: Path, against: Path | None = None, options: EvaluateOptions = EvaluateOptions()
) -> Quality:
    """Evaluate stored embeddings: retrieval, tags and distances.

    Args:
        file: From ``cm3p embed``, or of the original.
        against: Embeddings by the same model to take the Fréchet distance to.
        options: ``resamples`` and ``seed`` count.

    Raises:
        InputError, FormatError: A file is missing, damaged, or has no maps.
        IncompatibleVectors: The files are from different models.
    """
    facts, vectors, header = _stored(file)
    other, other_facts = None, None
    if against is not None:
        other_facts, other, other_header = _stored(against)
        if header is not None and other_header is not None:
            other_header.require(header, str(against))
        if other.shape[1] != vectors.shape[1]:
            raise IncompatibleVectors(
                f"{against}: its vectors have {other.shape[1]} numbers, those of {file} {vectors.shape[1]}"
            )
    about = {"embeddings": str(file), "against": None if against is None else str(against), "vectors": header}
    quality = Quality(facts.counts(), about=about | {"resamples": options.resamples, "seed": options.seed})
    quality.spaces.append(_space("embeddings", vectors, facts, other, other_facts, options))
    return quality


def _stored(file: Path) -> tuple[MapFacts, np.ndarray, Any]:
    with EmbeddingTable(file) as table:
        maps = list(table.maps())
        header = table.header
    if not maps:
        raise InputError(f"{file}: holds no maps")
    vectors = np.stack([each.vector for each in maps])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return MapFacts.of([each.row for each in maps]), unit, header


def _require_other_sets(evaluated: Selection, train: Selection) -> None:
    """Classifiers that have seen the maps they are judged by would be far too good."""
    one, other = (
        {(each.table and each.table.path, each.group) for each in selection.sources()}
        for selection in (evaluated, train)
    )
    if common := len(one & other):
        raise UsageError(
            f"baseline_train: {common} of its sets are evaluated, too; allowed: other sets (start, end, split)"
        )


def _read_more(
    models: Sequence[LoadedModel],
    loaded: LoadedModel,
    selection: Selection | None,
    options: EvaluateOptions,
    report: BatchReport,
    what: str,
) -> Corpus | None:
    if selection is None:
        return None
    corpus, more = read_corpus(models, loaded.processor, selection, options.read, what=what)
    report.entries += more.entries
    return corpus


def _about(
    loaded: LoadedModel,
    selection: Selection,
    options: EvaluateOptions,
    train: Corpus | None,
    against: Corpus | None,
) -> dict[str, Any]:
    def named(each: Selection | None) -> dict[str, Any] | None:
        if each is None:
            return None
        return {
            "paths": [str(path) for path in each.paths],
            "start": each.start,
            "end": each.end,
            "split": each.split,
        }

    return {
        "model": loaded.name,
        "class": type(loaded.model).__name__,
        "vectors": vector_header(loaded, with_audio=options.read.with_audio),
        "evaluated": named(selection),
        "train": named(options.train),
        "train_maps": None if train is None else train.facts.counts(),
        "against": named(options.against),
        "against_maps": None if against is None else against.facts.counts(),
        "resamples": options.resamples,
        "seed": options.seed,
        "most_candidates": options.most_candidates,
    }


def _space(
    name: str,
    vectors: np.ndarray,
    facts: MapFacts,
    other: np.ndarray | None,
    other_facts: MapFacts | None,
    options: EvaluateOptions,
) -> SpaceQuality:
    distance = None
    if other is not None and other_facts is not None and min(len(other), len(vectors)) > 1:
        distance = compare_sets(vectors, other, facts.groups, other_facts.groups, seed=options.seed)
    draws = {"resamples": options.resamples, "seed": options.seed}
    return SpaceQuality(
        name, retrieval(vectors, facts, **draws), tag_clustering(vectors, facts, **draws), distance
    )


def _zero_shot(
    name: str, model: LoadedModel, corpus: Corpus, number: int, options: EvaluateOptions
) -> list[LabelQuality]:
    results: list[ZeroShot] = zero_shot(
        model,
        corpus,
        number,
        most_candidates=options.most_candidates,
        resamples=options.resamples,
        seed=options.seed,
    )
    return [LabelQuality(name, each.way, each.labels, each.stars) for each in results]


def _learnt(
    name: str,
    loaded: LoadedModel,
    corpus: Corpus,
    facts: MapFacts,
    features: np.ndarray,
    wanted: np.ndarray,
    options: EvaluateOptions,
) -> LabelQuality:
    """Labels of classifiers that learnt from the training maps, on the same questions as the zero-shot labels."""
    results = []
    draws = {"resamples": options.resamples, "seed": options.seed}
    for each in FIELDS:
        labels = known_labels(loaded.processor.metadata_tokenizer, corpus, each, options.most_candidates)
        if labels is None:
            continue
        scores = label_scores(features, facts, wanted, labels)
        if scores is not None:
            results.append(judge_labels(labels, scores, **draws))
    stars = predicted_stars(features, facts.stars, wanted)
    return LabelQuality(
        name, "trained", results, None if stars is None else judge_stars(stars, corpus.facts, **draws)
    )
