"""One probe: built, trained, and kept at its best epoch on the validation split."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pentatonic.probes.grid import ProbeSettings
from pentatonic.probes.splits import ProbeSplit
from pentatonic.probes.tasks import Task

HIDDEN = 512
"""Units of the hidden layer of an MLP probe."""


class Probe(nn.Module):
    """A linear layer or an MLP between fixed shifts and scales, fitted to the training split.

    Args:
        settings: How it is built.
        train: Features and targets of the training split.
        task: What is read.
    """

    mean: Tensor
    deviation: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, settings: ProbeSettings, train: ProbeSplit, task: Task) -> None:
        super().__init__()
        width, outputs = train.features.shape[1], len(task.names)
        features = train.features.cpu().double()
        mean, deviation = features.mean(dim=0), features.std(dim=0, correction=0)
        # A feature that is the same everywhere, up to rounding, must not be blown up to noise.
        deviation = torch.where(deviation > 1e-6 * mean.abs() + 1e-12, deviation, 1.0)
        if not settings.standardise:
            mean, deviation = torch.zeros_like(mean), torch.ones_like(deviation)
        shift, scale = task.output_scale(train.targets)
        for name, value in {"mean": mean, "deviation": deviation, "shift": shift, "scale": scale}.items():
            self.register_buffer(name, value.float())
        self.layers = (
            nn.Linear(width, outputs)
            if settings.model == "linear"
            else nn.Sequential(
                nn.Linear(width, HIDDEN), nn.ReLU(), nn.Dropout(settings.dropout), nn.Linear(HIDDEN, outputs)
            )
        )

    def forward(self, features: Tensor) -> Tensor:
        """Raw outputs (n, outputs) of features (n, C)."""
        return self.layers((features - self.mean) / self.deviation) * self.scale + self.shift


@dataclass(frozen=True)
class FittedProbe:
    """A trained probe.

    Args:
        probe: With the weights of its best epoch.
        epoch: That epoch, from 1.
        validation: Its metrics on the validation split.
    """

    probe: Probe
    epoch: int
    validation: dict[str, float]


def fit_probe(
    settings: ProbeSettings,
    task: Task,
    train: ProbeSplit,
    valid: ProbeSplit,
    *,
    epochs: int,
    patience: int | None,
    seed: int,
    device: torch.device,
) -> FittedProbe | None:
    """Train with Adam on single chunks; a later epoch is kept only if it is strictly better on the validation split.

    Args:
        settings: How it is built and trained.
        task: What is read.
        train: Fits the standardisation and the weights.
        valid: Chooses the epoch.
        epochs: Epochs at most.
        patience: Epochs without improvement after which training ends; never by default.
        seed: Of the initial weights, the order and the dropout. The global generators stay as they are.
        device: Where the features are.

    Returns:
        The probe at its best epoch, or None if its outputs were not finite from the first epoch on.
    """
    features = train.features.float()
    targets = train.targets.float() if train.targets.is_floating_point() else train.targets
    targets = targets[train.chunk_tracks].to(device)
    best: FittedProbe | None = None
    best_state: dict[str, Tensor] = {}
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        probe = Probe(settings, train, task).to(device)
        optimizer = torch.optim.Adam(
            probe.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        order = torch.Generator().manual_seed(seed)
        for epoch in range(1, epochs + 1):
            probe.train()
            for batch in torch.randperm(len(features), generator=order).to(device).split(settings.batch_size):
                optimizer.zero_grad()
                task.loss(probe(features[batch]), targets[batch], probe.scale).backward()
                optimizer.step()
            outputs = track_outputs(probe, valid)
            if not np.isfinite(outputs).all():
                break  # diverged: later epochs are not finite either
            metrics = task.metrics(outputs, valid.targets.numpy())
            score, best_score = metrics[task.primary], best.validation[task.primary] if best else -math.inf
            if score > best_score:
                best = FittedProbe(probe, epoch, metrics)
                best_state = {name: value.clone() for name, value in probe.state_dict().items()}
            elif best and patience is not None and epoch - best.epoch >= patience:
                break
    if best:
        probe.load_state_dict(best_state)
    return best


def track_outputs(probe: Probe, split: ProbeSplit) -> np.ndarray:
    """Raw outputs (T, K) of a split: of each chunk, averaged over the chunks of a track."""
    probe.eval()
    with torch.no_grad():
        return split.track_means(probe(split.features.float()))
