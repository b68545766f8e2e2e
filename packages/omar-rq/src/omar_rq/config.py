"""Configuration of a model as plain dataclasses: front ends, trunk, quantisers, masking.

No torch is imported here, so a command line can read a configuration quickly. ``config.json`` of a saved model contains
``ModelConfig.to_dict()``. The range of each value is declared beside it, because configurations come from strangers.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pentatonic.errors import ConfigError
from pentatonic.untrusted.config import Length, Range, check_fields, read_fields
from pentatonic.untrusted.files import shortened

# The depthwise convolution of every released conformer has 31 taps, whatever `conv_kernel_size` in its file says.
CONV_KERNEL_SIZE = 31

MAX_PARAMETERS = 2**32
"""Most parameters of a trunk, so that a configuration alone cannot fill the memory; released ones have 2**29."""
MAX_CODEBOOK_VALUES = 2**26
"""Most values in the codebooks and projections of all quantisers."""
_MAX_TARGETS = 16

SampleRate = Annotated[int, Range(1, 1_000_000)]
Hop = Annotated[int, Range(1, 65_536)]
Patch = tuple[Annotated[int, Range(1, 16_384)], Annotated[int, Range(1, 65_536)]]
Mean = Annotated[float, Range(-1_000_000, 1_000_000)]
Deviation = Annotated[float, Range(0, 1_000_000, above=True)]
Probability = Annotated[float, Range(0, 1)]
Dropout = Annotated[float, Range(0, 1, below=True)]
Factor = Annotated[float, Range(0, 10_000)]
FileName = Annotated[str, Length(1, 4096)]


@dataclass(frozen=True)
class MelFrontendConfig:
    """Log-mel spectrogram: ``log10(1 + 10000 mel)``, then mean and standard deviation when both are given.

    The last three settings are SpecAugment, which acts in pre-training only and is off by default
    (:mod:`omar_rq.frontends.spec_augment`).

    Args:
        stretch_factor: Each item is played at a speed between this and its inverse; 1: unchanged.
        freq_mask_param: Most bins of the spectrum that are set to zero in an item.
        time_mask_param: Most frames that are set to zero in an item.
    """

    name: ClassVar[str] = "mel"
    sample_rate: SampleRate = 16000
    n_fft: Annotated[int, Range(2, 16_384)] = 512
    win_length: Annotated[int, Range(1, 16_384)] = 512
    hop_length: Hop = 256
    n_mels: Annotated[int, Range(1, 1024)] = 96
    power: Annotated[float, Range(0, 16, above=True)] = 2.0
    mel_scale: Literal["slaney", "htk"] = "slaney"
    norm: Literal["slaney"] | None = "slaney"
    norm_mean: Mean | None = 2.06755686098554
    norm_std: Deviation | None = 1.268292820667291
    patch_size: Patch = (96, 4)
    stretch_factor: Annotated[float, Range(0, 100, above=True)] = 1.0
    freq_mask_param: Annotated[int, Range(0, 8193)] = 0
    time_mask_param: Annotated[int, Range(0, 1_000_000)] = 0

    def __post_init__(self) -> None:
        check_fields(self, self.name)
        if self.freq_mask_param > (bins := self.n_fft // 2 + 1):
            raise ConfigError(
                f"mel.freq_mask_param is {self.freq_mask_param}; allowed: 0 (off) and more, at most {bins}"
            )

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length

    @property
    def rep_dims(self) -> int:
        """Values per frame."""
        return self.n_mels

    @property
    def augmented(self) -> bool:
        """Whether SpecAugment is on."""
        return self.stretch_factor != 1 or self.freq_mask_param > 0 or self.time_mask_param > 0


@dataclass(frozen=True)
class CQTConfig:
    """Recursive constant-Q transform: magnitude to a power, ``log10(1 + 10000 x)``, normalisation."""

    name: ClassVar[str] = "cqt"
    sample_rate: SampleRate = 24000
    hop_length: Hop = 320
    bins_per_octave: Annotated[int, Range(1, 192)] = 24
    n_bins: Annotated[int, Range(1, 4096)] = 188
    f_min: Annotated[float, Range(0, 500_000, above=True)] = 32.703
    magnitude: bool = True
    power: Annotated[float, Range(0, 16)] = 2.0
    log: bool = True
    norm_mean: Mean | None = 5.175809567648937
    norm_std: Deviation | None = 1.9251926999183888
    patch_size: Patch = (188, 4)

    def __post_init__(self) -> None:
        check_fields(self, self.name)

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length

    @property
    def rep_dims(self) -> int:
        """Values per frame."""
        return self.n_bins


@dataclass(frozen=True)
class WaveformConfig:
    """Raw samples, scaled by mean and standard deviation; a patch is a run of samples."""

    name: ClassVar[str] = "waveform"
    sample_rate: SampleRate = 24000
    norm_mean: Mean | None = 0.0
    norm_std: Deviation | None = 0.1908563740990311
    patch_size: Patch = (1, 960)
    hop_length: ClassVar[int] = 1
    rep_dims: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_fields(self, self.name)

    @property
    def frame_rate(self) -> float:
        """Samples per second: a frame is one sample."""
        return float(self.sample_rate)


@dataclass(frozen=True)
class EncodecConfig:
    """Continuous output of the 24 kHz EnCodec encoder; ``sample_rate`` is that of the input audio.

    Args:
        weights_path: Hub id of the published EnCodec model, a directory, or ``owner/name@revision`` of another
            repository. In the configuration of a model that is loaded, a directory beside it is the only one allowed
            besides the published model; see :func:`omar_rq.frontends.encodec.with_local_files`.
        stats_path: JSON file with statistics; in the configuration of a model that is loaded, beside it.
    """

    name: ClassVar[str] = "encodec"
    weights_path: FileName | None = "facebook/encodec_24khz"
    norm_type: Literal["global", "dimensionwise"] | None = "global"
    stats_path: FileName | None = None
    sample_rate: SampleRate = 24000
    patch_size: Patch = (128, 4)
    hop_length: ClassVar[int] = 320
    rep_dims: ClassVar[int] = 128
    frame_rate: ClassVar[float] = 75.0  # at any sample rate: the audio is resampled to 24 kHz first

    def __post_init__(self) -> None:
        check_fields(self, self.name)


FrontendConfig = MelFrontendConfig | CQTConfig | WaveformConfig | EncodecConfig


@dataclass(frozen=True)
class ConformerConfig:
    """The conformer trunk. Every released checkpoint was trained with ``causal``.

    ``rope_positions="bf16"`` is an experiment: token positions are rounded to bfloat16 (above 256: to steps of 2, 4,
    …), as probably happened in the mixed-precision training of the released checkpoints.
    """

    name: ClassVar[str] = "conformer"
    embed_dim: Annotated[int, Range(1, 16_384)] = 1024
    depth: Annotated[int, Range(1, 128)] = 24
    num_heads: Annotated[int, Range(1, 1024)] = 8
    mlp_ratio: Annotated[float, Range(0, 64, above=True)] = 4.0
    mlp_residual_factor: Factor = 4.0
    dropout: Dropout = 0.2
    input_dropout: Dropout = 0.0
    use_deepnorm: bool = True
    alpha_deepnorm: Factor = 2.6321480259049848
    beta_deepnorm: Factor = 0.022386873579657126
    use_rope: bool = True
    causal: bool = True
    rope_positions: Literal["exact", "bf16"] = "exact"

    def __post_init__(self) -> None:
        check_fields(self, "net")
        _check_heads(self)
        if (self.embed_dim // self.num_heads) % 2:
            raise ConfigError(
                f"net.embed_dim / net.num_heads is {self.embed_dim // self.num_heads}; "
                "allowed: even numbers, because position codes rotate pairs"
            )


@dataclass(frozen=True)
class TransformerConfig:
    """The plain Transformer trunk with a learned position table of ``num_patches`` rows."""

    name: ClassVar[str] = "transformer"
    patch_size: Patch = (96, 4)
    in_chans: Annotated[int, Range(1, 64)] = 1
    embed_dim: Annotated[int, Range(1, 16_384)] = 768
    head_dims: Annotated[int, Range(1, 65_536)] = 1
    depth: Annotated[int, Range(1, 128)] = 12
    num_heads: Annotated[int, Range(1, 1024)] = 12
    num_patches: Annotated[int, Range(1, 1_000_000)] = 469
    mlp_ratio: Annotated[float, Range(0, 64, above=True)] = 4.0
    dropout: Dropout = 0.0
    input_dropout: Dropout = 0.0
    do_deepnorm: bool = True
    alpha_deepnorm: Factor = 2.6321480259049848
    beta_deepnorm: Factor = 0.022386873579657126
    do_classification: bool = False
    do_vit_tokenization: bool = False
    causal: bool = True

    def __post_init__(self) -> None:
        check_fields(self, "net")
        _check_heads(self)


@dataclass(frozen=True)
class QuantizerConfig:
    """The frozen quantisers that turn target patches into tokens; seeds make them reproducible."""

    type: Literal["random_codebook", "finite_scalar_quantizer"] = "random_codebook"
    num_codebooks: Annotated[int, Range(1, 1024)] = 1
    codebook_size: Annotated[int, Range(1, 2**24)] = 8192
    codebook_dim: Annotated[int, Range(1, 65_536)] = 16
    diff_input: bool = False
    seed: Annotated[int, Range(0, 2**62)] = 0
    fsq_levels: Annotated[tuple[Annotated[int, Range(2, 65_536)], ...], Length(1, 16)] = (6, 6, 6, 6, 6)
    fsq_preserve_symmetry: bool = True

    def __post_init__(self) -> None:
        check_fields(self, "quantizer")
        if (codes := math.prod(self.fsq_levels)) > 2**40:
            raise ConfigError(
                f"quantizer.fsq_levels is {self.fsq_levels}, {codes:,} codes; allowed: at most {2**40:,}"
            )

    def values(self, patch_dim: int) -> int:
        """Values in the codebooks and projections of a target with ``patch_dim`` values per patch."""
        if self.type == "random_codebook":
            return self.num_codebooks * self.codebook_dim * (self.codebook_size + patch_dim)
        return self.num_codebooks * 2 * len(self.fsq_levels) * patch_dim


@dataclass(frozen=True)
class MaskingConfig:
    """Which patches are masked in pre-training, and what replaces them.

    ``mode="windows"`` masks aligned windows of ``seconds``, each with probability ``prob``; ``mode="tokens"``
    masks exactly ``floor(prob * N)`` single tokens per row.
    """

    seconds: Annotated[float, Range(0, 86_400)] = 0.4
    prob: Probability = 0.6
    noise: Literal["random_normal", "shuffled_input"] = "random_normal"
    mode: Literal["windows", "tokens"] = "windows"

    def __post_init__(self) -> None:
        check_fields(self, "masking")


def _check_heads(net: ConformerConfig | TransformerConfig) -> None:
    if net.embed_dim % net.num_heads:
        raise ConfigError(
            f"net has embed_dim {net.embed_dim} and num_heads {net.num_heads}; allowed: a num_heads that divides "
            "embed_dim"
        )
    if net.embed_dim * net.mlp_ratio < 1:
        raise ConfigError(
            f"net.embed_dim * net.mlp_ratio is {net.embed_dim * net.mlp_ratio:g}; allowed: at least 1"
        )


FRONTENDS: dict[str, type] = {c.name: c for c in typing.get_args(FrontendConfig)}
TRUNKS: dict[str, type] = {c.name: c for c in (ConformerConfig, TransformerConfig)}


@dataclass(frozen=True)
class ModelConfig:
    """The complete configuration of a model.

    Args:
        input: Front end whose patches the trunk reads.
        targets: Front ends whose patches are quantised into targets, in order; empty for an encoder alone.
        net: Trunk.
        quantizer: Quantisers of the targets; ``None`` when unknown.
        masking: Masking of the pre-training task.
    """

    input: FrontendConfig
    targets: tuple[FrontendConfig, ...] = ()
    net: ConformerConfig | TransformerConfig = field(default_factory=ConformerConfig)
    quantizer: QuantizerConfig | None = None
    masking: MaskingConfig = field(default_factory=MaskingConfig)

    def __post_init__(self) -> None:
        for frontend in (self.input, *self.targets):
            if frontend.patch_size[0] != frontend.rep_dims or frontend.patch_size[1] < 1:
                raise ConfigError(
                    f"{frontend.name}.patch_size is {frontend.patch_size}; allowed: all "
                    f"{frontend.rep_dims} values of a frame, and at least one frame"
                )
        if len(self.targets) > _MAX_TARGETS:
            raise ConfigError(f"there are {len(self.targets)} targets; allowed: at most {_MAX_TARGETS}")
        if (count := self._matrix_parameters()) > MAX_PARAMETERS:
            raise ConfigError(
                f"net and input.patch_size describe a model of {count:,} parameters; allowed: at most "
                f"{MAX_PARAMETERS:,}"
            )
        if self.quantizer is not None:
            sizes = (target.patch_size[0] * target.patch_size[1] for target in self.targets)
            count = sum(self.quantizer.values(size) for size in sizes)
            if count > MAX_CODEBOOK_VALUES:
                raise ConfigError(
                    f"quantizer describes codebooks and projections of {count:,} values; allowed: at most "
                    f"{MAX_CODEBOOK_VALUES:,}"
                )

    def _matrix_parameters(self) -> int:
        """Parameters of the matrices, of which nearly all parameters of the model are."""
        net, width = self.net, self.net.embed_dim
        inner = int(width * net.mlp_ratio)
        if isinstance(net, ConformerConfig):
            block, rest = width * (4 * inner + 7 * width), 0  # two feed-forwards, attention, convolution
        else:
            block, rest = width * (2 * inner + 4 * width), width * (net.num_patches + net.head_dims)
        return self.patch_dim * width + net.depth * block + rest

    @property
    def sample_rate(self) -> int:
        """Samples per second of the audio the model reads."""
        return self.input.sample_rate

    @property
    def embedding_rate_hz(self) -> float:
        """Embeddings per second, one for each token."""
        return self.input.frame_rate / self.input.patch_size[1]

    @property
    def eps(self) -> float:
        """Same as :attr:`embedding_rate_hz`; the original's name for it (embeddings per second)."""
        return self.embedding_rate_hz

    @property
    def patch_dim(self) -> int:
        """Values per input patch: F_p * T_p."""
        return self.input.patch_size[0] * self.input.patch_size[1]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; :meth:`from_dict` is the inverse."""
        return {
            "input": _named_dict(self.input),
            "targets": [_named_dict(target) for target in self.targets],
            "net": _named_dict(self.net),
            "quantizer": None if self.quantizer is None else _jsonable(dataclasses.asdict(self.quantizer)),
            "masking": _jsonable(dataclasses.asdict(self.masking)),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ModelConfig:
        """Build from plain JSON types.

        Raises:
            ConfigError: A section or key is unknown, missing or of the wrong kind; the message names it.
        """
        if not isinstance(data, dict):
            raise ConfigError(f"model configuration is {shortened(data)}; allowed: a mapping of sections")
        unknown = data.keys() - {"input", "targets", "net", "quantizer", "masking"}
        if unknown or "input" not in data or "net" not in data:
            raise ConfigError(
                f"model configuration has the keys {shortened(list(data))}; "
                "allowed: input (required), targets, net (required), quantizer, masking"
            )
        quantizer, targets = data.get("quantizer"), data.get("targets") or []
        if not isinstance(targets, (list, tuple)) or len(targets) > _MAX_TARGETS:
            raise ConfigError(
                f"targets is {shortened(targets)}; allowed: a list of front ends, at most {_MAX_TARGETS}"
            )
        return cls(
            input=_from_named(data["input"], FRONTENDS, "input"),
            targets=tuple(
                _from_named(target, FRONTENDS, f"targets[{i}]") for i, target in enumerate(targets)
            ),
            net=_from_named(data["net"], TRUNKS, "net"),
            quantizer=None if quantizer is None else read_fields(QuantizerConfig, quantizer, "quantizer"),
            masking=read_fields(MaskingConfig, data.get("masking", {}), "masking"),
        )


def _named_dict(config: Any) -> dict[str, Any]:
    return {"name": config.name, **_jsonable(dataclasses.asdict(config))}


def _jsonable(values: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _from_named(data: Any, kinds: dict[str, type], where: str) -> Any:
    name = data.get("name") if isinstance(data, dict) else data
    if not isinstance(data, dict) or not isinstance(name, str) or name not in kinds:
        raise ConfigError(f"{where}.name is {shortened(name)}; allowed: {', '.join(kinds)}")
    return read_fields(kinds[name], {key: value for key, value in data.items() if key != "name"}, where)
