"""Finding the file that a map names among those that are there.

The game runs on file systems that ignore case, and archives were packed by programs that wrote names in the code page
of their system without saying which.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from pathlib import PurePosixPath

# What a program shows that takes a name's bytes for another code page, and what they may be in fact.
_TAKEN_FOR = ("cp437", "cp850", "cp1252")
_IN_FACT = ("utf-8", "cp932", "cp437")


class NameIndex:
    """File names, by all the spellings in which a map may name them.

    Args:
        names: Relative paths with slashes.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = sorted(set(names))
        self._exact = frozenset(self._names)

    def find(self, wanted: str) -> tuple[str | None, str]:
        """Find the file that a map names.

        Args:
            wanted: What the map says; backslashes are folders, too.

        Returns:
            The name, None if there is no such file; and a note: why there is none, or that several would do, of which
            the first in order is taken. Empty if there is nothing to say.
        """
        wanted = wanted.replace("\\", "/")
        parts = PurePosixPath(wanted).parts
        if wanted.startswith("/") or ".." in parts or ":" in wanted:
            return None, f"{wanted[:200]!r} is outside the map's folder"
        wanted = "/".join(parts)
        if wanted in self._exact:
            return wanted, ""
        for spellings in (self._folded, self._decoded):
            if found := spellings.get(_fold(wanted)):
                others = ", ".join(repr(name) for name in found[1:])
                return found[
                    0
                ], f"{wanted!r} may be {found[0]!r}, {others}; the first is taken" if others else ""
        return None, f"{wanted[:200]!r} is missing"

    @cached_property
    def _folded(self) -> dict[str, list[str]]:
        return _grouped((_fold(name), name) for name in self._names)

    @cached_property
    def _decoded(self) -> dict[str, list[str]]:
        return _grouped(
            (_fold(spelling), name)
            for name in self._names
            if not name.isascii()
            for spelling in decodings(name)
        )


def decodings(name: str) -> set[str]:
    """Return what a name may have been before a wrong code page was assumed for its bytes."""
    found: set[str] = set()
    raw: set[bytes] = set()
    for taken_for in _TAKEN_FOR:
        try:
            raw.add(name.encode(taken_for))
        except UnicodeEncodeError:
            continue
    if any("\udc80" <= sign <= "\udcff" for sign in name):  # from a disk: bytes that are not UTF-8
        raw.add(name.encode(errors="surrogateescape"))
    for data in raw:
        for in_fact in _IN_FACT:
            try:
                found.add(data.decode(in_fact).replace("\\", "/"))
            except UnicodeDecodeError:
                continue
    return found - {name}


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for spelling, name in pairs:
        if name not in groups[spelling]:
            groups[spelling].append(name)
    return groups
