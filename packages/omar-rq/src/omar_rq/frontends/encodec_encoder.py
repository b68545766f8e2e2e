"""Reading the encoder of an EnCodec model in the layout of the hub: ``config.json`` and ``model.safetensors``.

Only the network comes from ``transformers`` (extra ``omar-rq[encodec]``). Its loader is not used: it would also look
for adapters, shards and other repositories that the files name.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pentatonic.checkpoint import load_tensors
from pentatonic.errors import ConfigError, MissingExtra, WeightsError
from pentatonic.hub import check_state, load_state
from pentatonic.untrusted.config import Length, Range, check_fields, read_fields
from pentatonic.untrusted.files import read_json

FILES = ("config.json", "model.safetensors")
_HOP = 320
_Kernel = Annotated[int, Range(1, 64)]
# Names of weight normalisation in files of earlier versions of torch.
_RENAMED = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}


@dataclass(frozen=True)
class Architecture:
    """The settings of ``config.json`` that shape the encoder, by their names there."""

    audio_channels: Literal[1] = 1
    hidden_size: Literal[128] = 128
    num_filters: Annotated[int, Range(1, 64)] = 32
    num_residual_layers: Annotated[int, Range(1, 4)] = 1
    upsampling_ratios: Annotated[tuple[Annotated[int, Range(2, _HOP)], ...], Length(1, 7)] = (8, 5, 4, 2)
    norm_type: Literal["weight_norm", "time_group_norm"] = "weight_norm"
    kernel_size: _Kernel = 7
    last_kernel_size: _Kernel = 7
    residual_kernel_size: _Kernel = 3
    dilation_growth_rate: Annotated[int, Range(1, 4)] = 2
    use_causal_conv: bool = True
    pad_mode: Literal["reflect", "constant", "replicate"] = "reflect"
    compress: Annotated[int, Range(1, 64)] = 2
    num_lstm_layers: Annotated[int, Range(1, 4)] = 2
    use_conv_shortcut: bool = True

    def __post_init__(self) -> None:
        check_fields(self, "encodec")
        if math.prod(self.upsampling_ratios) != _HOP:
            raise ConfigError(
                f"encodec.upsampling_ratios is {self.upsampling_ratios}; allowed: a product of {_HOP}, the hop"
            )
        if self.compress > self.num_filters:
            raise ConfigError(
                f"encodec.compress is {self.compress}; allowed: at most num_filters, {self.num_filters}"
            )


def load_encoder(directory: Path) -> nn.Module:
    """Read the encoder of an EnCodec model: float32, frozen, in evaluation mode.

    Args:
        directory: Holds ``config.json`` and ``model.safetensors``.

    Raises:
        MissingExtra: ``transformers`` is not installed.
        ConfigError: ``config.json`` is unreadable, or describes no encoder of 128 channels and a hop of 320.
        WeightsError: A file is missing, or the tensors are not those of the encoder.
        CorruptCheckpoint: ``model.safetensors`` is damaged.
    """
    try:
        from transformers import EncodecConfig
        from transformers.models.encodec.modeling_encodec import EncodecEncoder
    except ImportError as error:
        raise MissingExtra("The EnCodec front end", "omar-rq[encodec]") from error
    if missing := [name for name in FILES if not (directory / name).is_file()]:
        raise WeightsError(
            f"{directory}: no EnCodec model: {missing[0]} is missing; expected {', '.join(FILES)}"
        )
    config = EncodecConfig(**dataclasses.asdict(_read_architecture(directory / FILES[0])))
    tensors = _encoder_tensors(directory / FILES[1])
    with torch.device("meta"):  # before memory is used for an encoder of the stated size
        check_state(nn.ModuleDict({"encoder": EncodecEncoder(config)}), tensors, what=str(directory))
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # random weights, replaced at once
        encoder = EncodecEncoder(config)
    load_state(nn.ModuleDict({"encoder": encoder}), tensors, what=str(directory))
    encoder.eval().requires_grad_(False)
    for module in encoder.modules():  # otherwise weight normalisation is computed in every call
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
    return encoder


def _read_architecture(path: Path) -> Architecture:
    values = read_json(path)
    names = {field.name for field in dataclasses.fields(Architecture)}
    known = {name: values[name] for name in names & values.keys()} if isinstance(values, dict) else values
    return read_fields(Architecture, known, str(path))


def _encoder_tensors(path: Path) -> dict[str, Tensor]:
    """The encoder's tensors, by today's names; decoder and quantiser are left out."""
    return {_current_name(key): t for key, t in load_tensors(path).items() if key.startswith("encoder.")}


def _current_name(key: str) -> str:
    module, _, last = key.rpartition(".")
    return f"{module}.{_RENAMED.get(last, last)}"
