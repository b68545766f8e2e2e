"""Find audio files in folders, and write them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from pentatonic import folder_run
from pentatonic.checkpoint import atomic_file
from pentatonic.errors import AudioError, CheckpointError, EmptyAudio, NonFiniteAudio, UsageError

_LIBSNDFILE_SUFFIXES = (
    *(".wav", ".wave", ".bwf", ".rf64", ".w64", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf"),
    *(".flac", ".fla", ".ogg", ".oga", ".opus", ".mp1", ".mp2", ".mp3", ".mpa", ".mpga"),
    *(".voc", ".nist", ".sph", ".ircam", ".avr", ".paf", ".pvf", ".8svx", ".16sv", ".svx", ".wve", ".xi"),
)
_FFMPEG_SUFFIXES = (
    *(".m4a", ".m4b", ".m4r", ".m4v", ".mp4", ".mov", ".3gp", ".3g2", ".aac", ".adts", ".amr", ".awb"),
    *(".wma", ".wmv", ".asf", ".webm", ".mka", ".mkv", ".avi", ".flv", ".rm", ".ra", ".rmvb", ".ogv", ".ogx"),
    *(".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob", ".ac3", ".eac3", ".ec3", ".dts", ".spx"),
    *(".wv", ".ape", ".tta", ".tak", ".shn", ".mpc", ".dsf", ".dff"),
)
AUDIO_SUFFIXES = frozenset((*_LIBSNDFILE_SUFFIXES, *_FFMPEG_SUFFIXES))
"""Suffixes (lower case) by which :func:`find_files` recognises audio files inside folders."""

_WRITTEN_FORMATS = {
    ".wav": "WAV",
    ".rf64": "RF64",
    ".w64": "W64",
    ".aif": "AIFF",
    ".aiff": "AIFF",
    ".au": "AU",
    ".caf": "CAF",
    ".flac": "FLAC",
    ".ogg": "OGG",
    ".opus": "OGG",
    ".mp3": "MP3",
}
_UNBOUNDED_SUBTYPES = ("FLOAT", "DOUBLE")
_WRITE_BLOCK = 1 << 16  # libsndfile's Vorbis encoder overflows its stack on one long write


def find_files(paths: Iterable[str | Path], *, recursive: bool = True) -> list[Path]:
    """Audio files among files and folders.

    Args:
        paths: Files, which are kept whatever their suffix, and folders, which are searched for
            :data:`AUDIO_SUFFIXES`; see :func:`pentatonic.folder_run.find_files`.
        recursive: Search folders inside folders.

    Returns:
        Sorted paths without duplicates. Paths that cannot be read (missing paths, dangling links, folders without
        permission) are included, so that a batch can report them.
    """
    return folder_run.find_files(paths, AUDIO_SUFFIXES, recursive=recursive)


def save(
    path: str | Path, samples: Tensor | np.ndarray, sample_rate: int, *, subtype: str = "PCM_16"
) -> None:
    """Write an audio file; on an error no partial file is left.

    Args:
        path: Destination; the suffix gives the format (wav, rf64, w64, aif, aiff, au, caf, flac, ogg, opus, mp3).
        samples: (n,) or (channels, n), floating point. Beyond [-1, 1] they are clipped with a ``UserWarning``, unless
            ``subtype`` is ``"FLOAT"`` or ``"DOUBLE"``.
        sample_rate: In Hz.
        subtype: Encoding by its libsndfile name: ``"PCM_16"``, ``"PCM_24"``, ``"FLOAT"``, ``"VORBIS"``, ``"OPUS"``,
            ``"MPEG_LAYER_III"``, ...

    Raises:
        UsageError: The suffix, the shape or dtype, the rate or the subtype is not one that can be written.
        EmptyAudio: No samples.
        NonFiniteAudio: NaN or infinite samples.
        AudioError: The file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in _WRITTEN_FORMATS:
        raise UsageError(f"{path}: unknown suffix {path.suffix!r}; one of {' '.join(_WRITTEN_FORMATS)}")
    audio_format = _WRITTEN_FORMATS[path.suffix.lower()]
    if not soundfile.check_format(audio_format, subtype):
        allowed = ", ".join(soundfile.available_subtypes(audio_format))
        raise UsageError(f"{path}: {audio_format} has no subtype {subtype!r}; one of {allowed}")
    data = torch.as_tensor(samples).detach().cpu()
    if not data.is_floating_point() or data.ndim not in (1, 2):
        shape = tuple(data.shape)
        raise UsageError(
            f"{path}: samples must be floating point (n,) or (channels, n), not {data.dtype} {shape}"
        )
    if data.numel() == 0:
        raise EmptyAudio(path, "no samples to write")
    if not torch.isfinite(data).all():
        raise NonFiniteAudio(path, "NaN or infinite samples cannot be written")
    peak = float(data.abs().max())
    if peak > 1 and subtype not in _UNBOUNDED_SUBTYPES:
        warnings.warn(f"{path}: peak {peak:g} is beyond full scale and was clipped", stacklevel=2)
        data = data.clamp(-1, 1)
    frames = (data[None] if data.ndim == 1 else data).T.contiguous()
    encoded = _encode(path, frames, sample_rate, audio_format, subtype)
    try:
        with atomic_file(path) as file:
            file.write(encoded)
    except CheckpointError as error:
        raise AudioError(path, str(error)) from error


def _encode(path: Path, frames: Tensor, sample_rate: int, audio_format: str, subtype: str) -> memoryview:
    """Encode (n, channels) in memory, so that a full disk raises an OSError instead of failing inside the encoder."""
    data = frames.to(torch.float64 if subtype == "DOUBLE" else torch.float32).numpy()
    buffer = io.BytesIO()
    try:
        with soundfile.SoundFile(
            buffer, "w", sample_rate, data.shape[1], subtype, format=audio_format
        ) as encoder:
            for start in range(0, len(data), _WRITE_BLOCK):
                encoder.write(data[start : start + _WRITE_BLOCK])
    except soundfile.LibsndfileError as error:
        reason = (
            f"{sample_rate} Hz with {data.shape[1]} channels cannot be written as {audio_format} {subtype}"
        )
        raise UsageError(f"{path}: {reason}: {error.error_string}") from error
    return buffer.getbuffer()
