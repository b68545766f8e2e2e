"""Cut clips from real recordings, with the tags of a musicnn teacher as captions, for the CLAP of rc-audioldm-tiny.

    python tools/training_recordings.py recordings --out data/recordings
    python tools/caption_recordings.py data/recordings --out data/tagged --cache data/musicnn

Takes at most `--per-recording` places of each recording, evenly spread. The teacher hears 3 s there, and the clip is
the 1.28 s in the middle. `manifest.jsonl` has the tags that the teacher gives at least `--least` as labels, and
captions that name some of them. The teacher's weights are under the ISC licence; `teacher-musicnn-LICENCE.txt` has its
text, which belongs to what is made from the clips. Clips that exist are kept, so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from musicnn_network import PATCH_FRAMES, SAMPLE_RATE, Musicnn
from musicnn_teacher import embed, labels, licence, load_teacher, teacher_wheel

from pentatonic.audio import load
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import progress, run_manifest
from pentatonic.errors import AudioError
from rc_audioldm.data.manifest import ManifestRow, write_manifest

CLIP_S = 1.28
_HEARD = PATCH_FRAMES * 256
_QUIETEST_DB = -50.0
# What the teacher says about what is missing is no caption.
_LEFT_OUT = frozenset(("no vocals", "no vocal", "no voice"))
_FORMS = ("{}", "{} music", "a recording of {}", "a piece with {}")
_SIZE = round(CLIP_S * SAMPLE_RATE)


def captions(tags: Sequence[str], seed: str) -> list[dict[str, Any]]:
    """Return six captions that name one to three of the tags."""
    rng = random.Random(seed)
    drawn = []
    for _ in range(6):
        named = rng.sample(list(tags), min(len(tags), rng.choice((1, 1, 2, 3))))
        drawn.append({"text": rng.choice(_FORMS).format(", ".join(named)), "labels": named})
    return drawn


def clips_of(
    audio: torch.Tensor, teacher: Musicnn, *, most: int, least: float
) -> list[tuple[int, torch.Tensor, list[str]]]:
    """Return place, samples and tags of clips of a recording, those that are not silent and have a tag."""
    names = labels("MTT")
    count = min(most, len(audio) // _HEARD)
    starts = np.linspace(0, len(audio) - _HEARD, count + 2).astype(int)[1:-1]
    found = []
    for start in starts:
        heard = audio[start : start + _HEARD]
        clip = heard[(_HEARD - _SIZE) // 2 :][:_SIZE]
        if clip.square().mean().clamp_min(1e-12).log10() * 10 < _QUIETEST_DB:
            continue
        values = embed(teacher, torch.cat([heard, heard[-256:]]))[1].mean(dim=0)
        order = values.argsort(descending=True).tolist()
        tags = [names[each] for each in order if values[each] >= least and names[each] not in _LEFT_OUT]
        if tags:
            found.append((int(start), clip, tags[:6]))
    return found


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="folder of the teacher's wheel")
    parser.add_argument("--per-recording", type=int, default=14)
    parser.add_argument("--least", type=float, default=0.2)
    args = parser.parse_args()
    wheel = teacher_wheel(args.cache)
    teacher = load_teacher(wheel, "MTT")
    sources = [json.loads(line) for line in (args.recordings / "sources.jsonl").read_text().splitlines()]
    (args.out / "audio").mkdir(parents=True, exist_ok=True)
    rows: list[ManifestRow] = []
    with progress(len(sources), "tagging") as bar:
        for number, source in enumerate(sources):
            done = args.out / f"rows-{number:04d}.json"
            if not done.is_file():
                made = []
                try:
                    audio = load(args.recordings / source["link"], sample_rate=SAMPLE_RATE).samples[0]
                    found = clips_of(audio, teacher, most=args.per_recording, least=args.least)
                except AudioError as error:
                    print(f"left out: {error}")
                    found = []
                for start, clip, tags in found:
                    name = f"{number:04d}-{start:09d}"
                    with atomic_file(args.out / "audio" / f"{name}.flac") as file:
                        soundfile.write(file, clip.clamp(-1, 1).numpy(), SAMPLE_RATE, format="FLAC")
                    made.append({"name": name, "tags": tags})
                with atomic_file(done, "w") as file:
                    json.dump(made, file)
            for each in json.loads(done.read_text(encoding="utf-8")):
                said = captions(each["tags"], each["name"])
                rows.append(
                    ManifestRow(
                        id=each["name"],
                        path=f"audio/{each['name']}.flac",
                        source=f"{source['package']} {source['version']}: {source['link']}",
                        licence=source["licences"],
                        caption=said[0]["text"],
                        labels=tuple(each["tags"]),
                        more={"split": "train", "captions": said},
                    )
                )
            bar.advance()
    write_manifest(args.out / "manifest.jsonl", rows)
    (args.out / "teacher-musicnn-LICENCE.txt").write_text(licence(wheel), encoding="utf-8")
    (args.out / "run.json").write_text(json.dumps(run_manifest(), indent=2) + "\n", encoding="utf-8")
    print(f"{args.out}: {len(rows)} clips of {len(sources)} recordings")


if __name__ == "__main__":
    main()
