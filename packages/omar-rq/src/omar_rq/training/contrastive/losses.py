"""Contrastive losses, in float32.

Shapes: B pairs, D width.
"""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from pentatonic.training.gather import gathered


def simclr_logits(z: Tensor, temperature: float) -> Tensor:
    """Return similarities of each view to all others, its partner first: ``(2B, 2B - 1)``.

    Args:
        z: ``(2B, D)``: the first views of all items, then the second ones.
        temperature: Divides the cosines.

    Source: SimCLR (arXiv 2002.05709); order of the columns as in OMAR-RQ.
    """
    z = F.normalize(z.float(), dim=1)
    cosines, rows = z @ z.T, torch.arange(len(z), device=z.device)
    partners = (rows + len(z) // 2) % len(z)
    others = (rows[:, None] != rows) & (partners[:, None] != rows)
    negatives = cosines[others].view(len(z), len(z) - 2)
    return torch.cat((cosines[rows, partners][:, None], negatives), dim=1) / temperature


def simclr_loss(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropy and the share of views that find their partner, from :func:`simclr_logits`."""
    first = logits.new_zeros(len(logits), dtype=torch.long)
    return F.cross_entropy(logits, first), (logits.argmax(1) == 0).float().mean()


def symmetric_info_nce(audio: Tensor, text: Tensor, temperature: Tensor | float) -> dict[str, Tensor]:
    """Compare recordings with texts, row by row; all other rows are negatives.

    Args:
        audio: ``(B, D)``.
        text: ``(B, D)``; row i belongs to row i of ``audio``.
        temperature: Divides the cosines.

    Returns:
        ``loss``, the mean of both directions, and ``accuracy/audio_to_text``, ``accuracy/text_to_audio``.

    Source: CLIP (arXiv 2103.00020), for audio CLAP (arXiv 2206.04769).
    """
    cosines = F.normalize(audio.float(), dim=1) @ F.normalize(text.float(), dim=1).T
    logits, right = cosines / temperature, torch.arange(len(audio), device=audio.device)
    loss = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
    return {
        "loss": loss,
        "accuracy/audio_to_text": (logits.argmax(1) == right).float().mean(),
        "accuracy/text_to_audio": (logits.argmax(0) == right).float().mean(),
    }


class LearnedTemperature(nn.Module):
    """A temperature that is trained as a logarithm, and kept between 0.01 and 1."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(math.log(start)))

    def forward(self) -> Tensor:
        """Return the temperature, a scalar."""
        return self.log.clamp(math.log(0.01), 0.0).exp()


def of_all_processes(x: Tensor) -> Tensor:
    """Concatenate the rows of all processes of a distributed job; alone, return them as they are."""
    return gathered(x) if dist.is_initialized() and dist.get_world_size() > 1 else x
