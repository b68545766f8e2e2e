"""Load and save models, in the layout of the original's hub repositories. No code of a directory is executed.

A directory holds ``config.json`` and ``model.safetensors``, beside the files of the processor. The class of the model
is that of ``architectures`` in its configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers.utils.logging import (
    disable_progress_bar,
    enable_progress_bar,
    is_progress_bar_enabled,
)

from cm3p import model as models
from cm3p.model import CM3PPreTrainedModel
from cm3p.stored import BUNDLED
from pentatonic.checkpoint import atomic_directory, load_tensors
from pentatonic.errors import ConfigError
from pentatonic.hub import Released, load_state, resolve
from pentatonic.untrusted.files import read_json, shortened

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_FILES = (
    _CONFIG,
    _WEIGHTS,
    "processor_config.json",
    "audio_feature_extractor/*.json",
    "beatmap_parser/*.json",
    "beatmap_tokenizer/*.json",
    "metadata_tokenizer/*.json",
)
# The commit hashes on the hub are not known, so these follow the main branch; nor are the licences of the weights.
RELEASED: Mapping[str, Released] = {
    name: Released(
        repo_id=name,
        revision="main",
        licence="not stated",
        files={_CONFIG: None, _WEIGHTS: None},
    )
    for name in ("OliBomby/CM3P", "OliBomby/CM3P-ranked-classifier")
}

ARCHITECTURES: Mapping[str, type[CM3PPreTrainedModel]] = {
    kind.__name__: kind
    for kind in (
        models.CM3PModel,
        models.CM3PForMaskedLM,
        models.CM3PForBeatmapClassification,
        models.CM3PBeatmapModel,
        models.CM3PBeatmapModelWithProjection,
        models.CM3PMetadataModel,
        models.CM3PMetadataModelWithProjection,
    )
}
_TIED, _TABLE = "decoder.weight", "beatmap_model.encoder.embeddings.tok_embeddings.weight"


class Saved(Protocol):
    """What can write its files into a directory, such as a processor."""

    def save_pretrained(self, save_directory: str | Path, /) -> Any:
        """Write them."""


def load_directory(
    directory: str | Path, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> CM3PPreTrainedModel:
    """Load a model from a directory, as the class that its configuration names.

    To take the tower of a full model into another class, use ``from_pretrained`` of that class.

    Args:
        directory: Holds ``config.json`` and ``model.safetensors``.
        device: Device of the model.
        dtype: Floating type; ``None``: float32.

    Returns:
        The model in evaluation mode.

    Raises:
        ConfigError: The configuration is missing or wrong, or names another model.
        CheckpointError: The weights are missing or damaged.
        WeightsError: They do not fit the configuration.
    """
    path = Path(directory) / _CONFIG
    values = read_json(path)
    kind = _kind(values, path)
    weights = Path(directory) / _WEIGHTS
    try:
        config = kind.config_class.from_dict(values)
    except (ConfigError, StrictDataclassError) as error:  # the second by transformers before 5.19
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error
    tensors = load_tensors(weights)
    if kind is models.CM3PForMaskedLM:
        if _TIED in tensors:
            config.tie_word_embeddings = False
        elif _TABLE in tensors:
            tensors.setdefault(_TIED, tensors[_TABLE])
    config.dtype = dtype or torch.float32
    with torch.device("meta"):  # takes no time or memory for weights that are replaced at once
        model: Any = kind(config)  # whose `to` transformers types as a function of another class
    model.to(dtype=config.dtype)
    load_state(model, tensors, what=str(weights))
    return model.to(device=device).eval()


def from_pretrained(
    name_or_path: str | Path,
    revision: str | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> CM3PPreTrainedModel:
    """Load a model by name or path, as the class that its configuration names.

    Args:
        name_or_path: The bundled ``cm3p-tiny``, a directory, a released model (``OliBomby/CM3P``,
            ``OliBomby/CM3P-ranked-classifier``), or the hub id of another one.
        revision: Branch, tag or commit of the hub.
        device: Device of the model.
        dtype: Floating type; ``None``: float32.

    Returns:
        The model in evaluation mode.

    Raises:
        HubError: There is no model of this name.
        ConfigError, CheckpointError, WeightsError: As :func:`load_directory`.
    """
    return load_directory(find_directory(name_or_path, revision), device=device, dtype=dtype)


def find_directory(name_or_path: str | Path, revision: str | None = None) -> Path:
    """Find the directory of a model, and fetch it from the hub if need be.

    Args:
        name_or_path: As for :func:`from_pretrained`.
        revision: Branch, tag or commit of the hub.

    Raises:
        HubError: There is no model of this name.
    """
    return resolve(name_or_path, bundled=BUNDLED, released=RELEASED, allow_patterns=_FILES, revision=revision)


def save_pretrained(
    model: CM3PPreTrainedModel,
    directory: str | Path,
    *,
    processor: Saved | None = None,
    card: str | None = None,
) -> None:
    """Write a model, and what belongs to it, in the original's layout; on an error nothing is written.

    Args:
        model: The model.
        directory: Replaced as a whole.
        processor: Writes its own files beside the model's.
        card: Text of a model card, ``README.md``.

    Raises:
        CheckpointError: The directory cannot be written.
    """
    with atomic_directory(directory) as partial, _without_bar():
        model.save_pretrained(partial)
        if processor is not None:
            processor.save_pretrained(partial)
        if card is not None:
            (partial / "README.md").write_text(card, encoding="utf-8")


@contextmanager
def _without_bar() -> Iterator[None]:
    """Keep transformers from showing its bar, which it also shows where there is no terminal."""
    shown = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            enable_progress_bar()


def _kind(values: Any, path: Path) -> type[CM3PPreTrainedModel]:
    """Class of the model that a configuration describes."""
    named = values.get("architectures") if isinstance(values, dict) else None
    name = named[0] if isinstance(named, list) and len(named) == 1 else None
    kind = ARCHITECTURES.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ConfigError(
            f"{path}: architectures is {shortened(named)}; allowed: one of {', '.join(ARCHITECTURES)}"
        )
    if values.get("model_type") != kind.config_class.model_type:
        raise ConfigError(
            f"{path}: model_type is {shortened(values.get('model_type'))}; allowed for {name}: "
            f"{kind.config_class.model_type}"
        )
    return kind
