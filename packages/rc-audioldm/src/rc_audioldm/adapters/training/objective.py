"""Training objectives of adapters, as the loop wants them: batches to a loss, and in evaluation the whole validation.

Shapes: B rows of width D, N states of width H.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pentatonic.errors import ConfigError
from pentatonic.training import StepContext
from rc_audioldm.adapters.projector import Projector
from rc_audioldm.adapters.style_to_states import StyleToStates
from rc_audioldm.adapters.training.data import Batch
from rc_audioldm.adapters.training.losses import contrastive_loss, state_loss
from rc_audioldm.adapters.training.recall import AUDIO_TO_TEXT, TEXT_TO_AUDIO, chance, recalls

SELECTIONS = ("loss", "audio_to_text", "text_to_audio", "combined")


@dataclass
class ObjectiveConfig:
    """The task, and which checkpoint is the best.

    Args:
        temperature: Divides the cosines of the contrastive loss.
        mask_same_caption: Leave rows of the same caption out of a row's negatives.
        select: What the best checkpoint has least of: ``loss`` of the validation; ``audio_to_text`` or
            ``text_to_audio``, one minus that recall at 1; ``combined``, one minus their weighted mean.
        text_to_audio_weight: Of the weighted mean; the other direction has the rest.
    """

    temperature: float = 0.07
    mask_same_caption: bool = True
    select: str = "combined"
    text_to_audio_weight: float = 0.6

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ConfigError(f"objective.temperature is {self.temperature}; allowed: above 0")
        if self.select not in SELECTIONS:
            raise ConfigError(f"objective.select is {self.select!r}; allowed: {', '.join(SELECTIONS)}")
        if not 0 <= self.text_to_audio_weight <= 1:
            raise ConfigError(
                f"objective.text_to_audio_weight is {self.text_to_audio_weight}; allowed: 0 to 1"
            )

    def score(self, metrics: dict[str, float]) -> float:
        """Return what a good checkpoint has little of.

        Args:
            metrics: Of a validation, without ``val_`` in front.
        """
        if self.select == "loss":
            return metrics["loss"]
        to_text, to_audio = metrics[f"{AUDIO_TO_TEXT}@1"], metrics[f"{TEXT_TO_AUDIO}@1"]
        weights = {"audio_to_text": 0.0, "text_to_audio": 1.0, "combined": self.text_to_audio_weight}
        weight = weights[self.select]
        return 1 - (weight * to_audio + (1 - weight) * to_text)


class ContrastiveTraining(nn.Module):
    """A projector between the audio and the text of CLAP.

    In evaluation the batch is ignored, and the whole validation set is measured: the mean loss of its consecutive parts
    as large as a batch, and its recall.

    Args:
        adapter: The projector.
        config: The task.
        validation: The validation set.
        batch_size: Rows of a batch, for the validation's loss.
    """

    def __init__(
        self, adapter: Projector, config: ObjectiveConfig, validation: Batch, batch_size: int
    ) -> None:
        super().__init__()
        self.adapter, self.config, self.batch_size = adapter, config, batch_size
        self._validation = _Held(validation)

    def forward(self, batch: Batch, context: StepContext) -> dict[str, Tensor]:
        """Return the loss, and in evaluation the recalls."""
        if self.training:
            return {"loss": self._loss(self.adapter(batch["audio"]), batch)}
        whole = self._validation.on(batch["audio"].device)
        return self._measured(self.adapter(whole["audio"]), whole)

    def without_adapter(self) -> dict[str, float]:
        """Return the same measures for the vectors as they are, and the recall of a random ranking."""
        whole = self._validation.on(torch.device("cpu"))
        measured = {}
        if whole["audio"].shape == whole["text"].shape:
            measured = {name: float(value) for name, value in self._measured(whole["audio"], whole).items()}
        return measured | chance(whole["captions"])

    def _loss(self, projected: Tensor, batch: Batch) -> Tensor:
        captions = batch["captions"] if self.config.mask_same_caption else None
        return contrastive_loss(projected.float(), batch["text"].float(), self.config.temperature, captions)

    def _measured(self, projected: Tensor, whole: Batch) -> dict[str, Tensor]:
        rows, device = len(projected), projected.device
        parts = [slice(start, start + self.batch_size) for start in range(0, rows, self.batch_size)]
        losses = [
            self._loss(projected[part], {name: values[part] for name, values in whole.items()})
            * len(projected[part])
            for part in parts
        ]
        found = recalls(projected, whole["text"], whole["captions"])
        return {"loss": torch.stack(losses).sum() / rows} | {
            name: torch.tensor(value, device=device) for name, value in found.items()
        }


class StateTraining(nn.Module):
    """An adapter from the audio of CLAP to the states of a language model.

    Args:
        adapter: The adapter.
        validation: The validation set, with states.
        mean_states: ``(N, H)`` mean of the training states, which an adapter must do better than.
    """

    def __init__(self, adapter: StyleToStates, validation: Batch, mean_states: Tensor) -> None:
        super().__init__()
        self.adapter = adapter
        self._validation = _Held(validation | {"mean": mean_states})

    def forward(self, batch: Batch, context: StepContext) -> dict[str, Tensor]:
        """Return the loss; in evaluation also the cosine per state and the explained share of the variance."""
        if self.training:
            return {"loss": state_loss(self.adapter(batch["audio"]).float(), batch["states"])}
        whole = self._validation.on(batch["audio"].device)
        return self._measured(self.adapter(whole["audio"]).float(), whole)

    def without_adapter(self) -> dict[str, float]:
        """Return the same measures for the mean of the training states."""
        whole = self._validation.on(torch.device("cpu"))
        mean = whole["mean"].expand_as(whole["states"])
        return {name: float(value) for name, value in self._measured(mean, whole).items()}

    @staticmethod
    def _measured(predicted: Tensor, whole: Batch) -> dict[str, Tensor]:
        states = whole["states"]
        around_mean = (states - whole["mean"]).square().sum()
        return {
            "loss": state_loss(predicted, states),
            "cosine": functional.cosine_similarity(predicted, states, dim=-1).mean(),
            "explained": 1
            - (predicted - states).square().sum() / around_mean.clamp_min(torch.finfo(torch.float32).tiny),
        }


class _Held:
    """Tensors beside a module, which are no part of its state and follow its device when they are used."""

    def __init__(self, tensors: Batch) -> None:
        self._tensors: dict[Any, Batch] = {torch.device("cpu"): tensors}

    def on(self, device: torch.device) -> Batch:
        if device not in self._tensors:
            held = self._tensors[torch.device("cpu")]
            self._tensors[device] = {name: tensor.to(device) for name, tensor in held.items()}
        return self._tensors[device]
