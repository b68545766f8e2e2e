"""The loss of DPO-positive (arXiv 2402.13228) as CLaMP-DPO uses it, with its gradient in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pentatonic.errors import UsageError


@dataclass(frozen=True)
class PairLosses:
    """Losses of pairs and what they are made of; all ``(...)`` float64 without gradient.

    Args:
        loss: ``-log sigmoid(beta * (difference - lam * penalty))`` in nats; ln 2 before the first step.
        difference: How much more the policy prefers the chosen to the rejected piece than the reference does, in nats.
        penalty: How much less likely the chosen piece became, in nats; 0 where it became more likely.
        chosen_change: By how much the log-probability of the chosen piece grew against the reference, in nats.
        rejected_change: Likewise of the rejected piece.
        chosen_gradient: Derivative of the loss by the policy's log-probability of the chosen piece.
        rejected_gradient: Derivative by that of the rejected piece.
        beta: Factor of the difference.
    """

    loss: Tensor
    difference: Tensor
    penalty: Tensor
    chosen_change: Tensor
    rejected_change: Tensor
    chosen_gradient: Tensor
    rejected_gradient: Tensor
    beta: float

    @property
    def margin(self) -> Tensor:
        """Difference of the implicit rewards; above 0 where the pair is in the right order."""
        return self.beta * self.difference


def pair_losses(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    beta: float = 0.1,
    lam: float = 10.0,
) -> PairLosses:
    """Compute the losses of pairs from log-probabilities of whole pieces.

    Args:
        policy_chosen: Of the chosen pieces under the policy, in nats, of any floating type and of shapes that
            broadcast, also those of the others: ``(a, 1)`` and ``(1, b)`` give all pairs.
        policy_rejected: Of the rejected pieces under the policy.
        reference_chosen: Of the chosen pieces under the reference.
        reference_rejected: Of the rejected pieces under the reference.
        beta: Above 0; the greater, the closer the policy stays to the reference.
        lam: Weight of the penalty, at least 0; 0 is plain DPO.

    Raises:
        UsageError: ``beta`` or ``lam`` is out of range.
    """
    if beta <= 0 or lam < 0:
        raise UsageError(f"beta must be above 0 and lam at least 0, got {beta} and {lam}")
    values = (policy_chosen, policy_rejected, reference_chosen, reference_rejected)
    chosen, rejected, of_chosen, of_rejected = torch.broadcast_tensors(*(v.detach().double() for v in values))
    difference = (chosen - rejected) - (of_chosen - of_rejected)
    penalty = (of_chosen - chosen).clamp(min=0)
    z = beta * (difference - lam * penalty)
    rejected_gradient = beta * torch.sigmoid(-z)
    return PairLosses(
        -F.logsigmoid(z),
        difference,
        penalty,
        chosen - of_chosen,
        rejected - of_rejected,
        -rejected_gradient * (1 + lam * (penalty > 0).double()),
        rejected_gradient,
        beta,
    )
