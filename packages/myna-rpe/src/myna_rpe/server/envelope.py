"""The envelope of every answer, as JSON, JSONP or XML, and the errors that go into it.

XML is specified by examples only, and not at all for ``sonicSimilarity``: values become attributes, lists repeated
elements, and ``similarity`` an element with text, as Navidrome writes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Literal
from xml.etree.ElementTree import Element, SubElement, tostring

from pentatonic.errors import PentatonicError

API_VERSION = "1.16.1"
"""Version of the Subsonic interface that the server speaks."""

Format = Literal["xml", "json", "jsonp"]
"""Values of the parameter ``f``."""

_XML_NAMESPACE = "http://subsonic.org/restapi"
_AS_ELEMENT = "similarity"
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CALLBACK = re.compile(r"[A-Za-z_$][\w$.]{0,99}", re.ASCII)


class SubsonicError(PentatonicError):
    """A request that is answered with ``failed``.

    Args:
        code: Number of the error in the specification.
        message: What is wrong, and what would be allowed.
    """

    GENERIC, MISSING, CLIENT_TOO_OLD, SERVER_TOO_OLD = 0, 10, 20, 30
    WRONG_LOGIN, NO_TOKENS, NOT_SUPPORTED, CONFLICTING, WRONG_KEY = 40, 41, 42, 43, 44
    FORBIDDEN, NOT_FOUND = 50, 70

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(message)


def envelope(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Wrap the result of an endpoint.

    Args:
        payload: Name -> value; may be empty.
    """
    return {"status": "ok", **_about_server(), **payload}


def error_envelope(error: SubsonicError) -> dict[str, Any]:
    """Wrap an error; it always has a message, without which some clients fail."""
    return {"status": "failed", **_about_server(), "error": {"code": error.code, "message": str(error)}}


def is_callback(name: str) -> bool:
    """Whether this is the name of a JavaScript function, and nothing that could run by itself."""
    return _CALLBACK.fullmatch(name) is not None


def render(body: Mapping[str, Any], format: Format, callback: str = "") -> tuple[str, bytes]:
    """Write an envelope.

    Args:
        body: The envelope. Characters that XML cannot hold become U+FFFD in every format.
        format: How to write it.
        callback: Function of JSONP.

    Returns:
        Content type, and the bytes.
    """
    body = _clean(body)
    if format == "xml":
        root = Element("subsonic-response", xmlns=_XML_NAMESPACE)
        _fill(root, body)
        return "application/xml; charset=utf-8", tostring(root, encoding="utf-8", xml_declaration=True)
    text = json.dumps({"subsonic-response": body}, allow_nan=False)
    if format == "json":
        return "application/json", text.encode()
    # The comment keeps the answer from being taken for a file of another type by its first bytes.
    return "text/javascript; charset=utf-8", f"/**/{callback}({text});".encode()


def _about_server() -> dict[str, Any]:
    return {
        "version": API_VERSION,
        "type": "pentatonic",
        "serverVersion": version("myna-rpe"),
        "openSubsonic": True,
    }


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _NOT_XML.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {key: _clean(part) for key, part in value.items()}
    return [_clean(part) for part in value] if isinstance(value, list) else value


def _fill(element: Element, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, Mapping):
            _fill(SubElement(element, name), value)
        elif isinstance(value, list):
            for part in value:
                child = SubElement(element, name)
                if isinstance(part, Mapping):
                    _fill(child, part)
                else:
                    child.text = _text(part)
        elif name == _AS_ELEMENT:
            SubElement(element, name).text = _text(value)
        else:
            element.set(name, _text(value))


def _text(value: str | int | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
