"""``myna-rpe info``: what a model takes, gives and weighs."""

from __future__ import annotations

import dataclasses
from typing import Any

from myna_rpe.config import EncoderConfig
from myna_rpe.frontend import Frontend
from myna_rpe.weights import BUNDLED, RELEASED, from_pretrained
from myna_rpe.whole_tracks import TrackOptions, absolute_time, embedding_width
from pentatonic.hub import known_models, licence_of


def list_models() -> list[dict[str, str]]:
    """Return name, kind (``bundled`` or ``released``) and licence of every model that is known by name."""
    return known_models(bundled=BUNDLED, released=RELEASED)


def describe_model(name: str, *, mode: str | None = None) -> dict[str, Any]:
    """Describe a model.

    Args:
        name: Bundled name, directory, run folder, hub id, or a checkpoint of the original.
        mode: Position mode of a checkpoint of the original.

    Returns:
        ``model``, the fields of :func:`describe`, and ``licence`` of the weights.

    Raises:
        HubError: There is no model of this name.
        ConfigError, CheckpointError, WeightsError: Its files cannot be used.
    """
    config = from_pretrained(name, mode=mode).config
    return {
        "model": name,
        **describe(config),
        "licence": licence_of(name, bundled=BUNDLED, released=RELEASED),
    }


def describe(config: EncoderConfig) -> dict[str, Any]:
    """Describe a configuration.

    Returns:
        ``frontend``, ``sample_rate`` in Hz, ``frames_per_second``, ``patches`` (bands x frames), ``tokens_per_second``,
        ``layers``, ``width``, ``embedding_size``, ``positions`` (what differs from none), ``default_mode``,
        ``whole_tracks`` (whether tracks of any length go through in one pass), ``parameters`` and ``size_bytes`` (of
        float32 weights).
    """
    frontend = Frontend(config.frontend)
    options = TrackOptions().resolved(config)
    default, chosen = dataclasses.asdict(type(config.positions)()), dataclasses.asdict(config.positions)
    return {
        "frontend": config.frontend,
        "sample_rate": frontend.sample_rate,
        "frames_per_second": round(frontend.frames_per_second, 3),
        "patches": [f"{patch.bands} x {patch.frames}" for patch in config.patches.values()],
        "tokens_per_second": round(
            sum(p.rows * frontend.frames_per_second / p.frames for p in config.patches.values()), 3
        ),
        "layers": config.depth,
        "width": config.dim,
        "embedding_size": embedding_width(config, options),
        "positions": [f"{key} {value}" for key, value in chosen.items() if value != default[key]] or ["none"],
        "default_mode": options.mode,
        "whole_tracks": absolute_time(config) is None,
        "parameters": config.parameters,
        "size_bytes": 4 * config.parameters,
    }
