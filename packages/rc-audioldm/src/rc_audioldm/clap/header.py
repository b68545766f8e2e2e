"""What made the vectors of a bank, so that vectors of two kinds are never compared."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any

from pentatonic.errors import ConfigError, FormatError, IncompatibleVectors
from pentatonic.untrusted.config import Length, Range, check_fields, read_fields

_Text = Annotated[str, Length(0, 1000)]
# Names of the model. Two of one hash are one model, and whoever downloads it may call it as they like.
_NAMES = ("model", "revision")


@dataclass(frozen=True)
class ClapHeader:
    """How vectors were made.

    Args:
        model: Name of the CLAP model.
        revision: Of its repository on the hub; empty for local files.
        weights: SHA-256 of its configuration and weights.
        filter_bank: Sample rate, transform, bands and logarithm.
        windows: How recordings are cut.
        pooling: How the windows' vectors become one.
        dtype: Number type of the computation.
        dimension: Width of a vector.

    Raises:
        ConfigError: A value is of another type or out of its range.
    """

    model: _Text
    revision: _Text
    weights: _Text
    filter_bank: _Text
    windows: _Text
    pooling: _Text
    dtype: _Text
    dimension: Annotated[int, Range(1, 1 << 16)]

    def __post_init__(self) -> None:
        check_fields(self, "header")

    def differences(self, other: ClapHeader) -> list[str]:
        """Return the names of the fields by which vectors cannot be compared; names of the model are none."""
        fields = [field.name for field in dataclasses.fields(self)]
        return [n for n in fields if n not in _NAMES and getattr(self, n) != getattr(other, n)]

    def require(self, expected: ClapHeader, where: str) -> None:
        """Refuse vectors that were made in another way.

        Args:
            expected: The header of what they are to be compared with.
            where: Whose header this is, for the message.

        Raises:
            IncompatibleVectors: The headers differ; the message names every field that does.
        """
        different = [
            f"{name} {getattr(self, name)!r} instead of {getattr(expected, name)!r}"
            for name in self.differences(expected)
        ]
        if different:
            raise IncompatibleVectors(
                f"{where}: its vectors cannot be compared with these: {', '.join(different)}; build the bank again "
                "with this model and these windows, or use those that made it"
            )

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: object, where: str) -> ClapHeader:
        """Read what :meth:`to_json` gives.

        Args:
            values: JSON values.
            where: Their file, for messages.

        Raises:
            FormatError: A field is missing, unknown or out of its range.
        """
        try:
            return read_fields(cls, values, "header")
        except ConfigError as error:
            raise FormatError(str(error), path=where) from error
