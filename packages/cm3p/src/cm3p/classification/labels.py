"""Fields of metadata as text: ``mode=osu``, ``year=2015``, ``tags=style/clean,aim/jump``."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from cm3p.metadata import FIELDS, CM3PMetadata
from cm3p.tokens.metadata import CM3PMetadataTokenizer
from pentatonic.errors import UsageError

_NAMES_SHOWN = 12
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_OTHER_NAMES = {"catch": "fruits", "ctb": "fruits", "std": "osu"}


def metadata_from(tokenizer: CM3PMetadataTokenizer, fields: Sequence[str]) -> CM3PMetadata:
    """Read fields of metadata.

    Args:
        tokenizer: Knows the names of modes, statuses, mappers and tags.
        fields: Such as ``year=2015``; several tags are separated by commas.

    Raises:
        UsageError: A field is unknown or given twice, or the model does not know a value.
    """
    found: dict[str, Any] = {}
    for text in fields:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not value.strip() or name not in FIELDS:
            raise UsageError(f"metadata is given as {text!r}; allowed: FIELD=VALUE with {', '.join(FIELDS)}")
        if name in found:
            raise UsageError(f"{name} is given twice")
        parts = value.split(",") if name == "tags" else [value]
        values = [field_value(tokenizer, name, part.strip()) for part in parts]
        found[name] = values if name == "tags" else values[0]
    return CM3PMetadata(**found)


def field_value(tokenizer: CM3PMetadataTokenizer, name: str, text: str) -> Any:
    """Return the value of a field as the tokenizer takes it.

    Raises:
        UsageError: The text is not of the field's kind, or the model does not know the value.
    """
    value = _convert(name, text)
    if name == "mode" and isinstance(value, str):
        value = value if value in tokenizer.modes.values() else _OTHER_NAMES.get(value.lower(), value.lower())
    known = tokenizer.tokenize(CM3PMetadata(**{name: [value] if name == "tags" else value}))  # type: ignore[typeddict-item]
    if known == tokenizer.tokenize(CM3PMetadata()):
        raise UsageError(
            f"{name} is {text!r}, which the model does not know; {_allowed(tokenizer, name, text)}"
        )
    return value


def _convert(name: str, text: str) -> Any:
    if name == "hitsounded":
        if text.lower() not in _WORDS:
            raise UsageError(f"hitsounded is {text!r}; allowed: true, false")
        return _WORDS[text.lower()]
    if name in ("mode", "status", "mapper", "tags"):
        return int(text) if text.lstrip("-").isdecimal() else text
    try:
        return int(text) if name in ("year", "mania_keycount") else float(text)
    except ValueError:
        raise UsageError(f"{name} is {text!r}; allowed: a number") from None


def _allowed(tokenizer: CM3PMetadataTokenizer, name: str, text: str) -> str:
    tables = {
        "mode": list(tokenizer.modes.values()),
        "status": list(tokenizer.statuses.values()),
        "mapper": list(tokenizer.mappers.values()),
        "tags": [str(tag["name"]) for tag in tokenizer.tags.values()],
    }
    names = tables.get(name, [])
    if len(names) <= _NAMES_SHOWN:
        return f"allowed: {', '.join(names) or 'none, as it has no table of them'}"
    near = get_close_matches(text, names, 5, 0.5)
    return f"allowed: one of {len(names)} names" + (f", such as {', '.join(near)}" if near else "")
