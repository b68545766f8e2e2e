"""Embeddings of audio of any length in bounded memory, equal to those of a single pass.

Attention is causal, so a block of the trunk keeps the keys and values of earlier tokens and needs no others. Its
convolution looks 15 tokens ahead, so its output lags 15 tokens behind its input; after layer ``i`` the lag is
``15 * (i + 1)`` tokens. The convolution is padded with zeros only at the start and the end of the signal, as in one
pass.

Shape legend: N tokens of a piece, P values per patch, C width, H heads, D head width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from omar_rq.config import ConformerConfig
from omar_rq.conformer import CONV_CONTEXT, Conformer, ConformerBlock, Rotary
from omar_rq.frontends import patchify
from omar_rq.model import OmarRQ
from omar_rq.signals import layer_indices
from pentatonic.attention import Causal, KVCache, SlidingWindow
from pentatonic.errors import NonFiniteAudio, UsageError

DEFAULT_CONTEXT_S = 300.0
# Most tokens that go through the trunk at once: enough to keep a GPU busy, at little memory.
STEP_TOKENS = 512


def stream_embeddings(
    model: OmarRQ,
    blocks: Iterable[Tensor],
    layers: int | Iterable[int] | None = None,
    *,
    context_s: float | None = DEFAULT_CONTEXT_S,
) -> Iterator[list[Tensor]]:
    """Embed one signal that arrives in blocks.

    Concatenated, the results equal ``model.extract_embeddings`` of the whole signal up to float rounding (2e-5 of the
    largest value, in float32) when the signal is not longer than ``context_s``, or with ``context_s=None``.
    For longer signals they equal one pass in which attention is limited to the last ``context_s`` seconds.

    Memory is bounded for mel and waveform models with a causal conformer; with ``context_s=None`` keys and values of
    all tokens are kept. The CQT and EnCodec front ends collect the signal. Transformers and bidirectional conformers
    need the whole signal, and rounded positions (``rope_positions="bf16"``) are counted from its start: these models
    run in one pass, and ignore ``context_s``.

    Args:
        model: The model, in evaluation mode.
        blocks: Consecutive ``(n,)`` pieces of any lengths, floating, mono, at ``model.sample_rate``.
        layers: Indices of trunk blocks, negative ones from the end; ``None``: the last.
        context_s: How many seconds before a token it attends to; ``None``: all.

    Returns:
        Iterator over lists with one ``(n, C)`` float32 tensor per layer, layers ascending. The tensors of one list
        differ in n, which may be 0, because higher layers lag further behind.

    Raises:
        UsageError: ``context_s`` is not positive, a layer list is empty, or a block is not ``(n,)`` floating.
        LayerIndexError: A layer is out of range.
        NonFiniteAudio: There are NaN or infinite samples.
        AudioTooShort: The signal is shorter than one patch.
    """
    if context_s is not None and not (math.isfinite(context_s) and context_s > 0):
        raise UsageError(f"context_s is {context_s}; allowed: positive seconds, or None for everything")
    indices = sorted(set(layer_indices(layers, len(model.trunk.blocks))))
    patches = _patches(model, _checked(blocks, model.embed.weight.device))
    if isinstance(model.trunk, Conformer) and _streams(model.trunk.config):
        context_tokens = None if context_s is None else math.ceil(context_s * model.embedding_rate_hz)
        return _in_pieces(model, patches, StreamingConformer(model.trunk, indices, context_tokens))
    return _in_one_pass(model, patches, indices)


def _streams(config: ConformerConfig) -> bool:
    """Whether a token depends only on earlier tokens and their distances."""
    return config.causal and config.rope_positions == "exact"


class StreamingConformer:
    """A causal conformer that is fed piece by piece.

    Args:
        trunk: The conformer, causal and in evaluation mode.
        layers: Block indices, ascending.
        context_tokens: How many earlier tokens a token attends to besides itself; ``None``: all.
    """

    def __init__(self, trunk: Conformer, layers: Sequence[int], context_tokens: int | None = None) -> None:
        self.layers = layers
        self._stages = [_Stage(trunk, i, context_tokens) for i in range(max(layers) + 1)]

    @torch.no_grad()
    def push(self, x: Tensor, *, last: bool = False) -> list[Tensor]:
        """Continue with the next tokens.

        Args:
            x: ``(1, N, C)`` embedded patches; N may be 0.
            last: No tokens follow, so the outputs that waited for later tokens are returned too.

        Returns:
            The new outputs of each layer, ``(1, n, C)``.
        """
        outputs = []
        for i, stage in enumerate(self._stages):
            x = stage.push(x, last)
            if i in self.layers:
                outputs.append(x)
        return outputs


class _Stage:
    """One block of the trunk with its state."""

    def __init__(self, trunk: Conformer, index: int, context_tokens: int | None) -> None:
        self.trunk, self.context_tokens = trunk, context_tokens
        block = trunk.blocks[index]
        assert isinstance(block, ConformerBlock)
        self.block = block
        weight, heads = block.norm_out.weight, block.attention.num_heads
        width = weight.shape[0]
        self.cache = KVCache(1, heads, 0, width // heads, dtype=weight.dtype, device=weight.device)
        self.start = 0  # position of the first token in the cache
        self.attended = weight.new_zeros(1, 0, width)  # tokens whose convolution needs later tokens
        self.gated = weight.new_zeros(1, CONV_CONTEXT, width)  # input that the convolution still needs

    def push(self, x: Tensor, last: bool) -> Tensor:
        if x.shape[1]:
            attended = self._attend(x)
            self.attended = torch.cat((self.attended, attended), dim=1)
            self.gated = torch.cat((self.gated, self.block.conv.gate(attended)), dim=1)
        if last:
            self.gated = F.pad(self.gated, (0, 0, 0, CONV_CONTEXT))
        n_ready = self.gated.shape[1] - 2 * CONV_CONTEXT
        if n_ready <= 0:
            return x[:, :0]
        out = self.block.finish(self.attended[:, :n_ready], self.block.conv.mix(self.gated))
        self.attended, self.gated = self.attended[:, n_ready:], self.gated[:, n_ready:]
        return out

    def _attend(self, x: Tensor) -> Tensor:
        self._make_room(x.shape[1])
        first = self.start + self.cache.length
        code = self.trunk.position_code(torch.arange(first, first + x.shape[1], device=x.device))
        mask = Causal() if self.context_tokens is None else SlidingWindow(self.context_tokens, 0)
        return self.block.attend(x, code, mask, self.cache)

    def _make_room(self, n_tokens: int) -> None:
        """Copy the keys and values that are still needed into a cache with room for ``n_tokens`` and more."""
        old, context = self.cache, self.context_tokens
        if old.length + n_tokens <= old.max_tokens:
            return
        kept = old.length if context is None else min(old.length, context)
        keys, values = old.keys[:, :, old.length - kept :], old.values[:, :, old.length - kept :]
        self.start += old.length - kept
        if context is not None and self.start >= context:
            keys = self._rebase(keys)
        _, heads, _, head_width = old.key_buffer.shape
        capacity = (kept + n_tokens) * 5 // 4
        self.cache = KVCache(1, heads, capacity, head_width, dtype=keys.dtype, device=keys.device)
        self.cache.append(keys, values)

    def _rebase(self, keys: Tensor) -> Tensor:
        """Count positions from the first kept key.

        A float32 angle of ``n`` radians is off by up to ``n * 6e-8``, 0.03 radians in a file of six hours.
        Only differences of positions matter to rotary attention, so rotating the kept keys back changes nothing else.
        A key is rotated back at most twice.
        """
        back = self.trunk.position_code(torch.tensor([-self.start], device=keys.device))
        if not isinstance(back, Rotary):  # sinusoidal codes are absolute
            return keys
        self.start = 0
        return back(keys)


def _in_pieces(model: OmarRQ, patches: Iterable[Tensor], trunk: StreamingConformer) -> Iterator[list[Tensor]]:
    for piece in patches:
        for step in piece.split(STEP_TOKENS, dim=1):
            yield [output[0].float() for output in trunk.push(_embed(model, step))]
    nothing = model.embed.weight.new_zeros(1, 0, model.config.net.embed_dim)
    yield [output[0].float() for output in trunk.push(nothing, last=True)]


def _in_one_pass(model: OmarRQ, patches: Iterable[Tensor], layers: Sequence[int]) -> Iterator[list[Tensor]]:
    with torch.no_grad():
        _, outputs = model.trunk(_embed(model, torch.cat(list(patches), dim=1)), layers=layers)
    yield [output[0].float() for output in outputs]


@torch.no_grad()
def _embed(model: OmarRQ, patches: Tensor) -> Tensor:
    """``(1, N, P) -> (1, N, C)`` in the dtype of the trunk."""
    return model.embed(patches.to(model.embed.weight.dtype))


def _patches(model: OmarRQ, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield ``(1, N, P)``; frames that do not fill a patch yet wait for the next ones."""
    frames_per_patch = model.patch_size[1]
    rest: list[Tensor] = []
    for piece in model.frontend.stream(blocks):
        frames = torch.cat((*rest, piece), dim=1)
        n_whole = frames.shape[1] // frames_per_patch * frames_per_patch
        rest = [frames[:, n_whole:]]
        if n_whole:
            yield patchify(frames[None, :, :n_whole], model.patch_size)


def _checked(blocks: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
    for i, block in enumerate(blocks):
        if block.dim() != 1 or not block.is_floating_point():
            raise UsageError(
                f"blocks[{i}] is {block.dtype} {tuple(block.shape)}; allowed: floating (samples,)"
            )
        if not torch.isfinite(block).all():
            raise NonFiniteAudio(f"blocks[{i}]", "there are NaN or infinite samples")
        yield block.to(device)
