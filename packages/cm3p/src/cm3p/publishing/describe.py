"""``cm3p info``: what a model is made of, what it takes and gives, and what is known of its licence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cm3p.configuration import CM3PConfig, CM3PMetadataConfig
from cm3p.inference.maps import window_text
from cm3p.processor import CM3PProcessor
from cm3p.stored import BUNDLED
from cm3p.weights import RELEASED, find_directory, load_directory
from pentatonic.hub import known_models, licence_of

RELEASED_LICENCE = "not stated for the weights; the original's code is MIT"


def list_models() -> list[dict[str, str]]:
    """Return name, kind and licence of every model that is known by name."""
    return [
        each | {"licence": RELEASED_LICENCE} if each["kind"] == "released" else each
        for each in known_models(bundled=BUNDLED, released=RELEASED)
    ]


def describe_model(name: str, revision: str | None = None) -> dict[str, Any]:
    """Describe a model.

    Args:
        name: Directory, or hub id.
        revision: Branch, tag or commit of the hub.

    Returns:
        ``model``, ``class``, ``parameters``, ``size_bytes`` of float32 weights, the sizes of each tower, vocabularies,
        windows and ``licence``.

    Raises:
        HubError, ConfigError, CheckpointError, WeightsError: There is no usable model.
    """
    directory = find_directory(name, revision)
    model: Any = load_directory(directory)
    config: Any = model.config
    parameters = sum(each.numel() for each in model.parameters())
    about: dict[str, Any] = {
        "model": name,
        "class": type(model).__name__,
        "parameters": parameters,
        "size_bytes": 4 * parameters,
    }
    full = isinstance(config, CM3PConfig)
    if full or not isinstance(config, CM3PMetadataConfig):
        beatmap: Any = config.beatmap_config if full else config
        about["beatmap tower"] = _tower(beatmap)
        about["audio tower"] = _tower(beatmap.audio_config)
    if full or isinstance(config, CM3PMetadataConfig):
        about["metadata tower"] = _tower(config.metadata_config if full else config)
    if full:
        about["decoder head"] = config.has_decoder_head
    if type(model).__name__ == "CM3PForBeatmapClassification":
        about["labels"] = [str(label) for label in (config.id2label or {}).values()]
    else:
        about["embedding_size"] = config.projection_dim
    about |= _inputs(directory)
    licence = licence_of(name, bundled=BUNDLED, released=RELEASED)
    return about | {"licence": RELEASED_LICENCE if name in RELEASED else licence}


def _tower(config: Any) -> str:
    return (
        f"{config.num_hidden_layers} layers, width {config.hidden_size}, {config.num_attention_heads} heads, "
        f"global attention in every {config.global_attn_every_n_layers}., else {config.local_attention} tokens"
        if config.global_attn_every_n_layers > 1
        else f"{config.num_hidden_layers} layers, width {config.hidden_size}, {config.num_attention_heads} heads"
    )


def _inputs(directory: Path) -> dict[str, Any]:
    """What the processor of a directory makes; empty if there is none."""
    if not (directory / "processor_config.json").is_file():
        return {"processor": "none"}
    processor = CM3PProcessor.from_pretrained(directory)
    metadata = processor.metadata_tokenizer
    audio = processor.default_kwargs["audio_kwargs"]
    return {
        "windows": window_text(processor),
        "longest sequence": processor.default_kwargs["beatmap_kwargs"]["max_length"],
        "audio": f"{audio['sampling_rate']} Hz mono, {processor.audio_feature_extractor.feature_size} mel bands",
        "beatmap vocabulary": len(processor.beatmap_tokenizer),
        "metadata vocabulary": f"{len(metadata)} with {len(metadata.mappers)} mappers, {len(metadata.tags)} tags, "
        f"years {metadata.min_year} to {metadata.max_year}, modes {', '.join(metadata.modes.values()) or 'none'}",
    }
