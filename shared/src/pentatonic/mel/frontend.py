"""Signals to mel spectrograms.

Shapes: n samples, S signals, M = n_mels bands, f frames of a block.

A signal is processed in blocks of frames that begin at fixed multiples of the block length. So a recording of any
length needs memory for its result and for one block, a block fits into the cache of a CPU, and a stream gives the same
bits as the whole signal in one call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pentatonic.errors import AudioTooShort, ConfigError, EmptyAudio, UsageError
from pentatonic.mel.compression import PEAK_RELATIVE, below_peak, compress
from pentatonic.mel.config import MelConfig
from pentatonic.mel.filterbank import mel_filterbank
from pentatonic.mel.framing import clipped, finite, segments
from pentatonic.mel.presets import PRESETS

# A band has few nonzero bins. Four groups of neighbouring bands, each multiplied with its own bins alone, take half the
# time of one matrix product with all bins.
_GROUPS = 4
# Windowed samples per block: 1 MB, which fits the cache of a CPU; 64 MB, which keeps a GPU busy.
_CPU_BLOCK, _GPU_BLOCK = 2**18, 2**24


class MelFrontend(nn.Module):
    """Mel spectrogram of a signal, as defined by a :class:`MelConfig`.

    Always computes in float32, or in float64 with ``double``: autocast, TensorFloat-32 and casting the module
    change nothing. Differentiable in the signal; below the floor of a logarithm the gradient is zero. Window and
    filterbank are not part of the state dict.

    Args:
        config: Parameters of the spectrogram.

    Example:
        >>> import torch
        >>> frontend = MelFrontend.preset("omar-rq-16k")
        >>> frontend(torch.zeros(16000)).shape
        torch.Size([96, 63])
    """

    window: Tensor
    filterbank: Tensor

    def __init__(self, config: MelConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("window", None, persistent=False)
        self.register_buffer("filterbank", None, persistent=False)
        self.reset_buffers()

    @classmethod
    def preset(cls, name: str) -> Self:
        """The frontend of a published model, by its name in :data:`PRESETS`.

        Raises:
            ConfigError: There is no such preset; the message lists all.
        """
        if name not in PRESETS:
            raise ConfigError(f"there is no mel preset {name!r}; allowed: {', '.join(PRESETS)}")
        return cls(PRESETS[name])

    def reset_buffers(self, device: torch.device | str = "cpu") -> None:
        """Fill window and filterbank from the configuration, on ``device``.

        Called automatically when the module is moved or cast. Only a loader that replaces buffers without calling
        ``to`` has to call it.
        """
        config = self.config
        # An explicit device, so that a model built on the meta device still gets real values.
        dtype = torch.float64 if config.double else torch.float32
        window = torch.hann_window(config.win_length, dtype=dtype, device="cpu")
        missing = config.n_fft - config.win_length
        self.window = F.pad(window, (missing // 2, missing - missing // 2)).to(device)
        filterbank = mel_filterbank(
            config.sample_rate,
            config.n_fft,
            config.n_mels,
            f_min=config.f_min,
            f_max=config.f_max,
            mel_scale=config.mel_scale,
            norm=config.norm,
        )
        self.filterbank = filterbank.to(device)
        self._bins = [_nonzero_columns(group) for group in filterbank.chunk(_GROUPS)]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # Half precision, or to_empty() after building on the meta device, would damage the constants.
        super()._apply(fn, recurse)
        self.reset_buffers(self.window.device)
        return self

    @property
    def min_samples(self) -> int:
        """The fewest samples that give a frame."""
        return 1 if self.config.clip_samples else self.config.shortest

    def frames(self, n_samples: int) -> int:
        """Frames of a signal of ``n_samples`` samples.

        Raises:
            EmptyAudio: ``n_samples`` is 0.
            AudioTooShort: ``n_samples`` is below :attr:`min_samples`.
        """
        config = self.config
        if n_samples == 0:
            raise EmptyAudio("audio", f"there are no samples; at least {self.min_samples} are needed")
        if n_samples < self.min_samples:
            raise AudioTooShort("audio", f"{n_samples} samples; at least {self.min_samples} are needed")
        if config.clip_samples:
            clips = 1 if config.clip_fill == "repeat" else -(-n_samples // config.clip_samples)
            n_samples = clips * config.clip_samples
        return 1 + n_samples // config.hop_length - config.drop_last_frame

    def forward(self, audio: Tensor) -> Tensor:
        """Mel spectrogram of whole signals.

        On a CPU a batch gives the same bits as its signals one by one; on a GPU they agree up to rounding.

        Args:
            audio: ``(..., n)``, floating point at ``config.sample_rate``, on the module's device.

        Returns:
            ``(..., n_mels, frames(n))``, float32.

        Raises:
            UsageError: ``audio`` is not a floating-point tensor, or is on another device.
            EmptyAudio: There are no samples, or no signals.
            AudioTooShort: There are fewer samples than :attr:`min_samples`.
            NonFiniteAudio: A sample is NaN or infinite.
        """
        self._check(audio)
        *batch, n = audio.shape
        frames = self.frames(n)
        if audio.numel() == 0:
            raise EmptyAudio("audio", f"the shape is {tuple(audio.shape)}; at least one signal is needed")
        rows = audio.reshape(-1, n)
        # One signal at a time fits into the cache of a CPU; a GPU is faster with all at once.
        size = 1 if rows.device.type == "cpu" else len(rows)
        if torch.is_grad_enabled() and audio.requires_grad:
            mel = torch.cat([torch.cat(list(self._blocks(group)), dim=-1) for group in rows.split(size)])
            mel = self._finish(mel, mel.amax(dim=(-2, -1), keepdim=True)) if self._needs_peak else mel
        else:
            shape = (len(rows), self.config.n_mels, frames)
            mel = torch.empty(shape, dtype=torch.float32, device=rows.device)
            for group, out in zip(rows.split(size), mel.split(size), strict=True):
                self._fill(out, self._blocks(group))
        return mel.reshape(*batch, self.config.n_mels, frames)

    def stream(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Mel spectrogram of a signal that arrives in blocks.

        Concatenated, the results are bit for bit those of :meth:`forward` of the whole signal. Memory is bounded, with
        two exceptions: a logarithm relative to the maximum of the signal keeps the spectrogram until the end,
        and ``clip_fill="repeat"`` keeps the signal.

        Args:
            blocks: Consecutive ``(n,)`` pieces of any lengths, floating point at ``config.sample_rate``.

        Yields:
            Consecutive ``(n_mels, f)`` pieces, float32.

        Raises:
            UsageError: A block is not a one-dimensional floating-point tensor, or is on another device.
            EmptyAudio: There are no samples at all.
            AudioTooShort: There are fewer samples than :attr:`min_samples` in all.
            NonFiniteAudio: A sample is NaN or infinite.
        """
        mels = self._mels(self._checked_rows(blocks), self._block_frames(1))
        if self._needs_peak:
            stored = list(mels)
            peak = torch.stack([mel.amax() for mel in stored]).amax()
            mels = (self._finish(mel, peak) for mel in stored)
        for mel in mels:
            yield mel[0]

    def power_spectrogram(self, audio: Tensor) -> Tensor:
        """The spectrogram before the mel filters, for augmentations that act on it before :meth:`from_power`.

        ``from_power(power_spectrogram(audio))`` equals :meth:`forward`, but holds the whole spectrogram in memory.

        Args:
            audio: As for :meth:`forward`.

        Returns:
            ``(..., n_fft // 2 + 1, frames(n))`` float32: magnitudes to the configured power.

        Raises:
            PentatonicError: As :meth:`forward`.
        """
        self._check(audio)
        *batch, n = audio.shape
        self.frames(n)  # raises for a signal that is too short
        pieces = segments(clipped(finite([audio.reshape(-1, n)]), self.config), self.config, n)
        power = torch.cat([self._power(piece) for piece in pieces], dim=-2).mT
        return power.reshape(*batch, *power.shape[-2:])

    def from_power(self, power: Tensor) -> Tensor:
        """Mel spectrogram of a power spectrogram.

        Args:
            power: ``(..., n_fft // 2 + 1, f)`` float32, as :meth:`power_spectrogram` gives it.

        Returns:
            ``(..., n_mels, f)`` float32.
        """
        mel = self._bands(power.mT)
        return self._finish(mel, mel.amax(dim=(-2, -1), keepdim=True)) if self._needs_peak else mel

    def _check(self, audio: Tensor) -> None:
        if not isinstance(audio, Tensor) or audio.dim() == 0:
            raise UsageError(f"audio is {audio!r:.80}; a tensor (..., samples) is allowed")
        if not audio.is_floating_point():
            raise UsageError(f"audio is {audio.dtype}; floating point in [-1, 1] is allowed")
        if audio.device != self.window.device:
            raise UsageError(f"audio is on {audio.device}, the frontend on {self.window.device}: move one")

    def _checked_rows(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        n = 0
        for block in blocks:
            self._check(block)
            if block.dim() != 1:
                raise UsageError(f"a block has shape {tuple(block.shape)}; (samples,) is allowed")
            n += len(block)
            yield block.unsqueeze(0)
        self.frames(n)  # raises if there were too few samples

    def _block_frames(self, rows: int) -> int:
        budget = _CPU_BLOCK if self.window.device.type == "cpu" else _GPU_BLOCK
        return max(budget // (self.config.n_fft * rows), 1)

    def _blocks(self, rows: Tensor) -> Iterator[Tensor]:
        # Pieces of about one block, so that the whole signal is never copied for padding.
        block = self._block_frames(len(rows))
        return self._mels(rows.split(block * self.config.hop_length, dim=-1), block)

    def _mels(self, pieces: Iterable[Tensor], block: int) -> Iterator[Tensor]:
        """Consecutive ``(S, M, f)`` blocks of consecutive ``(S, n)`` pieces, before :meth:`_finish`."""
        for segment in segments(clipped(finite(pieces), self.config), self.config, block):
            yield self._mel(segment)

    def _mel(self, segment: Tensor) -> Tensor:
        return self._bands(self._power(segment))

    def _power(self, segment: Tensor) -> Tensor:
        """Frames ``(S, f, n_fft // 2 + 1)`` of a piece ``(S, n)``."""
        config = self.config
        with torch.autocast(device_type=segment.device.type, enabled=False):
            spectrum = torch.fft.rfft(segment.unfold(-1, config.n_fft, config.hop_length) * self.window)
            if config.power == 2:
                return spectrum.real.square() + spectrum.imag.square()
            return spectrum.abs().pow(config.power)

    def _bands(self, power: Tensor) -> Tensor:
        """``(S, M, f)`` of frames ``(S, f, n_fft // 2 + 1)``, before :meth:`_finish`."""
        with torch.autocast(device_type=power.device.type, enabled=False):
            groups = zip(self.filterbank.chunk(_GROUPS), self._bins, strict=True)
            mel = torch.cat([_matmul(group[:, bins], power[..., bins].mT) for group, bins in groups], dim=-2)
            mel = compress(mel, self.config.log).float()
        return mel if self._needs_peak else self._normalise(mel)

    def _fill(self, out: Tensor, blocks: Iterable[Tensor]) -> None:
        """Copy the blocks into ``out (S, M, frames)``, and finish them in place."""
        first = 0
        for block in blocks:
            out[..., first : first + block.shape[-1]] = block
            first += block.shape[-1]
        if self._needs_peak:
            peak = out.amax(dim=(-2, -1), keepdim=True)
            for part in out.split(self._block_frames(len(out)), dim=-1):
                part.copy_(self._finish(part, peak))

    @property
    def _needs_peak(self) -> bool:
        return self.config.log in PEAK_RELATIVE

    def _finish(self, mel: Tensor, peak: Tensor) -> Tensor:
        return self._normalise(below_peak(mel, peak, self.config.log))

    def _normalise(self, mel: Tensor) -> Tensor:
        mean, std = self.config.mean, self.config.std
        return mel if mean is None or std is None else (mel - mean) / std


def _nonzero_columns(weights: Tensor) -> slice:
    used = weights.any(dim=0).nonzero()
    return slice(int(used.min()), int(used.max()) + 1) if len(used) else slice(0)


def _matmul(filterbank: Tensor, power: Tensor) -> Tensor:
    """``filterbank @ power`` in the type of ``power``, also where the process allows TF32 or bfloat16 products."""
    if power.dtype == torch.float64:
        return filterbank.double() @ power
    backend = {"cpu": torch.backends.mkldnn, "cuda": torch.backends.cuda}.get(power.device.type)
    # torch.compile cannot trace this flag, so it gets the form that is always exact.
    if backend and (torch.compiler.is_compiling() or backend.matmul.fp32_precision not in ("none", "ieee")):
        return (filterbank.double() @ power.double()).float()
    return filterbank @ power
