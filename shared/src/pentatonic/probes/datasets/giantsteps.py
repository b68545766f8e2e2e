"""GiantSteps: the key of electronic dance music; trained on GiantSteps-MTG-key, tested on GiantSteps key."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pentatonic.probes.datasets.dataset import LabelledTrack, ProbeDataset, named_rows, require
from pentatonic.probes.metrics import KEY_NAMES
from pentatonic.probes.tasks import KeyDetection
from pentatonic.untrusted.files import read_text

_SOURCE = (
    "the repositories GiantSteps/giantsteps-mtg-key-dataset and GiantSteps/giantsteps-key-dataset, whose scripts "
    "download the audio"
)
_TRAIN, _TEST = "giantsteps-mtg-key-dataset", "giantsteps-key-dataset"
_VALID_SHARE = 0.2
_TONICS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_SIGNS = {"": 0, "#": 1, "b": -1}
_KEY = re.compile(r"\s*([a-g])([#b]?)\s+(major|minor)\b", re.IGNORECASE)
_ALTERNATIVES = re.compile(r"[/|]")


@dataclass(frozen=True)
class AnnotatedTrack:
    """A recording as it was annotated.

    Attributes:
        name: Unique in its data set.
        path: The file.
        key: As annotators wrote it.
        artists: Their names, separated by commas; empty: not known.
    """

    name: str
    path: Path
    key: str
    artists: str = ""


def key_class(text: str) -> int | None:
    """Return the class of a key as annotators wrote it, such as ``F# minor``; ``None`` where it is not one key.

    Enharmonic names are one class. Alternatives (``C major / A minor``, also with ``|``), two tonics (``A-A# minor``)
    and other modes are no key.
    """
    if _ALTERNATIVES.search(text) or not (found := _KEY.match(text)):
        return None
    tonic = (_TONICS[found[1].lower()] + _SIGNS[found[2].lower()]) % 12
    return 2 * tonic + (found[3].lower() == "minor")


def read_giantsteps(root: Path) -> ProbeDataset:
    """Read both data sets.

    The folder has ``giantsteps-mtg-key-dataset`` with ``annotations/annotations.txt`` (columns ``ID`` and ``MANUAL
    KEY``), ``annotations/beatport_metadata.txt`` (columns ``ID`` and ``ARTIST``) and ``audio``; and
    ``giantsteps-key-dataset`` with ``annotations/key/<name>.key`` and ``audio``; audio files are ``<name>.mp3``, for
    the first also ``<ID>.LOFI.mp3``. A fifth of the artists is for validation; artists with a common track stay
    together. Recordings without one key are left out.

    Raises:
        InputError: A file is missing or has no usable content.
    """
    table = require(root / _TRAIN / "annotations" / "annotations.txt", "GiantSteps", _SOURCE)
    artists_table = require(root / _TRAIN / "annotations" / "beatport_metadata.txt", "GiantSteps", _SOURCE)
    artists = {row["id"]: row["artist"] for _, row in named_rows(artists_table, ("ID", "ARTIST"))}
    keys = {row["id"]: row["manual key"] for _, row in named_rows(table, ("ID", "MANUAL KEY"))}
    train = [
        AnnotatedTrack(name, _present(root / _TRAIN / "audio" / f"{name}.mp3"), key, artists.get(name, ""))
        for name, key in keys.items()
    ]
    folder = require(root / _TEST / "annotations" / "key", "GiantSteps", _SOURCE)
    test = [
        AnnotatedTrack(
            file.stem, root / _TEST / "audio" / f"{file.stem}.mp3", read_text(file, max_bytes=1 << 16)
        )
        for file in folder.glob("*.key")
    ]
    return split_giantsteps(train, test, _SOURCE)


def _present(path: Path) -> Path:
    """The file in the quality that this copy has."""
    low = path.with_name(f"{path.stem}.LOFI.mp3")
    return low if low.is_file() else path


def split_giantsteps(
    train: Sequence[AnnotatedTrack], test: Iterable[AnnotatedTrack], source: str
) -> ProbeDataset:
    """Take a fifth of the artists of the recordings for training for validation, and leave out what has not one key.

    Args:
        train: For training and validation.
        test: For the test.
        source: Where the data set comes from.
    """
    circles = circles_of_artists(track.artists for track in train)
    chosen = validation_artists(circles.values())
    splits: dict[str, list[LabelledTrack]] = {"train": [], "valid": [], "test": []}
    for track in sorted(train, key=lambda track: track.name):
        if (key := key_class(track.key)) is not None:
            circle = circles.get(_first_artist(track.artists), track.name)
            splits["valid" if circle in chosen else "train"].append(LabelledTrack(track.path, key, circle))
    for track in sorted(test, key=lambda track: track.name):
        if (key := key_class(track.key)) is not None:
            splits["test"].append(LabelledTrack(track.path, key, track.name))
    return ProbeDataset("giantsteps", KeyDetection(KEY_NAMES), splits, source)


def _first_artist(text: str) -> str:
    return text.split(",", maxsplit=1)[0].strip()


def circles_of_artists(credits: Iterable[str]) -> dict[str, str]:
    """Put artists that share a track into one circle.

    Args:
        credits: Of each track, its artists, separated by commas.

    Returns:
        Artist -> name of the circle, which is that of its first artist in alphabetical order.
    """
    circle: dict[str, str] = {}

    def head(name: str) -> str:
        while circle.setdefault(name, name) != name:
            name = circle[name]
        return name

    for credit in credits:
        names = [name for each in credit.split(",") if (name := each.strip())]
        for other in names:
            first, second = sorted((head(names[0]), head(other)))
            circle[second] = first
    return {name: head(name) for name in list(circle)}


def validation_artists(circles: Iterable[str], seed: int = 123) -> set[str]:
    """Choose circles with about a fifth of the artists, in an order that depends on the names and the seed alone."""
    members = sorted(circles)
    order = sorted(set(members))
    random.Random(seed).shuffle(order)
    chosen: set[str] = set()
    for circle in order:
        if sum(member in chosen for member in members) + members.count(circle) > _VALID_SHARE * len(members):
            continue
        chosen.add(circle)
    return chosen
