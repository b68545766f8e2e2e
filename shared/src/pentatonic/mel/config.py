"""Configuration of a mel spectrogram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pentatonic.errors import ConfigError
from pentatonic.mel.compression import Log

MelScale = Literal["slaney", "htk"]
Norm = Literal["slaney"]
PadMode = Literal["reflect", "constant"]
ClipFill = Literal["zeros", "repeat"]


@dataclass(frozen=True)
class MelConfig:
    """Parameters of a mel spectrogram.

    The signal is centred (padded by ``n_fft / 2`` at both ends), cut into frames, weighted with a periodic
    Hann window, transformed, raised to ``power``, weighted with the filterbank, compressed by ``log``, and
    normalised by ``(x - mean) / std`` where these are given.

    With ``m`` the mel spectrogram and ``max`` taken over all bands and frames of one signal, ``log`` gives:

    - ``None``: ``m``.
    - ``"log10_1p"``: ``log10(1 + 10000 m)``.
    - ``"db"``: ``10 log10(max(m, 1e-10))``.
    - ``"db_below_peak"``: ``max(d - max d, -80)``, where ``d = 20 log10(max(m, 1e-5))``. This is librosa's
      ``amplitude_to_db`` relative to the maximum; on a power spectrogram the values are twice the decibels.
    - ``"whisper"``: ``(max(l, max l - 8) + 4) / 4``, where ``l = log10(max(m, 1e-10))``.
    - ``"ln"``: ``ln(max(m, 1e-5))``, as vocoders of the HiFi-GAN kind take it.

    Args:
        sample_rate: Samples per second of the signal.
        n_fft: Samples per Fourier transform; even.
        win_length: Samples of the window, at most ``n_fft``; a shorter window is centred in the frame.
        hop_length: Samples from one frame to the next.
        n_mels: Bands.
        f_min: Lower edge of the lowest band, in Hz.
        f_max: Upper edge of the highest band, in Hz; at most ``sample_rate / 2``.
        power: Exponent of the magnitude: 2 for power, 1 for magnitude.
        mel_scale: ``"slaney"`` (linear below 1 kHz, logarithmic above) or ``"htk"``.
        norm: ``"slaney"`` gives every band the same area; ``None`` gives every band the peak 1.
        pad_mode: What the signal is padded with at both ends: its mirror image, or zeros.
        log: Compression, see above.
        mean: Subtracted at the end.
        std: Divisor at the end.
        clip_samples: Length in samples to which the signal is padded or cut first; ``None``: its own.
        clip_fill: ``"zeros"`` appends zeros up to the next multiple of ``clip_samples``. ``"repeat"``
            makes exactly one clip: a shorter signal is repeated as often as it fits and then followed by
            zeros; of a longer one the middle is kept.
        drop_last_frame: Leave out the last frame.
        double: Compute in float64 where the original did: a float32 transform is off by some 1e-4 dB in bands that are
            100 dB below the loudest one. The result is float32.

    Raises:
        ConfigError: A value is out of range; the message names it.
    """

    sample_rate: int
    n_fft: int
    win_length: int
    hop_length: int
    n_mels: int
    f_min: float
    f_max: float
    power: float = 2.0
    mel_scale: MelScale = "slaney"
    norm: Norm | None = "slaney"
    pad_mode: PadMode = "reflect"
    log: Log | None = None
    mean: float | None = None
    std: float | None = None
    clip_samples: int | None = None
    clip_fill: ClipFill = "zeros"
    drop_last_frame: bool = False
    double: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (
            ("mel_scale", get_args(MelScale)),
            ("norm", (*get_args(Norm), None)),
            ("pad_mode", get_args(PadMode)),
            ("log", (*get_args(Log), None)),
            ("clip_fill", get_args(ClipFill)),
        ):
            if (value := getattr(self, name)) not in allowed:
                raise ConfigError(f"{name} is {value!r}; allowed: {', '.join(map(repr, allowed))}")
        for name in ("sample_rate", "n_fft", "win_length", "hop_length", "n_mels", "power"):
            if not (value := getattr(self, name)) > 0:
                raise ConfigError(f"{name} is {value}; it must be positive")
        if self.n_fft % 2:
            raise ConfigError(f"n_fft is {self.n_fft}; it must be even")
        if self.win_length > self.n_fft:
            raise ConfigError(f"win_length is {self.win_length}; at most n_fft = {self.n_fft} is allowed")
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise ConfigError(
                f"f_min, f_max are {self.f_min}, {self.f_max} Hz; "
                f"0 <= f_min < f_max <= {self.sample_rate / 2} (half the sample rate) is allowed"
            )
        if (self.mean is None) != (self.std is None) or (self.std is not None and not self.std > 0):
            raise ConfigError(f"mean, std are {self.mean}, {self.std}; give both, std positive, or neither")
        if self.clip_samples is not None and self.clip_samples < self.shortest:
            raise ConfigError(f"clip_samples is {self.clip_samples}; at least {self.shortest} is allowed")

    @property
    def shortest(self) -> int:
        """Fewest samples of the first frame, after padding to a clip; mirrored ends need half a frame."""
        padded = self.n_fft // 2 + 1 if self.pad_mode == "reflect" else 1
        return max(padded, self.hop_length) if self.drop_last_frame else padded
