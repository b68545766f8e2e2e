"""A reference clip that a browser sent: read in a process of its own, and kept as samples only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pentatonic import audio
from pentatonic.audio import AudioLimits
from pentatonic.checkpoint.manifest import file_sha256
from pentatonic.errors import AudioError, EmptyAudio, PentatonicError, SilentAudio
from rc_audioldm.level import turn_down

MAX_UPLOAD_BYTES = 16 * 2**20
MAX_REFERENCE_S = 60.0
_LIMITS = AudioLimits(max_duration_s=MAX_REFERENCE_S, max_channels=8, max_bytes=MAX_UPLOAD_BYTES)
_BLOCK_S = 20.0
_MOST_CHARACTERS = 100


@dataclass(frozen=True, eq=False)
class ReferenceClip:
    """A reference clip.

    Args:
        name: Of the file that was sent, without folders.
        sha256: Of that file.
        samples: ``(n,)`` float32 in [-1, 1].
        sample_rate: In Hz.
    """

    name: str
    sha256: str
    samples: Tensor
    sample_rate: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.samples) / self.sample_rate

    def write(self, folder: Path) -> Path:
        """Write it as ``reference.wav``, which is safe to read whatever was sent."""
        path = folder / "reference.wav"
        audio.save(path, self.samples, self.sample_rate)
        return path


def read_reference(path: Path, sample_rate: int) -> ReferenceClip:
    """Read a file that a browser sent, and delete it.

    Args:
        path: The file, of an untrusted kind.
        sample_rate: To read it at, in Hz.

    Raises:
        PentatonicError: It is not audio, is damaged, silent, too long or too large; in one sentence, without folders.
    """
    name = path.name[-_MOST_CHARACTERS:]
    try:
        with audio.DecodingProcess(block_limit_s=_BLOCK_S) as decoder:
            blocks = list(decoder.stream(path, sample_rate=sample_rate, limits=_LIMITS))
        samples = turn_down(torch.cat(blocks))[0] if blocks else torch.zeros(0)
        if not len(samples):
            raise EmptyAudio(path, "has no samples")
        if not float(samples.abs().max()) > 0:
            raise SilentAudio(path, "is silent")
        return ReferenceClip(name, file_sha256(path), samples, sample_rate)
    except AudioError as error:
        raise PentatonicError(f"{name}: {error.reason}") from error
    finally:
        path.unlink(missing_ok=True)
