"""Labels of many maps.

Shapes: W windows, C labels, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cm3p.beatmap import MapEntry, find_maps
from cm3p.classification.labels import field_value
from cm3p.embedding.vectors import window_vectors
from cm3p.inference.batches import DEFAULT_BATCH_SIZE, run_windows
from cm3p.inference.loading import LoadedModel
from cm3p.inference.maps import EncodedMap, WindowOptions, encode_map
from cm3p.inference.songs import SongReader
from cm3p.metadata import FIELDS, CM3PMetadata
from cm3p.model import CM3PForBeatmapClassification, CM3PModel
from pentatonic.cli import BatchReport, progress
from pentatonic.errors import PentatonicError, UsageError
from pentatonic.pipeline import overlapped

_BATCHES_TOGETHER = 4
_ERRORS = (PentatonicError, OSError)
Scores = Callable[[Sequence[EncodedMap]], list[Tensor]]
"""Maps to the (W, C) scores of their windows."""


@dataclass(frozen=True)
class Labeller:
    """What gives scores to windows.

    Args:
        names: C labels.
        exclusive: Whether one label is right, so that scores are probabilities that add up to 1.
        scores: Computes them.
    """

    names: Sequence[str]
    exclusive: bool
    scores: Scores


@dataclass(frozen=True)
class MapLabels:
    """Labels of a map.

    Args:
        where: The map.
        mean: (C,) mean score of its windows.
        votes: (C,) windows in which a label has the highest score.
        starts_s: W starts of windows in seconds.
        windows: (W, C) scores.
    """

    where: str
    mean: list[float]
    votes: list[int]
    starts_s: list[float]
    windows: list[list[float]]


def trained_labeller(loaded: LoadedModel, batch_size: int = DEFAULT_BATCH_SIZE) -> Labeller:
    """Return the labels of a classifier.

    Probabilities are exclusive unless its ``problem_type`` says otherwise; those of a regression are plain numbers.

    Raises:
        UsageError: The model is something else.
    """
    model = loaded.model
    if not isinstance(model, CM3PForBeatmapClassification):
        raise UsageError(
            f"{loaded.name} is a {type(model).__name__}; allowed without --zero-shot: a "
            "CM3PForBeatmapClassification such as OliBomby/CM3P-ranked-classifier"
        )
    problem, count = model.config.problem_type, model.num_labels
    exclusive = problem == "single_label_classification" or (problem is None and count > 1)

    def forward(ids: Tensor, features: Tensor | None, mask: Tensor) -> Tensor:
        logits = model(ids, features, mask).logits.float()
        if exclusive:
            return logits.softmax(-1)
        return logits.sigmoid() if problem == "multi_label_classification" else logits

    named: Any = model.config.id2label
    names = [str(named[number]) for number in range(count)]
    return Labeller(names, exclusive, lambda maps: run_windows(loaded, forward, maps, batch_size))


def zero_shot_labeller(loaded: LoadedModel, text: str, batch_size: int = DEFAULT_BATCH_SIZE) -> Labeller:
    """Return the values of a field of metadata as labels, by the similarity of maps and metadata.

    All other fields are unknown.

    Args:
        loaded: A full model.
        text: ``FIELD=V1,V2,...``.
        batch_size: Windows at a time.

    Raises:
        UsageError: It is another model, there are fewer than two values, or the model does not know one.
    """
    model = loaded.model
    if not isinstance(model, CM3PModel):
        raise UsageError(f"{loaded.name} is a {type(model).__name__}; allowed with --zero-shot: a CM3PModel")
    name, _, values = text.partition("=")
    names = [value.strip() for value in values.split(",") if value.strip()]
    if name not in FIELDS or len(set(names)) < 2 or len(set(names)) != len(names):
        raise UsageError(
            f"--zero-shot is {text!r}; allowed: FIELD=V1,V2,... with two or more different values, and FIELD one of "
            f"{', '.join(FIELDS)}"
        )
    tokenizer = loaded.processor.metadata_tokenizer
    entries: list[CM3PMetadata] = []
    for each in names:
        value = field_value(tokenizer, name, each)
        entries.append(CM3PMetadata(**{name: [value] if name == "tags" else value}))  # type: ignore[typeddict-item]
    encoded = loaded.processor(metadata=entries).to(loaded.device)
    with torch.inference_mode():
        metadata = model(
            metadata_ids=encoded["input_ids"],
            metadata_attention_mask=encoded["attention_mask"],
            return_loss=False,
            output_logits=False,
        ).metadata_embeds
    metadata = metadata.float().cpu()  # (C, D)
    scale = model.logit_scale.detach().float().exp().item()

    def scores(maps: Sequence[EncodedMap]) -> list[Tensor]:
        vectors = window_vectors(loaded, maps, batch_size)
        return [(each @ metadata.T * scale).softmax(-1) for each in vectors]

    return Labeller([f"{name}={each}" for each in names], True, scores)


def label_maps(
    loaded: LoadedModel,
    labeller: Labeller,
    paths: Sequence[Path],
    *,
    with_audio: bool = True,
    windows: WindowOptions = WindowOptions(),  # noqa: B008 - frozen
    batch_size: int = DEFAULT_BATCH_SIZE,
) -> tuple[list[MapLabels], BatchReport]:
    """Label maps. One that cannot be used is reported, and the others go on.

    Args:
        loaded: The model.
        labeller: What gives scores to windows.
        paths: Maps, archives and folders.
        with_audio: With their songs; maps without one fail.
        windows: How maps are cut.
        batch_size: Windows at a time.

    Returns:
        Labels of the maps that could be used, and what became of each.
    """
    report, results = BatchReport(), []
    songs = SongReader(loaded.processor.default_kwargs["audio_kwargs"]["sampling_rate"])

    def read(entry: MapEntry) -> EncodedMap:
        if entry.error is not None:
            raise entry.error
        assert entry.beatmap is not None
        samples = songs.read_for(entry) if with_audio else None
        return encode_map(loaded.processor, entry.beatmap, samples, windows)

    def compute(maps: Sequence[EncodedMap]) -> list[tuple[EncodedMap, Tensor]]:
        return list(zip(maps, labeller.scores(maps), strict=True))

    def share(item: EncodedMap) -> float:
        return len(item.windows) / (batch_size * _BATCHES_TOGETHER)

    entries = overlapped(
        find_maps(paths), read, compute, lambda result, _: result, share=share, errors=_ERRORS
    )
    with report.interruptible(()), songs, progress(None, "labelling") as bar, closing(entries):
        for each in entries:
            try:
                outcome: Any = each.outcome()
            except _ERRORS as error:
                report.failed(each.source.where, error)
            else:
                encoded, scores = outcome
                results.append(_labels(each.source.where, encoded, scores))
                report.done(each.source.where, windows=len(scores))
            bar.advance(1, note=each.source.path.name)
    return results, report


def _labels(where: str, encoded: EncodedMap, scores: Tensor) -> MapLabels:
    votes = torch.bincount(scores.argmax(1), minlength=scores.shape[1])
    return MapLabels(where, scores.mean(0).tolist(), votes.tolist(), encoded.starts_s, scores.tolist())
