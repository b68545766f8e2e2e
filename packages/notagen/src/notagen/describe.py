"""``notagen info``: sizes and prompts of a model. Released models are described without being downloaded."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import torch

from notagen.codec import PATCH_SIZE
from notagen.model import NotaGen, NotaGenConfig
from notagen.prompts import model_prompts
from notagen.weights import BUNDLED, RELEASED, from_pretrained
from pentatonic.hub import known_models, licence_of

_SMALL = NotaGenConfig(patch_layers=12, char_layers=3, width=768, heads=12, patch_length=2048)
_MEDIUM = NotaGenConfig(patch_layers=16, char_layers=3, width=1024, heads=16, patch_length=2048)
_LARGE = NotaGenConfig(patch_layers=20, char_layers=6, width=1280, heads=20, patch_length=1024)


def list_models() -> list[dict[str, str]]:
    """Return name, kind (``bundled`` or ``released``) and licence of every model that is known by name."""
    return known_models(bundled=BUNDLED, released=RELEASED)


def describe_model(name: str) -> dict[str, Any]:
    """Describe a model.

    Args:
        name: Bundled or released name, directory (a run folder too), file or hub id.

    Returns:
        ``model``, ``parameters``, ``patch_layers``, ``char_layers``, ``width``, ``heads``, ``context`` in patches,
        ``patch_size`` in characters, ``prompts`` (lists of period, composer and instrumentation) and ``licence``.

    Raises:
        HubError: There is no model of this name.
        CheckpointError, ConfigError, WeightsError: The files cannot be used.
    """
    config = _released_config(name) if name in RELEASED else from_pretrained(name).config
    with torch.device("meta"):  # only the sizes are needed
        model = NotaGen(config)
    return {
        "model": name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "patch_layers": config.patch_layers,
        "char_layers": config.char_layers,
        "width": config.width,
        "heads": config.heads,
        "context": config.patch_length,
        "patch_size": PATCH_SIZE,
        "prompts": [list(astuple(prompt)) for prompt in model_prompts(name)],
        "licence": licence_of(name, bundled=BUNDLED, released=RELEASED),
    }


def _released_config(name: str) -> NotaGenConfig:
    return {"notagen-small": _SMALL, "notagen-medium": _MEDIUM}.get(name, _LARGE)
