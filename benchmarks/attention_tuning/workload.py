"""A kernel launch described by options, which the offline compiler compiles and the tuner times.

Shapes: B batch, H heads, Nq queries, Nk keys, D head dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pentatonic.attention.descriptors import Alibi1D, Alibi2D, Bias, Directional, KeyBias, Raw
from pentatonic.attention.kernels import launch
from pentatonic.attention.kernels.configs import Kernel
from pentatonic.attention.problem import Problem, lower_bias
from pentatonic.attention.slopes import alibi_slopes

BiasName = Literal[
    "none", "key", "alibi_1d", "alibi_2d", "directional", "directional_signed", "raw", "raw_signed"
]
GROUP = launch.GROUP


@dataclass(frozen=True)
class Workload:
    """Options of one attention call, and the kernel of it that is meant.

    Attributes:
        kernel: Name in the table of configurations; ``query_gradient`` and ``key_gradient`` belong to one call.
        dtype: ``"bfloat16"``, ``"float16"`` or ``"float32"``.
        head_dim: D.
        bias: Kind of bias.
        cls: Whether the first token is a CLS token; only with a bias.
        left: Keys visible before the query, or ``None``.
        right: Keys visible after it, or ``None``.
        lengths: Whether key lengths are given.
        packed: ``"same"`` packs queries and keys by the same lengths, ``"apart"`` by lengths of their own.
        intervals: Whether live intervals are given.
        rope: Pairing of the rotation, or ``None``.
        learned: Whether the weights of the bias need a gradient.
        aligned: Whether queries end where the key lengths do.
        splits: Ranges of keys computed apart (decoding).
        batch: B; number of sequences if packed.
        heads: H.
        tokens: Nk, of each sequence if packed.
        queries: Nq; ``None`` is Nk, or 1 to decode.
    """

    kernel: Kernel
    dtype: str = "bfloat16"
    head_dim: int = 64
    bias: BiasName = "none"
    cls: bool = False
    left: int | None = None
    right: int | None = None
    lengths: bool = False
    packed: Literal["same", "apart"] | None = None
    intervals: bool = False
    rope: Literal["half", "interleaved"] | None = None
    learned: bool = False
    aligned: bool = False
    splits: int = 1
    batch: int = 1
    heads: int = 6
    tokens: int = 1024
    queries: int | None = None

    def __str__(self) -> str:
        """The options that are not the default."""
        options = {
            name: value for name, value in vars(self).items() if value is not None and value is not False
        }
        hidden = ("batch", "heads", "tokens", "queries", *(() if self.splits > 1 else ("splits",)))
        return " ".join(f"{name}={value}" for name, value in options.items() if name not in hidden)

    def prepare(self, device: torch.device) -> Call:
        """The tensors of the call, random numbers except on the ``meta`` device."""
        samples = 1 if self.packed else self.batch
        n_k = self.tokens * (self.batch if self.packed else 1)
        n_q = self.queries or (1 if self.kernel == "decode" else n_k)
        dtype: torch.dtype = getattr(torch, self.dtype)

        def tokens_first(n: int) -> Tensor:
            x = torch.randn(samples, n, self.heads, self.head_dim, device=device, dtype=dtype)
            return x.transpose(1, 2)

        q, k, v, grad_o = tokens_first(n_q), tokens_first(n_k), tokens_first(n_k), tokens_first(n_q)
        distances, weights, key_bias = lower_bias(
            self._bias(device, n_k), samples, self.heads, n_k, torch.float32
        )
        cu = None
        if self.packed:
            cu = torch.arange(0, n_k + 1, self.tokens, dtype=torch.int32, device=device)
        rope = None
        if self.rope:
            table = torch.ones(n_k, self.head_dim // 2, device=device)
            rope = (table, table, self.rope == "interleaved")
        kv_len = intervals = None
        if self.lengths:
            kv_len = torch.full((self.batch,), self.tokens, dtype=torch.int32, device=device)
        if self.intervals:
            groups = -(-n_k // GROUP)
            intervals = torch.tensor((0, groups), dtype=torch.int32, device=device)
            intervals = intervals.repeat(samples, self.heads, -(-n_q // GROUP), 1)
        problem = Problem(
            distances,
            self.head_dim**-0.5,
            self.left,
            self.right,
            kv_len,
            self.aligned,
            cu,
            cu.clone() if cu is not None and self.packed == "apart" else cu,
            rope,
            intervals,
        )
        return Call(self, q, k, v, grad_o, weights, key_bias, problem)

    def _bias(self, device: torch.device, n: int) -> Bias | None:
        time = torch.arange(n, device=device, dtype=torch.int32) // 8
        coords = torch.stack((time, torch.arange(n, device=device, dtype=torch.int32) % 8), dim=-1)
        slopes = alibi_slopes(self.heads).to(device)
        match self.bias:
            case "none":
                return None
            case "key":
                return KeyBias(torch.zeros(n, device=device), int(self.cls))
            case "alibi_1d":
                return Alibi1D(slopes, cls_tokens=int(self.cls))
            case "alibi_2d":
                return Alibi2D(coords, slopes, slopes, int(self.cls))
            case "directional" | "directional_signed":
                return Directional(coords, -slopes, -slopes, self.bias.endswith("signed"), int(self.cls))
            case "raw" | "raw_signed":
                return Raw(coords, self.bias.endswith("signed"), int(self.cls))


@dataclass(frozen=True, eq=False)
class Call:
    """A workload with its tensors.

    Attributes:
        workload: The options.
        q: ``(B, H, Nq, D)``.
        k: ``(B, H, Nk, D)``.
        v: ``(B, H, Nk, D)``.
        grad_o: ``(B, H, Nq, D)``.
        weights: ``(M, H)``, or ``None``.
        key_bias: ``(B, H, Nk)``, or ``None``.
        problem: Everything else.
    """

    workload: Workload
    q: Tensor
    k: Tensor
    v: Tensor
    grad_o: Tensor
    weights: Tensor | None
    key_bias: Tensor | None
    problem: Problem

    def forward(self) -> tuple[Tensor, Tensor]:
        """Launch the forward or decode kernel and what goes with it."""
        return launch.forward(
            self.q,
            self.k,
            self.v,
            self.weights,
            self.key_bias,
            self.problem,
            splits=self.workload.splits if self.workload.kernel == "decode" else None,
        )

    def key_intervals(self) -> Tensor:
        """Launch the kernels that find live intervals; for biases with slopes."""
        assert self.weights is not None
        return launch.key_intervals(self.q, self.k, self.weights, self.problem, 1e-4)

    def backward(self, o: Tensor, lse: Tensor) -> None:
        """Launch both gradient kernels."""
        launch.backward(
            self.grad_o,
            None,
            self.q,
            self.k,
            self.v,
            o,
            lse,
            self.weights,
            self.key_bias,
            self.problem,
            needs_weights=self.workload.learned,
        )
