"""Public data sets with labels, read from folders in the layouts of their authors or in those of mirdata.

No data set is downloaded. A folder that lacks a file is one error that says what is missing and where to get it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from pentatonic.errors import UsageError
from pentatonic.probes.datasets.dataset import LabelledTrack, ProbeDataset
from pentatonic.probes.datasets.emomusic import read_emomusic
from pentatonic.probes.datasets.giantsteps import read_giantsteps
from pentatonic.probes.datasets.gtzan import read_gtzan
from pentatonic.probes.datasets.jamendo import read_jamendo
from pentatonic.probes.datasets.magnatagatune import read_magnatagatune
from pentatonic.probes.datasets.mirdata_tracks import MIRDATA_DATASETS, read_mirdata

__all__ = ["DATASETS", "MIRDATA_DATASETS", "LabelledTrack", "ProbeDataset", "read_dataset"]

DATASETS: Mapping[str, Callable[[Path], ProbeDataset]] = MappingProxyType(
    {
        "gtzan": read_gtzan,
        "giantsteps": read_giantsteps,
        "emomusic": read_emomusic,
        "magnatagatune": read_magnatagatune,
        "jamendo-top50": read_jamendo,
    }
)
"""Name -> function that reads the data set from its folder."""

_SOURCES = ("folder", "mirdata")


def read_dataset(name: str, root: str | Path, *, source: str = "folder") -> ProbeDataset:
    """Read a data set.

    Args:
        name: In :data:`DATASETS`.
        root: Its folder; the function of the data set documents the layout.
        source: ``folder``, or ``mirdata`` for a name in :data:`MIRDATA_DATASETS`: ``root`` is the folder of mirdata's
            data sets then, as :mod:`pentatonic.probes.datasets.mirdata_tracks` says.

    Raises:
        UsageError: There is no such data set or source.
        MissingExtra: mirdata is asked for and is not installed.
        InputError: A file is missing or has no usable content; the message says where the data set comes from.
    """
    if name not in DATASETS:
        raise UsageError(f"there is no data set {name!r}; allowed: {', '.join(DATASETS)}")
    if source not in _SOURCES:
        raise UsageError(f"the source of a data set is {source!r}; allowed: {', '.join(_SOURCES)}")
    return read_mirdata(name, root) if source == "mirdata" else DATASETS[name](Path(root))
