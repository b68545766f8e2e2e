"""The tensors of a case and what can be said of it without computing it.

Shapes: B batch, H heads, Nq queries, N keys, D head dimension. Padded tensors are ``(B, H, N, D)``, packed ones
``(total, H, D)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from attention_matrix.cases import Case
from pentatonic.attention import Alibi1D, Alibi2D, Bias, Causal, Mask, Rope, SlidingWindow, alibi_slopes
from pentatonic.rope import RopeStyle, apply_rope, rope_table

FREQUENCY_ROWS = 8


Forward = Callable[[], Tensor]


class Unsuitable(Exception):
    """This opponent cannot express the problem."""


@dataclass(eq=False)
class Problem:
    """A case on a device, the same tensors for every opponent.

    Attributes:
        case: What to compute.
        device: Where.
        flex_mode: How FlexAttention is compiled; ``"eager"`` leaves it uncompiled.
    """

    case: Case
    device: torch.device
    flex_mode: str
    q: Tensor = field(init=False)
    k: Tensor = field(init=False)
    v: Tensor = field(init=False)
    slope: Tensor = field(init=False)
    coords: Tensor | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        case, device = self.case, self.device
        generator = torch.Generator(device).manual_seed(0)
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32

        def normal(tokens: int) -> Tensor:
            packed = case.longest is not None
            shape = (tokens, case.heads, case.dim) if packed else (case.batch, case.heads, tokens, case.dim)
            return torch.randn(shape, generator=generator, device=device).to(dtype)

        self.q, self.k, self.v = normal(self.n_q) * case.score_std, normal(case.tokens), normal(case.tokens)
        self.slope = alibi_slopes(case.heads, case.slopes).to(device)
        if case.bias == "alibi2d":
            self.coords = self._grid(generator)
        self.grad = normal(self.n_q)
        for tensor in self.inputs:
            tensor.requires_grad_(case.backward)

    @property
    def n_q(self) -> int:
        """Queries: one while decoding, else as many as tokens."""
        return 1 if self.case.decode else self.case.tokens

    @property
    def inputs(self) -> list[Tensor]:
        """What gradients are taken of."""
        return [self.q, self.k, self.v, *([self.slope] if self.case.learned else [])]

    def _grid(self, generator: torch.Generator) -> Tensor:
        """(time, frequency) of each token, sorted by time, with an unused slot for CLS: (N, 2) or (B, N, 2)."""
        case = self.case
        patches = torch.arange((case.grid or case.tokens) - 1, device=self.device)
        if case.grid is not None:
            order = torch.rand(case.batch, len(patches), generator=generator, device=self.device).argsort(-1)
            patches = order[:, : case.tokens - 1].sort(-1).values
        coords = torch.stack((patches // FREQUENCY_ROWS, patches % FREQUENCY_ROWS), dim=-1).int()
        return torch.cat((torch.zeros_like(coords[..., :1, :]), coords), dim=-2)

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each sequence: log-uniform from 32 to the longest, in a random order."""
        case = self.case
        if case.longest is None:
            return [case.tokens]
        generator, lengths = torch.Generator().manual_seed(0), []
        while (left := case.tokens - sum(lengths)) > 0:
            share = float(torch.rand((), generator=generator))
            lengths.append(min(left, round(32 * (case.longest / 32) ** share)))
        return lengths

    @cached_property
    def cu_seqlens(self) -> Tensor:
        """Bounds of the sequences (S + 1,) int32."""
        return torch.tensor([0, *self.lengths]).cumsum(0).to(self.device, torch.int32)

    @cached_property
    def visible(self) -> tuple[Tensor, Tensor]:
        """First and last key that each query sees, both (Nq,) int32."""
        case, device = self.case, self.device
        if case.decode:
            zero = torch.zeros(1, dtype=torch.int32, device=device)
            return zero, zero + case.tokens - 1
        rows = torch.arange(case.tokens, dtype=torch.int32, device=device)
        lengths = self.cu_seqlens.diff()
        first = self.cu_seqlens[:-1].repeat_interleave(lengths)
        last = self.cu_seqlens[1:].repeat_interleave(lengths) - 1
        if case.window is not None:
            first, last = torch.maximum(first, rows - case.window), torch.minimum(last, rows + case.window)
        return first, torch.minimum(last, rows) if case.causal else last

    @cached_property
    def sees_all(self) -> bool:
        """Whether every query sees every key."""
        first, last = self.visible
        return bool((first == 0).all() and (last == self.case.tokens - 1).all())

    @cached_property
    def forward_flops(self) -> float:
        """4 D for each visible score; a causal bound halves N^2, as in the literature."""
        case = self.case
        first, last = self.visible
        scores = case.tokens**2 / 2 if case.causal else float((last - first + 1).sum(dtype=torch.float64))
        return 4 * case.batch * case.heads * case.dim * scores

    @cached_property
    def table(self) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines (N, D/2), shared by all, as layers of a model would."""
        if self.case.rope is None:
            return None
        positions = torch.cat([torch.arange(n, device=self.device) for n in self.lengths])
        return rope_table(positions, self.case.dim, self.case.rope[0])

    @property
    def bias(self) -> Bias | None:
        """The bias as ours takes it."""
        if self.case.bias == "alibi1d":
            return Alibi1D(self.slope)
        return None if self.coords is None else Alibi2D(self.coords, self.slope, self.slope)

    @property
    def mask(self) -> Mask | None:
        """The mask as ours takes it, within each sequence."""
        if self.case.causal:
            return Causal()
        return None if self.case.window is None else SlidingWindow(self.case.window, self.case.window)

    @property
    def rope(self) -> Rope | None:
        """The rotation as ours takes it."""
        return None if self.table is None else Rope(cos_sin=self.table, style=self.rope_style)

    @property
    def rope_style(self) -> RopeStyle:
        """Which entries of a head form a pair, if there is a rope."""
        return "half" if self.case.rope is None else self.case.rope[1]

    def rotated(self) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Rope as a step of its own, for those who cannot fuse it: q and k in the layout of the problem."""
        if self.table is None:
            return lambda q, k: (q, k)
        style, (cos, sin) = self.rope_style, self.table
        if self.case.longest is not None:
            cos, sin = cos[:, None], sin[:, None]

        def rotate(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
            return apply_rope(q, cos, sin, style=style), apply_rope(k, cos, sin, style=style)

        compiled = self.device.type == "cuda" and self.flex_mode != "eager"
        return torch.compile(rotate, dynamic=False) if compiled else rotate

    @torch.no_grad()
    def build_bias(self) -> Tensor:
        """The bias as a matrix (1 or B, H, N, N) like q; rows are padded to 16 entries, as fused kernels want them."""
        case, n = self.case, self.case.tokens
        if self.coords is None:
            axes = [torch.arange(n, device=self.device, dtype=torch.float32)[None]]
        else:
            coords = self.coords if self.coords.dim() == 3 else self.coords[None]
            axes = list(coords.float().unbind(-1))
        matrix = self.q.new_empty(len(axes[0]), case.heads, n, n + -n % 16)[..., :n]
        for sample, of_sample in enumerate(matrix):
            distance = (axes[0][sample, :, None] - axes[0][sample]).abs_()
            for axis in axes[1:]:
                distance += (axis[sample, :, None] - axis[sample]).abs_()
            if case.bias == "alibi2d":
                distance[0] = distance[:, 0] = 0.0
            torch.mul(distance, -self.slope.detach()[:, None, None], out=of_sample)
        return matrix

    @torch.no_grad()
    def write_bias(self) -> Tensor:
        """The same matrix from the formula as a model writes it down, one term after the other, CLS by padding."""
        axes = list(self.coords[..., 1:, :].float().movedim(-1, 0)) if self.coords is not None else None
        if axes is None or self.case.bias != "alibi2d":
            raise Unsuitable("only the two-dimensional bias is written out")
        slope = self.slope.detach()[:, None, None]
        time, frequency = (axis[None] if axis.dim() == 1 else axis[:, None] for axis in axes)
        matrix = -(
            slope * (time[..., :, None] - time[..., None, :]).abs()
            + slope * (frequency[..., :, None] - frequency[..., None, :]).abs()
        )
        return torch.nn.functional.pad(matrix[None] if matrix.dim() == 3 else matrix, (1, 0, 1, 0)).to(
            self.q.dtype
        )

    @cached_property
    def ready_bias(self) -> Tensor:
        """The bias matrix, built once for all who take one ready."""
        return self.build_bias()
