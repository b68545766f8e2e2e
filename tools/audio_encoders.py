"""Encoders for ``judge_audio_model.py``: log-mel statistics, the teacher, models of this workspace, functions.

Shapes: n samples of a crop, D values of its vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

import torch
from musicnn_network import SAMPLE_RATE, mel_frames
from musicnn_teacher import Model, embed, load_teacher
from torch import Tensor

from pentatonic.errors import UsageError

SEEDS = (0, 1)


@dataclass(frozen=True)
class Encoder:
    """What turns a crop into a vector.

    Attributes:
        name: Row of the table.
        sample_rate: Rate of the samples that it takes, in Hz.
        embed: ``(n,)`` float32 -> ``(D,)``.
        baselines: Names of the encoders that it has to be better than.
    """

    name: str
    sample_rate: int
    embed: Callable[[Tensor], Tensor]
    baselines: tuple[str, ...] = ()


def log_mel() -> Encoder:
    """Mean and deviation over time of the teacher's mel spectrogram: 192 values."""

    def statistics(audio: Tensor) -> Tensor:
        frames = mel_frames(audio)
        return torch.cat([frames.mean(dim=0), frames.std(dim=0)])

    return Encoder("log-mel, mean and deviation", SAMPLE_RATE, statistics)


def teacher(wheel: Path, model: Model) -> Encoder:
    """Penultimate values of a teacher, mean over the whole patches of the crop."""
    network = load_teacher(wheel, model)
    return Encoder(
        f"teacher: musicnn {model}, penultimate",
        SAMPLE_RATE,
        lambda audio: embed(network, audio)[0].mean(dim=0),
    )


def omar_rq(name: str, layer: int | None, seed: int | None) -> Encoder:
    """A model of omar-rq, or with a seed an untrained one of the same configuration."""
    from omar_rq import OmarRQ, from_pretrained

    network = from_pretrained(name, load_weights=seed is None)
    shown = f"omar-rq:{name}"
    if seed is not None:
        torch.manual_seed(seed)
        network = OmarRQ(network.config).eval()
        shown = f"untrained {shown}, seed {seed}"

    def pooled(audio: Tensor) -> Tensor:
        return network.extract_embeddings(audio, layer, sample_rate=network.sample_rate)[0, 0].mean(dim=0)

    suffix = "last layer" if layer is None else f"layer {layer}"
    return Encoder(f"{shown}, {suffix}", network.sample_rate, pooled)


def myna_rpe(name: str, layer: int | None, seed: int | None) -> Encoder:
    """A model of myna-rpe as `myna-rpe embed` uses it, or with a seed an untrained one of the same configuration.

    Raises:
        UsageError: A layer is given.
    """
    from myna_rpe import MynaEncoder, TrackOptions, embed_tracks, from_pretrained
    from myna_rpe.frontend import Frontend

    if layer is not None:
        raise UsageError("a model of myna-rpe gives one vector of a track; @ and a layer are for omar-rq")
    network = from_pretrained(name)
    shown = f"myna-rpe:{name}"
    if seed is not None:
        torch.manual_seed(seed)
        network = MynaEncoder(network.config).eval()
        shown = f"untrained {shown}, seed {seed}"
    frontend = Frontend(network.config.frontend)

    def whole(audio: Tensor) -> Tensor:
        return embed_tracks(network, [frontend([audio]).mel], TrackOptions())[0].vector

    return Encoder(shown, frontend.sample_rate, whole)


# Package -> function that makes an encoder of a model's name, a layer (None: the last) and a seed (None: trained).
PACKAGES: dict[str, Callable[[str, int | None, int | None], Encoder]] = {
    "omar-rq": omar_rq,
    "myna-rpe": myna_rpe,
}


def encoders(spec: str, baselines: Sequence[str]) -> list[Encoder]:
    """Make the encoder of a command-line argument, behind the untrained networks that belong to it.

    Args:
        spec: ``package:model``, ``package:model@layer`` or ``module:function``.
        baselines: Names of the other encoders that it has to be better than.

    Raises:
        UsageError: It is none of these.
    """
    place, colon, name = spec.partition(":")
    if not colon or not name:
        raise UsageError(
            f"{spec!r} is not an encoder; allowed: package:model, package:model@layer, module:function"
        )
    if place not in PACKAGES:
        return [Encoder(spec, *_function(place, name), tuple(baselines))]
    model, at, number = name.rpartition("@")
    layer = None
    if at and number.lstrip("-").isdecimal():
        name, layer = model, int(number)
    untrained = [PACKAGES[place](name, layer, seed) for seed in SEEDS]
    trained = PACKAGES[place](name, layer, None)
    names = (*baselines, *(each.name for each in untrained))
    return [*untrained, Encoder(trained.name, trained.sample_rate, trained.embed, names)]


def _function(module: str, name: str) -> tuple[int, Callable[[Tensor], Tensor]]:
    try:
        function = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        packages = ", ".join(PACKAGES)
        raise UsageError(
            f"{module}:{name} is neither a model of {packages} nor a function: {error}"
        ) from error
    if not callable(function):
        raise UsageError(f"{module}:{name} is not a function")
    return int(getattr(function, "sample_rate", SAMPLE_RATE)), cast("Callable[[Tensor], Tensor]", function)
