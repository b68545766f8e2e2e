"""Data sets with beats, chords, keys and sections that mirdata finds (extra ``mirdata``).

``data.root`` is the folder of all data sets of mirdata, with a folder named after each; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omar_rq.probing.data.recording import HASHED_SPLIT, DataSet, Labels, Recording, Span, ordered, split_of
from pentatonic.errors import InputError, UsageError
from pentatonic.probes.datasets.mirdata_tracks import errors_of_mirdata, load_tracks

# Data set -> what it is labelled with: name of the label -> attribute of a track of mirdata.
MIRDATA_SETS: Mapping[str, Mapping[str, str]] = {
    "ballroom": {"beats": "beats", "tempo": "tempo"},
    "beatles": {"beats": "beats", "chords": "chords", "sections": "sections", "keys": "key"},
    "billboard": {"chords": "chords_full", "sections": "named_sections"},
    "candombe": {"beats": "beats"},
    "gtzan_genre": {"beats": "beats", "tempo": "tempo"},
    "hainsworth": {"beats": "beats", "tempo": "tempo"},
    "queen": {"chords": "chords", "sections": "sections", "keys": "key"},
    "rwc_popular": {"beats": "beats", "chords": "chords", "sections": "sections"},
    "salami": {"sections": "sections_uppercase"},
}


def read_mirdata_set(name: str, root: Path) -> DataSet:
    """Read a data set through mirdata; recordings of one folder, such as an album, are a group.

    Raises:
        UsageError: It is not in :data:`MIRDATA_SETS`.
        MissingExtra: mirdata is not installed.
        InputError: A file is missing or has no usable content.
    """
    if name not in MIRDATA_SETS:
        raise UsageError(f"{name!r} is not read through mirdata; allowed: {', '.join(MIRDATA_SETS)}")
    home = root.absolute() / name
    recordings = []
    for track_id, track in load_tracks(home, "audio_path").items():
        if track.audio_path is None:
            continue
        with errors_of_mirdata(home):
            values = {
                label: _READERS[label](found)
                for label, attribute in MIRDATA_SETS[name].items()
                if (found := getattr(track, attribute)) is not None
            }
        if not values:
            continue
        path = Path(track.audio_path)
        inner = path.relative_to(home).parent.as_posix() if path.is_relative_to(home) else ""
        # Data sets with all recordings in one folder have no groups.
        group = f"{inner}/{track_id}" if name in _FLAT else inner
        recordings.append(Recording(path, split_of(group), group, Labels(**values)))
    if not recordings:
        raise InputError(f"{home}: no recording has labels; get the whole data set through mirdata")
    return DataSet(name, ordered(recordings), f"mirdata ({name})", HASHED_SPLIT)


_FLAT = ("ballroom", "billboard", "candombe", "gtzan_genre", "hainsworth", "rwc_popular", "salami")


def _spans(found: Any) -> tuple[Span, ...]:
    if hasattr(found, "annotations"):  # of several annotators the first
        found = next(each for each in found.annotations if each is not None)
    labels = found.labels if hasattr(found, "labels") else found.keys
    return tuple(
        (float(start), float(end), str(label))
        for (start, end), label in zip(found.intervals, labels, strict=True)
    )


def _beats(found: Any) -> tuple[tuple[float, int], ...]:
    positions = found.positions
    if positions is None or found.position_unit == "global_index":
        return tuple((float(time), 0) for time in found.times)
    return tuple((float(time), int(place)) for time, place in zip(found.times, positions, strict=True))


def _tempo(found: Any) -> float:
    if hasattr(found, "tempi"):
        return float(found.tempi[0])
    return float(found)


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "beats": _beats,
    "chords": _spans,
    "keys": _spans,
    "sections": _spans,
    "tempo": _tempo,
}
