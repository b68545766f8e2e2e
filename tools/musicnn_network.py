"""The network of musicnn and its mel spectrogram, in plain PyTorch; ``musicnn_teacher.py`` reads the weights.

Shapes: n samples at 16 kHz, P patches, T = 187 frames, 96 bands.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pentatonic.errors import AudioTooShort
from pentatonic.mel import MelConfig, MelFrontend

SAMPLE_RATE = 16000
PATCH_FRAMES = 187

_MEL = MelConfig(
    sample_rate=SAMPLE_RATE,
    n_fft=512,
    win_length=512,
    hop_length=256,
    n_mels=96,
    f_min=0.0,
    f_max=8000.0,
    pad_mode="constant",
)


class FrontBranch(nn.Module):
    """Convolution over time and bands, then the maximum over bands: ``(P, 1, T, 96)`` -> ``(P, channels, T)``.

    Args:
        frames: Height of the kernel; the time axis is padded to keep its length.
        bands: Width of the kernel; the band axis is not padded.
        channels: Channels of the output.
    """

    def __init__(self, frames: int, bands: int, channels: int) -> None:
        super().__init__()
        self.padding = ((frames - 1) // 2, frames // 2)
        self.conv = nn.Conv2d(1, channels, (frames, bands))
        self.norm = nn.BatchNorm2d(channels, eps=1e-3)

    def forward(self, image: Tensor) -> Tensor:
        """Apply the branch."""
        # As one product of matrices a patch: PyTorch's convolution of a single channel is many times slower on CPUs.
        # Where the norm falls, its greatest value is that of the least, so those channels are computed with the other
        # sign; and the rectifier, which keeps the order, can wait until one value a frame is left.
        signs = self.norm.weight.sign()
        kernel, bias = self.conv.weight.flatten(1) * signs[:, None], self.conv.bias * signs
        image = F.pad(image, (0, 0, *self.padding))[:, 0]
        if torch.is_autocast_enabled(image.device.type):
            image = image.to(torch.get_autocast_dtype(image.device.type))
        height, width = self.conv.kernel_size
        windows = image.unfold(1, height, 1).unfold(2, width, 1)  # (P, T, places, height, width)
        greatest = torch.stack([F.linear(patch.flatten(2), kernel).amax(dim=1) for patch in windows])
        found = F.relu((greatest.float() + bias) * signs)
        return self.norm(found.mT[..., None])[..., 0]


class MiddleLayer(nn.Module):
    """Convolution over time: ``(P, in_channels, T)`` -> ``(P, 64, T)``."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, 64, 7, padding=3)
        self.norm = nn.BatchNorm1d(64, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        return self.norm(F.relu(self.conv(x)))


class Musicnn(nn.Module):
    """The tagger (Pons and Serra, arXiv 1909.06654), in evaluation mode when :func:`load_teacher` made it."""

    def __init__(self) -> None:
        super().__init__()
        self.input_norm = nn.BatchNorm2d(1, eps=1e-3)
        kernels = [(7, 38, 204), (7, 67, 204), (128, 1, 51), (64, 1, 51), (32, 1, 51)]
        self.front = nn.ModuleList(FrontBranch(*kernel) for kernel in kernels)
        self.middle = nn.ModuleList(MiddleLayer(channels) for channels in (561, 64, 64))
        self.pooled_norm = nn.BatchNorm1d(1506, eps=1e-3)
        self.hidden = nn.Linear(1506, 200)
        self.hidden_norm = nn.BatchNorm1d(200, eps=1e-3)
        self.tags = nn.Linear(200, 50)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Embed and tag patches.

        Args:
            mel: ``(P, T, 96)`` float32, of :func:`mel_patches`.

        Returns:
            Penultimate values ``(P, 200)``, and tags ``(P, 50)`` in [0, 1].
        """
        image = self.input_norm(mel[:, None])
        front = torch.cat([branch(image) for branch in self.front], dim=1)
        first = self.middle[0](front)
        second = self.middle[1](first) + first
        third = self.middle[2](second) + second
        x = torch.cat([front, first, second, third], dim=1)  # (P, 753, T)
        pooled = torch.stack([x.amax(dim=-1), x.mean(dim=-1)], dim=-1).flatten(1)  # max, mean, max, mean, ...
        penultimate = self.hidden_norm(F.relu(self.hidden(self.pooled_norm(pooled))))
        return penultimate, torch.sigmoid(self.tags(penultimate))


def mel_frames(audio: Tensor) -> Tensor:
    """Mel spectrogram in the form of the package: ``(n,)`` float32 at 16 kHz -> ``(frames, 96)`` float32.

    The package rounds the spectrogram to float16 and takes the logarithm after it. Here that is in float32, as under
    NumPy 1; under NumPy 2 it is in float16 and overflows.
    """
    mel = MelFrontend(_MEL)(audio).T
    return torch.log10(10000 * mel.half().float() + 1)


def mel_patches(audio: Tensor) -> Tensor:
    """Cut whole patches without overlap: ``(n,)`` float32 at 16 kHz -> ``(P, 187, 96)``; the rest is left out.

    Raises:
        AudioTooShort: There is no whole patch.
    """
    frames = mel_frames(audio)
    if not (count := len(frames) // PATCH_FRAMES):
        raise AudioTooShort("audio", f"{len(frames)} frames; a patch of the teacher has {PATCH_FRAMES}")
    return frames[: count * PATCH_FRAMES].reshape(count, PATCH_FRAMES, -1)
