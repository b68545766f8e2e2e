"""Configurations of the networks, in the form and with the fields of the original's ``config.json``.

The values may come from a stranger's file: types and ranges are checked when a configuration is built, and again when a
model is built from it. Keys that are not fields are left out, as the original dumps every generic field of its library.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from transformers import PreTrainedConfig

from pentatonic.errors import ConfigError
from pentatonic.untrusted.config import Range, read_fields
from pentatonic.untrusted.files import shortened

Activation = Literal["gelu", "gelu_pytorch_tanh", "relu", "silu"]
_Count = Annotated[int, Range(1, 1 << 20)]
_Width = Annotated[int, Range(1, 1 << 14)]
_Token = Annotated[int, Range(0, (1 << 20) - 1)] | None
_Theta = Annotated[float, Range(1, 1e12)]
_Part = Annotated[float, Range(0, 1, below=True)]

_MOST_LABELS = 100_000
_DTYPES = ("float32", "float16", "bfloat16", "float64")
_PROBLEMS = (None, "regression", "single_label_classification", "multi_label_classification")
# What a configuration may hold besides the fields of its class and of PreTrainedConfig.
_GENERIC = (
    "attn_implementation",
    "auto_map",
    "name_or_path",
    "num_labels",
    "output_attentions",
    "tie_word_embeddings",
    "torch_dtype",
)


@dataclass(kw_only=True)
class EncoderFields:
    """Fields of a ModernBERT encoder.

    Attributes:
        vocab_size: Rows of the token table.
        hidden_size: Width; a multiple of twice ``num_attention_heads``, as rotary embeddings turn pairs.
        intermediate_size: Width of the gated MLP.
        num_hidden_layers: Layers.
        num_attention_heads: Heads.
        max_position_embeddings: Longest sequence that the model was made for; not a limit of the computation.
        hidden_activation: Of the gated MLP; ``gelu`` is the exact one.
        initializer_range: Standard deviation of the first weights.
        initializer_cutoff_factor: Standard deviations beyond which they are drawn again.
        norm_eps: Added to variances.
        norm_bias: Whether LayerNorms have a bias.
        attention_bias: Whether projections of the attention have one.
        attention_dropout: Dropout of attention weights, and of the attention's output.
        mlp_bias: Whether the MLP's matrices have a bias.
        mlp_dropout: Dropout inside the MLP.
        embedding_dropout: Dropout of the normalised embeddings.
        decoder_bias: Whether the decoder of masked tokens has one.
        global_attn_every_n_layers: Layers 0, n, 2n, … see all tokens, the others a window.
        local_attention: Width of the window; half of it lies on each side.
        global_rope_theta: Base of the rotary embeddings of global layers.
        local_rope_theta: The same of local layers.
        deterministic_flash_attn: Read and written for the original; without effect.
    """

    vocab_size: _Count = 1000
    hidden_size: _Width = 256
    intermediate_size: _Width = 512
    num_hidden_layers: Annotated[int, Range(1, 256)] = 6
    num_attention_heads: Annotated[int, Range(1, 256)] = 4
    max_position_embeddings: Annotated[int, Range(1, 1 << 24)] = 128
    hidden_activation: Activation = "gelu"
    initializer_range: Annotated[float, Range(0, 100)] = 0.02
    initializer_cutoff_factor: Annotated[float, Range(0, 100, above=True)] = 2.0
    norm_eps: Annotated[float, Range(0, 1)] = 1e-5
    norm_bias: bool = False
    attention_bias: bool = False
    attention_dropout: _Part = 0.0
    mlp_bias: bool = False
    mlp_dropout: _Part = 0.0
    embedding_dropout: _Part = 0.0
    decoder_bias: bool = True
    global_attn_every_n_layers: Annotated[int, Range(1, 1 << 20)] = 3
    local_attention: Annotated[int, Range(0, 1 << 24)] = 128
    global_rope_theta: _Theta = 160000.0
    local_rope_theta: _Theta = 10000.0
    deterministic_flash_attn: bool = False


@dataclass(kw_only=True)
class MetadataFields(EncoderFields):
    """Fields of the metadata tower.

    Attributes:
        cls_embed: Pool the first position; else the mean over tokens.
        projection_dim: Width of the shared space, for the tower on its own.
        initializer_factor: Factor on the deviation of projections.
        pad_token_id: Padding.
        bos_token_id: First token of a sequence.
        eos_token_id: Last one.
    """

    cls_embed: bool = True
    projection_dim: _Width = 512
    initializer_factor: Annotated[float, Range(0, 100)] = 1.0
    global_attn_every_n_layers: Annotated[int, Range(1, 1 << 20)] = 1
    global_rope_theta: _Theta = 10000.0
    pad_token_id: _Token = 0
    bos_token_id: _Token = 1
    eos_token_id: _Token = 2


@dataclass(kw_only=True)
class AudioFields(EncoderFields):
    """Fields of the audio tower; those of the spectrogram describe it, the processor computes it.

    Attributes:
        projector_intermediate_size: Width of several frames of the encoder put end to end.
        projector_dim: Width of an audio token: that of the beatmap tower.
        projector_hidden_act: Activation between the projector's matrices.
        sample_rate: In Hz.
        n_ftt: Samples of a Fourier transform (the original's spelling).
        n_mels: Mel bands.
        hop_length: Samples between frames.
        f_min: In Hz.
        f_max: In Hz.
        pad_mode: Padding of the signal.
    """

    vocab_size: _Count = 1
    hidden_size: _Width = 512
    intermediate_size: _Width = 1024
    num_attention_heads: Annotated[int, Range(1, 256)] = 8
    max_position_embeddings: Annotated[int, Range(1, 1 << 24)] = 4096
    projector_intermediate_size: _Width = 2048
    projector_dim: _Width = 768
    projector_hidden_act: Activation = "gelu"
    sample_rate: _Count = 16000
    n_ftt: _Count = 2048
    n_mels: _Width = 80
    hop_length: _Count = 128
    f_min: Annotated[float, Range(0, 1e6)] = 0
    f_max: Annotated[float, Range(0, 1e6)] = 8000
    pad_mode: str = "constant"


@dataclass(kw_only=True)
class BeatmapFields(EncoderFields):
    """Fields of the beatmap tower and of the heads on it.

    Attributes:
        cls_embed: Pool the first position; else the mean over tokens.
        projection_dim: Width of the shared space, for the tower on its own.
        initializer_factor: Factor on the deviation of projections.
        pad_token_id: Padding.
        bos_token_id: First token of a map.
        eos_token_id: Last one.
        audio_sos_token_id: Token before the audio; the network does not use it.
        audio_eos_token_id: Token after it; the network does not use it.
        audio_token_id: Token that an audio embedding replaces.
        classifier_bias: Whether the dense layer of the masked-token head has a bias.
        classifier_activation: Activation of that head.
        sparse_prediction: :class:`CM3PForMaskedLM` gives logits of labelled positions alone.
        sparse_pred_ignore_index: Label of positions without one.
        repad_logits_with_grad: Read and written for the original; logits always carry gradients.
    """

    cls_embed: bool = True
    projection_dim: _Width = 512
    initializer_factor: Annotated[float, Range(0, 100)] = 1.0
    vocab_size: _Count = 3167
    hidden_size: _Width = 768
    intermediate_size: _Width = 1152
    num_hidden_layers: Annotated[int, Range(1, 256)] = 22
    num_attention_heads: Annotated[int, Range(1, 256)] = 12
    max_position_embeddings: Annotated[int, Range(1, 1 << 24)] = 8192
    pad_token_id: _Token = 0
    bos_token_id: _Token = 1
    eos_token_id: _Token = 2
    audio_sos_token_id: _Token = 3164
    audio_eos_token_id: _Token = 3165
    audio_token_id: _Token = 3166
    classifier_bias: bool = False
    classifier_activation: Activation = "gelu"
    sparse_prediction: bool = False
    sparse_pred_ignore_index: int = -100
    repad_logits_with_grad: bool = False


@dataclass(kw_only=True)
class FullFields:
    """Fields of the full model.

    Attributes:
        projection_dim: Width of the shared space.
        logit_scale_init_value: Natural logarithm of the first factor on cosines.
        initializer_factor: Factor on the deviation of projections.
        initializer_range: Standard deviation of the decoder head's first weights.
        loss_type: Read and written for the original, whose masked LM needs ``ForMaskedLM``; ours always is one.
        has_decoder_head: Whether there is a masked-token head.
    """

    projection_dim: _Width = 512
    logit_scale_init_value: Annotated[float, Range(-100, 100)] = 2.6592
    initializer_factor: Annotated[float, Range(0, 100)] = 1.0
    initializer_range: Annotated[float, Range(0, 100)] = 0.02
    loss_type: str | None = None
    has_decoder_head: bool = False


class _Config(PreTrainedConfig):
    """What the four configurations share: generic keys are sorted out, and values checked."""

    spec: ClassVar[type]

    def __post_init__(self, **kwargs: Any) -> None:
        """Take the generic values that have a meaning here, and check all."""
        kept = {key: value for key, value in kwargs.items() if key in _GENERIC}
        _check_generic(self, kept)
        # Embedding and decoder are tied unless a file says otherwise; only then is the key written.
        if kept.pop("tie_word_embeddings", True) is False:
            self.tie_word_embeddings = False
        try:
            super().__post_init__(**kept)
        except (AttributeError, TypeError, ValueError) as error:
            where = self.base_config_key or "the configuration"
            raise ConfigError(f"{where}: {' '.join(str(error).split())}") from error
        self.check()

    def to_diff_dict(self) -> dict[str, Any]:
        """Return what is written: the fields, and generic values that are not the defaults, in all sections alike."""
        values = super().to_diff_dict()
        for section in self.sub_configs:
            values[section] = getattr(self, section).to_diff_dict()
            del values[section]["transformers_version"]
        return values

    def check(self) -> None:
        """Hold the values to the types and ranges of the fields.

        Raises:
            ConfigError: A value is of another type or out of its range; the message names it and what is allowed.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self.spec)}
        read_fields(self.spec, values, self.base_config_key)


class _EncoderConfig(_Config):
    """An encoder's configuration."""

    tie_word_embeddings = True

    def check(self) -> None:
        """Hold the values to their ranges, and to each other; errors as for all configurations."""
        super().check()
        values: Any = self
        where = self.base_config_key
        if values.hidden_size % (2 * values.num_attention_heads):
            raise ConfigError(
                f"{where}.hidden_size is {values.hidden_size}; allowed: multiples of twice num_attention_heads, "
                f"which is {values.num_attention_heads}"
            )
        pad = getattr(self, "pad_token_id", None)
        if pad is not None and pad >= values.vocab_size:
            raise ConfigError(
                f"{where}.pad_token_id is {pad}; allowed: 0 to vocab_size - 1 = {values.vocab_size - 1}"
            )


class CM3PMetadataConfig(MetadataFields, _EncoderConfig):
    """Configuration of the metadata tower; see :class:`MetadataFields`."""

    model_type: ClassVar[str] = "CM3PMetadata"
    base_config_key: ClassVar[str] = "metadata_config"
    spec: ClassVar[type] = MetadataFields


class CM3PAudioConfig(AudioFields, _EncoderConfig):
    """Configuration of the audio tower; see :class:`AudioFields`."""

    model_type: ClassVar[str] = "CM3PAudio"
    base_config_key: ClassVar[str] = "audio_config"
    spec: ClassVar[type] = AudioFields


class CM3PBeatmapConfig(BeatmapFields, _EncoderConfig):
    """Configuration of the beatmap tower, and of the models on it; see :class:`BeatmapFields`.

    Attributes:
        audio_config: Of the audio tower: a configuration, its keys, or ``None`` for the defaults.
    """

    model_type: ClassVar[str] = "CM3PBeatmap"
    base_config_key: ClassVar[str] = "beatmap_config"
    spec: ClassVar[type] = BeatmapFields
    sub_configs: ClassVar[dict[str, type[PreTrainedConfig]]] = {  # type: ignore[override]
        "audio_config": CM3PAudioConfig
    }

    audio_config: Any = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Build the audio tower's configuration."""
        self.audio_config = _built(CM3PAudioConfig, self.audio_config)
        super().__post_init__(**kwargs)

    def check(self) -> None:
        """Hold the values to their ranges, and to each other; errors as for all configurations."""
        super().check()
        self.audio_config.check()
        if self.audio_config.projector_dim != self.hidden_size:
            raise ConfigError(
                f"audio_config.projector_dim is {self.audio_config.projector_dim}; allowed: {self.hidden_size}, the "
                "hidden_size of beatmap_config"
            )


class CM3PConfig(FullFields, _Config):
    """Configuration of the full model; see :class:`FullFields`.

    Attributes:
        beatmap_config: A configuration, its keys, or ``None`` for the defaults.
        metadata_config: The same for the metadata tower.
    """

    model_type: ClassVar[str] = "CM3P"
    spec: ClassVar[type] = FullFields
    sub_configs: ClassVar[dict[str, type[PreTrainedConfig]]] = {  # type: ignore[override]
        "metadata_config": CM3PMetadataConfig,
        "beatmap_config": CM3PBeatmapConfig,
    }

    metadata_config: Any = None
    beatmap_config: Any = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Build the towers' configurations."""
        self.metadata_config = _built(CM3PMetadataConfig, self.metadata_config)
        self.beatmap_config = _built(CM3PBeatmapConfig, self.beatmap_config)
        super().__post_init__(**kwargs)

    def check(self) -> None:
        """Hold the values to their ranges; errors as for all configurations."""
        super().check()
        self.metadata_config.check()
        self.beatmap_config.check()

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: Any, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read a configuration; that of a beatmap tower becomes a full model's, whose other values are defaults."""
        values, rest = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        if values.get("model_type") == CM3PBeatmapConfig.model_type:
            values = {"model_type": cls.model_type, "beatmap_config": values}
        return values, rest


def _check_generic(config: PreTrainedConfig, others: dict[str, Any]) -> None:
    """Check the values that transformers would take as they are."""
    dtype = others.get("torch_dtype") if config.dtype is None else config.dtype
    if isinstance(dtype, str) and dtype not in _DTYPES:
        raise ConfigError(f"dtype is {shortened(dtype)}; allowed: {', '.join(_DTYPES)}")
    labels = others.get("num_labels", 2)
    if not isinstance(labels, int) or not 1 <= labels <= _MOST_LABELS:
        raise ConfigError(
            f"num_labels is {shortened(labels)}; allowed: whole numbers from 1 to {_MOST_LABELS:,}"
        )
    if config.problem_type not in _PROBLEMS:
        raise ConfigError(
            f"problem_type is {shortened(config.problem_type)}; allowed: {', '.join(map(str, _PROBLEMS))}"
        )
    names = config.id2label
    if names is not None and not (isinstance(names, dict) and 1 <= len(names) <= _MOST_LABELS):
        raise ConfigError(
            f"id2label is {shortened(names)}; allowed: a mapping of 1 to {_MOST_LABELS:,} labels"
        )


_Sub = TypeVar("_Sub", bound=_Config)


def _built(kind: type[_Sub], values: Any) -> _Sub:
    """Return the configuration of a part, from itself, from its keys, or from nothing."""
    if isinstance(values, kind):
        return values
    if values is None:
        return kind()
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(
            f"{kind.base_config_key} is {shortened(values)}; allowed: a section (a mapping of keys)"
        )
    return kind(**values)
