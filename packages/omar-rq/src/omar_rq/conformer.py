"""The conformer trunk of OMAR-RQ.

Sources: arXiv 2507.03482; conformer, arXiv 2005.08100; DeepNorm, arXiv 2203.00555.

Three things differ from the usual conformer. Attention is causal, while the depthwise convolution looks 15
tokens ahead. No norm precedes attention: the sum after it is normalised. The feed-forward branches are scaled
by 4.

Shape legend: B batch, N tokens, C width, H heads, D head width, K = 31 convolution taps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omar_rq.config import CONV_KERNEL_SIZE, ConformerConfig, TransformerConfig
from pentatonic.attention import Causal, KeyLengths, KVCache, Mask, Rope, attention
from pentatonic.rope import apply_rope, rope_table

# The norms inside the branches use this; the two norms on the residual stream use torch's default, 1e-5.
BRANCH_NORM_EPS = 6.1e-5
# Tokens on either side that the depthwise convolution reads.
CONV_CONTEXT = CONV_KERNEL_SIZE // 2


@dataclass(frozen=True)
class Rotary:
    """Rotary position code, interleaved pairs: ``cos`` and ``sin`` are ``(N, D/2)`` float32."""

    cos: Tensor
    sin: Tensor

    @property
    def rope(self) -> Rope:
        """The same code for :func:`pentatonic.attention.attention`."""
        return Rope(cos_sin=(self.cos, self.sin), style="interleaved")

    def __call__(self, x: Tensor) -> Tensor:
        """Rotate queries or keys ``(B, H, N, D)``; computed in float32, returned in the dtype of ``x``."""
        return apply_rope(x, self.cos, self.sin, style="interleaved")


@dataclass(frozen=True)
class Sinusoidal:
    """Position code that is added to queries and keys: ``table`` is ``(N, D)`` float32."""

    table: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Add the code to queries or keys ``(B, H, N, D)``, in their dtype."""
        return x + self.table.to(x.dtype)


PositionCode = Rotary | Sinusoidal


def sinusoidal_table(positions: Tensor, width: int) -> Tensor:
    """Return sines in even and cosines in odd columns, of ``n * 10000^(-2i/width)``.

    Args:
        positions: ``(N,)`` token positions.
        width: Even number of columns.

    Returns:
        ``(N, width)`` float32.
    """
    cos, sin = rope_table(positions, width)
    return torch.stack((sin, cos), dim=-1).flatten(-2)


class FeedForward(nn.Module):
    """``C -> mlp_ratio * C``, GELU, back to ``C``; dropout after both; with ``norm`` a LayerNorm before them."""

    def __init__(self, config: ConformerConfig | TransformerConfig, *, norm: bool) -> None:
        super().__init__()
        inner = int(config.embed_dim * config.mlp_ratio)
        self.norm = nn.LayerNorm(config.embed_dim, eps=BRANCH_NORM_EPS) if norm else nn.Identity()
        self.up = nn.Linear(config.embed_dim, inner)
        self.down = nn.Linear(inner, config.embed_dim)
        self.dropout = nn.Dropout(config.dropout)

    @torch.no_grad()
    def scale_init(self, beta: float) -> None:
        """Scale the initial weights by DeepNorm's beta."""
        self.up.weight.mul_(beta)
        self.down.weight.mul_(beta)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, N, C) -> (B, N, C)``."""
        return self.dropout(self.down(self.dropout(F.gelu(self.up(self.norm(x))))))


class SelfAttention(nn.Module):
    """Multi-head self-attention with a fused projection without bias."""

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)

    @torch.no_grad()
    def scale_init(self, beta: float) -> None:
        """Scale the initial value and output weights by DeepNorm's beta."""
        self.qkv.weight[2 * self.out.in_features :].mul_(beta)
        self.out.weight.mul_(beta)

    def project(self, x: Tensor, code: PositionCode | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values ``(B, H, N, D)`` of ``x`` ``(B, N, C)``, position code included."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return (q, k, v) if code is None else (code(q), code(k), v)

    def merge(self, heads: Tensor) -> Tensor:
        """Join the heads ``(B, H, N, D)`` and project: ``(B, N, C)``."""
        return self.out(heads.transpose(1, 2).flatten(2))

    def forward(
        self, x: Tensor, code: PositionCode | None, mask: Mask | None, cache: KVCache | None = None
    ) -> Tensor:
        """``(B, N, C) -> (B, N, C)``; with a cache, keys and values are appended to it (inference only)."""
        # A cache holds rotated keys; without one, attention kernels can rotate queries and keys as they load them.
        rope = code.rope if cache is None and isinstance(code, Rotary) else None
        q, k, v = self.project(x, code if rope is None else None)
        if cache is not None:
            k, v = cache.append(k, v)
        dropout_p = self.dropout if self.training else 0.0
        return self.merge(attention(q, k, v, mask=mask, rope=rope, dropout_p=dropout_p))


class Pointwise(nn.Conv1d):
    """A convolution with one tap, computed as a matrix product; checkpoints have its weight as ``(C_out, C_in, 1)``."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__(width_in, width_out, 1)

    def forward(self, input: Tensor) -> Tensor:
        """``(B, N, C_in) -> (B, N, C_out)``."""
        return F.linear(input, self.weight.squeeze(-1), self.bias)


class ConvModule(nn.Module):
    """Gated pointwise, depthwise and pointwise convolution over the tokens.

    ``gate`` is the part before the depthwise convolution, ``mix`` the rest, so that a streaming encoder can keep the
    gated tokens that later outputs still need.
    """

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        width = config.embed_dim
        self.norm = nn.LayerNorm(width, eps=BRANCH_NORM_EPS)
        self.pointwise_in = Pointwise(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, CONV_KERNEL_SIZE, groups=width)
        self.batch_norm = nn.BatchNorm1d(width, eps=BRANCH_NORM_EPS)
        self.pointwise_out = Pointwise(width, width)
        self.dropout = nn.Dropout(config.dropout)

    def gate(self, x: Tensor) -> Tensor:
        """Norm, pointwise and GLU, token by token: ``(B, N, C) -> (B, N, C)``."""
        return F.glu(self.pointwise_in(self.norm(x)), dim=-1)

    def mix(self, gated: Tensor, *, padding: int = 0) -> Tensor:
        """Depthwise, batch norm, GELU and pointwise.

        Args:
            gated: ``(B, N, C)`` output of :meth:`gate`.
            padding: Zero tokens added before and after; 15 keeps the length.

        Returns:
            ``(B, N + 2 * padding - 30, C)``.
        """
        x = _depthwise(self.depthwise, gated.transpose(1, 2), padding)
        return self.dropout(self.pointwise_out(F.gelu(self.batch_norm(x)).transpose(1, 2)))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, N, C) -> (B, N, C)``."""
        return self.mix(self.gate(x), padding=CONV_CONTEXT)


def _depthwise(conv: nn.Conv1d, x: Tensor, padding: int) -> Tensor:
    """``(B, C, N) -> (B, C, N + 2 * padding - 30)``."""
    weight, bias = conv.weight, conv.bias
    if x.dtype != torch.float16 or x.device.type != "cpu":
        return F.conv1d(x, weight, bias, padding=padding, groups=conv.groups)
    # On processors with AVX512-FP16 the kernel for float16 never returns for few channels (oneDNN in torch 2.11).
    bias = None if bias is None else bias.float()
    return F.conv1d(x.float(), weight.float(), bias, padding=padding, groups=conv.groups).half()


class ConformerBlock(nn.Module):
    """Feed-forward, attention, convolution, feed-forward, norm."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.residual_factor = config.mlp_residual_factor
        self.alpha = config.alpha_deepnorm if config.use_deepnorm else None
        self.ff1 = FeedForward(config, norm=True)
        self.attention = SelfAttention(config.embed_dim, config.num_heads, config.dropout)
        # Not used without DeepNorm, but released checkpoints have it in either case.
        self.norm_attention = nn.LayerNorm(config.embed_dim)
        self.conv = ConvModule(config)
        self.ff2 = FeedForward(config, norm=True)
        self.norm_out = nn.LayerNorm(config.embed_dim)
        for branch in (self.ff1, self.attention, self.ff2):
            branch.scale_init(config.beta_deepnorm)

    def forward(
        self,
        x: Tensor,
        code: PositionCode,
        mask: Mask | None,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Run the block.

        Args:
            x: ``(B, N, C)``.
            code: Position code of the N tokens.
            mask: Which keys a query attends to.
            valid: ``(B, N, 1)`` bool, false on padding, which must not enter the convolution.

        Returns:
            ``(B, N, C)``.
        """
        x = self.attend(x, code, mask)
        gated = self.conv.gate(x)
        if valid is not None:
            gated = gated.masked_fill(~valid, 0.0)
        return self.finish(x, self.conv.mix(gated, padding=CONV_CONTEXT))

    def attend(
        self, x: Tensor, code: PositionCode, mask: Mask | None, cache: KVCache | None = None
    ) -> Tensor:
        """Run the part before the convolution: with a causal mask, no token depends on a later one.

        Args:
            x: ``(B, N, C)``.
            code: Position code of the N tokens.
            mask: Which keys a query attends to.
            cache: Keys and values of earlier tokens; those of ``x`` are appended.

        Returns:
            ``(B, N, C)``.
        """
        x = x + self.residual_factor * self.ff1(x)
        attended = self.attention(x, code, mask, cache)
        return x + attended if self.alpha is None else self.norm_attention(self.alpha * x + attended)

    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Run the part after the convolution, token by token: output of :meth:`attend` and ``conv.mix``."""
        x = x + mixed
        x = x + self.residual_factor * self.ff2(x)
        return self.norm_out(x)


class Conformer(nn.Module):
    """A stack of conformer blocks; no norm at the end and no position table."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.config = config
        self.dropout = nn.Dropout(config.input_dropout)
        self.blocks = nn.ModuleList(ConformerBlock(config) for _ in range(config.depth))

    def position_code(self, positions: Tensor) -> PositionCode:
        """Return the position code of ``positions`` ``(N,)``, in float32; all blocks share it."""
        head_width = self.config.embed_dim // self.config.num_heads
        if self.config.rope_positions == "bf16":
            positions = positions.bfloat16()
        if self.config.use_rope:
            return Rotary(*rope_table(positions, head_width))
        return Sinusoidal(sinusoidal_table(positions, head_width))

    def forward(
        self, x: Tensor, *, layers: Sequence[int] | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Run the blocks up to the last requested one; later blocks would not change those outputs.

        Args:
            x: ``(B, N, C)`` embedded patches.
            layers: Indices of blocks, 0 to ``depth - 1``, at least one; ``None``: the last block.
            lengths: ``(B,)`` tokens per row, when rows are padded on the right. In evaluation mode each row
                then has the same result as alone; outputs on padding are to be ignored. In training mode batch
                norm includes the padding.

        Returns:
            The output of the last block that was run, and those of the requested blocks, ascending: ``(B, N, C)``.
        """
        wanted = {len(self.blocks) - 1} if layers is None else set(layers)
        tokens = torch.arange(x.shape[1], device=x.device)
        code = self.position_code(tokens)
        valid = None if lengths is None else (tokens < lengths.to(x.device)[:, None])[..., None]
        mask: Mask | None = Causal() if self.config.causal else None
        if (
            lengths is not None and not self.config.causal
        ):  # causal attention never reads padding on the right
            mask = KeyLengths(lengths.to(x.device))
        x, outputs = self.dropout(x), []
        for i, block in enumerate(self.blocks[: max(wanted) + 1]):
            x = block(x, code, mask, valid)
            if i in wanted:
                outputs.append(x)
        return x, outputs
