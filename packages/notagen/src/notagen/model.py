"""The two-level language model of NotaGen (arXiv 2502.18008): GPT-2 over patches, GPT-2 over their characters.

The patch decoder turns the patches so far into one vector per patch; the character decoder turns the vector of a
patch into the characters of the next.

Shape legend: B pieces, N patches, S = 16 characters of a patch, M target patches, C width, H heads, D head width,
V = 128 characters, T longest context, L layers.
"""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass
from typing import Annotated, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from notagen.codec import PAD, PATCH_SIZE, VOCABULARY_SIZE
from notagen.generation.sampling import Sampling
from notagen.vocabulary import ANYTHING
from pentatonic.attention import Causal, KVCache, attention, decode_attention
from pentatonic.errors import ConfigError, UsageError
from pentatonic.untrusted.config import Range, check_fields, read_fields

MAX_PARAMETERS = 2**32
"""Most parameters of a model, so that a configuration alone cannot fill the memory; released ones have up to 2**29."""
# Tokens per row in a new cache; it grows by doubling.
_FIRST_TOKENS = 32


@dataclass(frozen=True)
class NotaGenConfig:
    """Sizes of a model.

    Args:
        patch_layers: Layers of the patch decoder.
        char_layers: Layers of the character decoder.
        width: C, a multiple of ``heads``.
        heads: Attention heads of both decoders; ``width / 64`` in released models.
        patch_length: T, most patches of a context.
        dropout: Dropout probability of embeddings, attention weights and residual branches, in training.

    Raises:
        ConfigError: A value is of another type or out of its range.
    """

    patch_layers: Annotated[int, Range(1, 128)]
    char_layers: Annotated[int, Range(1, 128)]
    width: Annotated[int, Range(1, 16_384)]
    heads: Annotated[int, Range(1, 1024)]
    patch_length: Annotated[int, Range(1, 1_000_000)]
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.1

    def __post_init__(self) -> None:
        check_fields(self, "")
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} is not a multiple of {self.heads} heads")
        layers, rows = self.patch_layers + self.char_layers, PATCH_SIZE * VOCABULARY_SIZE + self.patch_length
        if (count := self.width * (12 * self.width * layers + rows)) > MAX_PARAMETERS:
            raise ConfigError(
                f"width, patch_layers, char_layers and patch_length describe a model of {count:,} parameters; "
                f"allowed: at most {MAX_PARAMETERS:,}"
            )

    def to_dict(self) -> dict[str, int | float]:
        """Return the values as plain JSON numbers."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: object) -> NotaGenConfig:
        """Build from the result of :meth:`to_dict`.

        Raises:
            ConfigError: Keys are missing or unknown, or a value is of another type or out of its range.
        """
        return read_fields(cls, values, "")


class Cache(Protocol):
    """Keys and values of a decoder, as its layers see them."""

    def attend(self, layer: int, positions: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store the next tokens of a layer, and attend from them to all tokens so far; see :class:`DecoderCache`."""
        ...


class DecoderCache:
    """Keys and values of all layers of a decoder; rows may hold contexts of different lengths.

    Memory grows with the longest row.

    Args:
        trunk: The decoder.
        rows: B.

    Attributes:
        capacity: Most tokens of a row, the positions of the decoder.
        layers: One :class:`pentatonic.attention.KVCache` per layer, ``(B, H, n, D)`` with n of at most ``capacity``.
        lengths: Tokens held, for each row.
    """

    def __init__(self, trunk: Trunk, rows: int) -> None:
        weight = trunk.positions.weight
        self.capacity, width = weight.shape
        tokens, heads = min(_FIRST_TOKENS, self.capacity), trunk.heads
        self.layers = [
            KVCache(rows, heads, tokens, width // heads, dtype=weight.dtype, device=weight.device)
            for _ in trunk.blocks
        ]
        self.lengths = [0] * rows

    def row(self, index: int, tokens: int) -> DecoderCache:
        """Return an empty cache that writes up to ``tokens`` tokens into row ``index`` of this one."""
        self._reserve(tokens)
        view = copy.copy(self)
        view.layers, view.lengths = [layer.row(index) for layer in self.layers], [0]
        return view

    def drop(self, index: int) -> None:
        """Remove row ``index``; the last row takes its place and number."""
        for layer in self.layers:
            layer.drop_row(index)
        self.lengths[index] = self.lengths[-1]
        self.lengths.pop()

    def positions(self, tokens: int) -> Tensor:
        """Make room for the next tokens of each row, and return their positions ``(B, tokens)`` int64."""
        self._reserve(max(self.lengths) + tokens)
        device = self.layers[0].key_buffer.device
        starts = torch.tensor(self.lengths, device=device)
        return starts[:, None] + torch.arange(tokens, device=device)

    def _reserve(self, tokens: int) -> None:
        if tokens > (held := self.layers[0].max_tokens):
            for layer in self.layers:
                layer.reserve(min(max(tokens, 2 * held), self.capacity))

    def attend(self, layer: int, positions: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store the next tokens of a layer, and attend from them to all tokens so far.

        Args:
            layer: Index of the layer.
            positions: ``(B, n)`` of the tokens.
            q: ``(B, H, n, D)``; so are k and v.
            k: Keys.
            v: Values.

        Returns:
            ``(B, H, n, D)``.
        """
        cache, n = self.layers[layer], q.shape[2]
        stop = max(self.lengths) + n
        if min(self.lengths) + n == stop:
            cache.length = stop - n
            return decode_attention(q, *cache.append(k, v), stop)
        cache.write(positions, k, v)
        cache.length = stop
        return decode_attention(q, cache.keys, cache.values, positions[:, -1] + 1)


class TrunkSizes(Protocol):
    """What a decoder needs to know besides its layers and its context."""

    @property
    def width(self) -> int:
        """C."""
        ...

    @property
    def heads(self) -> int:
        """H."""
        ...

    @property
    def dropout(self) -> float:
        """Dropout probability, in training."""
        ...


class SelfAttention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, config: TrunkSizes) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, layer: int, positions: Tensor, cache: Cache | None) -> Tensor:
        """``(B, N, C) -> (B, N, C)``."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if cache is not None:
            heads = cache.attend(layer, positions, q, k, v)
        else:
            heads = attention(q, k, v, mask=Causal(), dropout_p=self.dropout if self.training else 0.0)
        return self.out(heads.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """``C -> 4C``, GELU by its tanh approximation, back to ``C``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, N, C) -> (B, N, C)``."""
        return self.down(F.gelu(self.up(x), approximate="tanh"))


class Block(nn.Module):
    """Attention and MLP, each on the normalised input and added to it."""

    def __init__(self, config: TrunkSizes) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(config.width)
        self.attention = SelfAttention(config)
        self.norm_mlp = nn.LayerNorm(config.width)
        self.mlp = MLP(config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, layer: int, positions: Tensor, cache: Cache | None) -> Tensor:
        """``(B, N, C) -> (B, N, C)``."""
        x = x + self.dropout(self.attention(self.norm_attention(x), layer, positions, cache))
        return x + self.dropout(self.mlp(self.norm_mlp(x)))


class Trunk(nn.Module):
    """GPT-2 without token embedding and output layer.

    Args:
        config: Sizes.
        layers: L.
        capacity: Rows of the position table, and so the most tokens.
    """

    def __init__(self, config: TrunkSizes, layers: int, capacity: int) -> None:
        super().__init__()
        self.heads = config.heads
        self.positions = nn.Embedding(capacity, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, x: Tensor, cache: DecoderCache | None = None) -> Tensor:
        """Run the decoder.

        Args:
            x: ``(B, N, C)`` embedded tokens.
            cache: Earlier tokens of each row; extended in place (inference only).

        Returns:
            ``(B, N, C)``.

        Raises:
            UsageError: There are more tokens than positions.
        """
        n, capacity = x.shape[1], self.positions.num_embeddings
        if (length := n + max(cache.lengths) if cache is not None else n) > capacity:
            raise UsageError(f"{length} tokens are more than the {capacity} positions of the model")
        positions = cache.positions(n) if cache is not None else torch.arange(n, device=x.device)[None]
        x = self.decode(x, positions, cache)
        if cache is not None:
            cache.lengths = [length + n for length in cache.lengths]
        return x

    def decode(self, x: Tensor, positions: Tensor, cache: Cache | None) -> Tensor:
        """Run the decoder on tokens whose positions are known.

        Args:
            x: ``(B, N, C)`` embedded tokens.
            positions: ``(B, N)`` or ``(1, N)`` int64, each less than the capacity.
            cache: Earlier tokens of each row.

        Returns:
            ``(B, N, C)``.
        """
        x = self.dropout(x + self.positions(positions))
        for layer, block in enumerate(self.blocks):
            x = block(x, layer, positions, cache)
        return self.norm(x)


class PatchDecoder(nn.Module):
    """Patches to one vector per patch."""

    def __init__(self, config: NotaGenConfig) -> None:
        super().__init__()
        # A patch is embedded as the sum of one row for each of its (place, character) pairs.
        self.embed = nn.EmbeddingBag(PATCH_SIZE * VOCABULARY_SIZE, config.width, mode="sum")
        self.embed_bias = nn.Parameter(torch.zeros(config.width))
        self.trunk = Trunk(config, config.patch_layers, config.patch_length)

    def forward(self, patches: Tensor, cache: DecoderCache | None = None) -> Tensor:
        """Run the decoder.

        Args:
            patches: ``(B, N, S)`` int64 in [0, V). Padding on the right does not change the results before it.
            cache: Earlier patches of each row; extended in place (inference only).

        Returns:
            ``(B, N, C)``: for each patch a vector from which the next one is predicted.
        """
        places = torch.arange(PATCH_SIZE, device=patches.device) * VOCABULARY_SIZE
        x = self.embed((patches + places).flatten(0, 1)).unflatten(0, patches.shape[:2])
        return self.trunk(x + self.embed_bias, cache)


class CharDecoder(nn.Module):
    """The vector of a patch to the characters of the next."""

    def __init__(self, config: NotaGenConfig) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY_SIZE, config.width)
        self.trunk = Trunk(config, config.char_layers, PATCH_SIZE + 1)

    def forward(self, vectors: Tensor, targets: Tensor) -> Tensor:
        """Predict each character of the next patches from the vector and the characters before it.

        Args:
            vectors: ``(M, C)`` from the patch decoder.
            targets: ``(M, n)`` int64, the first n characters, n up to S.

        Returns:
            Logits ``(M, n + 1, V)``; row k predicts character k, the last row the one after the n.
        """
        return self.logits(self.trunk(torch.cat((vectors[:, None], self.embed(targets)), dim=1)))

    def logits(self, hidden: Tensor) -> Tensor:
        """``(..., C) -> (..., V)``; the output layer shares its weights with the embedding."""
        return F.linear(hidden, self.embed.weight)


class NotaGen(nn.Module):
    """The language model.

    Args:
        config: Sizes.

    Attributes:
        vocabulary: What the bars of its training data consist of, to which constrained generation keeps.
        sampling: How its characters are chosen where nothing else is asked for.
    """

    def __init__(self, config: NotaGenConfig) -> None:
        super().__init__()
        self.config, self.vocabulary, self.sampling = config, ANYTHING, Sampling()
        self.patch_decoder = PatchDecoder(config)
        self.char_decoder = CharDecoder(config)
        if self.device.type == "meta":  # there is nothing to initialise, and doing so would take a second
            return
        self.apply(_initialise)
        for trunk in (self.patch_decoder.trunk, self.char_decoder.trunk):
            for name, weight in trunk.named_parameters():
                if name.endswith(("attention.out.weight", "mlp.down.weight")):
                    nn.init.normal_(weight, std=0.02 / math.sqrt(2 * len(trunk.blocks)))

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.patch_decoder.embed_bias.device

    def log_probabilities(self, patches: Tensor, mask: Tensor) -> Tensor:
        """Log-probability of each piece, given its first patch.

        Args:
            patches: ``(B, N, S)`` int64 in [0, V), padded on the right.
            mask: ``(B, N)`` bool or 0 and 1: real patches.

        Returns:
            ``(B,)`` float32: sums of the natural log-probabilities of all characters except padding.
        """
        piece, vectors, targets = self._pairs(patches, mask)
        losses = self._losses(vectors, targets, "none").view_as(targets).sum(1)
        return torch.zeros(len(patches), device=losses.device).index_add(0, piece, -losses)

    def loss(self, patches: Tensor, mask: Tensor) -> Tensor:
        """Mean cross-entropy over the characters of all patches except the first of each piece.

        Training computes the same with less padding; see :class:`notagen.training.objective.NotaGenTraining`.

        Args:
            patches: ``(B, N, S)`` int64 in [0, V), padded on the right.
            mask: ``(B, N)`` bool or 0 and 1: real patches.

        Returns:
            Scalar float32. NaN where no piece has two patches.
        """
        _, vectors, targets = self._pairs(patches, mask)
        return self._losses(vectors, targets, "mean")

    def _pairs(self, patches: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return piece number ``(M,)``, vector ``(M, C)`` and next patch ``(M, S)`` of patches that have a next one."""
        if patches.dim() != 3 or patches.shape[2] != PATCH_SIZE or mask.shape != patches.shape[:2]:
            raise UsageError(
                f"patches must be (B, N, {PATCH_SIZE}) and mask (B, N), got {tuple(patches.shape)} and "
                f"{tuple(mask.shape)}"
            )
        real = mask[:, 1:].bool()
        return real.nonzero()[:, 0], self.patch_decoder(patches)[:, :-1][real], patches[:, 1:][real]

    def _losses(self, vectors: Tensor, targets: Tensor, reduction: str) -> Tensor:
        logits = self.char_decoder(vectors, targets[:, :-1]).float()
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD, reduction=reduction)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding, nn.EmbeddingBag)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
