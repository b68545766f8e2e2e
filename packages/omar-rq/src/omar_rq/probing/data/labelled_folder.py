"""The folder of labelled recordings that ``omar-rq probe data.name=labelled`` reads.

::

    DATA/audio/NAME.flac         or another suffix of audio; folders below are allowed, and belong to the name
    DATA/labels/NAME.json        what is known of it; every key is optional
    DATA/train.txt, valid.txt, test.txt    names of each split, one a line; only where the labels do not say it

The keys of a JSON file are those of :class:`omar_rq.probing.data.recording.Labels`::

    {"split": "train", "group": "bwv66.6", "tags": ["calm"], "genre": "chorale", "key": "F# minor",
     "keys": [[0.0, 12.5, "F# minor"]], "chords": [[0.0, 0.5, "F#:min"]], "beats": [[0.0, 4], [0.5, 1]],
     "meter": "4/4", "instruments": ["organ"], "sections": [[0.0, 6.2, "A"]],
     "notes": [[0.0, 0.5, 66, 19]], "tempo": 120.0, "pitch": 66, "difficulty": 3,
     "emotion": {"arousal": 0.2, "valence": -0.4}}

Times are seconds; a beat has its position in the bar from 1 (0: not known), a note start, end, MIDI pitch and program
(128 and more: drums). Without a JSON file, or for keys that it lacks, these text files count, beside the recording or
in ``labels``: ``NAME.chords.lab`` or ``NAME.lab`` (chords), ``NAME.sections.lab``, ``NAME.keys.lab`` (start, end,
label), ``NAME.beats`` (time, position) and ``NAME.key`` (one key).

Recordings of one ``group`` (by default each is its own) must be in one split. Where neither ``split`` nor a list says
it, a hash of the group decides: 65 % train, 15 % valid, 20 % test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omar_rq.probing.data.recording import (
    HASHED_SPLIT,
    SPLITS,
    DataSet,
    Labels,
    Recording,
    ordered,
    split_of,
)
from omar_rq.probing.data.text_labels import MAX_BYTES, read_beats, read_spans, read_word
from pentatonic import audio
from pentatonic.errors import FormatError, InputError
from pentatonic.folder_run import search_files
from pentatonic.untrusted.files import read_json, read_text, shortened

_TEXT_FILES: tuple[tuple[str, str, Callable[[Path], Any]], ...] = (
    ("chords", ".chords.lab", read_spans),
    ("chords", ".lab", read_spans),
    ("sections", ".sections.lab", read_spans),
    ("keys", ".keys.lab", read_spans),
    ("beats", ".beats", read_beats),
    ("key", ".key", read_word),
)
_LONGEST_S = 1e6


def read_labelled_folder(root: Path) -> DataSet:
    """Read a folder in the layout that the top of this module describes.

    Raises:
        InputError: There is no folder ``audio`` or nothing in it, or a group is in two splits.
        FormatError: A file with labels has another form; the message names the file and the key.
    """
    sounds = root / "audio"
    if not sounds.is_dir():
        raise InputError(f"{sounds} is missing; a labelled folder has audio/NAME.flac and labels/NAME.json")
    found = {
        path.relative_to(sounds).with_suffix("").as_posix(): path
        for path in search_files([sounds], audio.AUDIO_SUFFIXES).files
    }
    labels = root / "labels"
    described = sorted(labels.rglob("*.json")) if labels.is_dir() else []
    names = {path.relative_to(labels).with_suffix("").as_posix() for path in described} | set(found)
    if not names:
        raise InputError(f"{root}: neither audio/NAME.flac nor labels/NAME.json is there")
    lists = _split_lists(root)
    recordings, ways = [], set()
    for name in sorted(names):
        values = _json_labels(labels / f"{name}.json")
        for key, suffix, read in _TEXT_FILES:
            for folder in (sounds, labels):
                if key not in values and (file := folder / f"{name}{suffix}").is_file():
                    values[key] = read(file)
        group = values.pop("group", name)
        if (split := values.pop("split", None) or lists.get(name)) is None:
            split = split_of(group)
            ways.add(HASHED_SPLIT)
        else:
            ways.add("as the labels say")
        path = found.get(name, sounds / f"{name}.flac")
        recordings.append(Recording(path, split, group, Labels(**values)))
    source = f"{root.name}: labelled recordings in a folder of their own"
    return DataSet("labelled", ordered(recordings), source, "; ".join(sorted(ways)))


def _split_lists(root: Path) -> dict[str, str]:
    lists = {}
    for split in SPLITS:
        path = root / f"{split}.txt"
        if path.is_file():
            names = read_text(path, max_bytes=MAX_BYTES, error=FormatError).split("\n")
            lists |= {name.strip(): split for name in names if name.strip()}
    return lists


def _json_labels(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    values = read_json(path, max_bytes=MAX_BYTES, error=FormatError)
    if not isinstance(values, dict):
        raise FormatError("is not a JSON object with labels", path=path)
    labels = {}
    for key, value in values.items():
        if (read := _KEYS.get(key)) is None:
            continue  # a data set may say more than probes use
        try:
            labels[key] = read(value)
        except (TypeError, ValueError) as error:
            raise FormatError(f"{key!r} is {shortened(value)}; allowed: {error}", path=path) from None
    return labels


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text")
    return value.strip()


def _number(value: object, low: float = -_LONGEST_S) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= _LONGEST_S:
        raise ValueError("a finite number" if low < 0 else "a number from 0 on")
    return float(value)


def _pitch(value: object) -> int:
    number = _number(value, 0)
    if number != int(number) or number > 127:
        raise ValueError("a MIDI pitch from 0 to 127")
    return int(number)


def _split(value: object) -> str:
    if value not in SPLITS:
        raise ValueError(", ".join(SPLITS))
    return str(value)


def _list(read: Callable[[Any], Any], what: str) -> Callable[[object], tuple[Any, ...]]:
    def items(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError(what)
        try:
            return tuple(read(item) for item in value)
        except (TypeError, ValueError, IndexError):
            raise ValueError(what) from None

    return items


def _span(item: Any) -> tuple[float, float, str]:
    start, end, label = item
    if _number(end, 0) < _number(start, 0):
        raise ValueError
    return float(start), float(end), _text(label)


def _beat(item: Any) -> tuple[float, int]:
    time, position = item
    if not 0 <= position < 1000 or position != math.floor(position):
        raise ValueError
    return _number(time, 0), int(position)


def _note(item: Any) -> tuple[float, float, int, int]:
    start, end, pitch, program = item
    if _number(end, 0) < _number(start, 0) or program != int(program):
        raise ValueError
    return float(start), float(end), _pitch(pitch), int(program)


def _emotion(value: object) -> Mapping[str, float]:
    if not isinstance(value, dict) or set(value) != {"arousal", "valence"}:
        raise ValueError("an object with arousal and valence")
    return {name: _number(number) for name, number in value.items()}


_SPANS = "a list of [start, end, label], in seconds from 0 on"
_KEYS: Mapping[str, Callable[[Any], Any]] = {
    "split": _split,
    "group": _text,
    "tags": _list(_text, "a list of texts"),
    "genre": _text,
    "key": _text,
    "keys": _list(_span, _SPANS),
    "chords": _list(_span, _SPANS),
    "beats": _list(_beat, "a list of [time, position in the bar from 1, or 0]"),
    "meter": _text,
    "instruments": _list(_text, "a list of texts"),
    "sections": _list(_span, _SPANS),
    "notes": _list(_note, "a list of [start, end, MIDI pitch, program]"),
    "tempo": _number,
    "pitch": _pitch,
    "difficulty": _number,
    "emotion": _emotion,
}
