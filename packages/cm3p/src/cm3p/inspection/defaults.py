"""Processors for looking at maps: that of a model, or one with the settings of the published configuration v7."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from importlib import resources
from typing import Any

import yaml  # comes with huggingface-hub

from cm3p.beatmap import RULESETS
from cm3p.metadata import STATUSES
from cm3p.processor import CM3PProcessor
from cm3p.training.processor_options import ProcessorOptions, build_processor

_EXPERIMENT = "v7.yaml"


def get_processor(model: str | None, revision: str | None = None) -> CM3PProcessor:
    """Return the processor of a model; without one that of v7, whose metadata knows neither mappers nor tags.

    Raises:
        HubError, ConfigError: There is no usable processor.
    """
    if model is not None:
        return CM3PProcessor.from_pretrained(model, revision=revision)
    # Without Hydra, which looking at maps does not need.
    text = (resources.files("cm3p.conf") / "experiment" / _EXPERIMENT).read_text(encoding="utf-8")
    options = _with_values(ProcessorOptions(), yaml.safe_load(text)["processor"])
    tables = {"modes": dict(enumerate(RULESETS)), "statuses": STATUSES, "mappers": {}, "tags": {}}
    return build_processor(options, tables, apply_speed_to_audio=True)


def _with_values(options: Any, values: Mapping[str, Any]) -> Any:
    """Replace fields of nested dataclasses."""
    inner = {
        name: _with_values(getattr(options, name), value) if is_dataclass(getattr(options, name)) else value
        for name, value in values.items()
    }
    return replace(options, **inner)
