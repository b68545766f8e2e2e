"""``rc-audioldm evaluate runs`` and ``reference``.

    rc-audioldm evaluate runs systems=[run-a,run-b] names=[A,B] reference=music out=results
    rc-audioldm evaluate reference recordings=music model=laion/clap-htsat-unfused out=music.safetensors

Results are deterministic for a seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from pentatonic.cli import (
    BatchReport,
    check_inputs,
    make_output_folder,
    make_output_place,
    pick_device,
    show,
)
from pentatonic.errors import FormatError
from pentatonic.statistics import DEFAULT_RESAMPLES
from pentatonic.training import compose_config
from rc_audioldm.evaluation.embedded_set import EmbeddedSet, embed_files, load_set
from rc_audioldm.evaluation.embedders import ClapEmbedder, Embedder, MelEmbedder
from rc_audioldm.evaluation.evaluate import common_rate, evaluate_systems
from rc_audioldm.evaluation.options import check_ranges, named_folders, required
from rc_audioldm.evaluation.report import document, markdown, write_evaluation
from rc_audioldm.evaluation.set_distances import Few
from rc_audioldm.evaluation.sounds import Preparation
from rc_audioldm.evaluation.systems import System, read_system
from rc_audioldm.prompts.files import read_prompts

_CONF = "rc_audioldm.evaluation.conf"
_DEVICES = ("auto", "cpu", "cuda", "mps")
_ANY_RATE = 16_000


@dataclass
class ReferenceConfig:
    """Options of ``rc-audioldm evaluate reference``.

    Args:
        recordings: Folder of recordings.
        out: File to write (``.safetensors``).
        model: CLAP model: a bundled name, a directory, or a hub id; None: mel statistics, and no texts.
        revision: Commit, tag or branch of a model on the hub; None: ``main``.
        random_weights: The model is random: do not test its text tower.
        rate: Rate of all recordings in Hz; None: the lowest of all.
        loudness: Loudness in LUFS to which each recording is scaled; None leaves them as they are.
        length: Seconds from the start that are used; None: all.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        json: Print the result as one JSON document.
    """

    recordings: str | None = None
    out: str | None = None
    model: str | None = None
    revision: str | None = None
    random_weights: bool = False
    rate: int | None = None
    loudness: float | None = -23.0
    length: float | None = None
    device: str = "auto"
    json: bool = False


@dataclass
class RunsConfig:
    """Options of ``rc-audioldm evaluate runs``.

    Args:
        systems: Folders of recordings, such as runs; one for each system.
        names: Of the systems; none: those of the folders.
        out: Folder of the results.
        model: As for :class:`ReferenceConfig`; as all that are named there.
        revision: As there.
        random_weights: As there.
        reference: Folder of recordings, or file of ``evaluate reference``; None: no distances to a reference.
        prompts: File with a prompt on each line, in the order of the recordings; None: what the runs say.
        styles: Style vectors (``.npy``) in the order of the recordings; None: those of the runs.
        rate: As there; with a file as the reference its rate.
        loudness: As there.
        length: As there.
        few: Fréchet distances of fewer vectors than dimensions: ``refuse``, or ``shrink`` their covariances.
        players: Items with players in the page.
        resamples: Resamples for the intervals.
        seed: Of everything random.
        device: As there.
        json: As there.
    """

    systems: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    out: str | None = None
    model: str | None = None
    revision: str | None = None
    random_weights: bool = False
    reference: str | None = None
    prompts: str | None = None
    styles: str | None = None
    rate: int | None = None
    loudness: float | None = -23.0
    length: float | None = None
    few: str = "refuse"
    players: int = 6
    resamples: int = DEFAULT_RESAMPLES
    seed: int = 0
    device: str = "auto"
    json: bool = False


def evaluate_runs(overrides: Sequence[str]) -> None:
    """Measure systems, with Hydra overrides such as ``systems=[run-a,run-b] out=results``."""
    config = compose_config(_CONF, overrides, RunsConfig, config_name="runs")
    named, out = named_folders(config.systems, config.names), required(config.out, "out=FOLDER")
    files = [Path(each) for each in (config.reference, config.prompts, config.styles) if each is not None]
    check_inputs([*named.values(), *files])
    choices = {"few": ("refuse", "shrink"), "device": _DEVICES}
    check_ranges(config, {"rate": 1000, "players": 0, "resamples": 1, "seed": 0}, choices)
    Preparation(_ANY_RATE, config.loudness, config.length)  # fail fast
    make_output_folder(out, "out=")
    texts = None if config.prompts is None else read_prompts(Path(config.prompts))
    styles = None if config.styles is None else Path(config.styles)
    found = [read_system(name, folder, prompts=texts, styles=styles) for name, folder in named.items()]
    embedder, report = _embedder(config), BatchReport()
    preparation, stored = _reference(config, found, embedder, report, out)
    evaluation = evaluate_systems(
        *(found, embedder, preparation, report),
        reference=stored,
        few=cast(Few, config.few),
        sets=out / "sets",
        resamples=config.resamples,
        seed=config.seed,
    )
    write_evaluation(evaluation, config, found, report, out, players=config.players)
    report.print_summary()
    show(document(evaluation, config, report), config.json, lambda: markdown(evaluation).splitlines())
    report.raise_for_failures()


def embed_reference(overrides: Sequence[str]) -> None:
    """Embed a reference, with Hydra overrides such as ``recordings=music out=music.safetensors``."""
    config = compose_config(_CONF, overrides, ReferenceConfig, config_name="reference")
    folder = required(config.recordings, "recordings=FOLDER")
    out = required(config.out, "out=FILE")
    check_inputs([folder])
    check_ranges(config, {"rate": 1000}, {"device": _DEVICES})
    Preparation(_ANY_RATE, config.loudness, config.length)  # fail fast
    make_output_place(out, "out=", inputs=[folder])
    embedder, report = _embedder(config), BatchReport()
    preparation = _preparation(config, [read_system("", folder)], [], embedder, config.rate)
    found = _embed_folder(folder, embedder, preparation, report)
    found.save(out)
    report.print_summary()
    about = {
        "recordings": len(found.names),
        "vectors": len(found.vectors),
        "hash": found.hash,
        **found.header.embedder,
        **found.header.preparation,
    }
    show(about, config.json, lambda: [f"{key:<14}{value}" for key, value in about.items()])
    report.raise_for_failures()


def _embedder(config: RunsConfig | ReferenceConfig) -> Embedder:
    if config.model is None:
        return MelEmbedder()
    from rc_audioldm.clap import from_pretrained

    place = pick_device(config.device, "device=")
    random = config.random_weights
    return ClapEmbedder(from_pretrained(config.model, config.revision, device=place, random_weights=random))


def _reference(
    config: RunsConfig, systems: list[System], embedder: Embedder, report: BatchReport, out: Path
) -> tuple[Preparation, EmbeddedSet | None]:
    """How all recordings are prepared, and the reference; None without one."""
    if config.reference is None:
        return _preparation(config, systems, [], embedder, config.rate), None
    place = Path(config.reference)
    if place.is_file():
        stored = load_set(place)
        rate = _stored_rate(stored) if config.rate is None else config.rate
        return _preparation(config, systems, [], embedder, rate), stored
    others = [item.path for item in read_system("reference", place).items]
    preparation = _preparation(config, systems, others, embedder, config.rate)
    stored = _embed_folder(place, embedder, preparation, report)
    stored.save(out / "reference.safetensors")
    return preparation, stored


def _preparation(
    config: RunsConfig | ReferenceConfig,
    systems: list[System],
    others: list[Path],
    embedder: Embedder,
    rate: int | None,
) -> Preparation:
    chosen = common_rate(systems, others, embedder) if rate is None else min(rate, embedder.sample_rate)
    return Preparation(chosen, config.loudness, config.length)


def _stored_rate(stored: EmbeddedSet) -> int:
    number, _, unit = str(stored.header.preparation.get("rate")).partition(" ")
    if unit != "Hz" or not number.isdecimal():
        raise FormatError("the reference does not say its rate")
    return int(number)


def _embed_folder(
    folder: Path, embedder: Embedder, preparation: Preparation, report: BatchReport
) -> EmbeddedSet:
    files = {item.id: item.path for item in read_system("reference", folder).items}
    return embed_files(files, embedder, preparation, report)
