"""Models and processors of experiment v7 with random weights, and of the tiny model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from cm3p.audio_features import CM3PAudioFeatureExtractor
from cm3p.configuration import CM3PConfig
from cm3p.events.parser import CM3PBeatmapParser
from cm3p.model import CM3PModel
from cm3p.processor import CM3PProcessor
from cm3p.tokens.beatmap import CM3PBeatmapTokenizer
from cm3p.tokens.metadata import CM3PMetadataTokenizer

V7: dict[str, Any] = {"beatmap_config": {}, "metadata_config": {}}
"""The sizes of the released model are the defaults of the configurations."""
TINY: dict[str, Any] = {
    "projection_dim": 128,
    "beatmap_config": {
        "projection_dim": 128, "hidden_size": 192, "intermediate_size": 288, "num_hidden_layers": 4,
        "num_attention_heads": 4, "global_attn_every_n_layers": 2,
        "audio_config": {
            "projector_intermediate_size": 512, "projector_dim": 192, "hidden_size": 128, "intermediate_size": 192,
            "num_hidden_layers": 2, "num_attention_heads": 4, "global_attn_every_n_layers": 2,
        },
    },
    "metadata_config": {
        "projection_dim": 128, "hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 2,
        "num_attention_heads": 4,
    },
}  # fmt: skip
MAX_LENGTH = 2000
"""Tokens that the original pads the windows of v7 to."""


def processor(metadata: CM3PMetadataTokenizer | None = None) -> CM3PProcessor:
    """Return the processor of experiment v7."""
    window = {"window_length_sec": 16, "window_stride_sec": 16, "max_length": MAX_LENGTH}
    audio = {"pad_to_multiple_of": 256_000, "max_source_positions": 1600}
    return CM3PProcessor(
        CM3PAudioFeatureExtractor(),
        CM3PBeatmapParser(add_snapping=False, add_distances=False),
        CM3PBeatmapTokenizer(max_time=16_000, add_cls_token=True, separate_new_combo_token=False),
        metadata or CM3PMetadataTokenizer(add_cls_token=True, min_year=2007),
        {"beatmap_kwargs": window, "audio_kwargs": audio},
    )


def full_model(sizes: Mapping[str, Any], parts: CM3PProcessor, **changes: Any) -> CM3PModel:
    """Return a model with random weights, in evaluation mode; equal calls give equal weights.

    Args:
        sizes: ``V7`` or ``TINY``.
        parts: Whose vocabularies it has.
        changes: Of the configuration of the beatmap tower.
    """
    tokens, words = parts.beatmap_tokenizer, parts.metadata_tokenizer
    beatmap = {
        **sizes["beatmap_config"], "cls_embed": True, "vocab_size": tokens.vocab_size,
        "pad_token_id": tokens.pad_token_id, "audio_token_id": tokens.audio_token_id, **changes,
    }  # fmt: skip
    metadata = {
        **sizes["metadata_config"], "cls_embed": True, "vocab_size": words.vocab_size,
        "pad_token_id": words.pad_token_id,
    }  # fmt: skip
    torch.manual_seed(0)
    config = CM3PConfig(**{**sizes, "beatmap_config": beatmap, "metadata_config": metadata})
    return CM3PModel(config).eval()
