"""First stage: audio and captions into one space, by telling what belongs together from what does not.

Shapes: B pairs, T frames, F bands, L labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from pentatonic.errors import ConfigError
from pentatonic.mel import MelFrontend
from pentatonic.training import ItemKey, StepContext, mix_seed
from rc_audioldm.clap.frontend import ClapFrontend
from rc_audioldm.training.clips import ClipSet

Batch = dict[str, Tensor]
_HIGHEST_SCALE = math.log(100.0)


@dataclass
class ClapAugmentation:
    """Changes of a spectrogram that leave its captions true.

    Args:
        gain_db: Largest change of the level.
        tilt_db: Largest difference that is added between the lowest and the highest band.
        floors_db: Between which levels the quietest values are cut.
    """

    gain_db: float = 2.0
    tilt_db: float = 4.0
    floors_db: tuple[float, float] = (-80.0, -50.0)

    def apply(self, decibels: Tensor, seed: int) -> Tensor:
        """Return a changed ``(1, T, F)`` spectrogram in decibels."""
        rng = np.random.default_rng(seed)
        gain, tilt = rng.uniform(-1, 1, 2) * (self.gain_db, self.tilt_db)
        floor = rng.uniform(*self.floors_db)
        slope = torch.linspace(-0.5, 0.5, decibels.shape[-1]) * tilt
        return (decibels + gain + slope).clamp_min(floor)


class CaptionPairs:
    """Pairs of a clip and one of its captions, drawn anew in each epoch.

    Args:
        clips: The clips.
        frontend: What the audio tower takes.
        tokenizer: Of the text tower.
        augmentation: None: clips as they are, with their first caption.
        seed: Of the draws.
    """

    def __init__(
        self,
        clips: ClipSet,
        frontend: ClapFrontend,
        tokenizer: Any,
        augmentation: ClapAugmentation | None,
        seed: int,
    ) -> None:
        self._clips, self._tokenizer = clips, tokenizer
        self._augmentation, self._seed = augmentation, seed
        self._spectrograms = spectrograms(clips, frontend)
        names = sorted({label for labels in clips.labels for label in labels})
        self._labels = {name: index for index, name in enumerate(names)}

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, key: ItemKey, /) -> dict[str, Any]:
        captions, spectrogram = self._clips.captions[key.index], self._spectrograms[key.index]
        caption = captions[0]
        if self._augmentation is not None:
            seed = mix_seed(self._seed, key.epoch, key.index)
            caption = captions[seed % len(captions)]
            spectrogram = self._augmentation.apply(spectrogram, seed)
        return {
            "mel": spectrogram,
            "text": caption.text,
            "named": self._row(caption.labels),
            "has": self._row(self._clips.labels[key.index]),
        }

    def collate(self, items: Sequence[dict[str, Any]]) -> Batch:
        """Return a batch: ``mel`` (B, 1, T, F), ``ids`` and ``mask``, and ``true`` (B, B), caption i of clip j."""
        tokens = self._tokenizer([item["text"] for item in items], padding=True, return_tensors="pt")
        named = torch.stack([item["named"] for item in items])
        lacks = 1 - torch.stack([item["has"] for item in items])
        return {
            "mel": torch.stack([item["mel"] for item in items]),
            "ids": tokens["input_ids"],
            "mask": tokens["attention_mask"],
            "true": named @ lacks.T == 0,
        }

    def _row(self, labels: frozenset[str]) -> Tensor:
        row = torch.zeros(len(self._labels))
        row[[self._labels[label] for label in labels]] = 1
        return row


def spectrograms(clips: ClipSet, frontend: ClapFrontend) -> Tensor:
    """Return ``(clips, 1, T, F)`` in decibels.

    Raises:
        ConfigError: The clips have another length or rate than the windows of the audio tower.
    """
    size, rate = frontend.window_samples, frontend.mel.sample_rate
    if (clips.samples.shape[1], clips.sample_rate) != (size, rate):
        raise ConfigError(
            f"clips of {clips.samples.shape[1]} samples at {clips.sample_rate} Hz are no windows of the audio tower; "
            f"needed: {size} samples at {rate} Hz"
        )
    mel = MelFrontend(frontend.mel)
    return torch.cat([frontend.compute(clips.audio(index)[None], mel) for index in range(len(clips))])


class ContrastiveTraining(nn.Module):
    """Both towers; the loss in both directions, without the pairs that are true by chance.

    Args:
        clap: ``ClapModel`` of transformers.
    """

    def __init__(self, clap: Any) -> None:
        super().__init__()
        self.clap = clap

    def forward(self, batch: Batch, context: StepContext) -> dict[str, Tensor]:
        """Return the loss, and how often the own caption is the nearest of those that are not true as well."""
        audio = unit(self.clap.get_audio_features(input_features=batch["mel"], is_longer=_shorter(batch["mel"])))
        text = unit(self.clap.get_text_features(input_ids=batch["ids"], attention_mask=batch["mask"]))
        scale = self.clap.logit_scale_a.clamp(max=_HIGHEST_SCALE).exp()
        own = torch.arange(len(text), device=text.device)
        also_true = batch["true"] & (own[:, None] != own)
        logits = (scale * text @ audio.T).masked_fill(also_true, float("-inf"))
        loss = (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2
        return {
            "loss": loss,
            "text_to_audio": (logits.argmax(dim=1) == own).float().mean(),
            "audio_to_text": (logits.argmax(dim=0) == own).float().mean(),
            "scale": scale,
        }


@torch.no_grad()
def audio_vectors(clap: Any, mels: Tensor, batch: int = 64) -> Tensor:
    """Return unit vectors ``(B, D)`` of spectrograms ``(B, 1, T, F)``."""
    parts = [clap.get_audio_features(input_features=part, is_longer=_shorter(part)) for part in mels.split(batch)]
    return torch.cat([unit(part) for part in parts])


@torch.no_grad()
def text_vectors(clap: Any, tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """Return unit vectors ``(B, D)`` of texts, each by itself."""
    rows = []
    for text in texts:
        tokens = tokenizer(text, truncation=True, max_length=tokenizer.model_max_length, return_tensors="pt")
        rows.append(
            clap.get_text_features(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        )
    return torch.cat([unit(row) for row in rows])


def unit(features: Any) -> Tensor:
    """Return vectors of norm 1, from what the version of transformers returns."""
    return normalize(getattr(features, "pooler_output", features).float(), dim=-1)


def _shorter(mels: Tensor) -> Tensor:
    return torch.zeros(len(mels), 1, dtype=torch.bool, device=mels.device)
