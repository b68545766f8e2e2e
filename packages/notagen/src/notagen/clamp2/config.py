"""Sizes of the encoders M3, CLaMP 2 and CLaMP 3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pentatonic.errors import ConfigError
from pentatonic.untrusted.config import Range, check_fields, read_fields

Family = Literal["clamp2", "clamp3"]
"""Whose checkpoint it is; CLaMP 3 leaves the unit length 1/8 out of the text that it reads."""

MAX_PARAMETERS = 2**31
"""Most parameters of an encoder, so that a configuration alone cannot fill the memory; released ones have 2**28."""

_Layers = Annotated[int, Range(1, 128)]
_Width = Annotated[int, Range(1, 16_384)]
_Heads = Annotated[int, Range(1, 1024)]
_Share = Annotated[float, Range(0, 1, below=True)]


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of an encoder of vectors: BERT without words.

    Args:
        layers: Layers.
        width: C, a multiple of ``heads``.
        heads: Attention heads; ``width / 64`` in released models.
        mlp_width: Hidden width of the MLPs; ``4 * width`` in released models.
        length: Rows of the position table, and so the most vectors of a window.
        dropout: Dropout probability of embeddings, attention weights and residual branches, in training.

    Raises:
        ConfigError: A value is of another type or out of its range.
    """

    layers: _Layers
    width: _Width
    heads: _Heads
    mlp_width: Annotated[int, Range(1, 65_536)]
    length: Annotated[int, Range(1, 1_000_000)]
    dropout: _Share = 0.1

    def __post_init__(self) -> None:
        check_fields(self, "encoder")
        _check_heads("encoder", self.width, self.heads)
        count = self.layers * self.width * (4 * self.width + 2 * self.mlp_width) + self.length * self.width
        _check_count("encoder", count)


@dataclass(frozen=True)
class PatchDecoderConfig:
    """Sizes of the decoder of characters that M3 is pre-trained with.

    Args:
        layers: Layers.
        width: C, that of the encoder.
        heads: Attention heads; ``width / 64`` in released models.
        dropout: Dropout probability, in training.

    Raises:
        ConfigError: A value is of another type or out of its range.
    """

    layers: _Layers
    width: _Width
    heads: _Heads
    dropout: _Share = 0.1

    def __post_init__(self) -> None:
        check_fields(self, "decoder")
        _check_heads("decoder", self.width, self.heads)
        _check_count("decoder", 12 * self.layers * self.width * self.width)


@dataclass(frozen=True)
class TextConfig:
    """Sizes of the text encoder, an XLM-RoBERTa.

    Args:
        vocabulary: Tokens.
        layers: Layers.
        width: Width, a multiple of ``heads``.
        heads: Attention heads.
        mlp_width: Hidden width of the MLPs.
        positions: Rows of the position table; those of tokens begin after that of the padding.
        length: Most tokens of a window.
        dropout: Dropout probability, in training.

    Raises:
        ConfigError: A value is of another type or out of its range.
    """

    vocabulary: Annotated[int, Range(4, 2_000_000)]
    layers: _Layers
    width: _Width
    heads: _Heads
    mlp_width: Annotated[int, Range(1, 65_536)]
    positions: Annotated[int, Range(4, 1_000_000)]
    length: Annotated[int, Range(2, 1_000_000)]
    dropout: _Share = 0.1

    def __post_init__(self) -> None:
        check_fields(self, "text")
        _check_heads("text", self.width, self.heads)
        if (needed := self.length + PADDING_TOKEN + 1) > self.positions:
            raise ConfigError(
                f"text.length {self.length} needs {needed} positions; there are {self.positions}"
            )
        count = self.layers * self.width * (4 * self.width + 2 * self.mlp_width)
        _check_count("text", count + self.width * (self.vocabulary + self.positions))


START_TOKEN, PADDING_TOKEN, END_TOKEN = 0, 1, 2
"""Numbers of the tokens around a text and beside it, in every tokenizer of this family."""


@dataclass(frozen=True)
class M3Config:
    """Sizes of M3: the music encoder with the decoder that it is pre-trained with."""

    encoder: EncoderConfig
    decoder: PatchDecoderConfig

    def __post_init__(self) -> None:
        if self.encoder.width != self.decoder.width:
            raise ConfigError(
                f"encoder is {self.encoder.width} wide and decoder {self.decoder.width}; they must be equal"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the values as plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: object) -> M3Config:
        """Build from the result of :meth:`to_dict`.

        Raises:
            ConfigError: Keys are missing or unknown, or a value is of another type or out of its range.
        """
        sections = _sections(values, {"encoder": EncoderConfig, "decoder": PatchDecoderConfig})
        return cls(encoder=_needed(sections, "encoder"), decoder=_needed(sections, "decoder"))


@dataclass(frozen=True)
class ClampConfig:
    """Sizes of CLaMP 2 or 3.

    Args:
        family: Whose checkpoint it is.
        projection: Width of a feature.
        music: The music encoder, M3's.
        text: The text encoder, or None where only music is embedded.
        audio: The encoder of audio features of CLaMP 3, or None.

    Raises:
        ConfigError: A value is of another type or out of its range.
    """

    family: Family
    projection: Annotated[int, Range(1, 16_384)]
    music: EncoderConfig
    text: TextConfig | None = None
    audio: EncoderConfig | None = None

    def __post_init__(self) -> None:
        if self.family not in ("clamp2", "clamp3"):
            raise ConfigError(f"family is {self.family!r}; allowed: clamp2, clamp3")
        if not 1 <= self.projection <= 16_384:
            raise ConfigError(
                f"projection is {self.projection!r}; allowed: whole numbers from 1 up to 16,384"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the values as plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: object) -> ClampConfig:
        """Build from the result of :meth:`to_dict`.

        Raises:
            ConfigError: Keys are missing or unknown, or a value is of another type or out of its range.
        """
        kinds = {"music": EncoderConfig, "text": TextConfig, "audio": EncoderConfig}
        sections = _sections(values, kinds, plain=("family", "projection"))
        projection = sections.get("projection")
        if not isinstance(projection, int) or isinstance(projection, bool):
            raise ConfigError(f"projection is {projection!r}; allowed: whole numbers from 1 up to 16,384")
        return cls(
            family=sections.get("family"),  # type: ignore[arg-type]
            projection=projection,
            music=_needed(sections, "music"),
            text=sections.get("text"),
            audio=sections.get("audio"),
        )


def _sections(values: object, kinds: Mapping[str, type], plain: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise ConfigError("the configuration is not a mapping of keys")
    for key in values:
        if key not in kinds and key not in plain:
            raise ConfigError(f"unknown key {str(key)[:80]}; allowed: {', '.join((*plain, *kinds))}")
    read = {key: values[key] for key in plain if key in values}
    for key, kind in kinds.items():
        if values.get(key) is not None:
            read[key] = read_fields(kind, values[key], key)
    return read


def _needed(sections: Mapping[str, Any], key: str) -> Any:
    if key not in sections:
        raise ConfigError(f"the section {key} is missing")
    return sections[key]


def _check_heads(where: str, width: int, heads: int) -> None:
    if width % heads:
        raise ConfigError(f"{where}.width {width} is not a multiple of {heads} heads")


def _check_count(where: str, count: int) -> None:
    if count > MAX_PARAMETERS:
        raise ConfigError(
            f"{where} describes a model of {count:,} parameters; allowed: at most {MAX_PARAMETERS:,}"
        )
