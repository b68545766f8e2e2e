"""``omar-rq probe``: what can be read from the frozen embeddings of an encoder, beside what needs no training.

    omar-rq probe task=chord data.root=DATA model=omar-rq-tiny

Heads are fitted to the training split, chosen on the validation split, and tested once. The same heads are fitted to
log-mel spectrograms and to the same network with random weights; a trivial answer hears nothing. The run folder gets
``probe/`` (:class:`omar_rq.probing.saved.SavedProbe`), ``results.json``, ``results.md`` and ``report.json``. A run
that was stopped continues when the same command is given: features and finished fits are kept.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from omar_rq.command_options import layer_numbers
from omar_rq.model import OmarRQ
from omar_rq.probing.config import ProbeConfig
from omar_rq.probing.data.recording import SPLITS, DataSet, Recording
from omar_rq.probing.data.registry import read_data_set
from omar_rq.probing.features import FeatureConfig
from omar_rq.probing.fitting import Fitted, fit_head, recording_outputs
from omar_rq.probing.heads import HeadConfig, Pooling
from omar_rq.probing.results import Tested, results_document, results_page
from omar_rq.probing.saved import EncoderRecord, SavedProbe
from omar_rq.probing.sources import EncoderSource, LogMelSource, System, untrained_like
from omar_rq.probing.store import FeatureStore
from omar_rq.probing.stored_fits import StoredFits
from omar_rq.probing.task_list import DATA_SETS
from omar_rq.probing.tasks.building import build_task
from omar_rq.probing.tasks.task import ProbeTask
from omar_rq.signals import LayerIndexError, layer_indices
from omar_rq.weights import from_pretrained
from pentatonic import audio
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import BatchReport, make_output_folder, pick_device, progress, run_manifest
from pentatonic.errors import ConfigError, InputError, UsageError
from pentatonic.folder_run import REPORT_FILE, RUN_FILE, claim_folder, write_json
from pentatonic.training import compose_config

PROBE = "probe"
RESULTS, PAGE = "results.json", "results.md"


@dataclass(frozen=True)
class ProbeOutcome:
    """What a run gives.

    Attributes:
        document: Of ``results.json``.
        page: Of ``results.md``.
        report: What became of each recording.
    """

    document: dict[str, Any]
    page: str
    report: BatchReport


def probe(config: ProbeConfig, command: str = "") -> ProbeOutcome:
    """Fit, choose and test, and write the run folder.

    Args:
        config: What decides the result.
        command: The command line, for the results.

    Raises:
        UsageError: An option is not allowed, or the run folder belongs to other settings.
        ConfigError: Options contradict each other.
        MissingExtra: A metric or mirdata is not installed.
        InputError: The data set is missing or cannot be used for the task.
        CheckpointError: The run folder or the store cannot be written.
    """
    _check(config)
    data = read_data_set(config.data.name, config.data.root, source=_source(config))
    task = build_task(config.task, data)
    model = from_pretrained(config.model, device=pick_device(config.device, "device="))
    features, head = build_configs(config, task, model)
    encoder = EncoderRecord.of(model, config.model)
    run_dir = Path(config.run_dir)
    settings = {**asdict(config), "encoder": encoder.sha256, "labels": list(task.labels)}
    for name in ("device", "store_dir", "run_dir"):
        del settings[name]
    claim_folder(run_dir / RUN_FILE, settings, advice="choose another run_dir")
    write_json(run_dir / RUN_FILE, {"settings": settings, **run_manifest()})
    stores = [
        FeatureStore(Path(config.store_dir), system.source, half=config.features.half)
        for system in build_systems(config, model, features)
    ]
    names = ["probe", "log-mel", "untrained network"][: len(stores)]
    splits, report = compute_features(stores, names, task, data)
    report.write(run_dir / REPORT_FILE)
    runner = _Runner(config, task, splits, StoredFits(run_dir / "fits", settings))
    tested = [runner.test(name, store, head) for name, store in zip(names, stores, strict=True)]
    tested.append(runner.trivial(stores[0]))
    saved = SavedProbe(
        config.task,
        task.labels,
        task.outputs,
        encoder,
        features,
        runner.best.head.to("cpu"),
        {"data": data.name, "source": data.source, "split": data.split, "command": command},
    )
    about = {
        "task": config.task,
        "model": config.model,
        "encoder_sha256": encoder.sha256,
        "data": {
            "name": data.name,
            "source": data.source,
            "licence": DATA_SETS[data.name].licence,
            "split": data.split,
            "recordings": {name: len(each) for name, each in splits.items()},
            "groups": {name: len({one.group for one in each}) for name, each in splits.items()},
        },
        "command": command,
        "seeds": config.seeds,
        "resamples": config.resamples,
        "features": asdict(features),
        "head": asdict(head),
        "chosen": {"learning_rate": runner.best_rate, "step": runner.best.step, "valid": runner.best.score},
        "layers": {str(layer): weight for layer, weight in saved.layer_weights.items()},
        "failed": report.count("failed"),
    }
    groups = [recording.group for recording in splits["test"]]
    document = results_document(about, task.metrics, tested, groups, resamples=config.resamples)
    page = results_page(document)
    saved.about = {**saved.about, "results": document["systems"]["probe"]}
    saved.save(run_dir / PROBE)
    write_json(run_dir / RESULTS, document)
    with atomic_file(run_dir / PAGE) as file:
        file.write(page.encode())
    return ProbeOutcome(document, page, report)


def _check(config: ProbeConfig) -> None:
    fit = config.fit
    counts = {
        "seeds": config.seeds,
        "resamples": config.resamples,
        "fit.steps": fit.steps,
        "fit.batch_size": fit.batch_size,
        "fit.eval_every": fit.eval_every,
        "fit.warmup_steps": fit.warmup_steps + 1,
        "fit.patience": 1 if fit.patience is None else fit.patience,
        "fit.learning_rates": len(fit.learning_rates),
    }
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f"{name} is too small; allowed: 1 and more")
    if not (fit.crop_s > 0 and min(fit.learning_rates) > 0 and fit.weight_decay >= 0 and fit.min_lr >= 0):
        raise ConfigError(
            "fit.crop_s and fit.learning_rates must be above 0, fit.weight_decay and fit.min_lr 0 or more"
        )
    for name, value, allowed in (
        ("fit.loss", fit.loss, ("auto", "binary")),
        ("fit.chunks", fit.chunks, ("all", "first")),
        ("data.source", config.data.source, ("auto", "folder", "mirdata")),
        ("head.pooling", config.head.pooling, get_args(Pooling)[:3]),
    ):
        if value not in allowed:
            raise ConfigError(f"{name} is {value!r}; allowed: {', '.join(allowed)}")


def _source(config: ProbeConfig) -> str:
    about = DATA_SETS.get(config.data.name)
    return about.sources[0] if about and config.data.source == "auto" else config.data.source


def build_configs(config: ProbeConfig, task: ProbeTask, model: OmarRQ) -> tuple[FeatureConfig, HeadConfig]:
    """Return which features are taken of the encoder, and how heads on them are built.

    Raises:
        UsageError: ``features.layers`` is not a list of layers of the model.
        ConfigError: An option is out of its range, or chunks are asked for without pooling.
    """
    depth = len(model.trunk.blocks)
    try:
        wanted = layer_numbers(config.features.layers)
        layers = tuple(sorted(set(layer_indices(range(depth) if wanted is None else wanted, depth))))
    except (UsageError, LayerIndexError) as error:
        raise UsageError(f"features.layers: {error}") from error
    frames = task.granularity == "frame"
    pooling: Any = "none" if frames else config.head.pooling
    options = config.features
    features = FeatureConfig(
        layers,
        "none" if pooling == "attention" else pooling,
        options.context_s,
        options.chunk_s,
        options.overlap,
        options.last_chunk_ratio,
    )
    head = HeadConfig(
        width=features.width(model.config.net.embed_dim),
        outputs=len(task.labels),
        layers=layers,
        granularity=task.granularity,
        pooling=pooling,
        model=config.head.model,  # type: ignore[arg-type]
        hidden=config.head.hidden,
        dropout=config.head.dropout,
        context=config.head.context if frames else 0,
    )
    return features, head


def build_systems(config: ProbeConfig, model: OmarRQ, features: FeatureConfig) -> list[System]:
    """Return the encoder and, unless they are not wanted, log-mel spectrograms and the untrained network."""
    systems = [System("probe", EncoderSource(model, features))]
    if config.baselines:
        untrained = untrained_like(model, config.untrained_seed)
        systems.append(System("log-mel", LogMelSource(features, model.embedding_rate_hz)))
        systems.append(System("untrained network", EncoderSource(untrained, features)))
    return systems


def compute_features(
    stores: Sequence[FeatureStore], names: Sequence[str], task: ProbeTask, data: DataSet
) -> tuple[dict[str, list[Recording]], BatchReport]:
    """Compute the features of all systems; a recording that one of them cannot read counts for none.

    Args:
        stores: Of the systems, that of the encoder first.
        names: Of the systems.
        task: Recordings without its labels are left out.
        data: The data set.

    Returns:
        Split -> recordings, and what became of each recording.

    Raises:
        InputError: A split has no recording with labels that can be read.
    """
    usable = [recording for recording in data.recordings if task.knows(recording.labels)]
    entries: dict[str, dict[str, Any]] = {}
    with audio.DecodingProcess() as decoder:
        for store, name in zip(stores, names, strict=True):
            own = BatchReport()
            usable = store.compute(usable, stream=decoder.stream, report=own, description=f"features: {name}")
            first = store is stores[0]
            entries |= {each["path"]: each for each in own.entries if first or each["status"] == "failed"}
    report = BatchReport()
    report.entries = list(entries.values())
    splits = {split: [each for each in usable if each.split == split] for split in SPLITS}
    for split, recordings in splits.items():
        if not recordings:
            failed = report.count("failed")
            raise InputError(
                f"{data.name}: the {split} split has no recording with labels for {task.name} that can be read "
                f"({failed} could not be read)"
            )
    return splits, report


class _Runner:
    """Fits and tests the heads of all systems."""

    def __init__(
        self, config: ProbeConfig, task: ProbeTask, splits: dict[str, list[Recording]], fits: StoredFits
    ) -> None:
        self.config, self.task, self.splits, self.fits = config, task, splits, fits
        self.device = pick_device(config.device, "device=")
        self.best: Fitted  # of the encoder, by the validation split
        self.best_rate = 0.0

    def test(self, name: str, store: FeatureStore, head: HeadConfig) -> Tested:
        """Fit the heads of a system, choose the learning rate, and measure the test split."""
        source = store.source
        config = HeadConfig(**{**asdict(head), "width": source.width, "layers": source.features.layers})
        rates = self.config.fit.learning_rates
        fitted: dict[float, list[Fitted]] = {}
        with progress(len(rates) * self.config.seeds, f"fitting: {name}") as bar:
            for rate in rates:
                fits = []
                for seed in range(self.config.seeds):
                    fits.append(self._fit(name, store, config, rate, seed))
                    bar.advance(1, note=f"learning rate {rate:g}, seed {seed}")
                fitted[rate] = [each for each in fits if each is not None]
        whole = {rate: fits for rate, fits in fitted.items() if len(fits) == self.config.seeds}
        if not whole:
            raise InputError(
                f"{name}: every learning rate of {', '.join(f'{rate:g}' for rate in rates)} diverged; try lower ones"
            )
        rate = max(whole, key=lambda each: np.mean([fit.score for fit in whole[each]]))
        if name == "probe":
            self.best, self.best_rate = max(whole[rate], key=lambda fit: fit.score), rate
        labels = [each.labels for each in self.splits["test"]]
        measures = []
        for fit in whole[rate]:
            outputs = [
                recording_outputs(fit.head, store, each, self.config.fit, self.task.wants_features)
                for each in self.splits["test"]
            ]
            measures.append(self.task.measure(outputs, labels, source.rate))
        return Tested(name, measures)

    def _fit(
        self, name: str, store: FeatureStore, config: HeadConfig, rate: float, seed: int
    ) -> Fitted | None:
        train, valid = self.splits["train"], self.splits["valid"]
        digest = hashlib.sha256()
        for each in (*train, *valid):
            digest.update(f"{store.place(each.path).name} {each.split} {each.labels}\n".encode())
        key = {"system": name, "learning_rate": rate, "seed": seed, "data": digest.hexdigest()}
        if (known := self.fits.read(key, config)) is not None:
            return known
        fitted = fit_head(
            self.task,
            store,
            config,
            train,
            valid,
            self.config.fit,
            learning_rate=rate,
            seed=seed,
            device=self.device,
        )
        if fitted is not None:
            self.fits.write(key, fitted)
        return fitted

    def trivial(self, store: FeatureStore) -> Tested:
        """Measure the answer that hears nothing."""
        rate = store.source.rate

        def n_tokens(recording: Recording) -> int:
            return 1 if store.pooled else store.read(recording).shape[1]

        train = self.splits["train"]
        targets = [self.task.target(each.labels, n_tokens(each), rate) for each in train]
        known = [each.labels for each in train]
        outputs = [self.task.trivial(targets, known, n_tokens(each), rate) for each in self.splits["test"]]
        return Tested(
            "trivial", [self.task.measure(outputs, [each.labels for each in self.splits["test"]], rate)]
        )


def main(overrides: Sequence[str]) -> None:
    """Run with Hydra overrides, such as ``task=chord data.root=DATA``."""
    config = compose_config("omar_rq.conf.probe", overrides, ProbeConfig, config_name="probe")
    make_output_folder(Path(config.run_dir), "run_dir=")
    make_output_folder(Path(config.store_dir), "store_dir=")
    outcome = probe(config, shlex.join(["omar-rq", "probe", *overrides]))
    print(outcome.page, end="")
    outcome.report.print_summary()
    outcome.report.raise_for_failures()
