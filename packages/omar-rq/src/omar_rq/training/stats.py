"""``omar-rq stats``: mean and standard deviation of every front end over a data folder.

These are the ``norm_mean`` and ``norm_std`` of a model configuration. One pass, pooled over all values (Welford /
Chan): the standard deviation is that of all data, not a mean of deviations per file.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import MISSING
from torch import Tensor

from omar_rq.config import FrontendConfig, ModelConfig
from omar_rq.frontends import build_frontend
from omar_rq.training.data import CropDataset, open_tracks
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import PartialFailure, emit_json, make_output_place, progress
from pentatonic.errors import InputError
from pentatonic.training import ItemKey


@dataclass
class StatsConfig:
    """Options of ``omar-rq stats``.

    Args:
        model: Model configuration whose front ends are measured.
        root: Data folder.
        filelist: Text file that limits the tracks.
        crop_s: Seconds taken from each track.
        max_tracks: Tracks to measure, drawn by ``seed``; all when 0.
        seed: Seed of the draw and of the crops.
        output: JSON file to write; printed when empty.
    """

    model: dict[str, Any] = field(default_factory=dict)
    root: str = MISSING
    filelist: str | None = None
    crop_s: float = 30.0
    max_tracks: int = 0
    seed: int = 0
    output: str = ""


class RunningMoments:
    """Mean and variance of a stream of (F, T) arrays, for all values and for each of the F rows."""

    def __init__(self, dims: int) -> None:
        self.count = 0
        self.mean = torch.zeros(dims, dtype=torch.float64)
        self.squares = torch.zeros(dims, dtype=torch.float64)

    def update(self, values: Tensor) -> None:
        """Add (F, T) values."""
        rows = values.double()
        count = rows.shape[1]
        mean = rows.mean(1)
        shift = mean - self.mean
        total = self.count + count
        self.squares += ((rows - mean[:, None]) ** 2).sum(1) + shift**2 * (self.count * count / total)
        self.mean += shift * (count / total)
        self.count = total

    def summary(self) -> dict[str, Any]:
        """Return ``mean``, ``std`` over everything and ``mean_dims``, ``std_dims`` per row."""
        variance = self.squares / self.count
        mean = self.mean.mean()
        pooled = variance.mean() + ((self.mean - mean) ** 2).mean()
        return {
            "mean": float(mean),
            "std": float(pooled.sqrt()),
            "mean_dims": self.mean.tolist(),
            "std_dims": variance.sqrt().tolist(),
            "frames": self.count,
        }


def frontend_stats(config: StatsConfig) -> dict[str, dict[str, Any]]:
    """Measure the input and the targets of a model, without their normalisation.

    Returns:
        For each front end (``mel``, ``cqt``, …) the values of :meth:`RunningMoments.summary`, plus ``skipped``,
        the tracks that could not be read, with the reason.
    """
    model = ModelConfig.from_dict(config.model)
    frontends = {f.name: build_frontend(_unnormalised(f)) for f in (model.input, *model.targets)}
    moments = {name: RunningMoments(frontend.rep_dims) for name, frontend in frontends.items()}
    tracks = open_tracks(config.root, config.filelist)
    crops = CropDataset(tracks, crop_s=config.crop_s, sample_rate=model.sample_rate, seed=config.seed)
    order = torch.randperm(len(tracks), generator=torch.Generator().manual_seed(config.seed)).tolist()
    skipped: dict[str, str] = {}
    for index in progress(order[: config.max_tracks or None], "measuring"):
        try:
            audio = crops.crop(ItemKey(0, index))
            # The zero padding of a short track is not measured.
            real_s = tracks[index].samples / tracks[index].sample_rate
            audio = audio[: round(min(real_s, config.crop_s) * model.sample_rate)]
            with torch.inference_mode():
                for name, frontend in frontends.items():
                    moments[name].update(frontend(audio[None])[0])
        except InputError as error:
            skipped[str(tracks[index].path)] = str(error)
    if not all(moment.count for moment in moments.values()):
        raise InputError(
            f"no track of {config.root} could be measured; first reason: {next(iter(skipped.values()))}"
        )
    return {name: moment.summary() for name, moment in moments.items()} | {"skipped": skipped}


def _unnormalised(config: FrontendConfig) -> FrontendConfig:
    fields = {f.name for f in dataclasses.fields(config)}
    plain = {"norm_mean": None, "norm_std": None, "norm_type": None}
    return dataclasses.replace(config, **{key: value for key, value in plain.items() if key in fields})


def main(overrides: Sequence[str]) -> None:
    """Run with Hydra overrides, such as ``experiment=tiny root=data/music``."""
    from pentatonic.training import compose_config

    config = compose_config("omar_rq.conf", overrides, StatsConfig, config_name="stats")
    if config.output:
        make_output_place(Path(config.output), "output=")  # fail fast
    stats = frontend_stats(config)
    if config.output:
        with atomic_file(Path(config.output)) as file:
            file.write(json.dumps(stats, indent=1).encode())
    else:
        emit_json(stats)
    if stats["skipped"]:
        reasons = "\n  ".join(stats["skipped"].values())
        raise PartialFailure(f"{len(stats['skipped'])} tracks could not be measured:\n  {reasons}")
