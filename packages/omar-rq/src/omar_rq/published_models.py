"""Configurations of the five published models, as far as they are public. No torch, no network.

They are the files of ``conf/model/``, which training uses too. Sources: arXiv 2507.03482 and the project's public
training configurations. Which configuration belongs to which published checkpoint is inferred from input, embedding
rate and quantiser. Loading a published model never uses them: it reads the ``config.gin`` beside the weights.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import yaml

from omar_rq.config import ModelConfig
from pentatonic.errors import UsageError

PUBLISHED_NAMES = ("base", "multicodebook", "multifeature", "multifeature-25hz", "multifeature-25hz-fsq")


def published_config(name: str) -> ModelConfig:
    """Return the configuration of a published model.

    Args:
        name: One of :data:`PUBLISHED_NAMES`, alone or as the hub writes it (``mtg-upf/omar-rq-base``).

    Raises:
        UsageError: There is no such model.
    """
    short = name.rpartition("/")[2].removeprefix("omar-rq-")
    if short not in PUBLISHED_NAMES:
        raise UsageError(f"no configuration for {name!r}; allowed: {', '.join(PUBLISHED_NAMES)}")
    return _read(short)


@cache
def _read(name: str) -> ModelConfig:
    text = (resources.files("omar_rq.conf") / "model" / f"{name}.yaml").read_text(encoding="utf-8")
    return ModelConfig.from_dict(yaml.safe_load(text))
