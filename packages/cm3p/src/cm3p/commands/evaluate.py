"""``cm3p evaluate``: how good embeddings of maps are, beside chance, bags of tokens and the untrained network.

    cm3p evaluate maps=[data/maps] split=test untrained=true baseline_train=train out=quality.json
    cm3p evaluate maps=[data/mine] against=[data/ranked] audio=false
    cm3p evaluate embeddings=mine.parquet against=[ranked.parquet]

Results are deterministic for a seed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cm3p.commands.options import BATCH_SIZE, DEFAULT_MODEL, MAX_WINDOWS
from cm3p.inference.loading import load
from cm3p.inference.maps import WindowOptions
from cm3p.quality.corpus import ReadOptions, Selection, parse_selection
from cm3p.quality.evaluate import EvaluateOptions, Quality, evaluate, evaluate_embeddings
from cm3p.quality.report import document, lines, write_page
from cm3p.quality.zero_shot import MOST_CANDIDATES
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import BatchReport, check_inputs, json_text, make_output_place, pick_device, show
from pentatonic.errors import UsageError
from pentatonic.statistics import DEFAULT_RESAMPLES
from pentatonic.training import compose_config

_LEAST = {"start": 0, "seed": 0, "resamples": 1, "most_candidates": 2, "batch_size": 1, "max_windows": 1}
_ALLOWED = {"device": ("auto", "cpu", "cuda", "mps"), "dtype": ("auto", "fp32", "bf16")}


@dataclass
class EvaluateConfig:
    """Options of ``cm3p evaluate``.

    Args:
        maps: Mapperator data sets, maps (``.osu``), archives (``.osz``) and folders; best ones without training maps.
        model: Name or path for :func:`cm3p.from_pretrained`, or a hub id such as ``OliBomby/CM3P``.
        revision: Commit, tag or branch of a model on the hub; None: ``main``.
        split: Only maps whose column ``Split`` says so, such as ``test``; None: all.
        start: First set of a data set, or file, counted from 0.
        end: First set or file to leave out; None: none.
        audio: Use the songs; maps without one fail then.
        untrained: Also measure the network as it is before training.
        baseline_train: Training maps of the same data sets, as ``FIRST:END`` (sets) or the name of a split:
            classifiers of bags of tokens learn from them. None: there are no such classifiers.
        probe: Embed the training maps, and train the classifiers on embeddings, too.
        against: Other maps, or one file of embeddings with ``embeddings``, to take the Fréchet distance to.
        embeddings: Stored embeddings (``cm3p embed``) in place of maps and model; without labels.
        metadata: Parquet table that fills what maps do not say, such as star ratings, by ``Id``.
        most_candidates: Zero-shot values of a field at most, the most frequent ones.
        resamples: Resamples of mapsets for the intervals.
        seed: Of everything random.
        out: JSON file to write, with everything that was measured.
        page: HTML file to write, with the tables; needs the extra ``report``.
        json: Print the result as one JSON document in place of the tables.
        batch_size: Windows at a time.
        max_windows: Refuse maps with more windows than this.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        dtype: Number type of the computation: ``fp32``, ``bf16``, or ``auto``: bf16 on a GPU that has it.
    """

    maps: list[str] = field(default_factory=list)
    model: str = DEFAULT_MODEL
    revision: str | None = None
    split: str | None = None
    start: int = 0
    end: int | None = None
    audio: bool = True
    untrained: bool = False
    baseline_train: str | None = None
    probe: bool = False
    against: list[str] = field(default_factory=list)
    embeddings: str | None = None
    metadata: str | None = None
    most_candidates: int = MOST_CANDIDATES
    resamples: int = DEFAULT_RESAMPLES
    seed: int = 0
    out: str | None = None
    page: str | None = None
    json: bool = False
    batch_size: int = BATCH_SIZE
    max_windows: int = MAX_WINDOWS
    device: str = "auto"
    dtype: str = "auto"


def main(overrides: Sequence[str]) -> None:
    """Run with Hydra overrides, such as ``maps=[data/maps] split=test out=quality.json``."""
    config = compose_config("cm3p.conf.evaluation", overrides, EvaluateConfig, config_name="evaluate")
    _check(config)
    quality, report = _measure(config)
    if report is not None:
        report.print_summary()
    result = document(quality, config, report)
    if config.out is not None:
        with atomic_file(Path(config.out)) as file:
            file.write(f"{json_text(result)}\n".encode())
        print(config.out, file=sys.stderr)
    if config.page is not None:
        write_page(quality, Path(config.page))
        print(config.page, file=sys.stderr)
    show(result, config.json, lambda: lines(quality))
    if report is not None:
        report.raise_for_failures()


def _check(config: EvaluateConfig) -> None:
    """Fail fast.

    Raises:
        UsageError: An input does not exist, an output cannot be written, or options are out of range or exclude each
            other.
    """
    files = [each for each in (config.embeddings, config.metadata) if each is not None]
    inputs = [Path(each) for each in (*config.maps, *config.against, *files)]
    check_inputs(inputs)
    for name, file, suffix in (("out", config.out, ".json"), ("page", config.page, ".html")):
        if file is not None:
            if Path(file).suffix.lower() != suffix:
                raise UsageError(f"{name} is {file}; allowed: a name that ends in {suffix}")
            make_output_place(Path(file), f"{name}=", inputs=inputs)
    for name, least in _LEAST.items():
        if (value := getattr(config, name)) < least:
            raise UsageError(f"{name} is {value}; allowed: {least} or more")
    for name, allowed in _ALLOWED.items():
        if (value := getattr(config, name)) not in allowed:
            raise UsageError(f"{name} is {value!r}; allowed: {', '.join(allowed)}")
    if (config.embeddings is None) == (not config.maps):
        raise UsageError("give either maps=[PATH,...] or embeddings=FILE")
    if config.end is not None and config.end <= config.start:
        raise UsageError(f"end is {config.end}; allowed: more than start, {config.start}")
    if config.probe and config.baseline_train is None:
        raise UsageError("probe needs baseline_train, the maps to learn from")
    if config.embeddings is not None:
        of_maps = (config.baseline_train, config.split, config.metadata)
        if config.untrained or any(each is not None for each in of_maps):
            raise UsageError(
                "untrained, baseline_train, split and metadata need maps and a model, not embeddings"
            )
        if len(config.against) > 1:
            raise UsageError("against with embeddings: allowed is one file of embeddings")


def _measure(config: EvaluateConfig) -> tuple[Quality, BatchReport | None]:
    """Return what was measured, and what became of each map; None with stored embeddings."""
    against = [Path(each) for each in config.against]
    if config.embeddings is not None:
        options = EvaluateOptions(resamples=config.resamples, seed=config.seed)
        return evaluate_embeddings(Path(config.embeddings), against[0] if against else None, options), None
    maps = [Path(each) for each in config.maps]
    metadata = None if config.metadata is None else Path(config.metadata)
    train = config.baseline_train
    options = EvaluateOptions(
        read=ReadOptions(config.audio, WindowOptions(config.max_windows), config.batch_size),
        untrained=config.untrained,
        against=Selection(against, metadata=metadata) if against else None,
        train=None if train is None else parse_selection(train, maps, metadata),
        probe=config.probe,
        most_candidates=config.most_candidates,
        resamples=config.resamples,
        seed=config.seed,
    )
    selection = Selection(maps, config.start, config.end, config.split, metadata)
    device = pick_device(config.device, "device=")
    loaded = load(config.model, device=device, precision=config.dtype, revision=config.revision)
    return evaluate(loaded, selection, options)
