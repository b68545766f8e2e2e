"""What a contrastive run is made of: the module, the data and how they make a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from omar_rq.config import ModelConfig
from omar_rq.model import OmarRQ
from omar_rq.training.contrastive.metadata import read_metadata
from omar_rq.training.contrastive.options import ObjectiveConfig, TextAudioConfig
from omar_rq.training.contrastive.simclr import SimCLR
from omar_rq.training.contrastive.text_audio import TextAudio, load_text_encoder
from omar_rq.training.contrastive.text_data import TextAudioDataset, TextCollate
from omar_rq.training.contrastive.views import TwoViews
from omar_rq.training.data import CropDataset, Track
from omar_rq.weights import from_pretrained
from pentatonic.errors import ConfigError
from pentatonic.training import KeyedDataset


@dataclass(frozen=True)
class ContrastiveRun:
    """Parts of a run.

    Attributes:
        module: Computes the loss of a batch; its ``encoder`` is the model.
        config: Of the model.
        train_data: Items.
        val_data: Items, or None.
        collate: Makes a batch; None: stack tensors.
    """

    module: nn.Module
    config: ModelConfig
    train_data: KeyedDataset
    val_data: KeyedDataset | None
    collate: Callable[[Sequence[Any]], Any] | None


def build_contrastive(
    objective: ObjectiveConfig,
    config: ModelConfig,
    *,
    root: Path,
    train_tracks: list[Track],
    val_tracks: list[Track] | None,
    crop_s: float,
    seed: int,
) -> ContrastiveRun:
    """Build the parts of a run.

    Args:
        objective: Checked options; not ``masked``.
        config: Of a new model; an ``objective.encoder`` brings its own.
        root: The data folder, where metadata is by default.
        train_tracks: The recordings.
        val_tracks: Those of the validation, or None.
        crop_s: Seconds of an item.
        seed: Of crops and texts.

    Raises:
        ConfigError: The options contradict the model.
        InputError: The metadata cannot be read.
        HubError, CheckpointError, WeightsError: The encoder or the text encoder cannot be loaded.
    """
    encoder = None if objective.encoder is None else from_pretrained(objective.encoder)
    if encoder is not None:
        if objective.name == "simclr" and objective.simclr.pool == "class_token":
            raise ConfigError("objective.encoder has no class token; use objective.simclr.pool=mean or last")
        config = encoder.config
        encoder.train()
    options: dict[str, Any] = {"crop_s": crop_s, "sample_rate": config.sample_rate, "seed": seed}
    if objective.name == "simclr":
        module = SimCLR(config, objective.simclr, encoder)
        train_data, val_data = (
            None if tracks is None else TwoViews(tracks, random=random, **options)
            for tracks, random in ((train_tracks, True), (val_tracks, False))
        )
        assert train_data is not None
        return ContrastiveRun(module, config, train_data, val_data, None)
    text = objective.text_audio
    text_encoder, tokenizer = load_text_encoder(text.text_model)
    metadata = _metadata(text, root)
    module = TextAudio(OmarRQ(config) if encoder is None else encoder, text_encoder, text)
    train_data, val_data = (
        None
        if tracks is None
        else TextAudioDataset(
            CropDataset(tracks, random=random, **options), metadata, dropout=text.metadata_dropout
        )
        for tracks, random in ((train_tracks, True), (val_tracks, False))
    )
    assert train_data is not None
    return ContrastiveRun(module, config, train_data, val_data, TextCollate(tokenizer, text.max_tokens))


def _metadata(text: TextAudioConfig, root: Path) -> Any:
    return read_metadata(
        Path(text.youtube) if text.youtube else root / "youtube.jsonl",
        Path(text.discogs) if text.discogs else root / "discogs.jsonl",
        Path(text.id_map) if text.id_map else root / "id_map.jsonl",
        youtube_fields=text.youtube_fields,
        discogs_fields=text.discogs_fields,
    )
