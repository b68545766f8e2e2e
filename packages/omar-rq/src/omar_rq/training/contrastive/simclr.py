"""SimCLR on two windows of a recording, with mixup of waveforms.

Shapes: B items, n samples, D width of the output.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from omar_rq.config import ModelConfig
from omar_rq.model import OmarRQ
from omar_rq.training.contrastive.losses import of_all_processes, simclr_logits, simclr_loss
from omar_rq.training.contrastive.options import SimclrConfig
from omar_rq.training.contrastive.pooling import ClassTokenEncoder, ClipEncoder
from pentatonic.training import StepContext


class SimCLR(nn.Module):
    """An encoder that learns to tell recordings apart by windows of them.

    Args:
        config: The model.
        options: The objective.
        encoder: Model to continue training; a new one by default. Not with a class token.

    Attributes:
        encoder: :class:`OmarRQ`, or :class:`ClassTokenEncoder`.

    Raises:
        ConfigError: The pool does not fit the trunk.

    Source: OMAR-RQ (arXiv 2507.03482); SimCLR (arXiv 2002.05709).
    """

    def __init__(self, config: ModelConfig, options: SimclrConfig, encoder: OmarRQ | None = None) -> None:
        super().__init__()
        self.options = options
        if options.pool == "class_token":
            clips = ClassTokenEncoder(config)
            self.encoder: OmarRQ | ClassTokenEncoder = clips
        else:
            self.encoder = OmarRQ(config) if encoder is None else encoder
            clips = ClipEncoder(self.encoder, options.pool)
        self._clips = [clips]  # in a list: its parameters are those of the encoder
        self.head = _head(clips.width, options.projection)

    def forward(self, views: Tensor, context: StepContext | None = None) -> dict[str, Tensor]:
        """Compare the views of all items, of all processes.

        Args:
            views: ``(B, 2, n)`` float32.
            context: Position in training; mixup draws from its generator. Without one, there is no mixup.

        Returns:
            ``loss``, and ``accuracy``: the share of views whose most similar other view is their partner.
        """
        if self.training and context is not None and self.options.mixup_alpha:
            generator = context.generator()
            views = torch.stack(
                [mixup(view, self.options.mixup_alpha, generator) for view in views.unbind(1)], dim=1
            )
        first, second = self.head(self._clips[0](views.transpose(0, 1).flatten(0, 1))).chunk(2)
        z = torch.cat((of_all_processes(first), of_all_processes(second)))
        loss, accuracy = simclr_loss(simclr_logits(z, self.options.temperature))
        return {"loss": loss, "accuracy": accuracy}


def mixup(audio: Tensor, alpha: float, generator: torch.Generator) -> Tensor:
    """Mix each waveform with another of the batch, of which less is heard.

    Args:
        audio: ``(B, n)``.
        alpha: The share is drawn from Beta(alpha, alpha), and its larger part kept.
        generator: On the CPU.

    Returns:
        ``(B, n)``.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    rng = np.random.default_rng(seed)
    share = rng.beta(alpha, alpha, len(audio))
    kept = torch.tensor(np.maximum(share, 1 - share), dtype=audio.dtype, device=audio.device)[:, None]
    order = torch.as_tensor(rng.permutation(len(audio)), device=audio.device)
    return kept * audio + (1 - kept) * audio[order]


def _head(width: int, projection: int) -> nn.Module:
    if not projection:
        return nn.Identity()
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projection))
