"""The data sets that a probe may be fitted to, by name."""

from __future__ import annotations

from pathlib import Path

from omar_rq.probing.data.labelled_folder import read_labelled_folder
from omar_rq.probing.data.mirdata_sets import read_mirdata_set
from omar_rq.probing.data.public import read_harmonix, read_nsynth, read_shared
from omar_rq.probing.data.recording import DataSet
from omar_rq.probing.task_list import DATA_SETS
from pentatonic.errors import InputError, UsageError

_OWN = {"labelled": read_labelled_folder, "nsynth": read_nsynth, "harmonix": read_harmonix}


def read_data_set(name: str, root: str | Path, *, source: str = "folder") -> DataSet:
    """Read a data set.

    Args:
        name: In :data:`omar_rq.probing.task_list.DATA_SETS`.
        root: Its folder, or with ``mirdata`` that of all data sets of mirdata.
        source: ``folder`` or ``mirdata``.

    Raises:
        UsageError: There is no such data set, or not from this source.
        MissingExtra: mirdata is asked for and is not installed.
        InputError: A file is missing or has no usable content.
    """
    about = DATA_SETS.get(name)
    if about is None:
        raise UsageError(f"there is no data set {name!r}; allowed: {', '.join(DATA_SETS)}")
    if source not in about.sources:
        raise UsageError(f"{name} from the source {source!r}; allowed: {', '.join(about.sources)}")
    if not Path(root).is_dir():
        raise InputError(f"data.root={root} is not a folder; {name} comes from {about.home}")
    if name in _OWN:
        return _OWN[name](Path(root))
    if about.shared:
        return read_shared(name, Path(root), source=source, split=about.split)
    return read_mirdata_set(name, Path(root))
