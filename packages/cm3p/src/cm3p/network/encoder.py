"""The ModernBERT encoder (Warner et al., arXiv 2412.13663), for padded and packed batches.

Names of modules are those of the released checkpoints. Shapes: tokens ``(…, h)`` as in :mod:`cm3p.network.layout`, H
heads, d head dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cm3p.configuration import EncoderFields
from cm3p.network.initialization import drawn
from cm3p.network.layout import Layout, Padded, layout_of
from pentatonic.attention.functional import rotate

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


@dataclass(frozen=True)
class Encoded:
    """What an encoder gives.

    Attributes:
        tokens: ``(…, h)`` tokens after the final norm.
        layout: Of the tokens.
        hidden_states: Tokens: the input of each layer, and what goes into the final norm; if asked for.
        attentions: ``(B, H, L, L)`` weights of each layer; if asked for.
    """

    tokens: Tensor
    layout: Layout
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


def norm(config: EncoderFields) -> nn.LayerNorm:
    """Build a LayerNorm of an encoder."""
    return nn.LayerNorm(config.hidden_size, eps=config.norm_eps, bias=config.norm_bias)


class Embeddings(nn.Module):
    """Token table, and the norm of what comes out of it or in its place."""

    def __init__(self, config: EncoderFields) -> None:
        super().__init__()
        table = nn.Embedding(config.vocab_size, config.hidden_size, getattr(config, "pad_token_id", None))
        self.tok_embeddings = drawn(table, config.initializer_range, config.initializer_cutoff_factor)
        self.norm = norm(config)
        self.drop = nn.Dropout(config.embedding_dropout)

    def forward(self, embeds: Tensor) -> Tensor:
        """Normalise embeddings ``(…, h)``."""
        return self.drop(self.norm(embeds))


class Attention(nn.Module):
    """Attention over all tokens of a sequence, or over a window."""

    def __init__(self, config: EncoderFields, layer: int) -> None:
        super().__init__()
        width, bias = config.hidden_size, config.attention_bias
        std, cutoff = config.initializer_range, config.initializer_cutoff_factor
        everywhere = layer % config.global_attn_every_n_layers == 0
        self.heads = config.num_attention_heads
        self.theta = config.global_rope_theta if everywhere else config.local_rope_theta
        self.side = None if everywhere else config.local_attention // 2
        self.dropout_p = config.attention_dropout
        self.Wqkv = drawn(nn.Linear(width, 3 * width, bias=bias), std, cutoff)
        self.Wo = drawn(nn.Linear(width, width, bias=bias), _residual_std(config), cutoff)
        self.out_drop = nn.Dropout(config.attention_dropout)

    def forward(self, x: Tensor, layout: Layout, with_weights: bool) -> tuple[Tensor, Tensor | None]:
        """Attend; returns ``(…, h)``, and the weights ``(B, H, L, L)`` if asked for."""
        q, k, v = self.Wqkv(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        dropout_p = self.dropout_p if self.training else 0.0
        if with_weights:
            assert isinstance(layout, Padded)
            o, weights = self._explicit(q, k, v, layout, dropout_p)
        else:
            o = layout.attend(q, k, v, theta=self.theta, side=self.side, dropout_p=dropout_p)
            weights = None
        return self.out_drop(self.Wo(o.flatten(-2))), weights

    def first(self, x: Tensor, layout: Layout) -> Tensor:
        """Attend from first positions to all tokens; ``(B, h)``. In evaluation mode."""
        width = x.shape[-1]
        # Queries are the first third of the matrix; keys and values are the rest.
        (q_weight, kv_weight), bias = self.Wqkv.weight.split((width, 2 * width)), self.Wqkv.bias
        q_bias, kv_bias = (None, None) if bias is None else bias.split((width, 2 * width))
        q = F.linear(layout.first(x), q_weight, q_bias).unflatten(-1, (self.heads, -1))
        k, v = F.linear(x, kv_weight, kv_bias).unflatten(-1, (2, self.heads, -1)).unbind(-3)
        return self.Wo(layout.attend_first(q, k, v, theta=self.theta).flatten(-2))

    def _explicit(
        self, q: Tensor, k: Tensor, v: Tensor, layout: Padded, dropout_p: float
    ) -> tuple[Tensor, Tensor]:
        """Attention by its definition, with the matrix of weights."""
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        cos, sin = layout.rope(self.theta, q).table(layout.positions, q)
        q, k = rotate(q, k, (cos, sin, False))
        scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
        scores = scores.masked_fill(~layout.visible(self.side), torch.finfo(scores.dtype).min)
        weights = F.dropout(scores.softmax(-1).to(q.dtype), dropout_p)
        return (weights @ v).transpose(1, 2), weights


class Mlp(nn.Module):
    """Gated MLP."""

    def __init__(self, config: EncoderFields) -> None:
        super().__init__()
        width, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        cutoff = config.initializer_cutoff_factor
        self.activation = ACTIVATIONS[config.hidden_activation]
        self.Wi = drawn(nn.Linear(width, 2 * inner, bias=bias), config.initializer_range, cutoff)
        self.Wo = drawn(nn.Linear(inner, width, bias=bias), _residual_std(config), cutoff)
        self.drop = nn.Dropout(config.mlp_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``(…, h)``."""
        a, gate = self.Wi(x).chunk(2, dim=-1)
        return self.Wo(self.drop(self.activation(a) * gate))


class EncoderLayer(nn.Module):
    """Attention and MLP, each after a norm and beside a residual."""

    def __init__(self, config: EncoderFields, layer: int) -> None:
        super().__init__()
        # The first layer's input comes from a norm.
        self.attn_norm = norm(config) if layer else nn.Identity()
        self.attn = Attention(config, layer)
        self.mlp_norm = norm(config)
        self.mlp = Mlp(config)

    def forward(self, x: Tensor, layout: Layout, with_weights: bool) -> tuple[Tensor, Tensor | None]:
        """Transform tokens ``(…, h)``; returns them, and the attention's weights if asked for."""
        attended, weights = self.attn(self.attn_norm(x), layout, with_weights)
        x = x + attended
        return x + self.mlp(self.mlp_norm(x)), weights

    def first(self, x: Tensor, layout: Layout) -> Tensor:
        """As :meth:`forward`, for the first position of each sequence alone; ``(B, h)``. In evaluation mode."""
        if self.attn.side is not None:  # nothing further is seen from there
            x, layout = layout.beginning(x, self.attn.side + 1)
        x, attended = layout.first(x), self.attn.first(self.attn_norm(x), layout)
        x = x + attended
        return x + self.mlp(self.mlp_norm(x))


class Encoder(nn.Module):
    """Layers between the norm of embeddings and a final norm.

    Args:
        config: Its configuration.

    Attributes:
        packing: Whether batches with padding are computed without it; results at valid tokens are the same.
        gradient_checkpointing: Whether training computes each layer again in the backward pass, to save memory;
            transformers sets it, together with the function that does so.
    """

    _gradient_checkpointing_func: Callable[..., tuple[Tensor, Tensor | None]]

    def __init__(self, config: EncoderFields) -> None:
        super().__init__()
        self.packing = True
        self.gradient_checkpointing = False
        self.dropout_p = config.attention_dropout
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(EncoderLayer(config, layer) for layer in range(config.num_hidden_layers))
        self.final_norm = norm(config)

    def layout(self, x: Tensor, mask: Tensor | None, *, with_weights: bool = False) -> Layout:
        """Layout of a batch ``(B, L, …)`` with a mask ``(B, L)``.

        Attention weights and their dropout are computed on padded batches only.
        """
        dropout = self.training and self.dropout_p > 0
        pack = self.packing and not with_weights and not dropout
        batch, length = x.shape[:2]
        return layout_of(mask, batch, length, x.device, pack=pack)

    def forward(
        self, embeds: Tensor, layout: Layout, *, hidden_states: bool = False, attentions: bool = False
    ) -> Encoded:
        """Encode.

        Args:
            embeds: ``(…, h)`` tokens, from the token table or in their place.
            layout: Of the tokens.
            hidden_states: Also return the input of each layer.
            attentions: Also return the attention weights.
        """
        x = self.embeddings(embeds)
        states: list[Tensor] = [x]
        weights: list[Tensor] = []
        for layer in self.layers:
            if self.gradient_checkpointing and self.training:
                x, layer_weights = self._gradient_checkpointing_func(layer.__call__, x, layout, attentions)
            else:
                x, layer_weights = layer(x, layout, attentions)
            if hidden_states:
                states.append(x)
            if layer_weights is not None:
                weights.append(layer_weights)
        return Encoded(
            self.final_norm(x),
            layout,
            tuple(states) if hidden_states else None,
            tuple(weights) if attentions else None,
        )

    def first(self, embeds: Tensor, layout: Layout) -> Tensor:
        """Encode as :meth:`forward`, and return the first position of each sequence alone: ``(B, h)``.

        The last layer leaves out what no pooled vector depends on. In evaluation mode.
        """
        x = self.embeddings(embeds)
        for layer in self.layers[:-1]:
            x, _ = layer(x, layout, False)
        last = cast(EncoderLayer, self.layers[-1])
        return self.final_norm(last.first(x, layout))


def _residual_std(config: EncoderFields) -> float:
    """Deviation of matrices that write to the residual stream."""
    return config.initializer_range / (2 * config.num_hidden_layers) ** 0.5
