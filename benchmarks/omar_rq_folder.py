"""A run of `omar-rq embed` over a folder, compared with decoding its files and with the model, each alone.

    python benchmarks/omar_rq_folder.py
    python benchmarks/omar_rq_folder.py --part engines      # the data set on Ray; needs an idle machine

Two folders of made FLAC files (44.1 kHz, stereo): short ones of 0.1 to 5 seconds, evenly by octave, and songs
of 29 seconds. In every round, one after the other, on one thread each:

- decoding: all files through the decoder process of the package, resampled to the rate of the model; nothing else runs
- model: all files, decoded before, through the model; those of similar length share a pass, as in the run
- model, file by file: the same without shared passes
- run: `embed_folder` with a loaded model, from the list of files to the last output and the report

Decoding and run both start a decoder process, which takes as long as importing PyTorch; that is measured too. Decoder
and model are two processes, so a run needs two idle cores to take the time of the slower one; the aim is a ratio of at
most 1.15. On a busy machine wall times say little. The second table has the processor times.

`--part engines` writes the Parquet data set of the songs, in every round by each of these in turn:

- one at a time: each file decoded whole, through all layers of the model in 30 s chunks, saved with `torch.save`; the
  next one begins when it is written. That is how the original goes through a folder, with its loader of no workers
- here: `embed_catalogue` in this process, one thread for the model and a decoder beside it
- Ray: `embed_catalogue` on a Ray of this machine with one worker of one thread and a decoder beside it, as above; the
  start of Ray and of its workers, which a run of hours does not notice, is measured with a run over two files and
  taken off

The aims: Ray at most 1.1 times the run here, and the run here at most half of one at a time.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from machine import markdown_table, write_results

from omar_rq.catalogue.ray_engine import RayOptions
from omar_rq.catalogue.run import embed_catalogue
from omar_rq.embed import embed_folder
from omar_rq.files.batches import DEFAULT_BATCH
from omar_rq.files.stages import EmbeddingOptions, compute_embeddings, pass_s
from omar_rq.model import OmarRQ
from omar_rq.streaming import DEFAULT_CONTEXT_S
from omar_rq.weights import from_pretrained
from pentatonic import audio
from pentatonic.audio_folder.items import AudioItem, decode_ahead
from pentatonic.audio_folder.reading import open_audio

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
                AudioItem(file, "", open_audio(file, stream=decoder.stream, sample_rate=model.sample_rate)),
                sample_rate=model.sample_rate,
                seconds=pass_s(DEFAULT_CONTEXT_S),
            )
            for file in files
        ]


def embed_all(items: Sequence[AudioItem], model: OmarRQ, batch: int, folder: Path) -> None:
    """Run the model on decoded files."""
    options = EmbeddingOptions([len(model.trunk.blocks) - 1], DEFAULT_CONTEXT_S, "none", "float32", "", batch)
    compute_embeddings(items, model=model, options=options, folder=folder)


@dataclass(frozen=True)
class Taken:
    """Seconds of one piece of work: by the clock, and of the processor in this process and in its children."""

    wall: float
    here: float
    children: float


def taken(work: Callable[[], object]) -> Taken:
    """Measure one call; its child processes must have ended when it returns."""
    start = (time.perf_counter(), time.process_time(), children_s())
    work()
    end = (time.perf_counter(), time.process_time(), children_s())
    return Taken(*(after - before for before, after in zip(start, end, strict=True)))


def children_s() -> float:
    """Processor time of child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(files: Sequence[Path], model: OmarRQ, scratch: Path, rounds: int) -> dict[str, list[Taken]]:
    """Measure every piece of work in every round."""
    items = decode_all(files, model)
    out = scratch / "out"

    def run() -> None:
        report = embed_folder(model, [files[0].parent], out)
        if report.count("done") != len(files):
            raise SystemExit(f"{report.count('failed')} files failed")

    work: dict[str, Callable[[], object]] = {
        "start": lambda: decode_all(files[:1], model),
        "decoding": lambda: decode_all(files, model),
        "model": lambda: embed_all(items, model, DEFAULT_BATCH, scratch),
        "file by file": lambda: embed_all(items, model, 1, scratch),
        "run": run,
    }
    found: dict[str, list[Taken]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, piece in work.items():
            found[name].append(taken(piece))
        shutil.rmtree(out)
    return found


def rows_of(name: str, n_files: int, found: dict[str, list[Taken]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the lines of the two tables, by the clock and by the processor: medians over the rounds."""
    wall = {part: [each.wall for each in rounds] for part, rounds in found.items()}
    here = {part: [each.here for each in rounds] for part, rounds in found.items()}
    child = {part: [each.children for each in rounds] for part, rounds in found.items()}
    median = statistics.median
    rounds = list(zip(*wall.values(), strict=True))
    ratios = [run / max(decoding, shared) for _, decoding, shared, _, run in rounds]
    started = [(run - start) / max(decoding - start, shared) for start, decoding, shared, _, run in rounds]
    clock = {
        "folder": name,
        "files": n_files,
        "start of the decoder, s": median(wall["start"]),
        "decoding, s": median(wall["decoding"]),
        "model, s": median(wall["model"]),
        "model, file by file, s": median(wall["file by file"]),
        "run, s": median(wall["run"]),
        "run / slower": median(ratios),
        "lowest to highest": f"{min(ratios):.2f} to {max(ratios):.2f}",
        "the same without the start": median(started),
    }
    decoder_alone = median(child["decoding"]) - median(child["start"])
    decoder, main_process = median(child["run"]) - median(child["start"]), median(here["run"])
    processor = {
        "folder": name,
        "decoder alone, s": decoder_alone,
        "model alone, s": median(here["model"]),
        "decoder in the run, s": decoder,
        "process with the model in the run, s": main_process,
        "busier in the run / slower alone": max(decoder, main_process)
        / max(decoder_alone, median(here["model"])),
    }
    return clock, processor


CHUNK_S = 30.0


def one_at_a_time(files: Sequence[Path], model: OmarRQ, out: Path) -> None:
    """Embed files the original's way: decoded whole, every block of the trunk, one after the other."""
    out.mkdir()
    every_layer = range(len(model.trunk.blocks))
    for file in files:
        samples = audio.load(file, sample_rate=model.sample_rate).samples
        chunks = samples.reshape(-1).split(round(CHUNK_S * model.sample_rate))
        layers = [
            model.extract_embeddings(chunk, every_layer, sample_rate=model.sample_rate) for chunk in chunks
        ]
        torch.save(torch.cat([each[-1:] for each in layers], dim=2), out / f"{file.stem}.pt")


def measure_engines(files: Sequence[Path], model: OmarRQ, scratch: Path, rounds: int) -> list[dict[str, Any]]:
    """Measure the engines in turn; one line for each."""

    def catalogue(some: Sequence[Path], ray: RayOptions | None) -> float:
        out = scratch / "set"
        start = time.perf_counter()
        report = embed_catalogue(model, some, out, ray=ray, block_minutes=3.0)
        seconds = time.perf_counter() - start
        if report.count("done") != len(some):
            raise SystemExit(f"{report.count('failed')} files failed")
        shutil.rmtree(out)
        return seconds

    def original() -> float:
        start = time.perf_counter()
        one_at_a_time(files, model, scratch / "original")
        seconds = time.perf_counter() - start
        shutil.rmtree(scratch / "original")
        return seconds

    on_ray = RayOptions(workers=1)
    found: dict[str, list[float]] = {"one at a time": [], "here": [], "Ray": []}
    for _ in range(rounds):
        found["one at a time"].append(original())
        found["here"].append(catalogue(files, None) - catalogue(files[:2], None))
        found["Ray"].append(catalogue(files, on_ray) - catalogue(files[:2], on_ray))
    lines = []
    for name, seconds in found.items():
        ratios = [each / here for each, here in zip(seconds, found["here"], strict=True)]
        lines.append(
            {
                "engine": name,
                "files": len(files),
                "time, s": statistics.median(seconds),
                "to the run here": statistics.median(ratios),
                "lowest to highest": f"{min(ratios):.2f} to {max(ratios):.2f}",
            }
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", type=int, default=1000, help="short files")
    parser.add_argument("--songs", type=int, default=150, help="songs")
    parser.add_argument("--rounds", type=int, default=3, help="rounds")
    parser.add_argument("--model", default="omar-rq-tiny", help="model")
    parser.add_argument("--part", choices=("folder", "engines"), default="folder", help="which tables")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = from_pretrained(arguments.model)
    options = " ".join(f"--{key} {value}" for key, value in vars(arguments).items())
    command = f"python benchmarks/omar_rq_folder.py {options}"
    if arguments.part == "engines":
        with tempfile.TemporaryDirectory() as folder:
            files = write_folder(Path(folder) / "songs", [SONG_S] * arguments.songs)
            lines = measure_engines(files, model, Path(folder), arguments.rounds)
        print(markdown_table(lines))
        print(f"\nwritten: {write_results('omar_rq_engines', lines, command=command)}")
        return
    lengths_s = np.geomspace(SHORTEST_S, LONGEST_S, arguments.short)
    lengths_s = np.random.default_rng(0).permutation(lengths_s).tolist()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        folders = {
            f"short, {SHORTEST_S:g} to {LONGEST_S:g} s": write_folder(scratch / "short", lengths_s),
            f"songs of {SONG_S:g} s": write_folder(scratch / "songs", [SONG_S] * arguments.songs),
        }
        tables = [
            rows_of(name, len(files), measure(files, model, scratch, arguments.rounds))
            for name, files in folders.items()
        ]
    clock, processor = ([table[i] for table in tables] for i in (0, 1))
    print(markdown_table(clock), markdown_table(processor), sep="\n\n")
    path = write_results(
        "omar_rq_folder",
        clock,
        command=command,
        tables={"processor time, start of the decoder left out": processor},
    )
    print(f"\nwritten: {path}")


if __name__ == "__main__":
    main()
