"""Write what a musicnn teacher says about recordings beside their prepared data, for distillation.

    myna-rpe prepare input=data/recordings output=data/tiny        # or omar-rq prepare
    python tools/teacher_targets.py data/tiny --audio data/recordings --cache data/musicnn

For each track of `data/tiny/index.jsonl` (or `manifest.jsonl`, of omar-rq), the 200 values before the tags and the 50
tags of patches of 3 seconds (187 frames of 256 samples at 16 kHz, without overlap), in the layout of
:mod:`pentatonic.training.teacher`. With `--every 3` the teacher hears every third patch only. Results of each track are
kept in the folder `--cache`, so a run that was stopped goes on there. The teacher's weights are under the ISC licence;
`data/tiny/teacher-musicnn-LICENCE.txt` gets its text, which belongs to what is made from the targets.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from musicnn_network import PATCH_FRAMES, SAMPLE_RATE, Musicnn, mel_patches
from musicnn_teacher import Model, licence, load_teacher, teacher_wheel
from numpy.typing import NDArray

from pentatonic.audio import load
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import progress
from pentatonic.errors import AudioError, AudioTooShort, FormatError, InputError, PentatonicError
from pentatonic.training.teacher import write_teacher_targets

HOP_SAMPLES = 256
_BATCH = 16
PATCH_S = PATCH_FRAMES * HOP_SAMPLES / SAMPLE_RATE

INDICES = ("index.jsonl", "manifest.jsonl")  # of myna-rpe and of omar-rq

Targets = tuple[NDArray[np.float32], NDArray[np.float32]]


def targets_of(network: Musicnn, file: Path, cache: Path, *, every: int, bf16: bool) -> Targets:
    """Return penultimate values ``(P, 200)`` and tags ``(P, 50)`` of a recording, from the cache if they are there.

    Args:
        network: The teacher.
        file: The recording.
        cache: Folder for results.
        every: Of so many patches the first counts.
        bf16: Compute in bfloat16.

    Raises:
        AudioError: It cannot be read.
    """
    cache.mkdir(parents=True, exist_ok=True)
    status = file.stat()
    key = hashlib.sha256(f"{file.resolve()} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()
    kept = cache / f"{key}.npz"
    if kept.is_file():
        with np.load(kept, allow_pickle=False) as stored:
            return stored["penultimate"], stored["tags"]
    try:
        patches = mel_patches(load(file, sample_rate=SAMPLE_RATE, strict=False).samples[0])[::every]
    except AudioTooShort:
        patches = torch.empty(0, PATCH_FRAMES, 96)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        parts = [network(batch) for batch in patches.split(_BATCH) if len(batch)]
    empty = [torch.empty(0, 200)], [torch.empty(0, 50)]
    penultimate, tags = (
        torch.cat(list(part)).float().numpy() for part in (zip(*parts, strict=True) if parts else empty)
    )
    with atomic_file(kept) as target:
        np.savez(target, penultimate=penultimate, tags=tags)
    return penultimate, tags


def sources_of(folder: Path) -> tuple[str, list[str]]:
    """Return the name of a folder's index, and the recordings that its tracks were made from.

    Raises:
        InputError: There is no index.
        FormatError: A line of it has no source.
    """
    index = next((name for name in INDICES if (folder / name).is_file()), None)
    if index is None:
        raise InputError(f"{folder} has no prepared data; allowed: a folder with {' or '.join(INDICES)}")
    lines = [line for line in (folder / index).read_text(encoding="utf-8").split("\n") if line]
    try:
        return index, [str(json.loads(line)["source"]) for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"a track without its source ({error!r})", path=folder / index) from None


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder that `prepare` of myna-rpe or omar-rq has written")
    parser.add_argument("--audio", type=Path, required=True, help="the recordings that it was made from")
    parser.add_argument("--cache", type=Path, required=True, help="folder for the wheel and for results")
    parser.add_argument("--model", choices=get_args(Model), default="MTT", help="which tagger")
    parser.add_argument("--every", type=int, default=1, help="hear the first of so many patches")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16")
    parser.add_argument("--name", default="musicnn", help="name of the teacher in the folder")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        wheel = teacher_wheel(arguments.cache)
        network = load_teacher(wheel, arguments.model)
        index, sources = sources_of(arguments.folder)

        def targets() -> Iterator[Targets]:
            with progress(len(sources), "listening") as bar:
                for source in sources:
                    yield targets_of(
                        network,
                        arguments.audio / source,
                        arguments.cache / f"{arguments.model}-every-{arguments.every}",
                        every=arguments.every,
                        bf16=arguments.bf16,
                    )
                    bar.advance(1, note=source)

        write_teacher_targets(
            arguments.folder,
            arguments.name,
            targets(),
            PATCH_S * arguments.every,
            patch_s=PATCH_S,
            index=index,
            sources=sources,
        )
        text = arguments.folder / f"teacher-{arguments.name}-LICENCE.txt"
        text.write_text(licence(wheel), encoding="utf-8")
    except (AudioError, PentatonicError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.folder}: targets of {len(sources)} tracks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
