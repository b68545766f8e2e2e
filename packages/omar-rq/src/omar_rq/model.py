"""OMAR-RQ: audio to embeddings. Plain single-device PyTorch; files are the business of ``weights.py``.

audio (B, n) -> front end (B, F, T) -> patches (B, N, P) -> embed (B, N, C) -> trunk -> layers (L, B, N, C)

Shape legend: B batch, n samples, F values per frame, T frames, N tokens, P = F_p * T_p values per patch,
C width, L layers. Source: arXiv 2507.03482.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from omar_rq.config import ConformerConfig, ModelConfig
from omar_rq.conformer import Conformer
from omar_rq.frontends import Frontend, build_frontend, patchify
from omar_rq.transformer import Transformer
from pentatonic.audio import resample
from pentatonic.errors import (
    AudioError,
    AudioTooShort,
    ConfigError,
    EmptyAudio,
    InputError,
    NonFiniteAudio,
    UsageError,
)

if TYPE_CHECKING:
    from omar_rq.tokens import Tokenizer

Signal = Tensor | np.ndarray


class LayerIndexError(InputError, IndexError):
    """A layer was asked for that the trunk does not have."""


class OmarRQ(nn.Module):
    """The encoder: front end, patch embedding and trunk.

    Args:
        config: What to build. Weights are fresh; see ``omar_rq.weights`` for trained ones.

    Attributes:
        config: As given.
        frontend: Audio to frames, float32 in every dtype of the model.
        embed: Linear layer on patches, P -> C.
        trunk: :class:`Conformer` or :class:`Transformer`.
        tokenizer: The quantised targets of pre-training, once ``omar_rq.weights`` has attached them.

    Raises:
        ConfigError: The trunk brings its own patches or a class token, or the front end cannot be built.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.frontend: Frontend = build_frontend(config.input)
        self.embed = nn.Linear(config.patch_dim, config.net.embed_dim)
        self.trunk: Conformer | Transformer
        if isinstance(config.net, ConformerConfig):
            self.trunk = Conformer(config.net)
        elif config.net.do_vit_tokenization or config.net.do_classification:
            raise ConfigError(
                "net.do_vit_tokenization and net.do_classification must be false here: the model embeds the "
                "patches itself and has one output per token"
            )
        else:
            self.trunk = Transformer(config.net)
        self.tokenizer: Tokenizer | None = None

    # What the model hears and how fast it speaks; `sr`, `net`, ... are the names of the original.

    @property
    def eps(self) -> float:
        """Embeddings per second."""
        return self.config.eps

    @property
    def sample_rate(self) -> int:
        """Samples per second of the audio the model reads."""
        return self.config.sample_rate

    @property
    def hop_length(self) -> int:
        """Samples from one frame of the front end to the next."""
        return self.config.input.hop_length

    @property
    def patch_size(self) -> tuple[int, int]:
        """Rows and frames of a patch, (F_p, T_p)."""
        return self.config.input.patch_size

    @property
    def rep_dims(self) -> int:
        """Values per frame of the front end, F."""
        return self.config.input.rep_dims

    @property
    def sr(self) -> int:
        """Same as :attr:`sample_rate`."""
        return self.sample_rate

    @property
    def net(self) -> Conformer | Transformer:
        """Same as ``trunk``."""
        return self.trunk

    @property
    def embedding_layer(self) -> nn.Linear:
        """Same as ``embed``."""
        return self.embed

    @property
    def input_rep(self) -> Frontend:
        """Same as ``frontend``."""
        return self.frontend

    def n_tokens(self, n_samples: int) -> int:
        """Return the number of tokens, N, of ``n_samples`` samples at :attr:`sample_rate`."""
        return self.frontend.frames(n_samples) // self.patch_size[1]

    def timestamps(self, n_tokens: int) -> Tensor:
        """Return where each token starts, in seconds: ``(n_tokens,)`` float64."""
        return torch.arange(n_tokens, dtype=torch.float64) / self.eps

    def encode(
        self, audio: Tensor, layers: int | Iterable[int] | None = None, lengths: Tensor | None = None
    ) -> Tensor:
        """Encode a batch, with gradients.

        Args:
            audio: ``(B, n)`` floating, mono, at :attr:`sample_rate`, on the model's device.
            layers: Indices of trunk blocks, negative ones from the end; ``None``: the last.
            lengths: ``(B,)`` samples per row where rows are padded on the right. Each row then gives what it
                gives alone, and what is returned after its last token means nothing.

        Returns:
            ``(L, B, N, C)`` in the trunk's dtype, layers ascending.

        Raises:
            LayerIndexError: A layer is out of range.
            AudioTooShort: A row does not fill one patch.
        """
        blocks = sorted(set(layer_indices(layers, len(self.trunk.blocks))))
        return torch.stack(self._encode(audio, blocks, lengths))

    def _encode(self, audio: Tensor, blocks: Sequence[int], lengths: Tensor | None) -> list[Tensor]:
        tokens = None
        if lengths is None:
            patches = patchify(self.frontend(audio), self.patch_size)
        else:  # row by row: a front end mirrors the end of the signal, not that of the padding
            rows = [row[None, :n] for row, n in zip(audio, lengths.tolist(), strict=True)]
            streams = [patchify(self.frontend(row), self.patch_size)[0] for row in rows]
            tokens = torch.tensor([len(stream) for stream in streams], device=audio.device)
            patches = pad_sequence(streams, batch_first=True)
        x = self.embed(patches.to(self.embed.weight.dtype))
        return self.trunk(x, layers=blocks, lengths=tokens)[1]

    @overload
    def extract_embeddings(
        self,
        audio: Signal,
        layers: int | Iterable[int] | None = None,
        *,
        sample_rate: int | None = None,
        order: Literal["ascending", "as_given"] = "ascending",
        requires_grad: bool = False,
    ) -> Tensor: ...

    @overload
    def extract_embeddings(
        self,
        audio: Sequence[Signal],
        layers: int | Iterable[int] | None = None,
        *,
        sample_rate: int | None = None,
        order: Literal["ascending", "as_given"] = "ascending",
        requires_grad: bool = False,
    ) -> list[Tensor]: ...

    def extract_embeddings(
        self,
        audio: Signal | Sequence[Signal],
        layers: int | Iterable[int] | None = None,
        *,
        sample_rate: int | None = None,
        order: Literal["ascending", "as_given"] = "ascending",
        requires_grad: bool = False,
    ) -> Tensor | list[Tensor]:
        """Embed audio of any length in one piece; checks everything, needs no preparation.

        Args:
            audio: Mono samples in [-1, 1], floating: ``(n,)``, ``(B, n)``, or a list of ``(n_i,)`` of any
                lengths, as tensors or numpy arrays.
            layers: Indices of trunk blocks, negative ones from the end; ``None``: the last. Blocks after the
                highest one are not computed.
            sample_rate: Of ``audio``, in Hz; other rates are resampled. ``None``: that of the model, with a
                warning.
            order: ``"ascending"`` sorts the layers and drops repetitions, as the original does;
                ``"as_given"`` keeps them as asked.
            requires_grad: Keep the graph for fine-tuning.

        Returns:
            ``(L, B, N, C)`` float32 on the model's device, token ``t`` starting at ``t / eps`` seconds; for a
            list of signals a list of ``(L, N_i, C)``, equal to what each gives alone.

        Raises:
            EmptyAudio: There are no samples.
            NonFiniteAudio: There are NaN or infinite samples.
            AudioTooShort: A signal does not fill one patch.
            AudioError: A signal has the wrong number of axes or is not floating.
            LayerIndexError: A layer is out of range.
            UsageError: No layer, an unknown order, or a sample rate that is not positive.
        """
        if order not in ("ascending", "as_given"):
            raise UsageError(f"order is {order!r}; allowed: 'ascending', 'as_given'")
        asked = layer_indices(layers, len(self.trunk.blocks))
        blocks = sorted(set(asked))
        listed = isinstance(audio, (list, tuple))
        rows = prepare_audio(
            audio,
            sample_rate=sample_rate,
            model_rate=self.sample_rate,
            min_samples=self.frontend.min_samples,
            device=self.embed.weight.device,
        )
        counts = [len(row) for row in rows]
        lengths = torch.tensor(counts) if len(set(counts)) > 1 else None
        with nullcontext() if requires_grad else torch.inference_mode():
            outputs = self._encode(pad_sequence(rows, batch_first=True), blocks, lengths)
        # Stacked outside inference mode: the result can be trained on.
        picked = blocks if order == "ascending" else asked
        with torch.set_grad_enabled(requires_grad and torch.is_grad_enabled()):
            embeddings = torch.stack([outputs[blocks.index(i)].float() for i in picked])
        if not listed:
            return embeddings
        return [embeddings[:, i, : self.n_tokens(n)] for i, n in enumerate(counts)]

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        revision: str | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> OmarRQ:
        """Load a model, in evaluation mode; see :func:`omar_rq.weights.from_pretrained`."""
        from omar_rq.weights import from_pretrained

        return from_pretrained(name_or_path, revision=revision, device=device, dtype=dtype)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``; see :func:`omar_rq.weights.save_pretrained`."""
        from omar_rq.weights import save_pretrained

        save_pretrained(self, directory)


def prepare_audio(
    audio: Signal | Sequence[Signal],
    *,
    sample_rate: int | None,
    model_rate: int,
    min_samples: int,
    device: torch.device | str = "cpu",
) -> list[Tensor]:
    """Check signals, resample them and move them.

    Args:
        audio: Mono samples in [-1, 1], floating: ``(n,)``, ``(B, n)``, or a list of ``(n_i,)``.
        sample_rate: Of ``audio``, in Hz; ``None``: ``model_rate``, with a warning.
        model_rate: Of the result, in Hz.
        min_samples: Fewest samples at ``model_rate``.
        device: Of the result.

    Returns:
        One ``(n_i,)`` float32 tensor per signal.

    Raises:
        AudioError: As :meth:`OmarRQ.extract_embeddings`.
        UsageError: ``sample_rate`` is not positive.
    """
    if sample_rate is None:
        _warn_of_assumed_rate(model_rate)
        sample_rate = model_rate
    if sample_rate <= 0:
        raise UsageError(f"sample_rate is {sample_rate}; allowed: a positive number of Hz")
    if isinstance(audio, (list, tuple)):
        signals = [_checked(signal, f"audio[{i}]", axes=(1,)) for i, signal in enumerate(audio)]
    else:
        signals = list(torch.atleast_2d(_checked(audio, "audio", axes=(1, 2))))
    if not signals:
        raise EmptyAudio("audio", "there are no signals")
    if sample_rate != model_rate:
        signals = [_resampled(signal, sample_rate, model_rate) for signal in signals]
    for i, signal in enumerate(signals):
        if len(signal) < min_samples:
            reason = f"{len(signal)} samples at {model_rate} Hz; one token needs at least {min_samples}"
            raise AudioTooShort(f"audio[{i}]", reason)
    return [signal.to(device) for signal in signals]


def layer_indices(layers: int | Iterable[int] | None, depth: int) -> list[int]:
    """Return block indices 0 to ``depth - 1``, in the order asked.

    Args:
        layers: One index or several, negative ones from the end; ``None``: the last.
        depth: Number of blocks.

    Raises:
        UsageError: No layer, or something that is no whole number.
        LayerIndexError: A layer is out of range.
    """
    if layers is None:
        return [depth - 1]
    try:
        asked = layers if isinstance(layers, Iterable) else (layers,)
        indices = [operator.index(layer) for layer in asked]
    except TypeError:
        raise UsageError(f"layers is {layers!r}; allowed: a whole number, or several") from None
    if not indices:
        raise UsageError(f"layers is empty; allowed: indices from {-depth} to {depth - 1}")
    for index in indices:
        if not -depth <= index < depth:
            raise LayerIndexError(f"layer {index} of a trunk with {depth}; allowed: {-depth} to {depth - 1}")
    return [index % depth for index in indices]


def _checked(signal: object, name: str, axes: tuple[int, ...]) -> Tensor:
    """Return one array as a float32 tensor, or say what is wrong with it."""
    if isinstance(signal, np.ndarray):
        if signal.dtype.kind != "f":
            raise AudioError(name, f"dtype is {signal.dtype}; allowed: floating samples in [-1, 1]")
        signal = torch.from_numpy(signal.astype(np.float32))
    if not isinstance(signal, Tensor) or not signal.is_floating_point():
        kind = signal.dtype if isinstance(signal, Tensor) else type(signal).__name__
        raise AudioError(name, f"is {kind}; allowed: a floating tensor or numpy array of samples in [-1, 1]")
    if signal.dim() not in axes:
        allowed = " or ".join("(samples,)" if n == 1 else "(batch, samples)" for n in axes)
        raise AudioError(name, f"has the shape {tuple(signal.shape)}; allowed: {allowed}")
    if signal.numel() == 0:
        raise EmptyAudio(name, "there are no samples")
    if not torch.isfinite(signal).all():
        raise NonFiniteAudio(name, "there are NaN or infinite samples")
    return signal.float()


def _resampled(signal: Tensor, sample_rate: int, to_rate: int) -> Tensor:
    if signal.requires_grad:
        return resample(signal, sample_rate, to_rate, method="kaiser")
    return resample(signal.detach().cpu(), sample_rate, to_rate)


@cache
def _warn_of_assumed_rate(sample_rate: int) -> None:
    """Warn once per process and rate: a wrong rate gives wrong embeddings without any other sign."""
    warnings.warn(
        f"audio is taken to have {sample_rate} samples per second; pass sample_rate= to make sure",
        stacklevel=4,
    )
