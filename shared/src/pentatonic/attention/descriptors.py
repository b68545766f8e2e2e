"""Descriptors of biases, masks and rotary embeddings: plain data, never callables.

Shapes: B batch, H heads, N key tokens. Queries are the **last** Nq of the N tokens (bottom-right alignment),
so one set of coordinates or positions serves self-attention and decoding with a cache alike. In packed
batches the token axis of every tensor here has the packed ``total`` length, and token numbers restart at 0 in
each sequence.

All biases are added to the scaled scores. With ``cls_tokens=1`` the first token of each sequence takes part
without bias: its row and its column are 0, and what the tensors hold for it is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from pentatonic.errors import UsageError
from pentatonic.rope import RopeStyle, rope_table

COORDINATE_DTYPES = (torch.int16, torch.int32, torch.int64, torch.float32, torch.float64)


@dataclass(frozen=True, eq=False)
class Alibi1D:
    """Bias ``-slope[h] * |p_i - p_j|`` (Press et al., arXiv 2108.12409, made symmetric).

    Args:
        slope: ``(H,)`` floating, >= 0 for decay with distance; differentiable.
        position: ``(N,)`` or ``(B, N)``; ``None`` means the token number.
        cls_tokens: 0 or 1.
    """

    slope: Tensor
    position: Tensor | None = None
    cls_tokens: int = 0

    def __post_init__(self) -> None:
        _check_vector("slope", self.slope)
        _check_cls(self.cls_tokens)
        if self.position is not None:
            _check_coordinates("position", self.position, axes=None)


@dataclass(frozen=True, eq=False)
class Alibi2D:
    """Bias ``-(slope_t[h] * |t_i - t_j| + slope_f[h] * |f_i - f_j|)``.

    Args:
        coords: ``(N, 2)`` or ``(B, N, 2)``, last axis (time, frequency), integer or float32/64.
        slope_t: ``(H,)`` floating, per unit of time; differentiable.
        slope_f: ``(H,)`` floating, per unit of frequency; differentiable.
        cls_tokens: 0 or 1.
    """

    coords: Tensor
    slope_t: Tensor
    slope_f: Tensor
    cls_tokens: int = 1

    def __post_init__(self) -> None:
        _check_coordinates("coords", self.coords, axes=2)
        _check_vector("slope_t", self.slope_t)
        _check_vector("slope_f", self.slope_f)
        _check_cls(self.cls_tokens)


@dataclass(frozen=True, eq=False)
class Directional:
    """Bias ``+w[h] * g``, with other weights for keys before and after the query.

    ``w`` is ``left`` where the key's token number is <= the query's, else ``right``: the order of the
    sequence counts, not that of the coordinates. ``g`` is ``(t_i - t_j) + (f_i - f_j)`` if ``signed``, else
    ``|t_i - t_j| + |f_i - f_j|``; for distance along one axis, fill the other with zeros.

    Args:
        coords: ``(N, 2)`` or ``(B, N, 2)``, last axis (time, frequency), integer or float32/64.
        left: ``(H,)`` floating; differentiable.
        right: ``(H,)`` floating; differentiable.
        signed: Which ``g``.
        cls_tokens: 0 or 1.
    """

    coords: Tensor
    left: Tensor
    right: Tensor
    signed: bool
    cls_tokens: int = 1

    def __post_init__(self) -> None:
        _check_coordinates("coords", self.coords, axes=2)
        _check_vector("left", self.left)
        _check_vector("right", self.right)
        _check_cls(self.cls_tokens)


@dataclass(frozen=True, eq=False)
class Raw:
    """Bias ``+g`` in every head, without slope: what the public Myna-RPE code adds.

    ``g`` is ``(t_i - t_j) + (f_i - f_j)`` if ``signed``, else ``|t_i - t_j| + |f_i - f_j|``; for distance
    along one axis, fill the other with zeros. Unsigned, it favours the farthest keys: for parity with
    released weights only.

    Args:
        coords: ``(N, 2)`` or ``(B, N, 2)``, last axis (time, frequency), integer or float32/64.
        signed: Which ``g``.
        cls_tokens: 0 or 1.
    """

    coords: Tensor
    signed: bool
    cls_tokens: int = 1

    def __post_init__(self) -> None:
        _check_coordinates("coords", self.coords, axes=2)
        _check_cls(self.cls_tokens)


@dataclass(frozen=True, eq=False)
class KeyBias:
    """Bias ``+vec[b, h, j]``, the same for all queries.

    Args:
        vec: Floating, broadcast to ``(B, H, N)``: ``(N,)``, ``(H, N)``, ``(B, 1, N)`` ...; differentiable.
        cls_tokens: 0 or 1.
    """

    vec: Tensor
    cls_tokens: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.vec.dim() <= 3 or not self.vec.is_floating_point():
            raise UsageError(
                f"vec must be floating, 1 to 3 axes, got {self.vec.dtype} {tuple(self.vec.shape)}"
            )
        _check_cls(self.cls_tokens)


@dataclass(frozen=True, eq=False)
class DistanceTable:
    """Bias ``+values[h, g]``: any function of a distance in whole steps, given as a table.

    ``g`` is ``|t_i - t_j| + |f_i - f_j|``, or with ``signed`` ``(t_i - t_j) + (f_i - f_j)``, counted from the middle
    of the table. A distance beyond an end of the table takes the value there. For a function of both distances multiply
    the time by the number of frequencies (signed: twice that, less 1), so that each pair of distances has a sum of its
    own. The kernels do not compute it: on a GPU it takes the tiles.

    Args:
        coords: ``(N, 2)`` or ``(B, N, 2)``, last axis (time, frequency), integer or whole float32/64.
        values: ``(H, L)`` floating, or ``(2, H, L)``, for keys whose token number is <= the query's, and for the
            others; ``signed`` needs an odd L. Differentiable.
        signed: Which ``g``.
        cls_tokens: 0 or 1.
    """

    coords: Tensor
    values: Tensor
    signed: bool = False
    cls_tokens: int = 1

    def __post_init__(self) -> None:
        _check_coordinates("coords", self.coords, axes=2)
        shape = tuple(self.values.shape)
        right = len(shape) == 2 or (len(shape) == 3 and shape[0] == 2)
        if not right or not shape[-1] or not self.values.is_floating_point():
            raise UsageError(f"values must be floating (H, L) or (2, H, L), got {self.values.dtype} {shape}")
        if self.signed and shape[-1] % 2 == 0:
            raise UsageError(f"a signed table needs a middle: an odd number of values, got {shape[-1]}")
        _check_cls(self.cls_tokens)


Bias = Alibi1D | Alibi2D | Directional | Raw | KeyBias | DistanceTable
# torch.compile of PyTorch 2.9 does not follow isinstance with a union.
BIASES = get_args(Bias)


class Mask:
    """Base of the mask descriptors; ``a & b`` lets a query see only what both allow."""

    def __and__(self, other: Mask) -> AllOf:
        """Keep what both masks keep."""
        return AllOf((*_parts(self), *_parts(other)))


@dataclass(frozen=True)
class AllOf(Mask):
    """What ``&`` builds: a key is visible if every part allows it."""

    parts: tuple[Mask, ...]


@dataclass(frozen=True)
class Causal(Mask):
    """Query i of Nq sees key j of N if ``j <= N - Nq + i`` (bottom-right aligned)."""


@dataclass(frozen=True)
class SlidingWindow(Mask):
    """Query i of Nq sees key j of N if ``-left <= j - (N - Nq + i) <= right``, both ends included.

    Args:
        left: Keys before the query, >= 0.
        right: Keys after the query, >= 0.
    """

    left: int
    right: int

    def __post_init__(self) -> None:
        if self.left < 0 or self.right < 0:
            raise UsageError(f"window sides must be >= 0, got left={self.left}, right={self.right}")


@dataclass(frozen=True, eq=False)
class KeyLengths(Mask):
    """Sample b sees key j if ``j < kv_len[b]``; positions of other masks do not move.

    Args:
        kv_len: ``(B,)`` integer; in packed batches one entry per sequence. 0 leaves the sample's rows dead.
    """

    kv_len: Tensor

    def __post_init__(self) -> None:
        if self.kv_len.dim() != 1 or self.kv_len.is_floating_point():
            raise UsageError(
                f"kv_len must be an integer vector, got {self.kv_len.dtype} {tuple(self.kv_len.shape)}"
            )


@dataclass(frozen=True, eq=False)
class Visibility:
    """A mask in normal form.

    Attributes:
        left: Keys visible before the query's own position, or ``None`` for all.
        right: Keys visible after it, or ``None`` for all.
        kv_len: ``(B,)`` number of valid keys, or ``None`` for all.
    """

    left: int | None = None
    right: int | None = None
    kv_len: Tensor | None = None

    @staticmethod
    def of(mask: Mask | None, n_q: int, n_k: int) -> Visibility:
        """Combine the parts of a mask, and drop bounds that hide nothing at this size.

        Raises:
            UsageError: ``mask`` is not a mask descriptor.
        """
        if mask is None:
            return EVERYTHING
        left = right = kv_len = None
        for part in _parts(mask):
            if isinstance(part, Causal):
                right = 0
            elif isinstance(part, SlidingWindow):
                left = part.left if left is None else min(left, part.left)
                right = part.right if right is None else min(right, part.right)
            elif isinstance(part, KeyLengths):
                kv_len = part.kv_len if kv_len is None else torch.minimum(kv_len, part.kv_len)
            else:
                raise UsageError(
                    f"{type(part).__name__} is not a mask; allowed: Causal, SlidingWindow, KeyLengths"
                )
        left = None if left is None or left >= n_k - 1 else left
        right = None if right is None or right >= n_q - 1 else right
        return Visibility(left, right, kv_len)

    @property
    def unlimited(self) -> bool:
        """No bound on the distance between query and key."""
        return self.left is None and self.right is None


EVERYTHING = Visibility()


@dataclass(frozen=True, eq=False)
class Rope:
    """Rotate queries and keys by their positions before the scores are taken.

    Give either ``theta`` (with optional ``positions`` and ``rotary_dim``) or a ready table ``cos_sin``, which
    layers can share and which can hold any angles, such as axial ones.

    Args:
        theta: Base of the frequencies; ``None`` with ``cos_sin``.
        cos_sin: ``(cos, sin)``, each ``(N, d/2)`` or ``(B, N, d/2)``, from
            :func:`pentatonic.rope.rope_table`.
        style: ``"half"`` pairs (p, p + d/2); ``"interleaved"`` pairs (2p, 2p + 1).
        positions: ``(N,)`` or ``(B, N)``; ``None`` means the token number.
        rotary_dim: d, the leading part of the head that is rotated; ``None`` means all of it.
    """

    theta: float | None = None
    cos_sin: tuple[Tensor, Tensor] | None = None
    style: RopeStyle = "half"
    positions: Tensor | None = None
    rotary_dim: int | None = None

    def __post_init__(self) -> None:
        if (self.theta is None) == (self.cos_sin is None):
            raise UsageError("Rope needs either theta or cos_sin")
        if self.style not in ("half", "interleaved"):
            raise UsageError(f"unknown rope style {self.style!r}; allowed: 'half', 'interleaved'")
        if self.cos_sin is not None and (self.positions is not None or self.rotary_dim is not None):
            raise UsageError(
                "positions and rotary_dim belong to theta; a cos_sin table already contains them"
            )

    def table(self, positions: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the keys.

        Args:
            positions: ``(N,)`` or ``(B, N)``, used where the descriptor holds none.
            q: Queries, for head dimension and dtype.

        Returns:
            ``(cos, sin)``, each ``(..., N, d/2)``, float32 (float64 for float64 queries, unless given as
            float32).
        """
        if self.cos_sin is not None:
            return self.cos_sin
        assert self.theta is not None
        positions = positions if self.positions is None else self.positions
        dtype = torch.promote_types(q.dtype, torch.float32)
        return rope_table(positions, self.rotary_dim or q.shape[-1], self.theta, dtype=dtype)


def _parts(mask: Mask) -> tuple[Mask, ...]:
    return mask.parts if isinstance(mask, AllOf) else (mask,)


def _check_vector(name: str, vector: Tensor) -> None:
    if vector.dim() != 1 or not vector.is_floating_point():
        raise UsageError(f"{name} must be a floating vector (H,), got {vector.dtype} {tuple(vector.shape)}")


def _check_cls(cls_tokens: int) -> None:
    if cls_tokens not in (0, 1):
        raise UsageError(f"cls_tokens must be 0 or 1, got {cls_tokens}")


def _check_coordinates(name: str, coords: Tensor, axes: int | None) -> None:
    """Half precision is refused: it loses integers above 256 (bfloat16) or 2048 (float16)."""
    trailing = coords.shape[-1:] if axes else ()
    if coords.dtype not in COORDINATE_DTYPES:
        raise UsageError(f"{name} must be int16/32/64 or float32/64, got {coords.dtype}")
    if coords.dim() - len(trailing) not in (1, 2) or (axes and trailing != (axes,)):
        shape = f"(N, {axes}) or (B, N, {axes})" if axes else "(N,) or (B, N)"
        raise UsageError(f"{name} must be {shape}, got {tuple(coords.shape)}")
