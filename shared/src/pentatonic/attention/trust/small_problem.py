"""A small problem with the options of a kernel variant, solved by the kernels and by the reference.

Shapes: B batch, H heads, N tokens, D head dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from pentatonic.attention.descriptors import Alibi1D, Alibi2D, Bias, Directional, KeyBias, Raw, Visibility
from pentatonic.attention.ops import lowered_attention
from pentatonic.attention.reference import reference_attention
from pentatonic.attention.trust.variant import Variant
from pentatonic.rope import RopeStyle, apply_rope, rope_table

# The largest tiles have 128 tokens: these make a first tile, a full one and one that ends inside.
TOKENS, CACHED_TOKENS, QUERIES = 300, 600, 5
PACKED_LENGTHS = (200, 0, 131, 1)
HEADS, LEFT, RIGHT = 2, 40, 24
# Gradients through a single key are 0 but for rounding: errors are never relative to less than this.
SMALLEST = 1e-2


class SmallProblem:
    """Random tensors with the options of a variant, on which kernels and reference compute the same.

    Args:
        variant: The options.
        device: Of the tensors.
        tokens: Queries and keys of a padded problem; ``None``: enough for every kind of tile.
    """

    def __init__(self, variant: Variant, device: torch.device, tokens: int | None = None) -> None:
        self.variant = variant
        tokens = TOKENS if tokens is None else tokens
        random = torch.Generator().manual_seed(0)
        lengths_k = PACKED_LENGTHS
        if variant.packed == "apart":
            lengths_k = tuple(n + 9 * (n > 1) for n in PACKED_LENGTHS)
        total_k = sum(lengths_k) if variant.packed else CACHED_TOKENS if variant.few_queries else tokens
        total_q = sum(PACKED_LENGTHS) if variant.packed else QUERIES if variant.few_queries else tokens
        batch = 1 if variant.packed else 2

        def tokens_first(n: int) -> Tensor:
            x = torch.randn(batch, n, HEADS, variant.head_dim, generator=random)
            return x.to(device, variant.dtype).transpose(1, 2)

        self.q, self.k, self.v, self.grad_o = (tokens_first(n) for n in (total_q, total_k, total_k, total_q))
        self.grad_lse = torch.randn(batch, HEADS, total_q, generator=random).to(device)
        numbers = torch.arange(total_k)
        self.coords = torch.stack((numbers // 4, numbers % 4), dim=-1).to(device)
        steepness = 0.05 if not variant.tolerance else 3.0
        self.weights = (steepness * (0.5 + torch.rand(2, HEADS, generator=random))).to(device)
        self.vec = torch.randn(HEADS, total_k, generator=random).to(device)
        self.scale = (-1 if variant.negative_scale else 1) * variant.head_dim**-0.5
        self.cu_q, self.cu_k = (
            torch.tensor([0, *n]).cumsum(0).int().to(device) for n in (PACKED_LENGTHS, lengths_k)
        )
        if variant.packed == "same":
            self.cu_k = self.cu_q
        self.kv_len: Tensor | None = None
        if variant.lengths:
            longest = torch.tensor(lengths_k if variant.packed else (total_k, total_k))
            self.kv_len = (longest - torch.tensor([0, 70, 50, 1])[: len(longest)]).clamp(min=0).to(device)
        self.left = LEFT if variant.left else None
        causal = variant.few_queries or not variant.left
        self.right = None if not variant.right else 0 if causal else RIGHT

    def errors(self) -> dict[str, float]:
        """Largest error of each result of the kernels, relative to its largest value in the reference."""
        got, truth = self.by_kernels(), self.by_reference()
        return {
            name: float((got[name].double() - x).abs().max()) / max(float(x.abs().max()), SMALLEST)
            for name, x in truth.items()
        }

    def by_kernels(self) -> dict[str, Tensor]:
        """Outputs and gradients from one call of the kernels."""
        variant = self.variant
        rope = None
        if variant.rope:
            rope = (*self._table(), variant.rope == "interleaved")

        def run(q: Tensor, k: Tensor, v: Tensor, weights: Tensor, vec: Tensor) -> tuple[Tensor, Tensor]:
            return lowered_attention(
                q,
                k,
                v,
                bias=self._bias(weights, vec, slice(None)),
                visibility=Visibility(self.left, self.right, self.kv_len),
                scale=self.scale,
                backend="triton",
                rope=rope,
                tolerance=1e-6 if variant.tolerance else None,
                packed=(self.cu_q, self.cu_k) if variant.packed else None,
                aligned=variant.aligned,
            )

        return self._results(run, None)

    def by_reference(self) -> dict[str, Tensor]:
        """The same in float64, one sample or packed sequence after the other."""

        def run(q: Tensor, k: Tensor, v: Tensor, weights: Tensor, vec: Tensor) -> tuple[Tensor, Tensor]:
            o, lse = torch.empty_like(q), q.new_empty(q.shape[:-1])
            for sample, rows, keys, kv_len in self._pieces():
                cut = (q[sample, :, rows], k[sample, :, keys], v[sample, :, keys])
                o_piece, lse_piece = reference_attention(
                    *self._rotated(*cut, keys),
                    bias=self._bias(weights, vec, keys),
                    visibility=Visibility(self.left, self.right, kv_len),
                    scale=self.scale,
                )
                o[sample, :, rows], lse[sample, :, rows] = o_piece, lse_piece
            return o, lse

        return self._results(run, torch.float64)

    def _pieces(self) -> list[tuple[slice, slice, slice, Tensor | None]]:
        """Sample, rows, keys and key length of each sequence."""
        lengths = None if self.kv_len is None else list(self.kv_len.split(1))
        everything = slice(None)
        if not self.variant.packed:
            samples = [slice(b, b + 1) for b in range(self.q.shape[0])]
            if lengths is None:
                return [(sample, everything, everything, None) for sample in samples]
            if self.variant.aligned:
                ends = (int(n) for n in lengths)
                return [
                    (sample, everything, slice(0, n), None) for sample, n in zip(samples, ends, strict=True)
                ]
            return [(sample, everything, everything, n) for sample, n in zip(samples, lengths, strict=True)]
        rows, keys = ([slice(*pair) for pair in pairwise(cu.tolist())] for cu in (self.cu_q, self.cu_k))
        kv_lens = [None] * len(rows) if lengths is None else lengths
        return [
            (slice(0, 1), *sequence)
            for sequence in zip(rows, keys, kv_lens, strict=True)
            if sequence[0].start < sequence[0].stop
        ]

    def _results(
        self, run: Callable[..., tuple[Tensor, Tensor]], dtype: torch.dtype | None
    ) -> dict[str, Tensor]:
        """Output, log-sum-exp and the gradients that the variant asks for."""
        inputs = {"q": self.q, "k": self.k, "v": self.v, "weights": self.weights, "vec": self.vec}
        wanted = [name for name in ("q", "k", "v") if self.variant.gradients]
        if self.variant.gradients == "all":
            wanted.append("weights")
        if self.variant.gradients and self.variant.bias == "KeyBias":
            wanted.append("vec")
        leaves = {name: x.detach().to(dtype or x.dtype) for name, x in inputs.items()}
        for name in wanted:
            leaves[name].requires_grad_()
        o, lse = run(*leaves.values())
        results = {"the output": o, "the log-sum-exp": lse.nan_to_num(neginf=0.0)}
        if wanted:
            outputs, upstream = [o], [self.grad_o.to(o.dtype)]
            if self.variant.lse:
                outputs, upstream = [o, lse], [*upstream, self.grad_lse.to(lse.dtype)]
            grads = torch.autograd.grad(outputs, [leaves[name] for name in wanted], upstream)
            results |= {f"the gradient of {name}": x for name, x in zip(wanted, grads, strict=True)}
        return {name: x.detach() for name, x in results.items()}

    def _bias(self, weights: Tensor, vec: Tensor, keys: slice) -> Bias | None:
        kind, cls_tokens = self.variant.bias, self.variant.cls_tokens
        one, two = weights
        signed = kind.endswith("signed")
        match kind.removesuffix(" signed"):
            case "Alibi1D":
                return Alibi1D(one, self.coords[keys, 0], cls_tokens)
            case "Alibi2D":
                return Alibi2D(self.coords[keys], one, two, cls_tokens)
            case "Directional":
                return Directional(self.coords[keys], -one, -two, signed, cls_tokens)
            case "Raw":
                return Raw(self.coords[keys] % 3, signed, cls_tokens)
            case "KeyBias":
                return KeyBias(vec[:, keys], cls_tokens)
        return None

    def _table(self) -> tuple[Tensor, Tensor]:
        positions = torch.arange(self.k.shape[2], device=self.k.device)
        return rope_table(positions, self.variant.rotary_dim, 100.0)

    def _rotated(self, q: Tensor, k: Tensor, v: Tensor, keys: slice) -> tuple[Tensor, Tensor, Tensor]:
        if not self.variant.rope:
            return q, k, v
        style: RopeStyle = "interleaved" if self.variant.rope == "interleaved" else "half"
        cos, sin = (x[keys].double() for x in self._table())
        skip = k.shape[2] - q.shape[2]
        return apply_rope(q, cos[skip:], sin[skip:], style=style), apply_rope(k, cos, sin, style=style), v
