"""Columns of a file of embeddings: those of the original in their order, then our own, then the vector."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, Literal

from cm3p.metadata import is_null
from pentatonic.errors import InputError

Kind = Literal["text", "int", "float", "bool", "time", "texts", "ints", "floats"]

_KINDS: Mapping[Kind, str] = {
    "int": "Id FavouriteCount BeatmapSetId Offset BeatmapSetPlayCount BeatmapSetUserId GenreId LanguageId "
    "BeatmapSetRanked TotalLength UserId MaxCombo CountCircles CountSliders CountSpinners HitLength ModeInt "
    "PassCount PlayCount Ranked Windows",
    "float": "BeatmapSetBpm DifficultyRating Accuracy Ar Bpm Cs Drain",
    "bool": "Nsfw Spotlight Video DownloadDisabled CanBeHyped DiscussionLocked BeatmapSetIsScoreable Storyboard "
    "IsScoreable",
    "time": "BeatmapSetLastUpdated RankedDate SubmittedDate LastUpdated",
    "texts": "PackTags OmdbTags",
    "ints": "Ratings TopTagIds TopTagCounts",
    "floats": "StarRating",
}
_ORDER = (
    "Id Artist ArtistUnicode Creator FavouriteCount BeatmapSetId Nsfw Offset BeatmapSetPlayCount Source "
    "BeatmapSetStatus Spotlight Title TitleUnicode BeatmapSetUserId Video Description GenreId GenreName LanguageId "
    "LanguageName PackTags Ratings DownloadDisabled BeatmapSetBpm CanBeHyped DiscussionLocked BeatmapSetIsScoreable "
    "BeatmapSetLastUpdated BeatmapSetRanked RankedDate Storyboard SubmittedDate Tags DifficultyRating Mode Status "
    "TotalLength UserId Version Checksum MaxCombo Accuracy Ar Bpm CountCircles CountSliders CountSpinners Cs Drain "
    "HitLength IsScoreable LastUpdated ModeInt PassCount PlayCount Ranked Owners TopTagIds TopTagCounts StarRating "
    "OmdbTags AudioFile BeatmapSetFolder BeatmapFile"
)

HASH, WINDOWS, EMBEDDING = "ContentHash", "Windows", "embedding"
"""SHA-256 of the ``.osu`` file, number of windows, and the vector."""

_KIND_OF: Mapping[str, Kind] = {name: kind for kind, names in _KINDS.items() for name in names.split()}

COLUMNS: Mapping[str, Kind] = {name: _KIND_OF.get(name, "text") for name in (*_ORDER.split(), HASH, WINDOWS)}
"""All columns but the vector, in order, with their types."""

Row = dict[str, Any]
"""Values of :data:`COLUMNS`; missing ones are null."""


def normalised(row: Mapping[str, Any]) -> Row:
    """Return the values of a row that are not null, as their columns have them.

    Args:
        row: Values by column, of a data set or of another file of embeddings; other columns are left out.

    Raises:
        InputError: A value does not fit its column.
    """
    return {
        name: value
        for name, kind in COLUMNS.items()
        if (value := _as_kind(name, row.get(name), kind)) is not None
    }


def _as_kind(name: str, value: Any, kind: Kind) -> Any:
    if is_null(value):
        return None
    if kind in ("texts", "ints", "floats"):
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise InputError(f"column {name} holds {value!r:.80}; allowed: a list, or null")
        single: Any = kind.removesuffix("s")
        return [_as_kind(name, item, single) for item in value]
    try:
        return _CONVERTERS[kind](value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"column {name} holds {value!r:.80}; allowed: {_ALLOWED[kind]}, or null") from None


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text.encode(errors="replace").decode()  # bytes that are not UTF-8 in a map


def _int(value: Any) -> int:
    number = int(value)
    if number != value or not -(2**63) <= number < 2**63:
        raise ValueError
    return number


def _float(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _bool(value: Any) -> bool:
    if value not in (0, 1):
        raise ValueError
    return bool(value)


def _time(value: Any) -> str:
    """A moment in UTC, as text in the form of ISO 8601."""
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()


_CONVERTERS = {"text": _text, "int": _int, "float": _float, "bool": _bool, "time": _time}
_ALLOWED = {
    "text": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "time": "a date or time",
}
