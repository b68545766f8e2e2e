"""The plain Transformer trunk of OMAR-RQ: learned position table, causal attention.

Source: arXiv 2507.03482 and its public configurations. Blocks are DeepNorm or norm-first; unlike
the usual norm-first block, the residual branch starts from the normalised value.

Shape legend: B batch, N tokens, C width, F values per frame, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omar_rq.config import TransformerConfig
from omar_rq.conformer import FeedForward, SelfAttention
from pentatonic.attention import Causal, KeyLengths, Mask


class TransformerBlock(nn.Module):
    """Attention and MLP, each with a norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.alpha = config.alpha_deepnorm if config.do_deepnorm else None
        self.norm_attention = nn.LayerNorm(config.embed_dim)
        self.attention = SelfAttention(config.embed_dim, config.num_heads, config.dropout)
        self.norm_mlp = nn.LayerNorm(config.embed_dim)
        self.mlp = FeedForward(config, norm=False)
        if config.do_deepnorm:
            for branch in (self.attention, self.mlp):
                branch.scale_init(config.beta_deepnorm)

    def forward(self, x: Tensor, mask: Mask | None) -> Tensor:
        """``(B, N, C) -> (B, N, C)``."""
        if self.alpha is None:
            x = self.norm_attention(x)
            x = x + self.attention(x, None, mask)
            x = self.norm_mlp(x)
            return x + self.mlp(x)
        x = self.norm_attention(self.alpha * x + self.attention(x, None, mask))
        return self.norm_mlp(self.alpha * x + self.mlp(x))


class Transformer(nn.Module):
    """A stack of Transformer blocks on top of a learned position table."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.embed_dim
        if config.do_vit_tokenization:
            self.patch_embed = nn.Conv2d(config.in_chans, width, config.patch_size, stride=config.patch_size)
        if config.do_classification:
            self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position_table = nn.Parameter(torch.zeros(1, config.num_patches, width))
        self.dropout = nn.Dropout(config.input_dropout)
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.depth))
        # Used by `classify` only, but released checkpoints always have them.
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.head_dims)

    def forward(
        self, x: Tensor, *, layers: Sequence[int] | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Run the blocks up to the last requested one; later blocks would not change those outputs.

        Args:
            x: ``(B, N, C)`` embedded patches; with ``do_vit_tokenization`` ``(B, F, T)`` or
                ``(B, in_chans, F, T)``.
            layers: Indices of blocks, 0 to ``depth - 1``, at least one; ``None``: the last block.
            lengths: ``(B,)`` tokens per row, without the class token, when rows are padded on the right; outputs
                on padding are to be ignored.

        Returns:
            The output of the last block that was run, and those of the requested blocks, ascending: ``(B, N, C)``,
            or ``(B, 1 + N, C)`` with a class token, which comes first.
        """
        wanted = {len(self.blocks) - 1} if layers is None else set(layers)
        x = self.dropout(self._with_positions(self._tokens(x)))
        mask: Mask | None = Causal() if self.config.causal else None
        if lengths is not None and not self.config.causal:
            mask = KeyLengths(lengths.to(x.device) + int(self.config.do_classification))
        outputs = []
        for i, block in enumerate(self.blocks[: max(wanted) + 1]):
            x = block(x, mask)
            if i in wanted:
                outputs.append(x)
        return x, outputs

    def classify(self, x: Tensor) -> Tensor:
        """Return the class scores ``(B, head_dims)`` of the last output ``(B, 1 + N, C)`` of :meth:`forward`.

        In a causal trunk the class token is the first, so it attends to no other token.
        """
        return self.head(self.norm(x)[:, 0])

    def _tokens(self, x: Tensor) -> Tensor:
        if self.config.do_vit_tokenization:
            image = x if x.dim() == 4 else x.unsqueeze(1)
            x = (
                self.patch_embed(image).flatten(2).transpose(1, 2)
            )  # patches ordered by frequency row, then time
        if self.config.do_classification:
            x = torch.cat((self.class_token.expand(len(x), -1, -1), x), dim=1)
        return x

    def _with_positions(self, x: Tensor) -> Tensor:
        """Add the table to the first ``num_patches`` tokens; later tokens get no position."""
        table = self.position_table[:, : x.shape[1]]
        return x + F.pad(table, (0, 0, 0, x.shape[1] - table.shape[1]))
