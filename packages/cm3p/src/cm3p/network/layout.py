"""How the tokens of a batch lie in memory: padded to one length, or packed end to end.

The encoder computes on *tokens*, ``(B, L, …)`` in a padded layout and ``(total, …)`` in a packed one, and leaves all
that depends on sequences to the layout: rotary positions, attention, pooling.

Shapes: B sequences, L padded length, total valid tokens of all sequences, H heads, d head dimension, h width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from pentatonic.attention import KeyBias, KeyLengths, Rope, SlidingWindow, attention, varlen_attention
from pentatonic.errors import UsageError
from pentatonic.rope import apply_rope, rope_table

# Added to the scores of padding keys: far below any score, and finite after the factors that back ends apply.
_HIDDEN = torch.finfo(torch.float32).min / 4


class Layout(ABC):
    """Base of the layouts.

    Args:
        batch: B.
        length: L.
        positions: ``(L,)`` or ``(total,)`` number of each token in its sequence.
    """

    def __init__(self, batch: int, length: int, positions: Tensor) -> None:
        self.batch, self.length, self.positions = batch, length, positions
        self._ropes: dict[tuple[float, int, torch.dtype], Rope] = {}

    def rope(self, theta: float, q: Tensor) -> Rope:
        """Rotary table of one base, computed once for all layers."""
        dtype = torch.promote_types(q.dtype, torch.float32)
        key = theta, q.shape[-1], dtype
        if key not in self._ropes:
            table = rope_table(self.positions, q.shape[-1], theta, dtype=dtype)
            self._ropes[key] = Rope(cos_sin=table)
        return self._ropes[key]

    def _rotated(self, heads_first: Tensor, theta: float) -> Tensor:
        """Turn ``(…, H, N, d)`` by the positions of the tokens."""
        table = self.rope(theta, heads_first).table(self.positions, heads_first)
        return apply_rope(heads_first, *table)

    @abstractmethod
    def take(self, x: Tensor) -> Tensor:
        """Tokens of ``(B, L, …)``."""

    @abstractmethod
    def padded(self, tokens: Tensor) -> Tensor:
        """``(B, L, …)`` of tokens; a packed layout has zeros at padded positions."""

    @abstractmethod
    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, *, theta: float, side: int | None, dropout_p: float = 0.0
    ) -> Tensor:
        """Attention within each sequence.

        Args:
            q: ``(…, H, d)`` tokens; k and v likewise.
            k: Keys.
            v: Values.
            theta: Base of the rotary embeddings.
            side: Visible keys on each side of a query; ``None``: all.
            dropout_p: Probability that an attention weight is dropped.

        Returns:
            As ``q``.
        """

    @abstractmethod
    def attend_first(self, q: Tensor, k: Tensor, v: Tensor, *, theta: float) -> Tensor:
        """Attention of the first position of each sequence to all its tokens.

        Args:
            q: ``(B, H, d)`` of the first positions, which rotary embeddings leave as they are.
            k: ``(…, H, d)`` tokens; v likewise.
            v: Values.
            theta: Base of the rotary embeddings.

        Returns:
            As ``q``.
        """

    @abstractmethod
    def beginning(self, tokens: Tensor, count: int) -> tuple[Tensor, Layout]:
        """The first ``count`` positions of each sequence, as tokens ``(…, h)`` with their layout."""

    @abstractmethod
    def first(self, tokens: Tensor) -> Tensor:
        """``(B, h)`` of the first position of each sequence."""

    @abstractmethod
    def mean(self, tokens: Tensor) -> Tensor:
        """``(B, h)`` mean over the valid tokens of each sequence, summed in float32."""


class Padded(Layout):
    """Tokens ``(B, L, …)``.

    Args:
        batch: B.
        length: L.
        mask: ``(B, L)`` true at valid tokens; ``None``: all are.
        device: Where the tokens are.
        lengths: ``(B,)`` number of valid tokens, where these come first in each sequence.
    """

    def __init__(
        self,
        batch: int,
        length: int,
        mask: Tensor | None,
        device: torch.device,
        lengths: Tensor | None = None,
    ) -> None:
        super().__init__(batch, length, torch.arange(length, device=device))
        self.mask, self.lengths = mask, lengths
        self._bias: KeyBias | None = None
        if mask is not None and lengths is None:
            hidden = torch.zeros(mask.shape, device=device).masked_fill(~mask, _HIDDEN)
            self._bias = KeyBias(hidden[:, None])

    def take(self, x: Tensor) -> Tensor:
        """Return ``x`` as it is."""
        return x

    def padded(self, tokens: Tensor) -> Tensor:
        """Return the tokens as they are."""
        return tokens

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, *, theta: float, side: int | None, dropout_p: float = 0.0
    ) -> Tensor:
        """Attend within each sequence; queries that see valid keys alone have a meaning."""
        rope = self.rope(theta, q)
        window = None if side is None else SlidingWindow(side, side)
        if self.lengths is not None:
            valid = KeyLengths(self.lengths)
            window = valid if window is None else valid & window
        heads_first = (x.transpose(1, 2) for x in (q, k, v))
        o = attention(*heads_first, bias=self._bias, mask=window, rope=rope, dropout_p=dropout_p)
        return o.transpose(1, 2)

    def attend_first(self, q: Tensor, k: Tensor, v: Tensor, *, theta: float) -> Tensor:
        """Attend from position 0; where it is padding, the result has no meaning."""
        valid = None if self.lengths is None else KeyLengths(self.lengths)
        k, v = self._rotated(k.transpose(1, 2), theta), v.transpose(1, 2)
        return attention(q[:, :, None], k, v, bias=self._bias, mask=valid)[:, :, 0]

    def beginning(self, tokens: Tensor, count: int) -> tuple[Tensor, Layout]:
        """Cut the batch."""
        mask = None if self.mask is None else self.mask[:, :count]
        lengths = None if self.lengths is None else self.lengths.clamp(max=count)
        length = min(self.length, count)
        return tokens[:, :count], Padded(self.batch, length, mask, tokens.device, lengths)

    def visible(self, side: int | None) -> Tensor:
        """``(B or 1, 1, L, L)`` true where a query sees a key."""
        ahead = self.positions - self.positions[:, None]
        seen = torch.ones_like(ahead, dtype=torch.bool) if side is None else ahead.abs() <= side
        return seen[None, None] if self.mask is None else seen & self.mask[:, None, None]

    def first(self, tokens: Tensor) -> Tensor:
        """``(B, h)`` of position 0."""
        return tokens[:, 0]

    def mean(self, tokens: Tensor) -> Tensor:
        """``(B, h)`` mean over the valid tokens; 0 where there are none."""
        if self.mask is None:
            return _wide(tokens).mean(1).to(tokens.dtype)
        weights = self.mask[..., None].float()
        total = (_wide(tokens) * weights).sum(1)
        return (total / weights.sum(1).clamp(min=1e-9)).to(tokens.dtype)


class Packed(Layout):
    """Tokens ``(total, …)``: the valid ones of all sequences, end to end.

    Args:
        mask: ``(B, L)`` true at valid tokens, which come first in each sequence.
        lengths: Number of valid tokens of each sequence, at least 1.

    Attributes:
        indices: ``(total,)`` of the valid tokens in the flattened batch.
        cu_seqlens: ``(B + 1,)`` int32 bounds of the sequences.
        max_seqlen: Length of the longest one.
    """

    def __init__(self, mask: Tensor, lengths: list[int]) -> None:
        device = mask.device
        self.indices = mask.flatten().nonzero().flatten()
        batch, length = mask.shape
        super().__init__(batch, length, self.indices % length)
        self.cu_seqlens = (
            torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32).to(device)
        )
        self.max_seqlen = max(lengths)
        self._mask, self._lengths = mask, lengths

    def take(self, x: Tensor) -> Tensor:
        """``(total, …)`` of ``(B, L, …)``."""
        return x.flatten(0, 1)[self.indices]

    def padded(self, tokens: Tensor) -> Tensor:
        """``(B, L, …)`` with zeros at padded positions; gradients flow to the tokens."""
        flat = tokens.new_zeros(self.batch * self.length, *tokens.shape[1:])
        return flat.index_copy(0, self.indices, tokens).unflatten(0, (self.batch, self.length))

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, *, theta: float, side: int | None, dropout_p: float = 0.0
    ) -> Tensor:
        """Attend within each sequence; ``dropout_p`` must be 0."""
        assert not dropout_p
        window = None if side is None else SlidingWindow(side, side)
        rope = self.rope(theta, q)
        return varlen_attention(
            q, k, v, self.cu_seqlens, max_seqlen_q=self.max_seqlen, mask=window, rope=rope
        )

    def attend_first(self, q: Tensor, k: Tensor, v: Tensor, *, theta: float) -> Tensor:
        """Attend from the first token of each sequence."""
        k = self._rotated(k.transpose(0, 1), theta).transpose(0, 1)
        alone = torch.arange(self.batch + 1, dtype=torch.int32, device=q.device)
        bounds = self.cu_seqlens
        return varlen_attention(q, k, v, alone, bounds, max_seqlen_q=1, max_seqlen_k=self.max_seqlen)

    def beginning(self, tokens: Tensor, count: int) -> tuple[Tensor, Layout]:
        """Drop the tokens after the first ones of each sequence."""
        lengths = [min(length, count) for length in self._lengths]
        return tokens[self.positions < count], Packed(self._mask[:, :count], lengths)

    def first(self, tokens: Tensor) -> Tensor:
        """``(B, h)`` of the first token of each sequence."""
        return tokens[self.cu_seqlens[:-1].long()]

    def mean(self, tokens: Tensor) -> Tensor:
        """``(B, h)`` mean over each sequence."""
        owner = self.indices // self.length
        summed = _wide(tokens)
        total = summed.new_zeros(self.batch, tokens.shape[-1]).index_add(0, owner, summed)
        return (total / self.cu_seqlens.diff()[:, None]).to(tokens.dtype)


def _wide(tokens: Tensor) -> Tensor:
    """Tokens in float32, or wider where they are."""
    return tokens.to(torch.promote_types(tokens.dtype, torch.float32))


def layout_of(
    mask: Tensor | None, batch: int, length: int, device: torch.device, *, pack: bool = True
) -> Layout:
    """Choose the layout of a batch: packed where there is padding.

    Padding must come last in each sequence, and leave a token of each, to be packed: else distances between tokens, or
    the pooled position, would be others than in the padded batch.

    Args:
        mask: ``(B, L)`` 1 or true at valid tokens; ``None``: all are.
        batch: B.
        length: L.
        device: Where the tokens are.
        pack: Whether packing is allowed.

    Raises:
        UsageError: The mask is of another shape.
    """
    if mask is None or length == 0:
        return Padded(batch, length, None, device)
    if mask.shape != (batch, length):
        raise UsageError(
            f"the attention mask is {tuple(mask.shape)}; allowed: that of the tokens, {(batch, length)}"
        )
    mask = mask.to(device).bool()
    counts = mask.sum(1)
    ends_padded = (
        mask.sum() == (torch.arange(length, device=device) < counts[:, None]).logical_and(mask).sum()
    )
    *lengths, trailing = torch.cat((counts, ends_padded[None])).tolist()  # one transfer from the device
    if min(lengths, default=length) == length:
        return Padded(batch, length, None, device)
    if not trailing or min(lengths) == 0:
        return Padded(batch, length, mask, device)
    return Packed(mask, lengths) if pack else Padded(batch, length, mask, device, counts)
