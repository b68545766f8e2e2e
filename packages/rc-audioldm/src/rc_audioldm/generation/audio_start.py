"""A clip as the start of another one: as a spectrogram of the kind that the VAE was trained on, and its latents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor
from torch.nn.functional import pad

from pentatonic import audio as audio_files
from pentatonic.errors import SilentAudio
from pentatonic.mel import PRESETS, MelConfig, MelFrontend
from rc_audioldm.denoising.decoding import encode_mel
from rc_audioldm.denoising.loop import Start
from rc_audioldm.model import AudioLDM

_PRESET = PRESETS["audioldm"]
_PEAK = 0.5
"""Level of the clips that the VAE was trained on."""


def mel_config(model: AudioLDM) -> MelConfig:
    """Return the spectrogram of a model: that of the released ones, or one of the same proportions for its rates."""
    rate, hop, bands = model.sample_rate, model.hop, int(model.vocoder.config.model_in_dim)
    if (rate, hop, bands) == (_PRESET.sample_rate, _PRESET.hop_length, _PRESET.n_mels):
        return _PRESET
    size = max(2, round(_PRESET.n_fft * hop / _PRESET.hop_length / 2) * 2)
    return replace(
        _PRESET,
        sample_rate=rate,
        n_fft=size,
        win_length=size,
        hop_length=hop,
        n_mels=bands,
        f_max=min(_PRESET.f_max, rate / 2),
    )


def latents_of(model: AudioLDM, samples: Tensor, seconds: float) -> Tensor:
    """Return the latents of a clip.

    Args:
        model: Its VAE encodes.
        samples: ``(n,)`` at the rate of the model; scaled to the level of training, cut at the end or filled up with
            silence.
        seconds: Length of the clip that is to be made.

    Returns:
        ``(C, T, F)`` float32.

    Raises:
        SilentAudio: The clip is silent.
    """
    peak = float(samples.abs().max()) if len(samples) else 0.0
    if not peak > 0:
        raise SilentAudio("the clip to start from", "is silent")
    config, frames = mel_config(model), model.geometry(seconds).frames
    wanted = frames * config.hop_length
    samples = pad(samples[:wanted] * (_PEAK / peak), (0, max(0, wanted - len(samples))))
    mel = MelFrontend(config)(samples)[:, :frames].T
    return encode_mel(model, mel[None, None])[0].cpu()


def start_of(model: AudioLDM, path: Path, seconds: float, steps: int, strength: float) -> Start:
    """Return how a clip starts from another one.

    Args:
        model: The model.
        path: The other clip.
        seconds: Length of the clip that is to be made.
        steps: Of denoising.
        strength: Above 0: share of the steps that are left out, up to all but one.

    Raises:
        AudioError: It cannot be read, or is silent.
    """
    samples = audio_files.load(path, sample_rate=model.sample_rate).samples[0]
    try:
        latents = latents_of(model, samples, seconds)
    except SilentAudio as error:
        raise SilentAudio(path, error.reason) from error
    return Start(latents, max(1 / steps, 1 - strength))


def same_steps(start: Start | None, steps: int) -> int:
    """Return how many steps a clip makes, so that clips of one number can be made together.

    Args:
        start: What it starts from; None: noise alone.
        steps: Of denoising.
    """
    return steps if start is None else max(1, round(steps * start.strength))
