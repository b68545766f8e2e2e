"""``omar-rq info``: input, output and size of a model, without its weights."""

from __future__ import annotations

from typing import Any

import torch

from omar_rq.config import ModelConfig
from omar_rq.model import OmarRQ
from omar_rq.published_models import PUBLISHED_NAMES, published_config
from omar_rq.weights import BUNDLED, RELEASED, from_pretrained
from pentatonic.hub import known_models, licence_of


def list_models() -> list[dict[str, str]]:
    """Return name, kind (``bundled`` or ``released``) and licence of every model that is known by name."""
    return known_models(bundled=BUNDLED, released=RELEASED)


def describe_model(name: str) -> dict[str, Any]:
    """Describe a model.

    Nothing is downloaded for the released models: they are described by the public training configurations, which
    ``source`` states.

    Args:
        name: Bundled name, directory (a run folder too) or hub id.

    Returns:
        ``model``, ``input``, ``sample_rate`` in Hz, ``hop_length`` in samples, ``embedding_rate_hz`` (one embedding
        per token), ``layers``, ``width``, ``parameters``, ``targets``, ``codebooks`` (sizes, per target), ``licence``,
        ``source``.

    Raises:
        HubError: There is no model of this name.
        ConfigError: The configuration is wrong.
    """
    with torch.device("meta"):  # only the shapes are needed
        if name in RELEASED and name.removeprefix("mtg-upf/omar-rq-") in PUBLISHED_NAMES:
            config, source = published_config(name), "public training configuration"
        else:
            config = from_pretrained(name, device="meta", load_weights=False).config
            source = "configuration of the model"
    licence = licence_of(name, bundled=BUNDLED, released=RELEASED)
    return {"model": name, **describe(config), "licence": licence, "source": source}


def describe(config: ModelConfig) -> dict[str, Any]:
    """Return the fields ``input`` to ``codebooks`` of :func:`describe_model` for a configuration."""
    quantizer = config.quantizer
    with torch.device("meta"):
        parameters = _count_parameters(config)
    return {
        "input": config.input.name,
        "sample_rate": config.sample_rate,
        "hop_length": config.input.hop_length,
        "embedding_rate_hz": config.embedding_rate_hz,
        "layers": config.net.depth,
        "width": config.net.embed_dim,
        "parameters": parameters,
        "targets": [target.name for target in config.targets],
        "codebooks": [] if quantizer is None else [quantizer.codebook_size] * quantizer.num_codebooks,
    }


def _count_parameters(config: ModelConfig) -> int:
    return sum(parameter.numel() for parameter in OmarRQ(config).parameters())
