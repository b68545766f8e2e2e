"""URMP: chamber ensembles, files ``AuMix_<number>_<title>_<instruments>.wav``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, takewhile
from pathlib import Path

from rc_audioldm.data.layouts.audio_index import AudioIndex
from rc_audioldm.data.manifest import ManifestRow, place_under

INSTRUMENTS = {
    **{"vn": "violin", "va": "viola", "vc": "cello", "db": "double bass"},
    **{"fl": "flute", "cl": "clarinet", "ob": "oboe", "bn": "bassoon"},
    **{"tpt": "trumpet", "hn": "horn", "tbn": "trombone", "tba": "tuba", "sax": "saxophone"},
    **{"gt": "guitar", "hp": "harp", "pn": "piano", "perc": "percussion", "timp": "timpani"},
}
_BEFORE_THE_NUMBER = {"aumix", "mix", "video", "vid"}


def urmp_rows(
    root: str | Path, *, limit: int | None = None, legacy: bool = False, index: AudioIndex | None = None
) -> Iterator[ManifestRow]:
    """Yield the mixes of URMP with a caption each, sorted by path.

    Args:
        root: Folder with ``AuMix_*.wav``, flat or in a folder for each piece.
        limit: Rows at most.
        legacy: Captions as in the original, which take the title of the piece for an instrument.
        index: The files of ``root``.

    Raises:
        InputError: The folder is missing.
    """
    index = index or AudioIndex(root)
    mixes = (file for file in index.files if file.name.lower().startswith("aumix_"))
    for file in islice(mixes, limit):
        place = place_under(index.root, file)
        yield ManifestRow(
            id=f"urmp/{place}",
            path=place,
            source="URMP",
            caption=urmp_caption(file.stem, legacy=legacy),
            labels=tuple(dict.fromkeys(urmp_instruments(file.stem))),
        )


def urmp_instruments(stem: str) -> list[str]:
    """Return the instruments that a file's name lists, in its order: the codes at its end, behind the title."""
    codes = takewhile(lambda part: part in INSTRUMENTS, reversed(_parts_behind_the_number(stem)[1:]))
    return [INSTRUMENTS[code] for code in codes][::-1]


def urmp_caption(stem: str, *, legacy: bool = False) -> str:
    """Return a caption for a file's name without its suffix.

    Args:
        stem: Such as ``AuMix_01_Jupiter_vn_vc``.
        legacy: Every part behind the number counts as an instrument, as in the original.
    """
    if legacy:
        return _ensemble([INSTRUMENTS.get(part, part) for part in _parts_behind_the_number(stem)])
    return _ensemble(urmp_instruments(stem))


def _parts_behind_the_number(stem: str) -> list[str]:
    parts = takewhile(
        lambda part: not part.isdecimal() and part not in _BEFORE_THE_NUMBER,
        reversed(stem.lower().split("_")),
    )
    return list(parts)[::-1]


def _ensemble(instruments: Sequence[str]) -> str:
    if not instruments:
        return "classical chamber ensemble recording"
    if len(instruments) == 1:
        return f"solo {instruments[0]} performance in a chamber hall"
    if len(instruments) == 2:
        return f"{instruments[0]} and {instruments[1]} duet in a chamber hall"
    return f"{', '.join(instruments)} ensemble performance in a chamber hall"
