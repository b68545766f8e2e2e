"""Reads the lyrics of the notes of one MusicXML part."""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree.ElementTree import Element

from notagen.score.losses import lost
from notagen.score.lyrics import MAX_VERSES
from notagen.score.model import Syllable


class Syllables:
    """Reads syllables, and keeps the number that a verse has where the file names it otherwise, such as ``iij``."""

    def __init__(self) -> None:
        self._named: dict[str, int] = {}

    def of(self, note: Element, before: Mapping[int, Syllable]) -> dict[int, Syllable]:
        """Return the syllables of a note by verse, from 1.

        A syllable of a verse that has one already becomes that of the next verse without one; the same syllable twice
        counts once.

        Args:
            note: The element.
            before: The syllables of earlier notes of its chord, which has one line of lyrics for each verse.
        """
        found = dict(before)
        for lyric in note.findall("lyric"):
            syllable = _syllable(lyric)
            if syllable is None:
                continue  # an extension line, which goes on from a note before
            name = lyric.get("number", "1").strip()
            number = int(name) if re.fullmatch("[0-9]{1,2}", name) else None
            verse = self._named.get(name, 1) if number is None else number
            if found.get(verse) == syllable:
                lost("syllable that is there twice")
                continue
            while verse in found:
                verse += 1
            if not 0 < verse <= MAX_VERSES:
                lost("verse of lyrics beyond the 32nd")
                continue
            lost("number of a verse of lyrics", int(verse != number))
            if number is None:
                self._named.setdefault(name, verse)
            found[verse] = syllable
        return found


def _syllable(lyric: Element) -> Syllable | None:
    texts = [text for text in (each.text or "" for each in lyric.findall("text")) if text.strip()]
    if not texts:
        return None
    kinds = [(each.text or "").strip() for each in lyric.findall("syllabic")] or ["single"]
    return Syllable(
        " ".join(" ".join(texts).split()),
        before=kinds[0] in ("middle", "end"),
        after=kinds[-1] in ("begin", "middle"),
        extended=any(extend.get("type") != "stop" for extend in lyric.findall("extend")),
    )
