"""The evaluation of one or more systems: metrics of recordings and sets, and comparisons of pairs.

Shape legend: N recordings, D dimensions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from pentatonic import audio as audio_files
from pentatonic.cli import BatchReport
from pentatonic.errors import IncompatibleVectors, InputError, PentatonicError, UsageError
from pentatonic.statistics import DEFAULT_RESAMPLES, Estimate, mean_interval
from rc_audioldm.evaluation.comparison import PairedDifference, compare_pairs
from rc_audioldm.evaluation.diversity import Diversity, diversity
from rc_audioldm.evaluation.embedded_set import EmbeddedSet, embed_files, load_set
from rc_audioldm.evaluation.embedders import Embedder, TextEmbedder
from rc_audioldm.evaluation.set_distances import Few, SetDistance, compare_sets, distances_of_files
from rc_audioldm.evaluation.signal import signal_metrics
from rc_audioldm.evaluation.sounds import Preparation, read_sound
from rc_audioldm.evaluation.systems import System, pair_items

TEXT, STYLE, TO_REFERENCE = "text_similarity", "style_similarity", "distance_to_reference"
REFERENCE = "reference"
Row = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Args:
        header: Embedder and preparation of all sets.
        items: One row for each recording: system, id, file, prompt, and its metrics.
        means: System -> metric -> mean over its recordings with a 95 % interval.
        diversity: System -> diversity of its vectors; not of a single recording.
        to_reference: System -> distances to the reference; empty without one.
        between: (first, second) -> distances of two systems, which are no quality.
        differences: Of all pairs of systems.
        pairing: How recordings were paired.
        notes: What a reader has to know.
    """

    header: dict[str, Any]
    items: tuple[Row, ...]
    means: Mapping[str, Mapping[str, Estimate]]
    diversity: Mapping[str, Diversity]
    to_reference: Mapping[str, SetDistance]
    between: Mapping[tuple[str, str], SetDistance]
    differences: tuple[PairedDifference, ...]
    pairing: str
    notes: tuple[str, ...]


def evaluate_systems(
    systems: Sequence[System],
    embedder: Embedder,
    preparation: Preparation,
    report: BatchReport,
    *,
    reference: EmbeddedSet | None = None,
    few: Few = "refuse",
    sets: Path | None = None,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Measure systems and compare them.

    Args:
        systems: One or more, of different names.
        embedder: What the sets are compared by; one with texts also compares recordings with prompts.
        preparation: What is done to each recording before.
        report: Gets an entry for each recording.
        reference: A set to measure distances to.
        few: What happens to Fréchet distances of fewer vectors than dimensions.
        sets: Folder where the vectors of each system are kept and found again; None keeps none.
        resamples: For intervals.
        seed: Of everything random.

    Raises:
        InputError: A system has no usable recording, paired recordings have different prompts, or style vectors have
            another dimension than the embedder's.
        IncompatibleVectors: The reference was made in another way.
    """
    if len({system.name for system in systems}) < len(systems):
        raise UsageError(f"systems: {', '.join(system.name for system in systems)}; allowed: different names")
    pairing = pair_items(systems)
    notes = list(pairing.notes)
    embedded = {
        system.name: _embedded(system, number, embedder, preparation, report, sets)
        for number, system in enumerate(systems)
    }
    if reference is not None:
        next(iter(embedded.values())).header.require(reference.header, "the systems")
    rows: list[Row] = []
    for system in systems:
        rows += _rows(system, embedded[system.name], embedder, reference, few, notes)
    distances = (
        {}
        if reference is None
        else {
            name: compare_sets(each, reference, few=few, names=(name, REFERENCE), seed=seed)
            for name, each in embedded.items()
        }
    )
    between = {
        (one, other): compare_sets(embedded[one], embedded[other], few=few, names=(one, other), seed=seed)
        for one, other in combinations(embedded, 2)
    }
    for each in (*distances.values(), *between.values()):
        notes += [note for note in each.notes if note not in notes]
    metrics = _metric_names(rows)
    by_item = {(row["system"], row["id"]): row for row in rows}
    values = {
        name: {
            metric: [_value(by_item.get((name, item.id)), metric) for item in items.values()]
            for metric in metrics
        }
        for name, items in pairing.items.items()
    }
    groups = [_group(key, [items[key] for items in pairing.items.values()]) for key in pairing.keys]
    header = next(iter(embedded.values())).header
    return Evaluation(
        header={**header.embedder, **header.preparation},
        items=tuple(rows),
        means={
            system.name: _means(
                [row for row in rows if row["system"] == system.name], metrics, resamples, seed
            )
            for system in systems
        },
        diversity={
            name: diversity(each.file_vectors) for name, each in embedded.items() if len(each.names) > 1
        },
        to_reference=distances,
        between=between,
        differences=tuple(compare_pairs(values, groups, resamples=resamples, seed=seed)) if groups else (),
        pairing=pairing.rule,
        notes=tuple(notes),
    )


def common_rate(systems: Sequence[System], others: Sequence[Path], embedder: Embedder) -> int:
    """Return the lowest sample rate of all recordings, but at most that of the embedder; unreadable ones do not count.

    Args:
        systems: Systems.
        others: Further recordings, such as those of a reference.
        embedder: The model.
    """
    rates = [embedder.sample_rate]
    for path in (*(item.path for system in systems for item in system.items), *others):
        try:
            rates.append(audio_files.info(path).sample_rate)
        except (PentatonicError, OSError):
            continue
    return min(rates)


def _embedded(
    system: System,
    number: int,
    embedder: Embedder,
    preparation: Preparation,
    report: BatchReport,
    sets: Path | None,
) -> EmbeddedSet:
    kept = None if sets is None else sets / f"{number:02d}.safetensors"
    known = None
    if kept is not None and kept.is_file():
        try:
            known = load_set(kept)
        except PentatonicError:
            known = None  # of an older version, or damaged: made again
    files = {item.id: item.path for item in system.items}
    try:
        found = embed_files(files, embedder, preparation, report, known=known)
    except InputError as error:
        report.print_summary()
        raise InputError(f"{system.name}: {error}") from error
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        found.save(kept)
    return found


def _rows(
    system: System,
    embedded: EmbeddedSet,
    embedder: Embedder,
    reference: EmbeddedSet | None,
    few: Few,
    notes: list[str],
) -> list[Row]:
    """One row for each usable recording, with its signal metrics and its similarities."""
    place = {name: number for number, name in enumerate(embedded.names)}
    usable = [item for item in system.items if item.id in place]
    rows: list[Row] = []
    for item in usable:
        sound = read_sound(item.path)
        metrics = dataclasses.asdict(signal_metrics(sound.samples, sound.sample_rate))
        file = item.path.relative_to(system.folder).as_posix()
        rows.append({"system": system.name, "id": item.id, "file": file, "prompt": item.prompt, **metrics})
    vectors = embedded.file_vectors
    if isinstance(embedder, TextEmbedder):
        prompts = list(dict.fromkeys(item.prompt for item in usable if item.prompt))
        texts = dict(zip(prompts, embedder.embed_texts(prompts), strict=True)) if prompts else {}
        for row in rows:
            if row["prompt"] in texts:
                row[TEXT] = float(vectors[place[row["id"]]] @ texts[row["prompt"]])
    if system.styles is not None and _are_comparable(system, embedder, notes):
        if system.styles.shape[1] != embedded.dimension:
            raise IncompatibleVectors(
                f"{system.name}: style vectors of {system.styles.shape[1]} dimensions; allowed: "
                f"{embedded.dimension}, as the embedder has"
            )
        numbers = {item.id: number for number, item in enumerate(system.items)}
        for row in rows:
            style = np.asarray(system.styles[numbers[row["id"]]], np.float64)
            length = np.linalg.norm(style)
            row[STYLE] = float(vectors[place[row["id"]]] @ style / length) if length else math.nan
    if reference is not None:
        try:
            alone = distances_of_files(embedded, reference, few=few)
        except InputError as error:
            if (note := f"no distances of single recordings: {error}") not in notes:
                notes.append(note)
        else:
            for row in rows:
                row[TO_REFERENCE] = alone[row["id"]]
    return rows


def _are_comparable(system: System, embedder: Embedder, notes: list[str]) -> bool:
    """Whether the style vectors are of the embedder's model, as far as is known; a note says that they are not."""
    made_by = system.style_model
    if made_by is None or made_by.weights == embedder.describe().get("weights"):
        return True
    notes.append(
        f"{system.name}: no similarity to its style, whose vectors are of another model; "
        f"model={made_by.name} compares with them"
    )
    return False


def _metric_names(rows: Sequence[Row]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if name not in ("system", "id", "file", "prompt")]


def _value(row: Row | None, metric: str) -> float:
    value = None if row is None else row.get(metric)
    return math.nan if value is None else float(value)


def _group(key: str, items: Sequence[Any]) -> tuple[str, str]:
    """Items with one prompt are one group, others are alone."""
    prompt = next((item.prompt for item in items if item.prompt), None)
    return ("item", key) if prompt is None else ("prompt", prompt)


def _means(rows: Sequence[Row], metrics: Sequence[str], resamples: int, seed: int) -> dict[str, Estimate]:
    prompts = [row["prompt"] or ("item", row["id"]) for row in rows]
    numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
    groups = np.array([numbers[prompt] for prompt in prompts])
    found = {}
    for metric in metrics:
        values = np.array([_value(row, metric) for row in rows])
        if not np.isnan(values).all():
            found[metric] = mean_interval(values, groups, resamples=resamples, seed=seed)
    return found
