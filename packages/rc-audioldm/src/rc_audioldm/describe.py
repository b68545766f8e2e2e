"""``rc-audioldm info``: what a model is made of, what it makes, and the licence of its weights."""

from __future__ import annotations

from typing import Any

from pentatonic.hub import known_models, licence_of
from rc_audioldm.weights import BUNDLED, RELEASED, from_pretrained


def list_models() -> list[dict[str, str]]:
    """Return name, kind and licence of every model that is known by name."""
    return known_models(bundled=BUNDLED, released=RELEASED)


def describe_model(name: str, revision: str | None = None) -> dict[str, Any]:
    """Describe a model.

    Args:
        name: Directory, or hub id.
        revision: Branch, tag or commit of the hub.

    Returns:
        ``model``, ``family``, ``parameters`` in all and of each component, ``sample_rate`` in Hz, the width of CLAP
        vectors, what steers it, and ``licence``.

    Raises:
        HubError, BackendUnavailable, ConfigError, CheckpointError: There is no usable model.
    """
    model = from_pretrained(name, revision)
    components = {
        part: sum(each.numel() for each in module.parameters()) for part, module in model.modules().items()
    }
    return {
        "model": name,
        "family": model.family,
        "parameters": sum(components.values()),
        "components": components,
        "sample_rate": model.sample_rate,
        "latents_of_10_s": list(model.latent_shape(model.geometry(10.0).latent_frames)),
        "clap_width": model.clap_width,
        "steered_by": sorted(model.capabilities),
        "licence": licence_of(name, bundled=BUNDLED, released=RELEASED),
    }
