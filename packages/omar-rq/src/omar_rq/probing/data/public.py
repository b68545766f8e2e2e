"""Public data sets of one label per recording, and those with notes of instruments, in the layouts of their authors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from omar_rq.probing.data.recording import DataSet, Labels, Recording, ordered, split_of
from omar_rq.probing.data.text_labels import read_beats, read_boundaries
from pentatonic import audio
from pentatonic.errors import FormatError, InputError
from pentatonic.folder_run import search_files
from pentatonic.probes import KEY_NAMES
from pentatonic.probes.datasets import LabelledTrack, ProbeDataset, read_dataset

NSYNTH_SOURCE = "magenta.tensorflow.org/datasets/nsynth (J. Engel and others), CC BY 4.0"
HARMONIX_SOURCE = "github.com/urinieto/harmonixset (O. Nieto and others), MIT; the audio is not part of it"
_NSYNTH_PARTS = {"train": "nsynth-train", "valid": "nsynth-valid", "test": "nsynth-test"}


def read_shared(name: str, root: Path, *, source: str = "folder", split: str = "") -> DataSet:
    """Read a data set that :mod:`pentatonic.probes.datasets` knows.

    Args:
        name: Of the data set.
        root: Its folder.
        source: ``folder`` or ``mirdata``.
        split: How its splits were made, in words.

    Raises:
        InputError: As :func:`pentatonic.probes.datasets.read_dataset`.
    """
    found = read_dataset(name, root, source=source)
    labels, vocabulary = _LABELS[name]
    recordings = [
        # A group may be in two splits of a published list, such as the clips of a song.
        Recording(track.path, part, f"{part}/{track.group}", labels(found, track))
        for part, tracks in found.splits.items()
        for track in tracks
    ]
    names = found.task.names
    return DataSet(name, ordered(recordings), found.source, split, {vocabulary: tuple(names)})


def _tags(found: ProbeDataset, track: LabelledTrack) -> Labels:
    assert not isinstance(track.target, int)
    return Labels(tags=tuple(n for n, there in zip(found.task.names, track.target, strict=True) if there))


def _genre(found: ProbeDataset, track: LabelledTrack) -> Labels:
    assert isinstance(track.target, int)
    return Labels(genre=found.task.names[track.target])


def _key(_found: ProbeDataset, track: LabelledTrack) -> Labels:
    assert isinstance(track.target, int)
    return Labels(key=KEY_NAMES[track.target])


def _emotion(found: ProbeDataset, track: LabelledTrack) -> Labels:
    assert not isinstance(track.target, int)
    return Labels(emotion=dict(zip(found.task.names, track.target, strict=True)))


_LABELS: Mapping[str, tuple[Callable[[ProbeDataset, LabelledTrack], Labels], str]] = {
    "magnatagatune": (_tags, "tagging"),
    "jamendo-top50": (_tags, "tagging"),
    "gtzan": (_genre, "genre"),
    "giantsteps": (_key, "key"),
    "emomusic": (_emotion, "emotion"),
}


def read_nsynth(root: Path) -> DataSet:
    """Read NSynth: ``nsynth-train/audio/<instrument>-<pitch>-<velocity>.wav``, ``nsynth-valid`` and ``nsynth-test``.

    Labels come from the names alone: the pitch, and the family of the instrument, such as ``bass`` of
    ``bass_synthetic_033``.

    Raises:
        InputError: A folder is missing or empty.
        FormatError: A name has another form.
    """
    recordings = []
    for split, part in _NSYNTH_PARTS.items():
        folder = root / part / "audio"
        if not folder.is_dir():
            raise InputError(f"nsynth: {folder} is missing; get the data set from {NSYNTH_SOURCE}")
        for path in search_files([folder], audio.AUDIO_SUFFIXES).files:
            instrument, pitch = _instrument_and_pitch(path)
            family = instrument.split("_", maxsplit=1)[0]
            # The instruments of the training split are not in the others; valid and test share some.
            labels = Labels(pitch=pitch, instruments=(family,))
            recordings.append(Recording(path, split, f"{split}/{instrument}", labels))
    return DataSet(
        "nsynth", ordered(recordings), NSYNTH_SOURCE, "that of its authors; groups are the instruments"
    )


def _instrument_and_pitch(path: Path) -> tuple[str, int]:
    instrument, _, rest = path.stem.partition("-")
    pitch = rest.partition("-")[0]
    if not instrument or not pitch.isascii() or not pitch.isdigit() or int(pitch) > 127:
        raise FormatError(
            "the name is not <instrument>-<pitch>-<velocity>, such as bass_033-060-100", path=path
        )
    return instrument, int(pitch)


def read_harmonix(root: Path) -> DataSet:
    """Read the Harmonix Set.

    The folder has ``audio/<name>.mp3`` (any suffix), and as in its repository ``segments/<name>.txt`` (start and
    function on each line, the last line is the end) and ``beats_and_downbeats/<name>.txt`` (time, position).

    Raises:
        InputError: A folder is missing or empty.
        FormatError: A file has another form.
    """
    sounds, segments = root / "audio", root / "segments"
    for folder in (sounds, segments):
        if not folder.is_dir():
            raise InputError(f"harmonix: {folder} is missing; get the data set from {HARMONIX_SOURCE}")
    found = {path.stem: path for path in search_files([sounds], audio.AUDIO_SUFFIXES).files}
    recordings = []
    for file in sorted(segments.glob("*.txt")):
        beats = root / "beats_and_downbeats" / file.name
        labels = Labels(sections=read_boundaries(file), beats=read_beats(beats) if beats.is_file() else None)
        path = found.get(file.stem, sounds / f"{file.stem}.mp3")
        recordings.append(Recording(path, split_of(file.stem), file.stem, labels))
    if not recordings:
        raise InputError(f"harmonix: {segments} has no .txt files; get the data set from {HARMONIX_SOURCE}")
    return DataSet(
        "harmonix",
        ordered(recordings),
        HARMONIX_SOURCE,
        "by a hash of the name: 65 % train, 15 % valid, 20 % test",
    )
