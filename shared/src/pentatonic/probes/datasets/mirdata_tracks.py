"""Data sets whose recordings and labels mirdata finds (extra ``mirdata``), in the splits of our own readers.

The folder is that of all data sets of mirdata, such as ``~/mir_datasets``, with a folder named after each. Nothing is
downloaded, neither data nor the index of a data set: mirdata keeps an index in its own installation when it has been
told to fetch it, and here the index may also lie in the folder of the data set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pentatonic.errors import FormatError, InputError, MissingExtra, PentatonicError, UsageError
from pentatonic.probes.datasets.dataset import ProbeDataset, inside, require
from pentatonic.probes.datasets.giantsteps import AnnotatedTrack, split_giantsteps
from pentatonic.probes.datasets.gtzan import split_gtzan

_LISTS = "the lists train_filtered.txt, valid_filtered.txt and test_filtered.txt of the fault-filtered split"
# What mirdata raises over an index or an annotation that is not as it expects: it checks none.
_FAULTS = (AttributeError, LookupError, OSError, RecursionError, StopIteration, TypeError, ValueError)


def read_mirdata(name: str, root: str | Path) -> ProbeDataset:
    """Read a data set through mirdata.

    Args:
        name: In :data:`MIRDATA_DATASETS`.
        root: Folder of mirdata's data sets.

    Raises:
        UsageError: mirdata has no such data set.
        MissingExtra: mirdata is not installed.
        InputError: A file is missing or has no usable content; the message says how mirdata fetches it.
    """
    if name not in MIRDATA_DATASETS:
        raise UsageError(f"{name!r} is not read by mirdata; allowed: {', '.join(MIRDATA_DATASETS)}")
    return MIRDATA_DATASETS[name](Path(root).absolute())


def _gtzan(root: Path) -> ProbeDataset:
    """``gtzan_genre``; its folder also has the lists of the split, which mirdata does not have."""
    home = root / "gtzan_genre"
    tracks = load_tracks(home, "audio_path")

    def locate(name: str, table: Path, line: int) -> tuple[Path, str]:
        track = tracks.get(Path(name).stem)
        if track is None:
            raise FormatError(f"mirdata's index has no track {Path(name).stem!r}", path=table, line=line)
        return Path(track.audio_path), track.genre.replace("-", "")  # in the lists hiphop

    return split_gtzan(home, locate, f"mirdata (gtzan_genre), with {_LISTS} in its folder")


def _giantsteps(root: Path) -> ProbeDataset:
    """``beatport_key``, the recordings of GiantSteps-MTG-key, for training, and ``giantsteps_key`` for the test.

    Both have the keys as Á. Faraldo revised them in 2017.
    """
    paths = ("audio_path", "keys_path", "metadata_path")
    train, test = (
        [_annotated(track) for track in load_tracks(root / name, *paths).values()]
        for name in ("beatport_key", "giantsteps_key")
    )
    return split_giantsteps(train, test, "mirdata (beatport_key, giantsteps_key)")


MIRDATA_DATASETS: Mapping[str, Callable[[Path], ProbeDataset]] = MappingProxyType(
    {"gtzan": _gtzan, "giantsteps": _giantsteps}
)
"""Name -> function that reads the data set from the folder of mirdata's data sets."""


def load_tracks(home: Path, *paths: str) -> dict[str, Any]:
    """Open a data set of mirdata.

    Args:
        home: Its folder, which is named after it.
        paths: Attributes of a track that are paths of files.

    Returns:
        Name -> track of mirdata; the paths of each lie in the folder.

    Raises:
        MissingExtra: mirdata is not installed.
        InputError: The folder or the index of the data set is missing.
        FormatError: The index is not as mirdata expects it, or names a file outside of the folder.
    """
    try:
        import mirdata
    except ModuleNotFoundError as error:
        if error.name != "mirdata":
            raise
        raise MissingExtra("A data set through mirdata", "pentatonic[mirdata]") from error
    download = f"mirdata.initialize({home.name!r}, {str(home)!r}).download"
    require(home, home.name, f"its authors, or by {download}()")
    dataset = mirdata.initialize(home.name, data_home=str(home))
    installed = Path(dataset.index_path)
    own = home / installed.name
    index = own if own.is_file() else installed
    if not index.is_file():
        raise InputError(f"mirdata's index is neither {own} nor {index}; get it by {download}(['index'])")
    dataset.index_path = str(index)
    with errors_of_mirdata(index):
        tracks = dataset.load_tracks()
        for track in tracks.values():
            for path in paths:
                inside(home, getattr(track, path), index)
    return tracks


def _annotated(track: Any) -> AnnotatedTrack:
    with errors_of_mirdata(Path(track.keys_path)):
        keys: str | Sequence[str] = track.key
        key = keys if isinstance(keys, str) else "|".join(keys)
    with errors_of_mirdata(Path(track.metadata_path)):
        artists = ", ".join(track.artists)
    return AnnotatedTrack(track.title, Path(track.audio_path), key, artists)


@contextmanager
def errors_of_mirdata(path: Path) -> Iterator[None]:
    """Turn what mirdata raises over bad files into errors that name the file."""
    try:
        yield
    except PentatonicError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"mirdata: {error.filename} is missing; get the whole data set") from error
    except _FAULTS as error:
        raise FormatError(f"mirdata cannot read it ({type(error).__name__}: {error})", path=path) from error
