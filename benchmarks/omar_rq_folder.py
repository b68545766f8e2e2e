"""A run of `omar-rq embed` over a folder, compared with decoding its files and with the model, each alone.

    python benchmarks/omar_rq_folder.py

Two folders of made FLAC files (44.1 kHz, stereo): short ones of 0.1 to 5 seconds, as many of each octave of lengths, and
songs of 29 seconds. In every round, one after the other, on one thread each:

- decoding: all files through the decoder process of the package, resampled to the rate of the model; nothing else runs
- model: all files, decoded before, through the model; those of similar length share a pass, as in the run
- model, file by file: the same without shared passes
- run: `embed_folder` with a loaded model, from the list of files to the last output and the report

Start of the decoder process included in both. Decoder and model run in two processes, so a run needs two idle cores to take
the time of the slower one; the aim is a ratio of at most 1.15.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from machine import markdown_table, write_results

from omar_rq.embed import embed_folder
from omar_rq.files.batches import DEFAULT_BATCH
from omar_rq.files.stages import AudioItem, EmbeddingOptions, compute_embeddings, decode_ahead
from omar_rq.model import OmarRQ
from omar_rq.streaming import DEFAULT_CONTEXT_S
from omar_rq.weights import from_pretrained
from pentatonic import audio

FILE_RATE, SONG_S = 44100, 29.0
SHORTEST_S, LONGEST_S = 0.1, 5.0


def write_folder(folder: Path, lengths_s: Sequence[float]) -> list[Path]:
    """Write one file of each length: chords that decay, with a little noise."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i, length_s in enumerate(lengths_s):
        times_s = np.arange(round(length_s * FILE_RATE))[:, None] / FILE_RATE
        pitches = 110 * 2 ** (generator.integers(0, 36, (4, 2)) / 12)
        tones = sum(np.sin(2 * np.pi * pitch * times_s) for pitch in pitches)
        samples = 0.1 * tones * np.exp(-(times_s % 0.5) * 4)
        samples = samples + 0.003 * generator.standard_normal(samples.shape)
        soundfile.write(folder / f"{i:05}.flac", samples, FILE_RATE)
    return sorted(folder.iterdir())


def decode_all(files: Sequence[Path], model: OmarRQ) -> list[AudioItem]:
    """Decode files as the run does."""
    with audio.DecodingProcess() as decoder:
        return [
            decode_ahead(
                AudioItem(file, "", decoder.stream(file, sample_rate=model.sample_rate)),
                frontend=model.frontend,
                context_s=DEFAULT_CONTEXT_S,
            )
            for file in files
        ]


def embed_all(items: Sequence[AudioItem], model: OmarRQ, batch: int, folder: Path) -> None:
    """Run the model on decoded files."""
    options = EmbeddingOptions([len(model.trunk.blocks) - 1], DEFAULT_CONTEXT_S, "none", "float32", "", batch)
    compute_embeddings(items, model=model, options=options, folder=folder)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start_s = time.perf_counter()
    work()
    return time.perf_counter() - start_s


def measure(name: str, files: Sequence[Path], model: OmarRQ, scratch: Path, rounds: int) -> dict[str, Any]:
    """Return one line of the table: medians over the rounds."""
    items = decode_all(files, model)
    out = scratch / "out"

    def run() -> None:
        report = embed_folder(model, [files[0].parent], out)
        if report.count("done") != len(files):
            raise SystemExit(f"{report.count('failed')} files failed")

    taken: dict[str, list[float]] = {"decoding": [], "model": [], "file by file": [], "run": []}
    for _ in range(rounds):
        taken["decoding"].append(seconds(lambda: decode_all(files, model)))
        taken["model"].append(seconds(lambda: embed_all(items, model, DEFAULT_BATCH, scratch)))
        taken["file by file"].append(seconds(lambda: embed_all(items, model, 1, scratch)))
        taken["run"].append(seconds(run))
        shutil.rmtree(out)
    decoding, shared, single, whole = (statistics.median(taken[key]) for key in taken)
    ratios = [
        run / max(pair) for *pair, run in zip(taken["decoding"], taken["model"], taken["run"], strict=True)
    ]
    return {
        "folder": name,
        "files": len(files),
        "audio, s": sum(item.n_decoded for item in items) / model.sample_rate,
        "decoding, s": decoding,
        "model, s": shared,
        "model, file by file, s": single,
        "run, s": whole,
        "run / slower of decoding and model": statistics.median(ratios),
        "lowest and highest ratio": f"{min(ratios):.2f} to {max(ratios):.2f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", type=int, default=1000, help="short files")
    parser.add_argument("--songs", type=int, default=150, help="songs")
    parser.add_argument("--rounds", type=int, default=3, help="rounds")
    parser.add_argument("--model", default="omar-rq-tiny", help="model")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = from_pretrained(arguments.model)
    lengths_s = np.random.default_rng(0).permutation(
        np.geomspace(SHORTEST_S, LONGEST_S, arguments.short)
    )
    with tempfile.TemporaryDirectory(dir=".") as folder:
        scratch = Path(folder)
        folders = {
            f"short, {SHORTEST_S:g} to {LONGEST_S:g} s": write_folder(scratch / "short", lengths_s),
            f"songs of {SONG_S:g} s": write_folder(scratch / "songs", [SONG_S] * arguments.songs),
        }
        rows = [measure(name, files, model, scratch, arguments.rounds) for name, files in folders.items()]
    print(markdown_table(rows))
    command = " ".join(
        f"--{key} {value}" for key, value in vars(arguments).items()
    )
    print(f"\nwritten: {write_results('omar_rq_folder', rows, command=f'python benchmarks/omar_rq_folder.py {command}')}")


if __name__ == "__main__":
    main()
