"""A music library on real recordings: how fast it is scanned, which copies it finds, what the correction does to hubs.

    python tools/real_recordings.py evaluation --out recordings
    python benchmarks/myna_library.py --recordings recordings

Three parts, each with a library of its own, printed as they are done. Recordings of 30 seconds to 10 minutes take part.

- scan: an hour of the recordings, with `myna-rpe-tiny` on two threads, from the list of files to the index. Beside it,
  decoding and spectrograms alone, and the model alone, one after the other: what a scan without overlap would take.
- copies: all recordings, and a copy of each, in turn another codec (MP3, Opus), silence of 1 to 5 seconds before the
  start, an equaliser, or 3 % more or less speed. A pair counts as found when both are in one
  group; pairs of a recording with its own copy are right, and so are those of `SAME_PIECE`; all others are wrong.
- hubs: skew of the 10-occurrence of the recordings before and after the correction, and the largest share of lists that
  one recording is in.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from machine import markdown_table, write_results
from scipy.signal import lfilter

from myna_rpe import from_pretrained
from myna_rpe.frontend import Frontend
from myna_rpe.library.library import Library
from myna_rpe.library.scan import scan
from myna_rpe.model import MynaEncoder
from myna_rpe.whole_tracks import TrackOptions, embed_tracks
from pentatonic import audio
from pentatonic.cli import progress

KINDS = ("mp3", "opus", "silence", "equaliser", "faster", "slower")

SONG_S = (30.0, 600.0)
"""Length of recordings that take part, from and to."""

SAME_PIECE = {
    # Warzone 2100: the second is an edition of the first; their waveforms, .07 s apart, correlate to .59.
    frozenset(("menu", "menu_enhanced")),
}
"""Names of different files of the packages that hold one recording."""


def recordings_of(folder: Path) -> list[Path]:
    """The recordings of the manifest that are as long as songs, in its order."""
    lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    chosen = [
        r for r in records if r["use"] == "evaluation" and SONG_S[0] <= (r["duration_s"] or 0) <= SONG_S[1]
    ]
    return [folder / record["file"] for record in chosen]


def write_copy(source: Path, target: Path, kind: str, number: int) -> None:
    """Write a changed copy of a recording."""
    samples, rate = soundfile.read(source, dtype="float32", always_2d=True)
    match kind:
        case "mp3":
            soundfile.write(target.with_suffix(".mp3"), samples, rate, format="MP3")
            return
        case "opus":
            samples, rate = soxr.resample(samples, rate, 48000), 48000
            soundfile.write(target.with_suffix(".opus"), samples, rate, format="OGG", subtype="OPUS")
            return
        case "silence":
            seconds = 1 + number % 5
            samples = np.concatenate([np.zeros((seconds * rate, samples.shape[1]), np.float32), samples])
        case "equaliser":  # lifts the low half of the range by some 6 dB
            low = lfilter([0.08], [1, -0.92], samples, axis=0).astype(np.float32)
            samples = 0.7 * samples + 0.7 * low
        case "faster" | "slower":
            speed = 1.03 if kind == "faster" else 1 / 1.03
            samples = soxr.resample(samples, rate * speed, rate)
    samples = 0.9 * samples / max(1e-6, float(np.abs(samples).max()))
    soundfile.write(target.with_suffix(".flac"), samples, rate)


def scan_row(model: MynaEncoder, files: list[Path], scratch: Path) -> dict[str, object]:
    """Scan an hour, then do its two parts one after the other."""
    chosen, seconds = [], 0.0
    for file in files:
        if seconds < 3600:
            chosen.append(file)
            seconds += audio.info(file).duration_s or 0.0
    music = linked(chosen, scratch / "hour")
    start = time.perf_counter()
    result = scan(model, scratch / "hour-index", [music], model_name="myna-rpe-tiny")
    scan_s = time.perf_counter() - start
    if result.report.count("failed"):
        raise SystemExit(f"{result.report.count('failed')} recordings failed")
    frontend = Frontend(model.config.frontend)
    start = time.perf_counter()
    mels = []
    with audio.DecodingProcess() as decoder:
        for file in chosen:
            mels.append(frontend(decoder.stream(file, sample_rate=frontend.sample_rate)).mel)
    decoding_s = time.perf_counter() - start
    start = time.perf_counter()
    for mel in mels:
        embed_tracks(model, [mel], TrackOptions())
    model_s = time.perf_counter() - start
    return {
        "minutes of music": seconds / 60,
        "recordings": len(chosen),
        "scan, s": scan_s,
        "faster than real time": seconds / scan_s,
        "decoding and spectrograms, s": decoding_s,
        "model, s": model_s,
        "both, one after the other / scan": (decoding_s + model_s) / scan_s,
    }


def linked(files: list[Path], folder: Path) -> Path:
    """A folder with links to recordings."""
    folder.mkdir()
    for number, file in enumerate(files):
        (folder / f"{number:03}-{file.name}").symlink_to(file.resolve())
    return folder


def copies_rows(
    model: MynaEncoder, files: list[Path], scratch: Path
) -> tuple[list[dict[str, object]], Library]:
    """Scan recordings and copies; compare the groups with what is known."""
    music = linked(files, scratch / "music")
    pieces = {path.name: path.stem.split("-", 1)[1] for path in music.iterdir()}
    wanted: dict[frozenset[str], str] = {}
    copied = sorted(music.iterdir())
    with progress(len(copied), "copying") as bar:
        for number, original in enumerate(copied):
            kind = KINDS[number % len(KINDS)]
            write_copy(original, music / f"copy-{number:03}", kind, number)
            (copy,) = music.glob(f"copy-{number:03}.*")
            pieces[copy.name] = pieces[original.name]
            wanted[frozenset((original.name, copy.name))] = kind
            bar.advance(1)
    scan(model, scratch / "index", [music], model_name="myna-rpe-tiny")
    library = Library.open(scratch / "index")
    groups: dict[str, list[str]] = {}
    for track in library.tracks:
        if track.group is not None:
            groups.setdefault(track.group, []).append(track.path.name)
    found = {frozenset(pair) for names in groups.values() for pair in combinations(names, 2)}
    rows: list[dict[str, object]] = []
    for kind in KINDS:
        pairs = [pair for pair, of in wanted.items() if of == kind]
        rows.append({"copy": kind, "pairs": len(pairs), "found": sum(pair in found for pair in pairs)})
    right = sum(pair in found for pair in wanted)
    wrong = sorted(
        " = ".join(sorted(pair))
        for pair in found
        if pair not in wanted and frozenset(pieces[name] for name in pair) not in SAME_PIECE
    )
    rows.append({"copy": "all", "pairs": len(wanted), "found": right})
    rows.append({"copy": "recall", "pairs": "", "found": right / len(wanted)})
    rows.append({"copy": "precision", "pairs": "", "found": right / max(1, right + len(wrong))})
    print(*(f"wrong: {pair}" for pair in wrong), sep="\n")
    return rows, library


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recordings", type=Path, required=True, help="folder of tools/real_recordings.py")
    parser.add_argument("--model", default="myna-rpe-tiny", help="model")
    parser.add_argument("--most", type=int, help="recordings at most, for a trial")
    parser.add_argument("--package", default="", help="recordings of this package only")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    model = from_pretrained(arguments.model)
    files = recordings_of(arguments.recordings)
    files = [file for file in files if arguments.package in file.parts or not arguments.package]
    files = files[: arguments.most]
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        speed = scan_row(model, files, scratch)
        print(markdown_table([speed]), flush=True)
        copies, library = copies_rows(model, files, scratch)
    hubs = {"recordings and copies": len(library.vectors), **library.measures["hubs"]}
    print(markdown_table([speed]), markdown_table(copies), markdown_table([hubs]), sep="\n\n")
    path = write_results(
        "myna_library",
        [speed],
        command="python benchmarks/myna_library.py --recordings recordings"
        + (f" --package {arguments.package}" if arguments.package else "")
        + (f" --most {arguments.most}" if arguments.most else ""),
        tables={"copies": copies, "hubs": [hubs]},
    )
    print(f"\nwritten: {path}")


if __name__ == "__main__":
    main()
