"""What computed the vectors of a store, so that vectors of two models are never compared."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Annotated, Literal

from pentatonic.errors import FormatError, IncompatibleVectors
from pentatonic.untrusted.config import Length, Range, check_fields, read_fields
from pentatonic.untrusted.files import parse_json

Metric = Literal["cosine", "inner_product", "euclidean"]
"""How vectors are compared: the cosine of their angle, their inner product, or their Euclidean distance."""

_Text = Annotated[str, Length(1, 1000)]
_VERSION = 1


@dataclass(frozen=True)
class VectorHeader:
    """What computed the vectors of a store, and how they are compared.

    Args:
        model_hash: Hash of the model's weights.
        frontend: What the model was given, such as the name of a mel preset.
        windows: The part of a recording behind a vector, such as ``"track"`` or ``"3 s, hop 3 s"``.
        pooling: How outputs became one vector, such as ``"mean"``.
        dimension: Width of a vector.
        dtype: Type of the stored numbers.
        metric: How the vectors are compared.

    Raises:
        ConfigError: A value is of another type or out of its range.
    """

    model_hash: _Text
    frontend: _Text
    windows: _Text
    pooling: _Text
    dimension: Annotated[int, Range(1, 65536)]
    dtype: Literal["float16", "float32"] = "float32"
    metric: Metric = "cosine"

    def __post_init__(self) -> None:
        check_fields(self, "header")

    def require(self, expected: VectorHeader, where: str) -> None:
        """Refuse vectors that were not made as expected.

        Args:
            expected: The header of the vectors that they are to be compared or stored with.
            where: The file of this header, for the message.

        Raises:
            IncompatibleVectors: The headers differ; the message names every field that does.
        """
        own, needed = dataclasses.asdict(self), dataclasses.asdict(expected)
        differences = [
            f"{key} {own[key]!r} instead of {needed[key]!r}" for key in own if own[key] != needed[key]
        ]
        if differences:
            raise IncompatibleVectors(
                f"{where}: its vectors cannot be mixed with those of this model: {', '.join(differences)}; "
                "compute them again with this model, or use the one that made them"
            )

    def to_json(self) -> str:
        """The header as JSON text."""
        return json.dumps({"version": _VERSION, **dataclasses.asdict(self)})

    @classmethod
    def from_json(cls, text: str, where: str) -> VectorHeader:
        """Read what :meth:`to_json` wrote.

        Args:
            text: JSON text.
            where: Its origin, for messages.

        Raises:
            FormatError: It is not JSON, of another version, or a field is missing, unknown or out of its range.
        """
        values = parse_json(text, where=where, error=FormatError)
        version = values.pop("version", None) if isinstance(values, dict) else None
        if version != _VERSION:
            raise FormatError(
                f"header of version {version!r}; this program reads version {_VERSION}", path=where
            )
        try:
            return read_fields(cls, values, "header")
        except ValueError as error:  # a ConfigError; the fault is that of a file here
            raise FormatError(str(error), path=where) from error
