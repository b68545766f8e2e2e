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
from rc_audioldm.training.clips import Caption, ClipSet

Batch = dict[str, Tensor]
_HIGHEST_SCALE = math.log(100.0)
_OTHER_CAPTION, _TRIES = 1, 8  # a random stream of its own


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
    """Pairs of a clip and one of its captions, drawn anew in each epoch, with a caption of another clip of its kind.

    Most clips of a batch are told apart by their kind, such as the instrument, alone. The further caption, which is not
    true of the clip where one can be found, has other words for the rest: register, speed and so on.

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
        self._of_kind: dict[str, list[int]] = {}
        for index, kind in enumerate(clips.kinds):
            self._of_kind.setdefault(kind, []).append(index)

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, key: ItemKey, /) -> dict[str, Any]:
        captions, spectrogram = self._clips.captions[key.index], self._spectrograms[key.index]
        caption, seed = captions[0], mix_seed(self._seed, key.epoch, key.index)
        if self._augmentation is not None:
            caption = captions[seed % len(captions)]
            spectrogram = self._augmentation.apply(spectrogram, seed)
        said = (caption, self._other(key.index, seed))
        return {
            "mel": spectrogram,
            "texts": [each.text for each in said],
            "named": [self._row(each.labels) for each in said],
            "has": self._row(self._clips.labels[key.index]),
        }

    def _other(self, index: int, seed: int) -> Caption:
        """A caption of another clip of the kind, at best one that is not true of this clip."""
        rng = np.random.default_rng(mix_seed(seed, _OTHER_CAPTION))
        alike, has = self._of_kind[self._clips.kinds[index]], self._clips.labels[index]
        caption = self._clips.captions[index][0]
        for _ in range(_TRIES):
            captions = self._clips.captions[alike[int(rng.integers(len(alike)))]]
            caption = captions[int(rng.integers(len(captions)))]
            if not caption.labels <= has:
                break
        return caption

    def collate(self, items: Sequence[dict[str, Any]]) -> Batch:
        """Return a batch.

        Returns:
            ``mel`` (B, 1, T, F); ``ids`` and ``mask`` (2B, tokens) of the own captions and then the others; ``true``
            (2B, B), whether caption i is true of clip j.
        """
        texts = [item["texts"][which] for which in (0, 1) for item in items]
        named = torch.stack([item["named"][which] for which in (0, 1) for item in items])
        lacks = 1 - torch.stack([item["has"] for item in items])
        tokens = self._tokenizer(texts, padding=True, return_tensors="pt")
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
        audio = unit(
            self.clap.get_audio_features(input_features=batch["mel"], is_longer=_shorter(batch["mel"]))
        )
        text = unit(self.clap.get_text_features(input_ids=batch["ids"], attention_mask=batch["mask"]))
        scale = self.clap.logit_scale_a.clamp(max=_HIGHEST_SCALE).exp()
        own = torch.arange(len(audio), device=audio.device)
        is_own = torch.arange(len(text), device=audio.device)[:, None] == own
        logits = (scale * text @ audio.T).masked_fill(batch["true"] & ~is_own, float("-inf"))
        to_audio, to_text = logits[: len(audio)], logits.T
        return {
            "loss": (cross_entropy(to_audio, own) + cross_entropy(to_text, own)) / 2,
            "text_to_audio": (to_audio.argmax(dim=1) == own).float().mean(),
            "audio_to_text": (to_text.argmax(dim=1) == own).float().mean(),
            "scale": scale,
        }


@torch.no_grad()
def audio_vectors(clap: Any, mels: Tensor, batch: int = 64) -> Tensor:
    """Return unit vectors ``(B, D)`` of spectrograms ``(B, 1, T, F)``."""
    parts = [
        clap.get_audio_features(input_features=part, is_longer=_shorter(part)) for part in mels.split(batch)
    ]
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
