"""EnCodec front end: the continuous output of the 24 kHz EnCodec encoder, before its quantiser.

Needed for training targets and for models that read EnCodec; released embedding models never need it. The
encoder comes from ``transformers`` (extra ``omar-rq[encodec]``) and stays frozen. Source: Défossez et al.,
"High Fidelity Neural Audio Compression", 2022.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from omar_rq.config import Deviation, EncodecConfig, Mean
from omar_rq.frontends.base import Frontend
from omar_rq.frontends.encodec_encoder import FILES, load_encoder
from pentatonic.audio import resample
from pentatonic.errors import ConfigError
from pentatonic.hub import Released, resolve
from pentatonic.untrusted.config import Length, read_fields
from pentatonic.untrusted.files import file_inside, local_path, read_json, shortened

ENCODEC_SAMPLE_RATE = 24000
# The one repository that the configuration of a loaded model may name. Its commit hash is not known, so it follows the
# main branch.
PUBLISHED: Mapping[str, Released] = {
    "facebook/encodec_24khz": Released(
        "facebook/encodec_24khz", revision="main", licence="not stated", files=dict.fromkeys(FILES)
    )
}
# Statistics of the encoder output over the pre-training corpus of the released models.
_MEAN = -0.5577428463574771
_STD = 5.863781862801963


@dataclass(frozen=True)
class _Statistics:
    """The part of a statistics file that ``norm_type="global"`` reads."""

    mean: Mean
    std: Deviation


@dataclass(frozen=True)
class _ChannelStatistics:
    """The part of a statistics file that ``norm_type="dimensionwise"`` reads."""

    mean_dims: Annotated[tuple[Mean, ...], Length(EncodecConfig.rep_dims, EncodecConfig.rep_dims)]
    std_dims: Annotated[tuple[Deviation, ...], Length(EncodecConfig.rep_dims, EncodecConfig.rep_dims)]


class EnCodec(Frontend):
    """128 channels at 75 frames per second, normalised; no gradients, always in evaluation mode.

    The encoder is not part of ``state_dict()`` or ``parameters()``: it is read from ``config.weights_path``.

    Args:
        config: Settings. ``sample_rate`` other than 24000 is resampled first. ``norm_type`` is "global" (one
            mean and deviation; built-in ones without ``stats_path``), "dimensionwise" (``mean_dims`` and
            ``std_dims`` per channel, from ``stats_path``) or ``None``.

    Raises:
        ConfigError: ``weights_path`` is missing, the statistics are unknown, unreadable or incomplete, or the files
            describe an encoder of another shape.
        MissingExtra: ``transformers`` is not installed.
        HubError: ``weights_path`` is neither a directory nor a model id that can be fetched; ids other than that of
            the published model need a revision.
        WeightsError: The files are not a complete EnCodec model.
    """

    config: EncodecConfig
    frame_centre = 0.5  # the encoder is causal: a frame stands for the samples up to the next one
    _mean: Tensor
    _std: Tensor

    def __init__(self, config: EncodecConfig) -> None:
        # Fewest samples whose ceil(n * 24000 / rate) reaches the first sample of the last frame.
        last_frame = config.hop_length * (config.patch_size[1] - 1)
        super().__init__(config, min_samples=last_frame * config.sample_rate // ENCODEC_SAMPLE_RATE + 1)
        mean, std = _statistics(config)
        self.register_buffer("_mean", mean, persistent=False)
        self.register_buffer("_std", std, persistent=False)
        # In a tuple, so that it is not a submodule: neither saved nor trained nor cast.
        self._encoder = (load_encoder(_directory(config.weights_path)),)

    def frames(self, n_samples: int) -> int:
        """Return ``ceil(m / 320)``, m being the samples after resampling to 24 kHz."""
        resampled = -(-n_samples * ENCODEC_SAMPLE_RATE // self.sample_rate)
        return -(-resampled // self.hop_length)

    @torch.no_grad()
    def _transform(self, audio: Tensor) -> Tensor:
        if self.sample_rate != ENCODEC_SAMPLE_RATE:
            audio = resample(audio, self.sample_rate, ENCODEC_SAMPLE_RATE, method="torchaudio-hann")
        encoder = self._encoder[0].to(audio.device)
        return (encoder(audio[:, None]) - self._mean) / self._std


def with_local_files(
    config: EncodecConfig, directory: Path, *, encodec: str | Path | None = None
) -> EncodecConfig:
    """Return the settings of a model that is loaded from a directory, where a stranger may have written them.

    The files that they name become paths inside the directory, so that they reach no other file and no other
    repository than the published EnCodec model.

    Args:
        config: Settings as read.
        directory: Directory of the model.
        encodec: EnCodec model to read in place of ``config.weights_path``, as there.

    Raises:
        ConfigError: A name is not that of a file or folder in ``directory``.
    """
    weights, stats = config.weights_path, config.stats_path
    if stats is not None:
        stats = str(file_inside(directory, stats, where="encodec.stats_path"))
    if encodec is not None:
        weights = str(encodec)
    elif weights is not None and weights not in PUBLISHED:
        folder = file_inside(directory, weights, where="encodec.weights_path")
        if local_path(folder) is None:
            raise ConfigError(
                f"encodec.weights_path is {shortened(weights)}; allowed in the configuration of a model: "
                f"{', '.join(PUBLISHED)}, or a folder in {directory}. To use another EnCodec model, load this one "
                "with encodec='directory or owner/name@revision'"
            )
        weights = str(folder)
    return dataclasses.replace(config, weights_path=weights, stats_path=stats)


def _statistics(config: EncodecConfig) -> tuple[Tensor, Tensor]:
    """Mean and deviation, each (1,) or (channels, 1) float32."""
    if config.norm_type is None:
        return torch.zeros(1), torch.ones(1)
    if config.stats_path is None:
        if config.norm_type == "global":
            return torch.tensor([_MEAN]), torch.tensor([_STD])
        raise ConfigError("encodec.norm_type 'dimensionwise' needs encodec.stats_path, a JSON file")
    kind, shape = (_Statistics, (1,)) if config.norm_type == "global" else (_ChannelStatistics, (-1, 1))
    stats: Any = read_json(config.stats_path)
    if isinstance(stats, dict):
        stats = {name: stats[name] for name in kind.__dataclass_fields__ if name in stats}
    found = read_fields(kind, stats, f"encodec.stats_path {config.stats_path}")
    mean, std = (
        torch.tensor(value, dtype=torch.float32).reshape(shape) for value in dataclasses.astuple(found)
    )
    return mean, std


def _directory(weights_path: str | None) -> Path:
    """Find the files of the encoder: in a directory, or on the hub as ``owner/name@revision``."""
    if weights_path is None:
        raise ConfigError("encodec.weights_path is None; allowed: a directory or a model id of the hub")
    name, _, revision = (weights_path, "", "") if local_path(weights_path) else weights_path.partition("@")
    return resolve(name, released=PUBLISHED, allow_patterns=FILES, revision=revision or None)
