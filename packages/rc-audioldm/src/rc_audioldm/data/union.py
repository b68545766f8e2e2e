"""Several manifests as one, such as the queries of several data sets; rows say which set they come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from rc_audioldm.data.manifest import Manifest, ManifestRow, place_under


def united(
    manifests: Mapping[str, Manifest], root: Path, *, each_file_once: bool = False
) -> Iterator[ManifestRow]:
    """Yield the rows of manifests one behind the other.

    Args:
        manifests: Name of the data set -> its manifest.
        root: Folder that holds all files.
        each_file_once: Leave out a row whose file an earlier row has, also by another name or a link.

    Yields:
        Rows with ids ``<name>/<id>``, and ``dataset`` and ``dataset_idx`` among their further values.

    Raises:
        InputError: A file is not in ``root``, or is reached by a link out of its manifest's root.
    """
    seen: set[Path] = set()
    for name, manifest in manifests.items():
        for number, row in enumerate(manifest):
            file = manifest.file(row)
            if each_file_once:
                if (real := file.resolve()) in seen:
                    continue
                seen.add(real)
            more = {**row.more, "dataset": name, "dataset_idx": number}
            yield replace(row, id=f"{name}/{row.id}", path=place_under(root, file), more=more)
