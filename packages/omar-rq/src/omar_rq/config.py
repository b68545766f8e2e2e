"""Configuration of a model as plain dataclasses: front ends, trunk, quantisers, masking.

No torch is imported here, so a command line can read a configuration quickly. ``config.json`` of a saved model contains
``ModelConfig.to_dict()``.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pentatonic.errors import ConfigError

# The depthwise convolution of every released conformer has 31 taps, whatever `conv_kernel_size` in its file says.
CONV_KERNEL_SIZE = 31


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
    sample_rate: int = 16000
    n_fft: int = 512
    win_length: int = 512
    hop_length: int = 256
    n_mels: int = 96
    power: float = 2.0
    mel_scale: str = "slaney"
    norm: str | None = "slaney"
    norm_mean: float | None = 2.06755686098554
    norm_std: float | None = 1.268292820667291
    patch_size: tuple[int, int] = (96, 4)
    stretch_factor: float = 1.0
    freq_mask_param: int = 0
    time_mask_param: int = 0

    def __post_init__(self) -> None:
        if self.stretch_factor <= 0:
            raise ConfigError(
                f"mel.stretch_factor is {self.stretch_factor}; allowed: positive numbers, 1 for off"
            )
        for key, value, most in (
            ("freq_mask_param", self.freq_mask_param, self.n_fft // 2 + 1),
            ("time_mask_param", self.time_mask_param, None),
        ):
            if value < 0 or (most is not None and value > most):
                raise ConfigError(
                    f"mel.{key} is {value}; allowed: 0 (off) and more{f', at most {most}' if most else ''}"
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
    sample_rate: int = 24000
    hop_length: int = 320
    bins_per_octave: int = 24
    n_bins: int = 188
    f_min: float = 32.703
    magnitude: bool = True
    power: float = 2.0
    log: bool = True
    norm_mean: float | None = 5.175809567648937
    norm_std: float | None = 1.9251926999183888
    patch_size: tuple[int, int] = (188, 4)

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
    sample_rate: int = 24000
    norm_mean: float | None = 0.0
    norm_std: float | None = 0.1908563740990311
    patch_size: tuple[int, int] = (1, 960)
    hop_length: ClassVar[int] = 1
    rep_dims: ClassVar[int] = 1

    @property
    def frame_rate(self) -> float:
        """Samples per second: a frame is one sample."""
        return float(self.sample_rate)


@dataclass(frozen=True)
class EncodecConfig:
    """Continuous output of the 24 kHz EnCodec encoder; ``sample_rate`` is that of the input audio."""

    name: ClassVar[str] = "encodec"
    weights_path: str | None = "facebook/encodec_24khz"
    norm_type: str | None = "global"
    stats_path: str | None = None
    sample_rate: int = 24000
    patch_size: tuple[int, int] = (128, 4)
    hop_length: ClassVar[int] = 320
    rep_dims: ClassVar[int] = 128
    frame_rate: ClassVar[float] = 75.0  # at any sample rate: the audio is resampled to 24 kHz first


FrontendConfig = MelFrontendConfig | CQTConfig | WaveformConfig | EncodecConfig


@dataclass(frozen=True)
class ConformerConfig:
    """The conformer trunk. Every released checkpoint was trained with ``causal``.

    ``rope_positions="bf16"`` is an experiment: token positions are rounded to bfloat16 (above 256: to steps of 2, 4,
    …), as probably happened in the mixed-precision training of the released checkpoints.
    """

    name: ClassVar[str] = "conformer"
    embed_dim: int = 1024
    depth: int = 24
    num_heads: int = 8
    mlp_ratio: float = 4.0
    mlp_residual_factor: float = 4.0
    dropout: float = 0.2
    input_dropout: float = 0.0
    use_deepnorm: bool = True
    alpha_deepnorm: float = 2.6321480259049848
    beta_deepnorm: float = 0.022386873579657126
    use_rope: bool = True
    causal: bool = True
    rope_positions: str = "exact"

    def __post_init__(self) -> None:
        _check_heads(self)
        if self.rope_positions not in ("exact", "bf16"):
            raise ConfigError(f"net.rope_positions is {self.rope_positions!r}; allowed: exact, bf16")
        if (self.embed_dim // self.num_heads) % 2:
            raise ConfigError(
                f"net.embed_dim / net.num_heads is {self.embed_dim // self.num_heads}; "
                "allowed: even numbers, because position codes rotate pairs"
            )


@dataclass(frozen=True)
class TransformerConfig:
    """The plain Transformer trunk with a learned position table of ``num_patches`` rows."""

    name: ClassVar[str] = "transformer"
    patch_size: tuple[int, int] = (96, 4)
    in_chans: int = 1
    embed_dim: int = 768
    head_dims: int = 1
    depth: int = 12
    num_heads: int = 12
    num_patches: int = 469
    mlp_ratio: float = 4.0
    dropout: float = 0.0
    input_dropout: float = 0.0
    do_deepnorm: bool = True
    alpha_deepnorm: float = 2.6321480259049848
    beta_deepnorm: float = 0.022386873579657126
    do_classification: bool = False
    do_vit_tokenization: bool = False
    causal: bool = True

    def __post_init__(self) -> None:
        _check_heads(self)


@dataclass(frozen=True)
class QuantizerConfig:
    """The frozen quantisers that turn target patches into tokens; seeds make them reproducible."""

    type: str = "random_codebook"
    num_codebooks: int = 1
    codebook_size: int = 8192
    codebook_dim: int = 16
    diff_input: bool = False
    seed: int = 0
    fsq_levels: tuple[int, ...] = (6, 6, 6, 6, 6)
    fsq_preserve_symmetry: bool = True

    def __post_init__(self) -> None:
        kinds = ("random_codebook", "finite_scalar_quantizer")
        if self.type not in kinds:
            raise ConfigError(f"quantizer.type is {self.type!r}; allowed: {', '.join(kinds)}")


@dataclass(frozen=True)
class MaskingConfig:
    """Which patches are masked in pre-training, and what replaces them.

    ``mode="windows"`` masks aligned windows of ``seconds``, each with probability ``prob``; ``mode="tokens"``
    masks exactly ``floor(prob * N)`` single tokens per row.
    """

    seconds: float = 0.4
    prob: float = 0.6
    noise: str = "random_normal"
    mode: str = "windows"

    def __post_init__(self) -> None:
        for key, value, allowed in (
            ("noise", self.noise, ("random_normal", "shuffled_input")),
            ("mode", self.mode, ("windows", "tokens")),
        ):
            if value not in allowed:
                raise ConfigError(f"masking.{key} is {value!r}; allowed: {', '.join(allowed)}")
        if not 0.0 <= self.prob <= 1.0:
            raise ConfigError(f"masking.prob is {self.prob}; allowed: 0 to 1")


def _check_heads(net: ConformerConfig | TransformerConfig) -> None:
    if net.depth < 1 or net.num_heads < 1 or net.embed_dim < 1 or net.embed_dim % net.num_heads:
        raise ConfigError(
            f"net has embed_dim {net.embed_dim}, depth {net.depth}, num_heads {net.num_heads}; "
            "allowed: at least 1 each, with a num_heads that divides embed_dim"
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
            raise ConfigError(f"model configuration is {data!r}; allowed: a mapping of sections")
        unknown = set(data) - {"input", "targets", "net", "quantizer", "masking"}
        if unknown or "input" not in data or "net" not in data:
            raise ConfigError(
                f"model configuration has the keys {sorted(data)}; "
                "allowed: input (required), targets, net (required), quantizer, masking"
            )
        quantizer, targets = data.get("quantizer"), data.get("targets") or []
        if not isinstance(targets, (list, tuple)):
            raise ConfigError(f"targets is {targets!r}; allowed: a list of front ends")
        return cls(
            input=_from_named(data["input"], FRONTENDS, "input"),
            targets=tuple(
                _from_named(target, FRONTENDS, f"targets[{i}]") for i, target in enumerate(targets)
            ),
            net=_from_named(data["net"], TRUNKS, "net"),
            quantizer=None if quantizer is None else _build(QuantizerConfig, quantizer, "quantizer"),
            masking=_build(MaskingConfig, data.get("masking", {}), "masking"),
        )


def _named_dict(config: Any) -> dict[str, Any]:
    return {"name": config.name, **_jsonable(dataclasses.asdict(config))}


def _jsonable(values: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _from_named(data: Any, kinds: dict[str, type], where: str) -> Any:
    if not isinstance(data, dict) or data.get("name") not in kinds:
        name = data.get("name") if isinstance(data, dict) else data
        raise ConfigError(f"{where}.name is {name!r}; allowed: {', '.join(kinds)}")
    return _build(kinds[data["name"]], {k: v for k, v in data.items() if k != "name"}, where)


def _build(kind: type, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise ConfigError(f"{where} is {values!r}; allowed: a section (a mapping of keys)")
    hints = typing.get_type_hints(kind)
    allowed = [f.name for f in dataclasses.fields(kind)]
    for key, value in values.items():
        if key not in allowed:
            raise ConfigError(f"unknown key {where}.{key}; allowed: {', '.join(sorted(allowed))}")
        if not _fits(value, hints[key]):
            wanted = hints[key].__name__ if isinstance(hints[key], type) else hints[key]
            raise ConfigError(f"{where}.{key} is {value!r}; allowed: values of type {wanted}")
    return kind(**{key: _converted(value, hints[key]) for key, value in values.items()})


def _fits(value: Any, hint: Any) -> bool:
    if typing.get_origin(hint) is tuple:
        kinds = typing.get_args(hint)
        if not isinstance(value, (list, tuple)) or (kinds[-1] is not ... and len(value) != len(kinds)):
            return False
        return all(_fits(item, kinds[0]) for item in value)
    if isinstance(hint, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _converted(value: Any, hint: Any) -> Any:
    """Convert to the type of the field: lists to tuples, integers to floats, so that equal settings compare equal."""
    if isinstance(value, (list, tuple)):
        return tuple(value)
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return float(value) if float in options and isinstance(value, int) else value
