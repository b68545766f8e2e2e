"""MagnaTagATune: the 50 most frequent tags of clips of 29 seconds."""

from __future__ import annotations

from pathlib import Path

from pentatonic.errors import FormatError
from pentatonic.probes.datasets.dataset import LabelledTrack, ProbeDataset, inside, named_rows, require
from pentatonic.probes.tasks import Tagging

_SOURCE = "mirg.city.ac.uk/codeapps/the-magnatagatune-dataset (E. Law and others)"
_TAGS = 50
_SPLIT_OF = {**dict.fromkeys("0123456789ab", "train"), "c": "valid", **dict.fromkeys("def", "test")}


def read_magnatagatune(root: Path, *, tags: int = _TAGS) -> ProbeDataset:
    """Read MagnaTagATune.

    The folder has ``annotations_final.csv`` (tab-separated: ``clip_id``, the tags, ``mp3_path``) and the clips where
    that says. The first letter of a clip's folder decides its split, as is usual: 0 to 9, a and b train, c valid, d to
    f test. Clips of one song are a group.

    Args:
        root: The folder.
        tags: The most frequent tags that are kept; those of equal frequency in alphabetical order.

    Raises:
        InputError: A file is missing or has no usable content.
    """
    table = require(root / "annotations_final.csv", "MagnaTagATune", _SOURCE)
    clips = list(named_rows(table, ("clip_id", "mp3_path")))
    names = [name for name in clips[0][1] if name not in ("clip_id", "mp3_path")] if clips else []
    for number, row in clips:
        if bad := next((name for name in names if row[name] not in ("0", "1")), None):
            raise FormatError(f"the tag {bad!r} is {row[bad]!r}; allowed: 0, 1", path=table, line=number)
    counts = {name: sum(row[name] == "1" for _, row in clips) for name in names}
    kept = sorted(names, key=lambda name: (-counts[name], name))[:tags]
    splits: dict[str, list[LabelledTrack]] = {"train": [], "valid": [], "test": []}
    for number, row in clips:
        name = row["mp3_path"]
        if (split := _SPLIT_OF.get(name[:1].lower())) is None:
            raise FormatError(f"the folder of {name!r} has no split", path=table, line=number)
        song = name.rsplit("-", 2)[0]  # what follows are the seconds of the clip
        target = [float(row[tag]) for tag in kept]
        splits[split].append(LabelledTrack(inside(root, name, table, number), target, song))
    return ProbeDataset("magnatagatune", Tagging(tuple(kept)), splits, _SOURCE)
