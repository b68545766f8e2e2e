"""The training task: predict every character of each patch from the patches before it (NotaGen, arXiv 2502.18008).

Shapes: B pieces, N patches, S = 16 characters of a patch, M target patches, C width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from notagen.codec import PAD
from notagen.model import Block, NotaGen, NotaGenConfig, SelfAttention
from notagen.training.data import Group
from pentatonic.training import StepContext


class NotaGenTraining(NotaGen):
    """The language model with a forward pass that is its loss; the tensors are those of :class:`NotaGen`.

    Padding is not computed: pieces come in groups of similar length, and the character decoder reads target patches of
    equal length together. Every character of the batch counts the same, over all processes too; with gradient
    accumulation every micro-batch counts the same.

    Args:
        config: Sizes.
        sampled_patches: Most target patches that are counted in a batch, a random subset, which bounds the memory of
            the character decoder; 0: all.
        checkpoint_blocks: Compute the blocks again in the backward pass instead of keeping what is in them.
    """

    def __init__(
        self, config: NotaGenConfig, *, sampled_patches: int = 0, checkpoint_blocks: bool = False
    ) -> None:
        super().__init__(config)
        self.sampled_patches = sampled_patches
        # Methods are replaced on the instances, so that the names of the tensors stay.
        for module in self.char_decoder.modules():
            if isinstance(module, SelfAttention):
                forward = partial(_attend_briefly, module.forward)
                module.forward = forward  # pyright: ignore[reportAttributeAccessIssue]
        for module in self.modules() if checkpoint_blocks else ():
            if isinstance(module, Block):
                forward = partial(checkpoint, module.forward, use_reentrant=False)
                module.forward = forward  # pyright: ignore[reportAttributeAccessIssue]

    def forward(self, batch: Sequence[Group], context: StepContext | None = None) -> dict[str, Tensor]:
        """Return the loss of a batch.

        Args:
            batch: Groups of patches ``(B, N, S)`` int64 and mask ``(B, N)`` bool, from
            :func:`notagen.training.data.collate`.
            context: Source of the random subset of patches; without one it is the global generator.

        Returns:
            Scalars: ``loss``, the mean cross-entropy in nats over all characters that are not padding, and
            ``characters``, how many there are in this process.
        """
        pairs = [self._neighbours(patches, mask) for patches, mask in batch]
        vectors = torch.cat([vectors for vectors, _ in pairs])
        targets = torch.cat([targets for _, targets in pairs])
        if 0 < self.sampled_patches < len(targets):
            generator = None if context is None else context.generator()
            chosen = torch.randperm(len(targets), generator=generator)[: self.sampled_patches]
            vectors, targets = vectors[chosen.to(targets.device)], targets[chosen.to(targets.device)]
        total, count = self._sum(vectors, targets)
        weight = torch.tensor(float(count), device=total.device)
        share = weight
        if self.training and distributed.is_available() and distributed.is_initialized():
            # Gradients are averaged over the processes, so each one's sum is divided by the mean count.
            share = weight.clone()
            distributed.all_reduce(share)
            share = share / distributed.get_world_size()
        return {"loss": total / share, "characters": weight}

    def _neighbours(self, patches: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vector ``(M, C)`` of each patch that has a next one, and that next patch ``(M, S)``."""
        real = mask[:, 1:]
        return self.patch_decoder(patches[:, :-1])[real], patches[:, 1:][real]

    def _sum(self, vectors: Tensor, targets: Tensor) -> tuple[Tensor, int]:
        """Return the summed cross-entropy of target patches, and the number of their characters."""
        lengths = (targets != PAD).sum(1)
        total, count = vectors.new_zeros((), dtype=torch.float32), 0
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero()[:, 0]
            read = targets[rows, :length]
            logits = self.char_decoder(vectors[rows], read[:, :-1]).float()
            total = total + F.cross_entropy(logits.flatten(0, 1), read.flatten(), reduction="sum")
            count += read.numel()
        return total, count


def _attend_briefly(attend: Callable[..., Tensor], x: Tensor, *args: Any) -> Tensor:
    """Attend over the characters of a patch; for so few the fused backward pass of CPUs takes three times as long."""
    with sdpa_kernel(SDPBackend.MATH) if x.device.type == "cpu" else nullcontext():
        return attend(x, *args)
