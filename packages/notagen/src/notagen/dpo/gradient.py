"""Gradient of DPO-positive for the parameters of a policy, holding the activations of one piece at a time (CLaMP-DPO).

The loss depends on a piece only through its log-probability, and its derivatives by these are known in closed form. So
each piece goes through the model by itself, and its gradient is scaled.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from notagen.dpo.log_probability import CHUNK, add_gradient, reference_log_probabilities
from notagen.dpo.loss import PairLosses, pair_losses
from notagen.model import NotaGen


def pair_gradient(
    policy: NotaGen,
    chosen: Tensor,
    rejected: Tensor,
    reference: tuple[float, float],
    *,
    beta: float = 0.1,
    lam: float = 10.0,
    chunk: int = CHUNK,
) -> PairLosses:
    """Set the gradients of the parameters to those of the loss of one pair.

    Every piece goes through the model once: the ratio of the two scales only depends on whether the chosen piece became
    less likely, which is known after its pass, and the common factor is applied at the end.

    Args:
        policy: The model. With dropout in training mode, the log-probabilities are computed without it.
        chosen: ``(N, 16)`` int64 patches of the chosen piece.
        rejected: ``(M, 16)`` int64 patches of the rejected piece.
        reference: Log-probabilities of the two under the reference.
        beta: As in :func:`notagen.dpo.loss.pair_losses`.
        lam: As there.
        chunk: As in :func:`notagen.dpo.log_probability.log_probability`.

    Returns:
        The loss before the step, with scalars.
    """
    policy.zero_grad(set_to_none=True)
    of_chosen, of_rejected = (torch.tensor(value, dtype=torch.float64) for value in reference)
    if policy.training and policy.config.dropout:
        return block_gradient(
            policy, [chosen], [rejected], of_chosen[None], of_rejected[None], beta=beta, lam=lam, chunk=chunk
        )
    chosen_value = add_gradient(policy, chosen, -1.0, chunk=chunk).cpu()
    _scale(policy, 1 + lam * float(chosen_value < of_chosen))
    rejected_value = add_gradient(policy, rejected, 1.0, chunk=chunk).cpu()
    losses = pair_losses(chosen_value, rejected_value, of_chosen, of_rejected, beta=beta, lam=lam)
    _scale(policy, float(losses.rejected_gradient))
    return losses


def block_gradient(
    policy: NotaGen,
    chosen: Sequence[Tensor],
    rejected: Sequence[Tensor],
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    paired: Tensor | None = None,
    beta: float = 0.1,
    lam: float = 10.0,
    chunk: int = CHUNK,
) -> PairLosses:
    """Add the gradient of the mean loss of the pairs of some chosen and some rejected pieces.

    Every piece goes through the model twice, first without gradient; the number of pairs does not matter.

    Args:
        policy: The model. With dropout in training mode, the log-probabilities are computed without it.
        chosen: ``a`` pieces, ``(N, 16)`` int64 each.
        rejected: ``b`` pieces.
        reference_chosen: ``(a,)`` log-probabilities under the reference.
        reference_rejected: ``(b,)``.
        paired: ``(a, b)`` bool: which pieces form pairs, at least one of them; None: all.
        beta: As in :func:`notagen.dpo.loss.pair_losses`.
        lam: As there.
        chunk: As in :func:`notagen.dpo.log_probability.log_probability`.

    Returns:
        The losses ``(a, b)`` before the step, also those of pieces that form no pair.
    """
    values = reference_log_probabilities(policy, [*chosen, *rejected], chunk=chunk)
    losses = pair_losses(
        values[: len(chosen), None],
        values[None, len(chosen) :],
        reference_chosen[:, None],
        reference_rejected[None],
        beta=beta,
        lam=lam,
    )
    shares = torch.ones_like(losses.loss) if paired is None else paired.double()
    shares = shares / shares.sum()
    scales = ((losses.chosen_gradient * shares).sum(1), (losses.rejected_gradient * shares).sum(0))
    for piece, scale in zip([*chosen, *rejected], torch.cat(scales).tolist(), strict=True):
        add_gradient(policy, piece, scale, chunk=chunk)
    return losses


def _scale(policy: NotaGen, factor: float) -> None:
    for parameter in policy.parameters():
        if parameter.grad is not None:
            parameter.grad *= factor
