"""SogCLR and iSogCLR: contrastive losses that remember each sample of the data set, so that batches may be small.

Sources: arXiv 2202.12387 (SogCLR) and 2305.11965 (iSogCLR), with the state rules of the program that trained Myna.

Shapes: B samples of a batch, M samples of the data set, D width of the embeddings.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pentatonic.errors import UsageError

_RHO, _TAU_STEP, _TAU_MEMORY = 0.3, 0.01, 0.1
_LEAST_TAU, _GREATEST_TAU = 0.05, 0.7


class GlobalContrastive(nn.Module):
    """The loss with its memory, which belongs to the checkpoint.

    For each anchor the negatives are weighted by their exponentials, divided by a moving average of the sum of them,
    which the data set's sample keeps from batch to batch.

    Args:
        n_samples: M.
        temperature: Of all samples at first; without ``learned_temperatures`` for good.
        gamma: Weight of a batch in the moving average.
        schedule: ``"constant"``: ``gamma`` from the second epoch on; in the first one 1 as long as no sample of the
            batch has been seen. ``"cosine"``: from 1 down to ``gamma``.
        decay_epochs: Length of the cosine, in epochs.
        learned_temperatures: iSogCLR: each sample has a temperature of its own.
        eps: Least moving average.

    Attributes:
        average: ``(M,)`` moving averages, u.
        temperatures: ``(M,)`` temperatures, tau.
        temperature_gradients: ``(M,)`` moving averages of their gradients.

    Raises:
        UsageError: A value is out of its range.
    """

    average: Tensor
    temperatures: Tensor
    temperature_gradients: Tensor

    def __init__(
        self,
        n_samples: int,
        *,
        temperature: float = 0.1,
        gamma: float = 0.9,
        schedule: Literal["constant", "cosine"] = "constant",
        decay_epochs: int = 1,
        learned_temperatures: bool = False,
        eps: float = 1e-8,
    ) -> None:
        super().__init__()
        if n_samples < 1 or temperature <= 0 or not 0 < gamma <= 1 or decay_epochs < 1:
            raise UsageError(
                "n_samples and decay_epochs must be 1 or more, temperature above 0, gamma in (0, 1]; got "
                f"{n_samples}, {decay_epochs}, {temperature}, {gamma}"
            )
        self.gamma, self.schedule, self.decay_epochs = gamma, schedule, decay_epochs
        self.learned_temperatures, self.eps = learned_temperatures, eps
        self.epoch = 0
        self.register_buffer("average", torch.zeros(n_samples))
        self.register_buffer("temperatures", torch.full((n_samples,), float(temperature)))
        self.register_buffer("temperature_gradients", torch.zeros(n_samples))

    def start_epoch(self, epoch: int) -> None:
        """Say which epoch begins, from 0 on."""
        self.epoch = epoch

    def current_gamma(self) -> float:
        """The weight of a batch in this epoch, for samples that were seen before."""
        if self.schedule == "constant":
            return self.gamma
        if self.epoch >= self.decay_epochs:
            return self.gamma
        return self.gamma + (1 - self.gamma) * (1 + math.cos(math.pi * self.epoch / self.decay_epochs)) / 2

    def forward(self, one: Tensor, other: Tensor, index: Tensor) -> Tensor:
        """Compute the loss of a batch, and update the memory.

        Args:
            one: ``(B, D)`` one view of each sample.
            other: ``(B, D)`` another view.
            index: ``(B,)`` places of the samples in the data set, 0 to M - 1.

        Returns:
            The loss, a scalar.

        Raises:
            UsageError: There is one sample only: it has no negatives.
        """
        n = len(one)
        if n < 2:
            raise UsageError("a batch needs two samples or more: one alone has no negatives")
        one, other = (F.normalize(view.float(), dim=1) for view in (one, other))
        index = index.to(self.average.device)
        stored, tau = self.average[index], self.temperatures[index].to(one.device)
        gamma = self._gamma_for(stored)
        directions = [
            _direction(a, b, tau, stored.to(one.device), gamma, self.eps)
            for a, b in ((one, other), (other, one))
        ]
        with torch.no_grad():
            average = torch.stack([u for _, u, _ in directions]).mean(0)
            self.average[index] = average.to(self.average.device)
            if self.learned_temperatures:
                self._update_temperatures(index, tau, directions)
        return torch.stack([loss for loss, _, _ in directions]).sum(0).mean()

    def _gamma_for(self, stored: Tensor) -> float:
        unseen = self.schedule == "constant" and self.epoch == 0 and float(stored.sum()) == 0
        return 1.0 if unseen else self.current_gamma()

    def _update_temperatures(
        self, index: Tensor, tau: Tensor, directions: list[tuple[Tensor, Tensor, Tensor]]
    ) -> None:
        steps = [u.log() + _RHO - weighted / tau for _, u, weighted in directions]
        gradient = torch.stack(steps).mean(0).to(self.average.device)
        self.temperature_gradients[index] = (
            _TAU_MEMORY * self.temperature_gradients[index] + (1 - _TAU_MEMORY) * gradient
        )
        moved = self.temperatures[index] - _TAU_STEP * self.temperature_gradients[index]
        self.temperatures[index] = moved.clamp(_LEAST_TAU, _GREATEST_TAU)


def _direction(
    anchors: Tensor, partners: Tensor, tau: Tensor, stored: Tensor, gamma: float, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss ``(B,)`` of the anchors, their new moving average, and the weighted mean of their negatives."""
    n = len(anchors)
    across, within = anchors @ partners.T, anchors @ anchors.T
    right = across.diagonal()
    others = ~torch.eye(n, dtype=torch.bool, device=anchors.device)
    negatives = torch.cat((across[others].view(n, n - 1), within[others].view(n, n - 1)), dim=1)
    with torch.no_grad():
        grown = (negatives / tau[:, None]).exp()
        average = (1 - gamma) * stored + gamma * grown.mean(1)
        weights = grown / average.clamp(min=eps)[:, None]
    weighted = (weights * negatives).mean(1)
    return weighted - right, average, weighted.detach()
