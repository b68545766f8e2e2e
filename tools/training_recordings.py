"""Choose recordings for training: music of free games whose licences allow it, linked into one folder.

    python tools/real_recordings.py singularity-music naev-data … --out recordings
    python tools/training_recordings.py recordings --out data/recordings

Takes recordings of 20 seconds and more of the packages in ``LICENCES``, which were read: all are free in the sense of
Debian's guidelines, so that use for any purpose is allowed, also of what is made from them. Never music that models
are judged on. Writes ``<out>/<package>/<number>-<name>`` as links, and ``<out>/sources.jsonl`` with package, version,
file, composer, title, licence and duration of each.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pentatonic.checkpoint import atomic_file
from pentatonic.cli import make_output_folder
from pentatonic.errors import InputError

LEAST_S = 20.0
LICENCES = {
    "asc-music": "GPL-2+",
    "boswars-data": "GPL-2+",
    "colobot-common-sounds": "GPL-3+",
    "endless-sky-data": "public domain, CC-BY-SA",
    "fillets-ng-data": "GPL-2+",
    "flare-game": "CC-BY-SA-3.0+",
    "freedroidrpg-data": "GPL-2+",
    "hedgewars-data": "GPL-2, GFDL-1.3",
    "hyperrogue-music": "CC-BY-SA-3.0, CC-BY-3.0 and others",
    "lincity-ng-data": "GPL-2+",
    "megaglest-data": "CC-BY-SA-3.0",
    "naev-data": "CC-BY-3.0, CC-BY-SA-3.0, GPL, public domain",
    "singularity-music": "CC-BY-SA-3.0",
    "supertux-data": "GPL-3+, CC-BY-SA",
    "supertuxkart-data": "CC-BY-SA-3.0 and others",
    "trackballs-data": "GPL-2+",
    "unknown-horizons": "CC-BY-SA-3.0",
    "widelands-data": "GPL-2+, CC-BY-SA-3.0",
    "xmoto-data": "GPL-2+",
}


def choose(recordings: Path) -> list[dict[str, Any]]:
    """Return the records of the manifest that may be trained on.

    Raises:
        InputError: There is no manifest, or nothing in it may be trained on.
    """
    manifest = recordings / "manifest.jsonl"
    if not manifest.is_file():
        raise InputError(f"{manifest} is missing; tools/real_recordings.py writes it")
    records = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    chosen = [
        record
        for record in records
        if record["package"] in LICENCES
        and record["use"] != "evaluation"
        and (record["duration_s"] or 0) >= LEAST_S
    ]
    if not chosen:
        raise InputError(f"{manifest} names no music that may be trained on; allowed: {', '.join(LICENCES)}")
    return chosen


def link(records: Sequence[dict[str, Any]], recordings: Path, out: Path) -> None:
    """Link the recordings into a folder, and list them."""
    for number, record in enumerate(records):
        source = (recordings / record["file"]).resolve()
        target = out / record["package"] / f"{number:04}-{source.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.is_symlink():
            target.symlink_to(os.path.relpath(source, target.parent.resolve()))
        record["licences"] = LICENCES[record["package"]]
        record["link"] = target.relative_to(out).as_posix()
    with atomic_file(out / "sources.jsonl", "w") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recordings", type=Path, help="folder that tools/real_recordings.py filled")
    parser.add_argument("--out", type=Path, required=True, help="folder for the links")
    arguments = parser.parse_args()
    make_output_folder(arguments.out)
    records = choose(arguments.recordings)
    link(records, arguments.recordings, arguments.out)
    hours = sum(record["duration_s"] for record in records) / 3600
    packages = len({record["package"] for record in records})
    print(f"{arguments.out}: {len(records)} recordings of {packages} packages, {hours:.2f} h")


if __name__ == "__main__":
    main()
