"""Check and prepare the input of a model: audio signals and layer indices.

No model is imported here: sample rate, shortest signal and depth are arguments.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from pentatonic.audio import resample
from pentatonic.errors import (
    AudioError,
    AudioTooShort,
    EmptyAudio,
    InputError,
    NonFiniteAudio,
    UsageError,
)

Signal = Tensor | np.ndarray


class LayerIndexError(InputError, IndexError):
    """A requested layer does not exist in the trunk."""


def prepare_audio(
    audio: Signal | Sequence[Signal],
    *,
    sample_rate: float | None,
    model_rate: int,
    min_samples: int,
    device: torch.device | str = "cpu",
) -> list[Tensor]:
    """Check signals, resample them, and move them to a device.

    Args:
        audio: Mono samples in [-1, 1], floating: ``(n,)``, ``(B, n)``, or a list of ``(n_i,)``.
        sample_rate: Sample rate of ``audio`` in Hz; ``None``: ``model_rate``, with a warning.
        model_rate: Sample rate of the result in Hz.
        min_samples: Shortest signal allowed, in samples at ``model_rate``.
        device: Device of the result.

    Returns:
        One ``(n_i,)`` float32 tensor per signal.

    Raises:
        AudioError: As :meth:`OmarRQ.extract_embeddings`.
        UsageError: ``sample_rate`` is not a positive whole number.
    """
    if sample_rate is None:
        _warn_of_assumed_rate(model_rate)
        sample_rate = model_rate
    sample_rate = _whole_rate(sample_rate)
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


def _whole_rate(sample_rate: float) -> int:
    """Return a rate as an int; 44100.0, as other libraries give it, is one too."""
    try:
        rate = int(sample_rate)
    except (TypeError, ValueError, OverflowError):
        rate = 0
    if rate != sample_rate or rate <= 0:
        raise UsageError(f"sample_rate is {sample_rate}; allowed: a positive whole number of Hz")
    return rate


def layer_indices(layers: int | Iterable[int] | None, depth: int) -> list[int]:
    """Return block indices from 0 to ``depth - 1``, in the requested order.

    Args:
        layers: One index or several, negative ones from the end; ``None``: the last.
        depth: Number of blocks.

    Raises:
        UsageError: No layer is given, or something that is not a whole number.
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
            raise LayerIndexError(
                f"layer {index} of a trunk with {depth} layers; allowed: {-depth} to {depth - 1}"
            )
    return [index % depth for index in indices]


def _checked(signal: object, name: str, axes: tuple[int, ...]) -> Tensor:
    """Return one array as a float32 tensor.

    Raises:
        AudioError: It is not a floating array, has the wrong number of axes, is empty, or is not finite.
    """
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
    """Warn once per process and rate: embeddings of audio at a wrong rate are wrong, and nothing else shows it."""
    warnings.warn(
        f"audio is assumed to have {sample_rate} samples per second; pass sample_rate= to state its rate",
        stacklevel=4,
    )
