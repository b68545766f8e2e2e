"""Parameters of a request: read from the query and the body together, bounded, and converted with clear errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

from myna_rpe.server.envelope import SubsonicError
from pentatonic.untrusted.files import shortened

MAX_BODY_BYTES = 64 * 1024
"""Longest form that is read."""

_MAX_FIELDS = 200
_WHOLE_NUMBER = re.compile(r"[0-9]{1,4000}", re.ASCII)  # longer ones Python does not convert


def parse_form(encoded: bytes, where: str) -> dict[str, str]:
    """Decode ``a=1&b=2``; of a name that comes twice, the first value counts.

    Args:
        encoded: The text as it was sent.
        where: ``query`` or ``body``, for the message.

    Raises:
        SubsonicError: It is not UTF-8, or has too many fields.
    """
    try:
        pairs = parse_qsl(
            encoded.decode(),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MAX_FIELDS,
        )
    except ValueError as error:  # also what cannot be decoded
        raise SubsonicError(
            SubsonicError.GENERIC,
            f"the {where} cannot be read; allowed: up to {_MAX_FIELDS} percent-encoded UTF-8 fields",
        ) from error
    return dict(reversed(pairs))


class Parameters:
    """Parameters of one request.

    Args:
        values: Name -> text.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def get(self, name: str) -> str | None:
        """A parameter that may be missing; an empty one is the same."""
        return self._values.get(name) or None

    def require(self, name: str) -> str:
        """A parameter that must be there.

        Raises:
            SubsonicError: It is missing or empty.
        """
        if (value := self.get(name)) is None:
            raise SubsonicError(SubsonicError.MISSING, f"the parameter {name} is missing")
        return value

    def count(self, name: str, default: int, *, least: int = 0, most: int) -> int:
        """A whole number.

        Args:
            name: The parameter.
            default: Its value where it is missing.
            least: Least allowed.
            most: Larger ones are lowered to it.

        Raises:
            SubsonicError: It is not a whole number from ``least`` on.
        """
        text = self.get(name)
        if text is None:
            return default
        if _WHOLE_NUMBER.fullmatch(text) is None or int(text) < least:
            raise SubsonicError(
                SubsonicError.GENERIC,
                f"{name} is {shortened(text)}; allowed: a whole number, {least} or more",
            )
        return min(int(text), most)
