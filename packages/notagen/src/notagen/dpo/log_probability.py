"""Log-probability of whole pieces, and its gradient with the memory of a few patches (CLaMP-DPO).

Shapes: N patches of a piece, S = 16 characters of a patch, C width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from notagen.codec import PAD, PATCH_SIZE
from notagen.model import NotaGen
from pentatonic.errors import UsageError

#: Target patches that the character decoder reads at a time, unless another number is given.
CHUNK = 256


def log_probability(model: NotaGen, patches: Tensor, *, chunk: int = CHUNK) -> Tensor:
    """Return the log-probability of a piece, given its first patch.

    Unlike :meth:`notagen.model.NotaGen.log_probabilities` it reads target patches of equal length together, so that no
    padding is computed.

    Args:
        model: The model; in training mode with its dropout.
        patches: ``(N, S)`` int64 in [0, 128), N at least 2.
        chunk: Most target patches that the character decoder reads at a time.

    Returns:
        Scalar float64 with gradient: the sum of the natural log-probabilities, each in float32, of all characters of
        patches 1 to N-1, ends of patches included, padding not.

    Raises:
        UsageError: The shape or ``chunk`` is out of range.
    """
    vectors, targets = _neighbours(model, patches)
    return torch.stack([_value(model, vectors, targets, rows) for rows in _chunks(targets, chunk)]).sum()


def add_gradient(model: NotaGen, patches: Tensor, coefficient: float, *, chunk: int = CHUNK) -> Tensor:
    """Add ``coefficient`` times the gradient of a log-probability to the gradients of the parameters.

    The activations of the character decoder, most of all, are held for one chunk at a time.

    Args:
        model: As for :func:`log_probability`; so are the other arguments and the errors.
        patches: The piece.
        coefficient: Factor of the gradient.
        chunk: Most target patches at a time.

    Returns:
        The log-probability, scalar float64 without gradient.
    """
    vectors, targets = _neighbours(model, patches)
    if not vectors.requires_grad:
        raise UsageError("the parameters of the model need no gradient; it cannot be trained")
    # Backward passes of the chunks end at the patch decoder, which gets the sum of their gradients afterwards.
    cut = vectors.detach().requires_grad_()
    total = vectors.new_zeros((), dtype=torch.float64)
    for rows in _chunks(targets, chunk):
        value = _value(model, cut, targets, rows)
        (coefficient * value).backward()
        total += value.detach()
    if cut.grad is not None:  # the same as vectors.backward(cut.grad), which would import sympy for seconds
        (vectors * cut.grad).sum().backward()
    return total


def reference_log_probabilities(model: NotaGen, pieces: Sequence[Tensor], *, chunk: int = CHUNK) -> Tensor:
    """Return the log-probabilities of pieces without dropout and without gradient.

    Args:
        model: The model, which comes back in the mode that it was in. It should be the one that is trained, before its
            first step: another precision or attention kernel gives other roundings, which count as penalty.
        pieces: ``(N, S)`` int64 each.
        chunk: As for :func:`log_probability`.

    Returns:
        ``(pieces,)`` float64 on the CPU.
    """
    training = model.training
    model.eval()
    try:
        values = [_sum(model, piece, chunk) for piece in pieces]
    finally:
        model.train(training)
    return torch.tensor(values, dtype=torch.float64)


def _sum(model: NotaGen, patches: Tensor, chunk: int) -> float:
    """Return a log-probability, computed with the very operations of :func:`add_gradient`.

    Gradients stay enabled, because without them torch computes some products in another order.
    """
    vectors, targets = _neighbours(model, patches)
    cut = vectors.detach().requires_grad_()
    total = vectors.new_zeros((), dtype=torch.float64)
    for rows in _chunks(targets, chunk):
        total += _value(model, cut, targets, rows).detach()
    return float(total)


def _neighbours(model: NotaGen, patches: Tensor) -> tuple[Tensor, Tensor]:
    """Return the vector ``(N-1, C)`` of each patch that has a next one, and that next patch ``(N-1, S)``."""
    if patches.dim() != 2 or patches.shape[1] != PATCH_SIZE or len(patches) < 2:
        raise UsageError(
            f"patches must be (N, {PATCH_SIZE}) with N of at least 2, got {tuple(patches.shape)}"
        )
    patches = patches.to(model.device)
    return model.patch_decoder(patches[None, :-1])[0], patches[1:]


def _chunks(targets: Tensor, chunk: int) -> Iterator[Tensor]:
    """Yield the places of target patches of equal length, at most ``chunk`` at a time."""
    if chunk < 1:
        raise UsageError(f"chunk must be at least 1, got {chunk}")
    lengths = (targets != PAD).sum(1)
    for length in lengths.unique().tolist():
        if length:
            yield from (lengths == length).nonzero()[:, 0].split(chunk)


def _value(model: NotaGen, vectors: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
    """Return the summed log-probability of target patches of equal length, in float64.

    A float32 of some thousand nats has steps of 2e-4, which would count as penalty.
    """
    read = targets[rows]
    read = read[:, : int((read[0] != PAD).sum())]
    logits = model.char_decoder(vectors[rows], read[:, :-1]).float()
    return -F.cross_entropy(logits.flatten(0, 1), read.flatten(), reduction="none").sum(dtype=torch.float64)
