"""Style banks: what building one costs beside decoding and model alone, and what a search costs beside FAISS.

    python benchmarks/rc_audioldm_bank.py --clips 12 --rounds 5
    python benchmarks/rc_audioldm_bank.py --parts search --rounds 3

- building, with a CLAP model of the published size whose weights are random, since time does not depend on them. The
  clips are 10 s of stereo FLAC at 44.1 kHz. Three wall times are measured in turn in one process, with one thread for
  each stage: reading alone (hashes, decoding, resampling, spectrograms, tags), the audio tower alone, and the whole
  build. The goal is a build of at most 1.15 times the slower of the two.
- searching, 1,000 queries among 1 million rows of 512 dimensions, some of them copies of others, for 50 neighbours: the
  exact search, whose ties go to the lower row, and FAISS's flat index, which orders ties at will. Processor time of
  one thread. Both must find rows of the same similarities. The goal is at most 1.2 times FAISS.

What counts is the ratio of the shortest times of all rounds, since other programs on the machine only add time; the
median of the rounds' ratios stands beside it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from machine import markdown_table, write_results
from threadpoolctl import threadpool_limits
from torch import Tensor
from transformers import ClapAudioConfig, ClapConfig, ClapModel, ClapTextConfig

from pentatonic.audio import DecodingProcess
from pentatonic.checkpoint import file_sha256
from pentatonic.mel import PRESETS
from pentatonic.search import Neighbours, top_k
from pentatonic.search.faiss_index import FaissIndex
from rc_audioldm.bank.build import build_bank
from rc_audioldm.bank.file_tags import TagReader
from rc_audioldm.bank.sources import Clips, find_clips
from rc_audioldm.clap import ClapEncoder
from rc_audioldm.clap.frontend import ClapFrontend

WIDTH, COPIES, NEIGHBOURS = 512, 100, 50
SIMILARITY_TOLERANCE = 1e-5


def published_size() -> ClapEncoder:
    """A random model of the size of laion/clap-htsat-unfused; its text tower, which is not used, is small."""
    torch.manual_seed(0)
    text = ClapTextConfig(num_hidden_layers=1, vocab_size=100)
    config = ClapConfig(text_config=text.to_dict(), audio_config=ClapAudioConfig().to_dict())
    mel = replace(PRESETS["clap"], clip_samples=None, double=True)
    return ClapEncoder(ClapModel(config).eval(), None, ClapFrontend(mel, 10.0), name="random, published size")


def write_clips(folder: Path, count: int) -> None:
    """Write clips of decaying tones."""
    time_s = np.arange(441_000) / 44100
    for i in range(count):
        rng = np.random.default_rng(i)
        tones = sum(
            np.sin(2 * np.pi * f * time_s) * np.exp(-(time_s % d))
            for f, d in rng.uniform(1, 3, (6, 2)) * [300, 1]
        )
        sound = np.stack([tones, np.roll(tones, 50)], axis=1) * 0.05 + rng.normal(size=(441_000, 2)) * 0.001
        soundfile.write(folder / f"{i:04d}.flac", sound, 44100)


def compared(ours: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """The ratio that counts, and the median of those of the rounds."""
    ratios = [first / second for first, second in zip(ours, other, strict=True)]
    return {"ratio of the shortest": min(ours) / min(other), "median ratio": statistics.median(ratios)}


def read_alone(encoder: ClapEncoder, clips: Clips) -> list[list[Tensor]]:
    """Do all of a build but the model, in one thread after the other; return the spectrograms of each clip."""
    spectrograms = []
    with DecodingProcess() as decoder, TagReader() as tags:
        for clip in clips.clips:
            file_sha256(clip.path)
            blocks = decoder.stream(clip.path, sample_rate=48000)
            spectrograms.append(list(encoder.spectrograms(blocks)))
            tags.read(clip.path)
    return spectrograms


def building(count: int, rounds: int) -> dict[str, Any]:
    """Return the line of building."""
    torch.set_num_threads(1)
    encoder = published_size()
    encoder.embed_audio(torch.zeros(480_000), 48000)
    _ = encoder.header
    seconds: dict[str, list[float]] = {"reading alone": [], "model alone": [], "build": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "clips"
        folder.mkdir()
        write_clips(folder, count)
        clips = find_clips(folder)
        for number in range(rounds):
            start = time.perf_counter()
            spectrograms = read_alone(encoder, clips)
            seconds["reading alone"].append(time.perf_counter() - start)
            start = time.perf_counter()
            for each in spectrograms:
                encoder.embed_windows(each)
            seconds["model alone"].append(time.perf_counter() - start)
            start = time.perf_counter()
            build_bank(encoder, clips, Path(temporary) / f"bank{number}")
            seconds["build"].append(time.perf_counter() - start)
    slower = max(("reading alone", "model alone"), key=lambda name: min(seconds[name]))
    return {
        "clips": count,
        **{f"{name}, s": min(times) for name, times in seconds.items()},
        "build / slower of the two": compared(seconds["build"], seconds[slower])["ratio of the shortest"],
        "median ratio": compared(seconds["build"], seconds[slower])["median ratio"],
    }


def searching(rows: int, queries: int, rounds: int) -> dict[str, Any]:
    """Return the line of searching."""
    rng = np.random.default_rng(0)
    bank = rng.standard_normal((rows, WIDTH), dtype=np.float32)
    bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    bank[-COPIES:] = bank[:COPIES]
    asked = bank[:queries] + 0.02 * rng.standard_normal((queries, WIDTH), dtype=np.float32)
    with threadpool_limits(1):
        index = FaissIndex(np.array_split(bank, 50), metric="cosine", kind="flat")
        seconds: dict[str, list[float]] = {"exact": [], "FAISS flat": []}
        found: dict[str, Neighbours] = {}
        for _ in range(rounds):
            for name, search in (
                ("exact", lambda: top_k(asked, bank, NEIGHBOURS, metric="cosine")),
                ("FAISS flat", lambda: index.search(asked, NEIGHBOURS)),
            ):
                start = time.process_time()
                found[name] = search()
                seconds[name].append(time.process_time() - start)
    exact, faiss = found["exact"], found["FAISS flat"]
    gap = float(np.abs(exact.scores - faiss.scores).max())
    if gap > SIMILARITY_TOLERANCE:
        raise SystemExit(f"the similarities of the rows found differ by {gap:.2g}")
    originals, copies = np.arange(COPIES), np.arange(rows - COPIES, rows)
    if not np.array_equal(exact.rows[:COPIES, :2], np.stack([originals, copies], axis=1)):
        raise SystemExit("of equal rows, the exact search does not put the lower one first")
    ratios = compared(seconds["exact"], seconds["FAISS flat"])
    return {
        "rows": rows,
        "queries": queries,
        **{f"{name}, s": min(times) for name, times in seconds.items()},
        "exact / FAISS": ratios["ratio of the shortest"],
        "median ratio": ratios["median ratio"],
        "same row in the same place": float(np.mean(exact.rows == faiss.rows)),
        "greatest difference of similarities": gap,
    }


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=["build", "search"], default=["build", "search"])
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for part in arguments.parts:
        if part == "build":
            row, given = building(arguments.clips, arguments.rounds), f"--clips {arguments.clips}"
        else:
            row = searching(arguments.rows, arguments.queries, arguments.rounds)
            given = f"--rows {arguments.rows} --queries {arguments.queries}"
        print(markdown_table([row]))
        command = f"python benchmarks/rc_audioldm_bank.py --parts {part} {given} --rounds {arguments.rounds}"
        print(f"\nwritten: {write_results(f'rc_audioldm_bank_{part}', [row], command=command)}\n")


if __name__ == "__main__":
    main()
