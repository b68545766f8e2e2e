"""From the tokens of a clip to one vector.

Shapes: B clips, n samples, L layers, N tokens, C width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from omar_rq.config import ModelConfig, TransformerConfig
from omar_rq.frontends import build_frontend, patchify
from omar_rq.model import OmarRQ
from omar_rq.transformer import Transformer
from pentatonic.errors import ConfigError


class ClipEncoder(nn.Module):
    """A model whose last layer is pooled over time: ``(B, n) -> (B, C)``.

    Args:
        encoder: The model.
        pool: ``mean``, or the ``last`` token.
    """

    def __init__(self, encoder: OmarRQ, pool: str) -> None:
        super().__init__()
        self.encoder, self.pool = encoder, pool
        self.width = encoder.config.net.embed_dim

    def forward(self, audio: Tensor) -> Tensor:
        """``(B, n) -> (B, C)``."""
        with torch.no_grad():  # front ends have no parameters
            patches = patchify(self.encoder.frontend(audio), self.encoder.patch_size)
        hidden, _ = self.encoder.trunk(self.encoder.embed(patches))
        return hidden.mean(1) if self.pool == "mean" else hidden[:, -1]


class ClassTokenEncoder(nn.Module):
    """A Transformer with a class token, and its head: ``(B, n) -> (B, head_dims)``.

    Not an :class:`OmarRQ`, which has one output per token; it is trained and saved, but ``from_pretrained`` does not
    load it.

    Args:
        config: A Transformer with ``do_classification`` that attends in both directions.

    Raises:
        ConfigError: The trunk is another one.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        net = config.net
        if not isinstance(net, TransformerConfig) or not net.do_classification or net.do_vit_tokenization:
            raise ConfigError(
                "objective.simclr.pool=class_token needs net.name=transformer with net.do_classification=true"
            )
        if net.causal:
            raise ConfigError(
                "net.causal is true: a class token comes first, and would attend to no other; set net.causal=false"
            )
        self.config = config
        self.frontend = build_frontend(config.input)
        self.embed = nn.Linear(config.patch_dim, net.embed_dim)
        self.trunk = Transformer(net)
        self.width = net.head_dims

    def forward(self, audio: Tensor) -> Tensor:
        """``(B, n) -> (B, head_dims)``."""
        with torch.no_grad():
            patches = patchify(self.frontend(audio), self.config.input.patch_size)
        return self.trunk.classify(self.trunk(self.embed(patches))[0])


class LayerMix(nn.Module):
    """A mixture of layers with learned weights, equal at first: L times ``(B, N, C)`` to ``(B, N, C)``."""

    def __init__(self, n_layers: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_layers))

    def forward(self, layers: list[Tensor]) -> Tensor:
        """Mix the layers, which are normalised first, so that a weight does not depend on their scale."""
        weights = self.logits.softmax(0)
        mixed = torch.zeros_like(layers[0])
        for weight, layer in zip(weights, layers, strict=True):
            mixed = mixed + weight * nn.functional.layer_norm(layer, layer.shape[-1:])
        return mixed


class AttentionPool(nn.Module):
    """Attention with one learned query over the tokens: ``(B, N, C) -> (B, C)``.

    Args:
        width: C.
        heads: Heads; they divide C.

    Raises:
        ConfigError: They do not.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(f"pool_heads is {heads}; allowed: a number that divides the width, {width}")
        self.query = nn.Parameter(torch.randn(1, 1, width) * width**-0.5)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        """``(B, N, C) -> (B, C)``."""
        query = self.query.expand(len(tokens), -1, -1)
        return self.attention(query, tokens, tokens, need_weights=False)[0][:, 0]
