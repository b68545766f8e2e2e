"""Choose the clips of the demo of rc-audioldm: some of each instrument that the small model was not trained on.

    python tools/phrases/make_phrases.py --out data/phrases
    python tools/phrases/demo_phrases.py data/phrases --out packages/rc-audioldm/demo

They are the first ones of each instrument in the split `heldout`, which nobody listened to before. A table beside them
has licence, source and labels.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from collections import defaultdict
from pathlib import Path

from pentatonic.checkpoint import atomic_file
from rc_audioldm.data.manifest import ManifestRow, read_manifest


def choose(rows: list[ManifestRow], each: int) -> list[ManifestRow]:
    """Return the first held-out clips of each instrument, which is the first label."""
    by_instrument: dict[str, list[ManifestRow]] = defaultdict(list)
    for row in rows:
        if row.more.get("split") == "heldout":
            by_instrument[row.labels[0]].append(row)
    return [row for found in by_instrument.values() for row in found[:each]]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("phrases", type=Path, help="folder that tools/phrases/make_phrases.py made")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--each", type=int, default=2, help="clips of each instrument")
    arguments = parser.parse_args()
    manifest = read_manifest(arguments.phrases / "manifest.jsonl")
    arguments.out.mkdir(parents=True, exist_ok=True)
    chosen = choose(list(manifest), arguments.each)
    for row in chosen:
        shutil.copyfile(manifest.file(row), arguments.out / Path(row.path).name)
    with atomic_file(arguments.out / "licences.csv", "w") as file:
        table = csv.writer(file)
        table.writerow(["path", "licence", "source", "tags"])
        for row in chosen:
            table.writerow([Path(row.path).name, row.licence, row.source, ";".join(row.labels)])
    print(f"{len(chosen)} clips")


if __name__ == "__main__":
    main()
