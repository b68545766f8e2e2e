"""A model with its processor, and the hash by which its vectors are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cm3p.model import CM3PPreTrainedModel
from cm3p.processor import CM3PProcessor
from cm3p.weights import find_directory, load_directory
from pentatonic.folder_run import fingerprint
from pentatonic.precision import resolve_precision

# Of a stored configuration: what has no effect on outputs.
_WITHOUT_EFFECT = frozenset(
    (
        *("_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype", "transformers_version"),
        *("id2label", "label2id", "loss_type", "problem_type", "attn_implementation"),
    )
)


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to compute.

    Args:
        name: What the user called it.
        model: In evaluation mode.
        processor: Makes its inputs.
        model_hash: SHA-256 of what decides its outputs: weights, configuration, events and vocabulary. It does not
            depend on device and number type.
        device: Where it is.
        dtype: Number type of its weights.
    """

    name: str
    model: CM3PPreTrainedModel
    processor: CM3PProcessor
    model_hash: str
    device: str
    dtype: torch.dtype


def load(
    name_or_path: str | Path, *, device: str = "cpu", precision: str = "fp32", revision: str | None = None
) -> LoadedModel:
    """Load a model and its processor.

    Args:
        name_or_path: As for :func:`cm3p.weights.from_pretrained`.
        device: ``cpu``, ``cuda`` or ``mps``.
        precision: ``fp32``, ``bf16``, or ``auto``: bf16 on a GPU that has it, else fp32.
        revision: Branch, tag or commit of the hub.

    Raises:
        HubError, ConfigError, CheckpointError, WeightsError: There is no usable model.
    """
    directory = find_directory(name_or_path, revision)
    processor = CM3PProcessor.from_pretrained(directory)
    model: Any = load_directory(directory)
    if precision == "auto" and device == "cpu":
        precision = "fp32"
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[resolve_precision(precision, device)]
    model_hash = _hash(model, processor)
    model = model.to(device=device, dtype=dtype)
    return LoadedModel(str(name_or_path), model, processor, model_hash, device, dtype)


def _hash(model: CM3PPreTrainedModel, processor: CM3PProcessor) -> str:
    settings = {
        "model": _with_effect(model.config.to_dict()),
        "parser": processor.beatmap_parser.to_dict(),
        "vocabulary": processor.beatmap_tokenizer.get_vocab(),
        "audio": processor.audio_feature_extractor.to_dict(),
    }
    return fingerprint(settings, model.state_dict())


def _with_effect(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _with_effect(item) for key, item in value.items() if key not in _WITHOUT_EFFECT}
    if isinstance(value, list | tuple):
        return [_with_effect(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
