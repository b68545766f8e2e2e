"""OMAR-RQ as an encoder of MARBLE-like benchmarks: the hidden states of all layers from a waveform.

Such benchmarks expect ``(B, L, T, H)`` for a batch of clips, choose or average layers, pool over time, and train a
small head on the result. As they count, layer 0 is the input of the trunk, and layer ``i + 1`` the output of block
``i``.

Shape legend: B clips, n samples, L layers, T tokens, H width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from omar_rq.frontends import patchify
from omar_rq.model import OmarRQ
from omar_rq.signals import LayerIndexError, Signal, prepare_audio
from pentatonic.errors import UsageError

TimePool = Literal["none", "mean", "max", "first", "last"]


class MarbleEncoder(nn.Module):
    """Hidden states of a model, without gradients.

    Args:
        model: The model; it is put into evaluation mode.

    Attributes:
        sample_rate: Samples per second that :meth:`forward` expects.
        token_rate: Tokens per second.
        n_layers: L, blocks of the trunk and its input.
        width: H.
    """

    def __init__(self, model: OmarRQ) -> None:
        super().__init__()
        self.model = model.eval()
        self.sample_rate, self.token_rate = model.sample_rate, model.embedding_rate_hz
        self.n_layers, self.width = len(model.trunk.blocks) + 1, model.config.net.embed_dim

    @torch.no_grad()
    def forward(self, audio: Signal | Sequence[Signal], sample_rate: float | None = None) -> Tensor:
        """Return the hidden states of clips of equal length.

        Args:
            audio: ``(B, n)`` or ``(n,)`` mono floating samples, or a list of ``(n,)``.
            sample_rate: Of ``audio``, in Hz; others than the model's are resampled. ``None``: the model's.

        Returns:
            ``(B, L, T, H)`` float32: the embedded patches, then the output of each block.

        Raises:
            AudioError: The clips are empty, not finite, too short, or of the wrong shape or type.
            UsageError: Clips differ in length, or the sample rate is not positive.
        """
        model = self.model
        rows = prepare_audio(
            audio,
            sample_rate=model.sample_rate if sample_rate is None else sample_rate,
            model_rate=model.sample_rate,
            min_samples=model.frontend.min_samples,
            device=model.embed.weight.device,
        )
        if len({len(row) for row in rows}) > 1:
            raise UsageError("the clips differ in length; allowed: clips of one length in a batch")
        patches = patchify(model.frontend(pad_sequence(rows, batch_first=True)), model.patch_size)
        embedded = model.embed(patches.to(model.embed.weight.dtype))
        outputs = model.trunk(embedded, layers=range(self.n_layers - 1))[1]
        return torch.stack((embedded, *outputs), dim=1).float()


class LayerSelector(nn.Module):
    """One layer, the mean of several, or a mixture with learned weights: ``(B, L, T, H) -> (B, T, H)``.

    Args:
        n_layers: L.
        layers: Indices from 0, negative ones from the end; ``None``: all.
        learned: Whether the weights of the mixture are trained (a softmax, equal at first); otherwise a mean.

    Raises:
        LayerIndexError: A layer is out of range.
        UsageError: No layer is given.
    """

    def __init__(self, n_layers: int, layers: Sequence[int] | None = None, *, learned: bool = False) -> None:
        super().__init__()
        wanted = list(range(n_layers) if layers is None else layers)
        if not wanted:
            raise UsageError("layers is empty; allowed: at least one")
        for layer in wanted:
            if not -n_layers <= layer < n_layers:
                raise LayerIndexError(
                    f"layer {layer} of {n_layers}; allowed: {-n_layers} to {n_layers - 1}, 0 is the trunk's input"
                )
        self.layers = [layer % n_layers for layer in wanted]
        self.logits = nn.Parameter(torch.zeros(len(wanted)), requires_grad=learned)

    @property
    def weights(self) -> Tensor:
        """``(len(layers),)`` weights, which add up to 1."""
        return F.softmax(self.logits, dim=0)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """``(B, L, T, H) -> (B, T, H)``."""
        return torch.einsum("l,blth->bth", self.weights, hidden_states[:, self.layers])


def pool_time(hidden: Tensor, how: TimePool = "mean") -> Tensor:
    """Pool over the tokens.

    Args:
        hidden: ``(..., T, H)``.
        how: ``mean`` or ``max`` over the tokens, the ``first`` or the ``last`` token, or ``none``.

    Returns:
        ``(..., H)``; ``(..., T, H)`` with ``none``.

    Raises:
        UsageError: Another word.
    """
    match how:
        case "none":
            return hidden
        case "mean":
            return hidden.mean(-2)
        case "max":
            return hidden.amax(-2)
        case "first":
            return hidden[..., 0, :]
        case "last":
            return hidden[..., -1, :]
    raise UsageError(f"the time pool is {how!r}; allowed: {', '.join(get_args(TimePool))}")
