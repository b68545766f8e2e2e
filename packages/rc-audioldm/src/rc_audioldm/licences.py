"""Licences of clips: one name for each, whatever a file or a data set calls it, and how strict it is."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal, get_args

UNKNOWN = "unknown"

Terms = Literal["free", "attribution", "share-alike", "restricted", "unknown"]
"""What a licence asks of works that a clip went into, the most lenient first.

- ``free``: nothing.
- ``attribution``: to name the author.
- ``share-alike``: the same licence as well.
- ``restricted``: no commercial use, no changed versions, or no use in advertising.
- ``unknown``: nobody says.
"""
STRICTNESS: tuple[Terms, ...] = get_args(Terms)

_MOST_CHARACTERS = 200
_NOTHING = {"", "unknown", "none", "n/a", "na", "null", "nan", "-", "?"}
_KINDS = r"by(?:-nc)?(?:-nd|-sa)?|nc(?:-sa)?|nd(?:-nc)?|sa|sampling\+|nc-sampling\+"
_CC_URL = re.compile(rf"creativecommons\.org/licenses/({_KINDS})(?:/(\d\.\d))?(?![\w+-])", re.IGNORECASE)
_CC_DOMAIN = re.compile(r"creativecommons\.org/publicdomain/(zero|mark)(?:/(\d\.\d))?", re.IGNORECASE)
_CC_NAME = re.compile(
    r"\b(?:cc|creative commons)[\s_-]*((?:by|nc|nd|sa)(?:[\s_-]+(?:nc|nd|sa))*)\b(?!-sampling)[\s_-]*v?(\d\.\d)?",
    re.IGNORECASE,
)
_CC_ZERO = re.compile(r"\bcc[\s_-]*(?:0|zero)\b|creative commons (?:0|zero)", re.IGNORECASE)
# How Freesound names the licences of its sounds.
_FREESOUND = {
    "attribution": "CC BY",
    "attribution noncommercial": "CC BY-NC",
    "attribution non-commercial": "CC BY-NC",
    "sampling+": "CC Sampling+",
    "public domain": "public domain",
}
_SOFTWARE: tuple[tuple[str, Terms], ...] = (
    (r"\b[al]?gpl", "share-alike"),
    (r"\b(mit|bsd|apache|isc|zlib|expat)\b", "attribution"),
    (r"\bpublic domain\b|\bwtfpl\b|\bunlicense\b", "free"),
)


def licence_name(text: object) -> str:
    """Return the one name of a licence; ``unknown`` where a text says nothing, and a text of its own as it is.

    Args:
        text: A name, an address of Creative Commons, or anything else that a file or a table says.
    """
    if not isinstance(text, str):
        return UNKNOWN
    clean = plain(text)
    if clean.casefold() in _NOTHING:
        return UNKNOWN
    return known_licence(clean) or clean


def known_licence(text: str) -> str | None:
    """Return the name of the Creative Commons licence, or of a label of Freesound, in a text; None if there is none."""
    if found := _CC_DOMAIN.search(text):
        return "CC0 1.0" if found[1].lower() == "zero" else f"Public Domain Mark {found[2] or ''}".strip()
    if found := _CC_URL.search(text):
        kind = found[1].upper().replace("SAMPLING", "Sampling")
        return f"CC {kind} {found[2] or ''}".strip()
    if _CC_ZERO.search(text):
        return "CC0 1.0"
    if found := _CC_NAME.search(text):
        return f"CC {re.sub(r'[^A-Z]+', '-', found[1].upper())} {found[2] or ''}".strip()
    return _FREESOUND.get(text.casefold())


def terms_of(licence: str) -> Terms:
    """Return what a licence asks; ``unknown`` for a text that is not known."""
    name = licence_name(licence)
    if name == UNKNOWN:
        return "unknown"
    if name.startswith(("CC0", "Public Domain", "public domain")):
        return "free"
    if name.startswith("CC "):
        parts = set(re.split(r"[\s-]+", name))
        if parts & {"NC", "ND", "Sampling+"} or "BY" not in parts:
            return "restricted"
        return "share-alike" if "SA" in parts else "attribution"
    for pattern, terms in _SOFTWARE:
        if re.search(pattern, name, re.IGNORECASE):
            return terms
    return "unknown"


def strictest(licences: list[str]) -> Terms:
    """Return the terms of a work that all of these went into; ``free`` for none."""
    worst = max((STRICTNESS.index(terms_of(each)) for each in licences), default=0)
    return STRICTNESS[worst]


def plain(text: str) -> str:
    """Return a stranger's text on one line, without control characters, and not too long."""
    kept = text[: 20 * _MOST_CHARACTERS].partition("\0")[0].encode("utf-8", "replace").decode()
    kept = "".join(" " if unicodedata.category(sign) in ("Cc", "Cf", "Zl", "Zp") else sign for sign in kept)
    return " ".join(kept.split())[:_MOST_CHARACTERS]
