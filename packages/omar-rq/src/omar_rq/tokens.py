"""Audio to the discrete targets of pre-training, and back for scalar quantisers.

Shapes: B batch, n samples, N tokens, K streams: representation by representation, in the order of the
configuration, and within one codebook by codebook.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from omar_rq.config import ModelConfig
from omar_rq.frontends import Frontend, Mel, build_frontend, patchify
from omar_rq.frontends.spec_augment import SpecAugmentation
from omar_rq.quantizers import FiniteScalarQuantizer, RandomProjectionQuantizer, build_quantizers
from omar_rq.signals import Signal, prepare_audio
from pentatonic.errors import ConfigError, InputError, UsageError

# Front ends round frame counts differently; streams that differ by more do not come from the same audio.
MAX_SPREAD_TOKENS = 2


class Decoded(NamedTuple):
    """Decoded tokens of one stream."""

    codes: Tensor
    """``(..., levels)`` float32 in [-1, 1]."""
    patches: Tensor
    """``(..., P)`` float32: the codes projected to the size of a patch; not a reconstruction of it."""


class Tokenizer(nn.Module):
    """Front ends of the targets and their frozen quantisers.

    Args:
        config: Model configuration with targets and quantiser.
        input_frontend: Front end of the model. It is shared with a target of the same configuration, and limits the
            number of tokens.

    Attributes:
        frontends: One per target.
        quantizers: One list per target, one quantiser per codebook.

    Raises:
        ConfigError: The configuration has no targets or no quantiser, or targets of another sample rate or
            number of tokens per second.
    """

    def __init__(self, config: ModelConfig, input_frontend: Frontend) -> None:
        super().__init__()
        if config.quantizer is None or not config.targets:
            raise ConfigError("the model has no targets or no quantizer, so it cannot tokenise")
        self.config = config
        self.input_frontend = input_frontend
        self.frontends, self.quantizers = nn.ModuleList(), nn.ModuleList()
        for target in config.targets:
            if target.sample_rate != config.sample_rate:
                raise ConfigError(
                    f"target {target.name} reads {target.sample_rate} Hz, the input {config.sample_rate} Hz; "
                    "all front ends read the same audio"
                )
            shared = target == input_frontend.config
            self.frontends.append(input_frontend if shared else build_frontend(target))
            rate_hz = target.frame_rate / target.patch_size[1]
            if not math.isclose(rate_hz, config.embedding_rate_hz, rel_tol=1e-3):
                raise ConfigError(
                    f"target {target.name} has patches of {target.patch_size[1]} frames, {rate_hz:g} tokens per "
                    f"second, but the input has {config.embedding_rate_hz:g}; allowed: the same rate, which takes "
                    f"patches of {target.frame_rate / config.embedding_rate_hz:g} frames (patch_size of this target)"
                )
            patch_dim = target.patch_size[0] * target.patch_size[1]
            self.quantizers.append(build_quantizers(config.quantizer, patch_dim))

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Codes of each of the K streams."""
        return tuple(quantizer.codebook_size for quantizer in self._streams())

    @property
    def min_samples(self) -> int:
        """Fewest samples that give a token in every stream."""
        frontends = (self.input_frontend, *self.frontends)
        return max(cast(Frontend, frontend).min_samples for frontend in frontends)

    @torch.no_grad()
    def forward(self, audio: Tensor, augmentation: SpecAugmentation | None = None) -> Tensor:
        """Tokenise a batch.

        Args:
            audio: ``(B, n)`` floating, at the model's sample rate.
            augmentation: Augmentation of the model's input front end, where it is also a target.

        Returns:
            ``(B, N, K)`` int64, every stream truncated to the shortest.

        Raises:
            AudioTooShort: Fewer than :attr:`min_samples` samples.
            InputError: The streams differ by more than ``MAX_SPREAD_TOKENS``.
        """
        streams = []
        counts = {"input": self.input_frontend.frames(audio.shape[1]) // self.input_frontend.patch_size[1]}
        for frontend, quantizers in zip(self.frontends, self.quantizers, strict=True):
            frontend = cast(Frontend, frontend)
            if augmentation is not None and frontend is self.input_frontend:
                spectrogram = cast(Mel, frontend).augmented(audio, augmentation)
            else:
                spectrogram = frontend(audio)
            patches = patchify(spectrogram, frontend.patch_size)
            counts[frontend.config.name] = patches.shape[1]
            streams += [quantizer(patches) for quantizer in cast(nn.ModuleList, quantizers)]
        n_tokens = shortest(counts)
        return torch.stack([stream[:, :n_tokens] for stream in streams], dim=-1)

    def tokenize(
        self, audio: Signal | Sequence[Signal], *, sample_rate: float | None = None
    ) -> Tensor | list[Tensor]:
        """Tokenise audio of any length and rate; arguments and errors as ``OmarRQ.extract_embeddings``.

        Returns:
            ``(B, N, K)`` int64; for a list of signals a list of ``(N_i, K)``.
        """
        rows = prepare_audio(
            audio,
            sample_rate=sample_rate,
            model_rate=self.config.sample_rate,
            min_samples=self.min_samples,
            device=next(self.quantizers.buffers()).device,
        )
        if isinstance(audio, (list, tuple)):
            return [self(row[None])[0] for row in rows]
        return self(torch.stack(rows))

    @torch.no_grad()
    def detokenize(self, tokens: Tensor) -> list[Decoded]:
        """Decode tokens of finite scalar quantisers.

        Args:
            tokens: ``(..., K)`` integers.

        Returns:
            One entry per stream.

        Raises:
            UsageError: The codebooks are random, K differs, or a token is out of range.
        """
        streams = self._streams()
        if tokens.shape[-1] != len(streams):
            raise UsageError(f"tokens have {tokens.shape[-1]} streams; this model has {len(streams)}")
        decoded = []
        for k, quantizer in enumerate(streams):
            if not isinstance(quantizer, FiniteScalarQuantizer):
                raise UsageError(
                    "tokens of random codebooks cannot be decoded, those of scalar quantisers can"
                )
            decoded.append(Decoded(quantizer.codes(tokens[..., k]), quantizer.decode(tokens[..., k])))
        return decoded

    def _streams(self) -> list[RandomProjectionQuantizer | FiniteScalarQuantizer]:
        groups = cast("list[list[RandomProjectionQuantizer | FiniteScalarQuantizer]]", self.quantizers)
        return [quantizer for group in groups for quantizer in group]


def shortest(n_tokens: Mapping[str, int]) -> int:
    """Return the fewest tokens of several streams of the same audio.

    Args:
        n_tokens: Stream name -> number of tokens.

    Raises:
        InputError: They differ by more than ``MAX_SPREAD_TOKENS``.
    """
    low, high = min(n_tokens.values()), max(n_tokens.values())
    if high - low > MAX_SPREAD_TOKENS:
        counts = ", ".join(f"{name} {count}" for name, count in n_tokens.items())
        raise InputError(
            f"streams of the same audio have different numbers of tokens ({counts}); allowed: a difference of "
            f"{MAX_SPREAD_TOKENS}. Patch sizes and hops do not agree"
        )
    return low
