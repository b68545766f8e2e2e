"""``omar-rq info``: what a model hears and returns, without its weights."""

from __future__ import annotations

from typing import Any

import torch

from omar_rq.config import ModelConfig
from omar_rq.model import OmarRQ
from omar_rq.published_models import RELEASED_NAMES, released_config
from omar_rq.weights import BUNDLED, RELEASED, from_pretrained

_OWN_LICENCE = "Apache-2.0"


def list_models() -> list[dict[str, str]]:
    """Return name, kind (``bundled`` or ``released``) and licence of every model that is known by name."""
    bundled = [{"model": name, "kind": "bundled", "licence": _OWN_LICENCE} for name in BUNDLED]
    released = [
        {"model": name, "kind": "released", "licence": about.licence} for name, about in RELEASED.items()
    ]
    return bundled + released


def describe_model(name: str) -> dict[str, Any]:
    """Describe a model.

    Nothing is downloaded for the released models: their description follows the public training configurations, and
    ``source`` says so.

    Args:
        name: Bundled name, directory or hub id.

    Returns:
        ``model``, ``input``, ``sample_rate`` in Hz, ``hop_length`` in samples, ``eps`` (tokens per second),
        ``layers``, ``width``, ``parameters``, ``targets``, ``codebooks`` (sizes, per target), ``licence``, ``source``.

    Raises:
        HubError: The name leads nowhere.
        ConfigError: The configuration is wrong.
    """
    with torch.device("meta"):  # shapes are all that is asked
        if name in RELEASED and name.removeprefix("mtg-upf/omar-rq-") in RELEASED_NAMES:
            config, source = released_config(name), "public training configuration"
        else:
            config = from_pretrained(name, device="meta", load_weights=False).config
            source = "configuration of the model"
    licence = (
        RELEASED[name].licence if name in RELEASED else _OWN_LICENCE if name in BUNDLED else "not stated"
    )
    return {"model": name, **describe(config), "licence": licence, "source": source}


def describe(config: ModelConfig) -> dict[str, Any]:
    """Return what :func:`describe_model` says of any model with this configuration, from ``input`` to ``codebooks``."""
    quantizer = config.quantizer
    with torch.device("meta"):
        parameters = _count_parameters(config)
    return {
        "input": config.input.name,
        "sample_rate": config.sample_rate,
        "hop_length": config.input.hop_length,
        "eps": config.eps,
        "layers": config.net.depth,
        "width": config.net.embed_dim,
        "parameters": parameters,
        "targets": [target.name for target in config.targets],
        "codebooks": [] if quantizer is None else [quantizer.codebook_size] * quantizer.num_codebooks,
    }


def _count_parameters(config: ModelConfig) -> int:
    return sum(parameter.numel() for parameter in OmarRQ(config).parameters())
