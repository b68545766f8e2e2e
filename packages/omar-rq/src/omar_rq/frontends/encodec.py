"""EnCodec front end: the continuous output of the 24 kHz EnCodec encoder, before its quantiser.

Needed for training targets and for models that read EnCodec; released embedding models never need it. The
encoder comes from ``transformers`` (extra ``omar-rq[encodec]``) and stays frozen. Source: Défossez et al.,
"High Fidelity Neural Audio Compression", 2022.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from omar_rq.config import EncodecConfig
from omar_rq.frontends.base import Frontend
from pentatonic.audio import resample
from pentatonic.errors import ConfigError, MissingExtra, WeightsError
from pentatonic.hub import resolve

ENCODEC_SAMPLE_RATE = 24000
# Statistics of the encoder output over the pre-training corpus of the released models.
_MEAN = -0.5577428463574771
_STD = 5.863781862801963


class EnCodec(Frontend):
    """128 channels at 75 frames per second, normalised; no gradients, always in evaluation mode.

    The encoder is not part of ``state_dict()`` or ``parameters()``: it is read from ``config.weights_path``.

    Args:
        config: Settings. ``sample_rate`` other than 24000 is resampled first. ``norm_type`` is "global" (one
            mean and deviation; built-in ones without ``stats_path``), "dimensionwise" (``mean_dims`` and
            ``std_dims`` per channel, from ``stats_path``) or ``None``.

    Raises:
        ConfigError: ``weights_path`` is missing, or the statistics are unknown, unreadable or incomplete.
        MissingExtra: ``transformers`` is not installed.
        HubError: ``weights_path`` is neither a directory nor a model id that can be fetched.
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
        self._encoder = (_load_encoder(config),)

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


def _statistics(config: EncodecConfig) -> tuple[Tensor, Tensor]:
    """Mean and deviation, each (1,) or (channels, 1) float32."""
    if config.norm_type is None:
        return torch.zeros(1), torch.ones(1)
    if config.norm_type not in ("global", "dimensionwise"):
        raise ConfigError(
            f"encodec.norm_type is {config.norm_type!r}; allowed: 'global', 'dimensionwise', None"
        )
    if config.stats_path is None:
        if config.norm_type == "global":
            return torch.tensor([_MEAN]), torch.tensor([_STD])
        raise ConfigError("encodec.norm_type 'dimensionwise' needs encodec.stats_path, a JSON file")
    suffix, shape = ("", (1,)) if config.norm_type == "global" else ("_dims", (config.rep_dims, 1))
    try:
        stats: dict[str, Any] = json.loads(Path(config.stats_path).read_text(encoding="utf-8"))
        mean, std = (
            torch.tensor(stats[key + suffix], dtype=torch.float32).reshape(shape) for key in ("mean", "std")
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ConfigError(
            f"encodec.stats_path {config.stats_path}: {error!r}; allowed: a JSON file with "
            f"'mean{suffix}' and 'std{suffix}', {shape[0]} number(s) each"
        ) from error
    return mean, std


def _load_encoder(config: EncodecConfig) -> nn.Module:
    """Read the encoder of an EnCodec model, float32, frozen, in evaluation mode."""
    if config.weights_path is None:
        raise ConfigError("encodec.weights_path is None; allowed: a directory or a model id of the hub")
    try:
        from transformers import EncodecModel
    except ImportError as error:
        raise MissingExtra("The EnCodec front end", "omar-rq[encodec]") from error
    directory = resolve(
        config.weights_path, revision="main", allow_patterns=("config.json", "model.safetensors")
    )
    try:
        with torch.random.fork_rng(devices=[]):  # the constructor draws random weights before loading
            loaded: Any = EncodecModel.from_pretrained(
                directory,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{directory}: no EnCodec model can be read ({error})") from error
    model, report = loaded
    missing = sorted(key for key in report["missing_keys"] if key.startswith("encoder."))
    if missing:
        raise WeightsError(f"{directory}: no tensor {missing[0]!r} ({len(missing)} missing)")
    encoder = model.encoder.eval().requires_grad_(False)
    for module in encoder.modules():  # otherwise weight normalisation is computed in every call
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
    return encoder
