"""``myna-rpe probe``: what shallow probes read from frozen embeddings of a public data set.

    myna-rpe probe data.name=gtzan data.root=GTZAN encoder=myna-rpe-tiny out=gtzan.json

Probes are fitted to the training split, chosen on the validation split and tested once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from omegaconf import MISSING
from torch import Tensor

from myna_rpe.embed import read_track
from myna_rpe.frontend import Frontend
from myna_rpe.model import MynaEncoder
from myna_rpe.weights import from_pretrained
from myna_rpe.whole_tracks import TrackOptions, embed_tracks
from pentatonic import audio
from pentatonic.audio_folder.items import AudioItem
from pentatonic.audio_folder.reading import Stream, open_audio
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import BatchReport, emit_json, make_output_place, pick_device
from pentatonic.errors import ConfigError
from pentatonic.probes import ProbeResult, full_grid, quick_grid
from pentatonic.probes.datasets import read_dataset
from pentatonic.probes.embedding import probe_dataset
from pentatonic.training import compose_config

_GRIDS = {"quick": quick_grid, "full": full_grid}


@dataclass
class ProbeDataConfig:
    """The data set.

    Args:
        name: ``gtzan``, ``giantsteps``, ``emomusic``, ``magnatagatune`` or ``jamendo-top50``.
        root: Its folder; layouts are in :mod:`pentatonic.probes.datasets`.
        source: ``folder``, or ``mirdata`` for ``gtzan`` and ``giantsteps``, where ``root`` is its folder of data sets.
    """

    name: str = MISSING
    root: str = MISSING
    source: str = "folder"


@dataclass
class ProbeConfig:
    """Everything that decides the result.

    Args:
        data: The data set.
        encoder: As ``--model`` of ``myna-rpe embed``.
        position_mode: Position mode of a checkpoint of the original.
        mode: ``auto``, ``track`` or ``chunks``; with chunks a probe is trained on chunks, each with the label of its
            track, and its outputs are averaged over the track.
        output: ``auto``, ``head`` or ``features``.
        grid: ``quick`` or ``full``.
        epochs: Epochs of each probe at most.
        patience: Epochs without improvement that end one.
        seed: Of everything random.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        out: JSON file to write; without it the result is printed.
    """

    data: ProbeDataConfig = field(default_factory=ProbeDataConfig)
    encoder: str = "myna-rpe-tiny"
    position_mode: str | None = None
    mode: str = "auto"
    output: str = "auto"
    grid: str = "quick"
    epochs: int = 100
    patience: int | None = None
    seed: int = 0
    device: str = "auto"
    out: str | None = None


def probe(config: ProbeConfig) -> tuple[ProbeResult, BatchReport]:
    """Embed the data set and evaluate the grid.

    Returns:
        The result, and what became of each recording.

    Raises:
        ConfigError: There is no such grid.
        UsageError: An option, or the name or the source of the data set, is not allowed.
        MissingExtra: The data set is to come through mirdata, which is not installed.
        InputError: The data set is missing or cannot be used.
    """
    if config.grid not in _GRIDS:
        raise ConfigError(f"grid is {config.grid!r}; allowed: {', '.join(_GRIDS)}")
    dataset = read_dataset(config.data.name, config.data.root, source=config.data.source)
    place = pick_device(config.device)
    model = from_pretrained(config.encoder, device=place, mode=config.position_mode)
    chosen = {name: None if value == "auto" else value for name, value in _options(config).items()}
    options = TrackOptions(**chosen).resolved(model.config)  # type: ignore[arg-type]
    with audio.DecodingProcess() as decoder:
        return probe_dataset(
            dataset,
            lambda path: chunk_vectors(model, path, options, decoder.stream),
            grid=_GRIDS[config.grid](),
            epochs=config.epochs,
            patience=config.patience,
            seed=config.seed,
            device=torch.device(place),
        )


def _options(config: ProbeConfig) -> dict[str, str]:
    return {"mode": config.mode, "output": config.output}


def chunk_vectors(model: MynaEncoder, path: Path, options: TrackOptions, stream: Stream) -> Tensor:
    """Embed one recording: ``(n, O)`` of its chunks, or ``(1, O)`` of the whole with mode track.

    Raises:
        AudioError: It cannot be read, or is silence.
    """
    frontend = Frontend(model.config.frontend)
    blocks = open_audio(path, stream=stream, sample_rate=frontend.sample_rate)
    track = read_track(AudioItem(path, "", blocks), frontend)
    (embedding,) = embed_tracks(model, [track.spectrogram.mel], options)
    return embedding.vector[None] if embedding.chunks is None else embedding.chunks


def main(overrides: Sequence[str]) -> None:
    """Run with Hydra overrides, such as ``data.name=gtzan data.root=GTZAN``."""
    config = compose_config("myna_rpe.conf", overrides, ProbeConfig, config_name="probe")
    if config.out is not None:
        make_output_place(Path(config.out), "out=")  # fail fast
    result, report = probe(config)
    report.print_summary()
    data = {"data": config.data.name, "data_source": config.data.source}
    document = {**data, "encoder": config.encoder, **result.to_json()}
    if config.out is None:
        emit_json(document)
    else:
        with atomic_file(Path(config.out)) as file:
            file.write(f"{json.dumps(document, indent=1)}\n".encode())
    report.raise_for_failures()
