"""The character decoder's step as one compiled function with static shapes.

A step of a small decoder is dozens of operations that each take less time to start than to run. Compiled they become
a few on the CPU, and one CUDA graph on a GPU. The patch decoder, which runs once for up to 16 characters and over a
cache that grows, is left as it is.

Shapes: R rows of a step, B pieces, C width, V = 128 characters, S = 16 characters of a patch; the rest is that of
:mod:`notagen.model`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from notagen.codec import PATCH_SIZE, VOCABULARY_SIZE
from notagen.generation.sampling import Sampling, draw, probabilities
from notagen.model import CharDecoder, NotaGen, Trunk
from notagen.quantize import compilable
from pentatonic.attention import KVCache, decode_attention
from pentatonic.errors import BackendUnavailable

# Compiled steps per process, one for each sampling and size. PyTorch's limit of 8 catches functions that recompile by
# mistake; these are meant to.
_MOST_VARIANTS = 128


class StaticCache(nn.Module):
    """Keys and values of a decoder in tensors that never grow or move, with all rows at the same position.

    Args:
        trunk: The decoder.
        rows: R.

    Attributes:
        keys: ``(L, R, H, T, D)``; each layer is the buffer of a :class:`pentatonic.attention.KVCache`.
        values: As ``keys``.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, trunk: Trunk, rows: int) -> None:
        super().__init__()
        weight = trunk.positions.weight
        capacity, width = weight.shape
        shape = (len(trunk.blocks), rows, trunk.heads, capacity, width // trunk.heads)
        # Buffers, because a CUDA graph may change these in place, but not other inputs.
        self.register_buffer("keys", torch.zeros(shape, dtype=weight.dtype, device=weight.device))
        self.register_buffer("values", torch.zeros_like(self.keys))

    def clear(self) -> None:
        """Zero everything; what is masked must be finite, too."""
        self.keys.zero_()
        self.values.zero_()

    def attend(self, layer: int, positions: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store the next token of a layer, and attend from it to all tokens so far.

        Args:
            layer: Index of the layer.
            positions: ``(1, 1)`` int64, of the token.
            q: ``(R, H, 1, D)``; so are k and v.
            k: Keys.
            v: Values.

        Returns:
            ``(R, H, 1, D)``.
        """
        cache = KVCache.over(self.keys[layer], self.values[layer])
        cache.write(positions[0], k, v)
        held = (positions[0] + 1).expand(len(q))
        return decode_attention(q, cache.key_buffer, cache.value_buffer, held)


class _Step(nn.Module):
    """The compiled module: static sizes, no branch on values, no transfer to the CPU."""

    def __init__(self, decoder: CharDecoder, rows: int, sampling: Sampling) -> None:
        super().__init__()
        self.decoder, self.sampling = decoder, sampling
        self.cache = StaticCache(decoder.trunk, rows)

    def forward(self, inputs: Tensor, positions: Tensor, uniforms: Tensor, allowed: Tensor) -> Tensor:
        hidden = self.decoder.trunk.decode(inputs[:, None], positions, self.cache)
        logits = self.decoder.logits(hidden[:, 0])
        return draw(probabilities(logits, self.sampling, allowed), uniforms)


class CharStep:
    """Draws the next character of several patches; each place of a patch is one call, in order.

    There is one compiled function for all places and numbers of pieces: fewer than ``rows`` are filled up. One for
    each number would be compiled again whenever a piece ends, which takes longer than the rows that it saves.

    In float32 the same characters are drawn as without compilation, unless a random number is within rounding of
    the border between two characters; in half precision sums are rounded at fewer places, which can show earlier.

    Args:
        model: In evaluation mode; it must stay where it is.
        rows: R, most pieces of a call.
        sampling: How characters are chosen; each other one is compiled again.
        backend: Of ``torch.compile``; the default makes machine code, on CUDA devices recorded as a CUDA graph.

    Raises:
        BackendUnavailable: The step cannot be compiled here, for example without a C++ compiler.
    """

    def __init__(self, model: NotaGen, rows: int, sampling: Sampling, *, backend: str = "inductor") -> None:
        self.rows, device = rows, model.device
        if device.type == "mps":
            raise BackendUnavailable(
                "the character step is not compiled for Apple GPUs, because it samples in float64, which they do not "
                "have; generate without compilation"
            )
        dtype = model.char_decoder.embed.weight.dtype
        # Inputs are copied into these, because another stride would compile again. Unused rows keep old values.
        self._inputs = torch.zeros(rows, model.config.width, dtype=dtype, device=device)
        self._uniforms = torch.zeros(rows, dtype=torch.float64, device=device)
        # Tensors of their own: slices of one would not be aligned.
        self._positions = [torch.tensor([[place]], device=device) for place in range(PATCH_SIZE)]
        self._anything = torch.ones(rows, VOCABULARY_SIZE, dtype=torch.bool, device=device)
        self._allowed = self._anything.clone()
        self._step = _Step(compilable(model.char_decoder), rows, sampling).eval()
        graphs = backend == "inductor" and device.type == "cuda"
        self._step.compile(
            fullgraph=True, dynamic=False, backend=backend, mode="reduce-overhead" if graphs else None
        )
        try:
            with torch._dynamo.config.patch(recompile_limit=_MOST_VARIANTS):
                self(self._inputs, 0, self._uniforms)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = " ".join(str(getattr(error, "inner_exception", error)).split())
            raise BackendUnavailable(
                f"the character step cannot be compiled for {device} on this machine; generate without compilation, or "
                f"install what is missing: {reason}"
            ) from error

    @torch.no_grad()
    def __call__(self, inputs: Tensor, place: int, uniforms: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Draw one character of each patch.

        Args:
            inputs: ``(B, C)`` with B up to R: vectors of the patch decoder at place 0, then the embedded characters of
                the place before.
            place: In the patch, 0 to 15; each patch begins with 0.
            uniforms: ``(B,)`` float64 in [0, 1).
            allowed: ``(B, V)`` bool as in :func:`notagen.generation.sampling.probabilities`; ``None``: all characters.

        Returns:
            ``(B,)`` int64, valid until the next call.
        """
        if place == 0:
            self._step.cache.clear()
        pieces = len(inputs)
        self._inputs[:pieces], self._uniforms[:pieces] = inputs, uniforms
        if allowed is not None:
            self._allowed[:pieces] = allowed
        kept = self._anything if allowed is None else self._allowed
        return self._step(self._inputs, self._positions[place], self._uniforms, kept)[:pieces]
