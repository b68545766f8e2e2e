"""Names of licences: one spelling for the addresses and abbreviations that data sets and tags use."""

from __future__ import annotations

import re

UNKNOWN = "unknown"
_MOST_CHARACTERS = 200

_PARTS = r"(?:by(?:-nc)?(?:-nd|-sa)?|sampling\+|nc-sampling\+)"
_ADDRESS = re.compile(rf"creativecommons\.org/licenses/({_PARTS})(?:/(\d\.\d))?(?![\w+-])", re.IGNORECASE)
_PUBLIC_DOMAIN = re.compile(r"creativecommons\.org/publicdomain/(zero|mark)(?:/(\d\.\d))?", re.IGNORECASE)
_SHORT = re.compile(r"\bcc[ -](by(?:[ -]nc)?(?:[ -](?:nd|sa))?)\b(?:[ -](\d\.\d))?", re.IGNORECASE)
_CC0 = re.compile(r"\bcc[ -]?(?:0|zero)\b(?:[ -]?(\d\.\d))?", re.IGNORECASE)
_SAYS_NOTHING = {"", "unknown", "none", "null", "nan", "n/a", "na", "?", "-"}


def find_licence(text: str) -> str | None:
    """Return the name of the Creative Commons licence that a text names, by its address or in short; None without one.

    ``http://creativecommons.org/licenses/by-nc/3.0/`` is ``CC BY-NC 3.0``; ``cc0`` is ``CC0``.
    """
    text = text[:2000]
    if found := _PUBLIC_DOMAIN.search(text):
        return _with_version("CC0" if found[1].lower() == "zero" else "Public Domain Mark", found[2])
    if found := _ADDRESS.search(text):
        name = found[1]
        if "sampling" in name.lower():
            return _with_version(
                "CC NC-Sampling+" if name.lower().startswith("nc") else "CC Sampling+", found[2]
            )
        return _with_version(f"CC {name.upper()}", found[2])
    if found := _SHORT.search(text):
        return _with_version(f"CC {found[1].upper().replace(' ', '-')}", found[2])
    return _with_version("CC0", found[1]) if (found := _CC0.search(text)) else None


def licence_name(text: str | None) -> str:
    """Return the name of a licence: ``unknown`` where the text says nothing, and never an empty text.

    Args:
        text: What a data set or a table gives as the licence. Text that is no Creative Commons licence stays as it is,
            on one line and cut to 200 characters.
    """
    plain = " ".join((text or "").split())[:_MOST_CHARACTERS]
    if plain.casefold() in _SAYS_NOTHING:
        return UNKNOWN
    return find_licence(plain) or plain


def _with_version(name: str, version: str | None) -> str:
    return f"{name} {version}" if version else name
