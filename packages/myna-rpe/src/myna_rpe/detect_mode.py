"""``myna-rpe detect-mode``: in which position mode was a checkpoint of the original trained?

Its weights are the same for every bias without parameters, so they do not say. What tells is the task of training:
among two crops of each of many tracks, those of one track find each other better in the right mode than in a wrong one.

Shapes: F mel bands, T frames.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from myna_rpe.embed import read_track
from myna_rpe.frontend import Frontend
from myna_rpe.losses import info_nce
from myna_rpe.model import MynaEncoder
from myna_rpe.original_config import original_config
from myna_rpe.patches import patchout
from myna_rpe.weights import load_original, read_original
from pentatonic import audio
from pentatonic.audio_folder.items import AudioItem
from pentatonic.audio_folder.npz import find_audio
from pentatonic.audio_folder.reading import ReadOptions, open_audio
from pentatonic.cli import BatchReport, progress
from pentatonic.errors import InputError, PentatonicError

MASK_RATIOS = (0.0, 0.9)
"""Shares of tokens that are left out: none, as in use, and as many as in the published training."""

# Of each track; two crops of it are compared.
READ_S = 60.0
# Modes without tensors of their own, of which any may have made a checkpoint without such tensors. Not among them:
# head_row, which does the same as paper_plus_row.
_WITHOUT_TENSORS = (
    *("paper_plus_manhattan", "paper_plus_row", "zero", "sloped_lr"),
    *("head_signed", "head_col"),
    *("sincos2d", "sin_raster", "sin_xy", "sin_x", "sin_y"),
)


@dataclass(frozen=True)
class ModeScore:
    """How well a model does its task of training in one mode.

    Attributes:
        mode: Name in :data:`myna_rpe.positions.UPSTREAM_MODES`.
        loss: InfoNCE, mean over :data:`MASK_RATIOS`; guessing gives the logarithm of the number of tracks.
        losses: For each of :data:`MASK_RATIOS`.
    """

    mode: str
    loss: float
    losses: tuple[float, ...]


def fitting_modes(names: Sequence[str]) -> list[str]:
    """Return the modes that may have made a checkpoint with tensors of these names."""
    found = set(names)
    if "transformer.alibi_2d.left_slopes" in found:
        return ["head_signed_learned", "head_row_learned", "head_col_learned"]
    if "transformer.layers.0.0.rotary.inv_freq" in found:
        return ["rope_row_2025", "rope_sum_2025"]
    by_row, by_column = (f"transformer.layers.0.0.rotary.rope_exp_{axis}" in found for axis in "xy")
    if by_row or by_column:
        return ["rope2d_head" if by_row and by_column else "rope_row_head" if by_row else "rope_col_head"]
    if "pos_embedding.x_pos_embedding" in found:
        return ["learned_xy"]
    return list(_WITHOUT_TENSORS)


def two_crops(mel: Tensor, frames: int, generator: torch.Generator) -> Tensor:
    """Draw two crops of a track, which do not overlap where it is long enough: ``(2, F, frames)``.

    Raises:
        InputError: The track is shorter than a crop.
    """
    spare = mel.shape[1] - frames
    if spare < 0:
        raise InputError(f"a track has {mel.shape[1]} frames; a crop needs {frames}")
    half = spare // 2
    starts = (
        int(torch.randint(half + 1, (), generator=generator)),
        half + int(torch.randint(spare - half + 1, (), generator=generator)),
    )
    return torch.stack([mel[:, start : start + frames] for start in starts])


@torch.no_grad()
def score(model: MynaEncoder, crops: Tensor, ratio: float, generator: torch.Generator) -> float:
    """Return InfoNCE (temperature 0.1) of a model over crops ``(2, B, F, T)``, with so many tokens left out."""
    rows, columns = model.grid(crops.shape[-1])
    views = [
        model(view, keep=patchout(len(view), rows * columns, ratio, generator=generator) if ratio else None)
        for view in crops
    ]
    return float(info_nce(*views))


def detect_mode(
    path: str | Path,
    mels: Sequence[Tensor],
    *,
    modes: Sequence[str] | None = None,
    train_frames: int | None = None,
    seed: int = 0,
) -> list[ModeScore]:
    """Rank the modes in which a checkpoint may have been trained.

    Args:
        path: Checkpoint of the original, as for :func:`myna_rpe.weights.load_original`.
        mels: Spectrograms ``(F, T)`` of different tracks, of the front end of the checkpoint; the more the better, and
            at least two. All modes see the same crops and leave out the same tokens.
        modes: Modes to try; ``None``: all that fit the names of the tensors.
        train_frames: Frames of a crop; ``None``: of the crops of the published training.
        seed: Seed of the crops.

    Returns:
        The modes, the likeliest first.

    Raises:
        InputError: There are fewer than two tracks that are long enough.
        CheckpointError, ConfigError, WeightsError, UsageError: As for :func:`myna_rpe.weights.load_original`.
    """
    tensors = read_original(path)
    candidates = list(modes) if modes is not None else fitting_modes(list(tensors.tensors))
    config = original_config(tensors, mode=candidates[0], train_frames=train_frames)
    generator = torch.Generator().manual_seed(seed)
    long_enough = [mel for mel in mels if mel.shape[1] >= config.train_frames]
    if len(long_enough) < 2:
        raise InputError(
            f"{len(long_enough)} tracks have the {config.train_frames} frames of a crop; at least 2 are needed"
        )
    crops = torch.stack([two_crops(mel, config.train_frames, generator) for mel in long_enough], dim=1)
    scores = []
    for mode in candidates:
        model = load_original(path, mode=mode, train_frames=train_frames)
        losses = tuple(
            score(model, crops, ratio, torch.Generator().manual_seed(seed)) for ratio in MASK_RATIOS
        )
        scores.append(ModeScore(mode, sum(losses) / len(losses), losses))
    return sorted(scores, key=lambda each: each.loss)


def as_table(scores: Sequence[ModeScore]) -> list[Mapping[str, object]]:
    """Return one mapping of plain values per mode."""
    return [dataclasses.asdict(each) for each in scores]


def read_spectrograms(
    checkpoint: str | Path, paths: Sequence[str | Path], most: int
) -> tuple[list[Tensor], BatchReport]:
    """Read up to a minute of up to so many recordings, by the front end of a checkpoint of the original.

    Returns:
        Spectrograms ``(F, T)``, and what became of each file.

    Raises:
        UsageError: There are no audio files.
        CheckpointError, ConfigError, WeightsError: The checkpoint cannot be read.
    """
    frontend = Frontend(original_config(read_original(checkpoint), mode="zero").frontend)
    files = find_audio(paths).files[:most]
    report = BatchReport()
    mels = []
    with audio.DecodingProcess() as decoder, progress(len(files), "reading") as bar:
        for file in files:
            try:
                blocks = open_audio(
                    file,
                    stream=decoder.stream,
                    sample_rate=frontend.sample_rate,
                    reading=ReadOptions(duration_s=READ_S),
                )
                mels.append(read_track(AudioItem(file, "", blocks), frontend).spectrogram.mel)
            except (PentatonicError, OSError) as error:
                report.failed(file, error)
            else:
                report.done(file)
            bar.advance(1, note=file.name)
    return mels, report
