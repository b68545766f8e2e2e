"""A preallocated key/value cache for autoregressive decoding.

Shapes: B batch (or beams), H heads, N tokens, D head dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from pentatonic.errors import UsageError


class KVCache:
    """Keys and values of one attention layer; appended in place, for inference only.

    Args:
        batch: B.
        heads: H.
        max_tokens: Capacity in tokens.
        head_dim: D.
        dtype: Of keys and values.
        device: Of keys and values.

    Attributes:
        length: Number of tokens held, 0 to ``max_tokens``.
        key_buffer: ``(B, H, max_tokens, D)``, zero where nothing has been written.
        value_buffer: ``(B, H, max_tokens, D)``.
    """

    def __init__(
        self,
        batch: int,
        heads: int,
        max_tokens: int,
        head_dim: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        # Zeros, because uninitialised memory may hold NaN, and 0 * NaN behind a mask is still NaN.
        self.key_buffer = torch.zeros(batch, heads, max_tokens, head_dim, dtype=dtype, device=device)
        self.value_buffer = torch.zeros_like(self.key_buffer)
        self.length = 0

    @staticmethod
    def over(key_buffer: Tensor, value_buffer: Tensor) -> KVCache:
        """An empty cache that writes into these tensors.

        Args:
            key_buffer: ``(B, H, max_tokens, D)``, any strides; finite.
            value_buffer: As ``key_buffer``.
        """
        cache = object.__new__(KVCache)
        cache.key_buffer, cache.value_buffer, cache.length = key_buffer, value_buffer, 0
        return cache

    @property
    def max_tokens(self) -> int:
        """Capacity in tokens."""
        return self.key_buffer.shape[2]

    @property
    def keys(self) -> Tensor:
        """View ``(B, H, length, D)`` of the keys held."""
        return self.key_buffer[:, :, : self.length]

    @property
    def values(self) -> Tensor:
        """View ``(B, H, length, D)`` of the values held."""
        return self.value_buffer[:, :, : self.length]

    @torch.no_grad()
    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add tokens at the end, without reallocation.

        Args:
            k: ``(B, H, n, D)``, cast to the cache's dtype.
            v: ``(B, H, n, D)``.

        Returns:
            Views of all keys and values held, each ``(B, H, length, D)``, without gradients.

        Raises:
            UsageError: The shapes do not fit, or the capacity is exceeded; the cache is then unchanged.
        """
        batch, heads, _, dim = self.key_buffer.shape
        if k.shape != v.shape or k.dim() != 4 or (k.shape[0], k.shape[1], k.shape[3]) != (batch, heads, dim):
            raise UsageError(
                f"the cache takes ({batch}, {heads}, n, {dim}), got k {tuple(k.shape)} and v {tuple(v.shape)}"
            )
        stop = self.length + k.shape[2]
        if stop > self.max_tokens:
            raise UsageError(f"{stop} tokens do not fit into a cache of {self.max_tokens}")
        self.key_buffer[:, :, self.length : stop] = k
        self.value_buffer[:, :, self.length : stop] = v
        self.length = stop
        return self.keys, self.values

    def write(self, positions: Tensor, k: Tensor, v: Tensor) -> None:
        """Put tokens where ``positions`` says, for rows whose lengths the caller keeps; ``length`` stays.

        Args:
            positions: ``(n,)`` for all rows or ``(B, n)`` int64, each in [0, ``max_tokens``).
            k: ``(B, H, n, D)``.
            v: ``(B, H, n, D)``.
        """
        k, v = k.detach(), v.detach()  # torch.compile cannot follow torch.no_grad() here
        if positions.dim() == 1:
            self.key_buffer.index_copy_(2, positions, k)
            self.value_buffer.index_copy_(2, positions, v)
        else:
            rows = torch.arange(len(positions), device=positions.device)[:, None]
            self.key_buffer[rows, :, positions] = k.transpose(1, 2)
            self.value_buffer[rows, :, positions] = v.transpose(1, 2)

    def reserve(self, tokens: int) -> None:
        """Make room for ``tokens`` tokens in all; what is held stays, in a larger copy if need be."""
        missing = tokens - self.max_tokens
        if missing > 0:
            self.key_buffer = pad(self.key_buffer, (0, 0, 0, missing))
            self.value_buffer = pad(self.value_buffer, (0, 0, 0, missing))

    def row(self, index: int) -> KVCache:
        """An empty cache of one row that writes into row ``index`` of this one."""
        rows = slice(index, index + 1)
        return self.over(self.key_buffer[rows], self.value_buffer[rows])

    def drop_row(self, index: int) -> None:
        """Remove row ``index``; the last row takes its place and number."""
        self.key_buffer[index], self.value_buffer[index] = self.key_buffer[-1], self.value_buffer[-1]
        self.key_buffer, self.value_buffer = self.key_buffer[:-1], self.value_buffer[:-1]

    @torch.no_grad()
    def reorder(self, index: Tensor) -> None:
        """Let row b continue what row ``index[b]`` held, as beam search does after each step.

        Args:
            index: ``(B,)`` integer, each in [0, B); rows may repeat.

        Raises:
            UsageError: ``index`` does not have one entry per row.
        """
        if index.shape != (self.key_buffer.shape[0],):
            raise UsageError(
                f"reorder needs ({self.key_buffer.shape[0]},) row numbers, got {tuple(index.shape)}"
            )
        self.keys.copy_(self.keys.index_select(0, index))
        self.values.copy_(self.values.index_select(0, index))

    def truncate(self, length: int) -> None:
        """Discard all tokens from number ``length`` on.

        Args:
            length: New length, 0 to the present length.

        Raises:
            UsageError: ``length`` is outside that range.
        """
        if not 0 <= length <= self.length:
            raise UsageError(f"length must be 0 to {self.length}, got {length}")
        self.length = length
