"""Damaged maps and archives of maps through everything in CM3P that reads them.

    python tools/fuzz/fuzz_cm3p.py --count 100000 --seed 0 --corpus SONGS --jobs 2

Each input is a map, made here or from the corpus, with a few damages: flipped bits, cuts, repetitions, lines of another
map, fields replaced by hostile numbers, sliders of thousands of anchors; a few are archives. Whatever it is, a function
returns or raises a `PentatonicError`, and takes no longer than the time limit; what was read can be written, and reads
the same again; tokens are numbers of the vocabulary. Anything else is a finding: it is printed with its input, which is
also kept in the folder given by `--out`. The exit status is 1 after any finding.

The report names the slowest inputs, in milliseconds of processor time per 100 kB; what makes events counts 50 bytes for
each of them where that is more, for a line of a timing point can ask for thousands. Inputs are a function of seed and
number, whatever the number of jobs. Each job is a process of its own, of limited memory; one that crashes is a finding.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import logging
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from fuzz_maps import inputs

from cm3p.audio_features import CM3PAudioFeatureExtractor
from cm3p.beatmap import (
    Beatmap,
    FormatError,
    GameTiming,
    LimitExceeded,
    Slider,
    SliderPath,
    SliderPlay,
    Timing,
    find_maps,
    max_combo,
    read_beatmap,
    token_ends,
    write_beatmap,
)
from cm3p.beatmap.objects import MANIA
from cm3p.events.parser import CM3PBeatmapParser
from cm3p.processor import CM3PProcessor
from cm3p.tokens.beatmap import CM3PBeatmapTokenizer
from cm3p.tokens.metadata import CM3PMetadataTokenizer
from pentatonic.child_process import process_pool
from pentatonic.errors import PentatonicError
from pentatonic.folder_run import find_files
from pentatonic.processes.time_limit import time_limit

SLOWEST_NAMED = 5
_SMALLEST_BYTES = 10_000  # smaller inputs count as so long, as they mostly measure the clock
_BYTES_OF_RATES = 100_000
_BYTES_OF_EVENTS = 50
_PLAYED_SLIDERS = 50
_MOST_WINDOWS = 64
_CHUNK = 500  # inputs of one call of a job
_MEMORY_BYTES = 8 << 30  # of addresses; torch alone maps three


def _round_trip(beatmap: Beatmap) -> None:
    try:
        text = write_beatmap(beatmap)
    except FormatError as error:
        raise AssertionError(f"a map that was read cannot be written: {error}") from error
    if read_beatmap(text) != beatmap:
        raise AssertionError("a map reads differently after it was written")


def _durations(beatmap: Beatmap) -> None:
    timing = Timing(beatmap.timing_points)
    for item in beatmap.hit_objects:
        timing.point_at(item.time_ms + 5)
        if isinstance(item, Slider):
            timing.slider_duration_ms(item, beatmap.slider_multiplier)


def _token_ends(beatmap: Beatmap) -> None:
    for x, y in token_ends(_sliders(beatmap)):
        int(x), int(y)


def _paths(beatmap: Beatmap) -> None:
    for path in SliderPath.of_many(_sliders(beatmap), beatmap.version):
        if not isinstance(path, LimitExceeded):
            for x, y in (path.point_at(path.length / 2), path.end):
                int(x), int(y)


def _slider_events(beatmap: Beatmap) -> None:
    timing = GameTiming(beatmap.timing_points)
    for slider in _sliders(beatmap)[:_PLAYED_SLIDERS]:
        play = SliderPlay(slider, beatmap, timing)
        if play.event_count() < 10_000:
            for event in play.events():
                int(event.time_ms)


def _sliders(beatmap: Beatmap) -> list[Slider]:
    return [item for item in beatmap.hit_objects if isinstance(item, Slider)]


@cache
def _first_version() -> tuple[CM3PBeatmapParser, CM3PBeatmapTokenizer]:
    """Parser and tokenizer of the original's experiment v1."""
    return CM3PBeatmapParser(), CM3PBeatmapTokenizer(max_time=16_000)


@cache
def _mania_columns() -> tuple[CM3PBeatmapParser, CM3PBeatmapTokenizer]:
    """What new models of osu!mania have."""
    parser = CM3PBeatmapParser(mania_columns=True, exact_median_beat_length=True, slider_version=1)
    return parser, CM3PBeatmapTokenizer(max_time=16_000, position_split_axes=False)


@cache
def _processor() -> CM3PProcessor:
    """The processor of the original's experiment v7."""
    return CM3PProcessor(
        CM3PAudioFeatureExtractor(),
        CM3PBeatmapParser(add_snapping=False, add_distances=False),
        CM3PBeatmapTokenizer(max_time=16_000, add_cls_token=True, separate_new_combo_token=False),
        CM3PMetadataTokenizer(add_cls_token=True, min_year=2007),
        {"beatmap_kwargs": {"window_length_sec": 16, "window_stride_sec": 16, "max_length": 2000}},
    )


def _tokens(beatmap: Beatmap, parts: tuple[CM3PBeatmapParser, CM3PBeatmapTokenizer]) -> int:
    parser, tokenizer = parts
    groups = parser.parse_beatmap(beatmap)
    _check_ids(tokenizer.encode(groups), tokenizer.vocab_size)
    return len(groups)


def _columns_of_mania(beatmap: Beatmap) -> int:
    return _tokens(beatmap, _mania_columns()) if beatmap.mode == MANIA else 0


def _windows(beatmap: Beatmap) -> int:
    """Windows with their metadata; one event is counted for each token."""
    options: dict[str, Any] = {"max_windows": _MOST_WINDOWS, "padding": False, "return_tensors": None}
    encoding = _processor()(beatmap=beatmap, multiply_metadata=True, populate_metadata=True, **options)
    for ids in encoding["input_ids"]:
        _check_ids(ids, _processor().beatmap_tokenizer.vocab_size)
    for ids in encoding["metadata_ids"]:
        _check_ids(ids, _processor().metadata_tokenizer.vocab_size)
    return sum(map(len, encoding["input_ids"]))


def _check_ids(ids: list[int], most: int) -> None:
    if not all(isinstance(index, int) and 0 <= index < most for index in ids):
        raise AssertionError("a token is not in the vocabulary")


def _maps_of_archive(data: bytes) -> None:
    if not data.startswith(b"PK"):
        return
    with tempfile.NamedTemporaryFile(suffix=".osz") as file:
        file.write(data)
        file.flush()
        for entry in find_maps(file.name):
            if entry.beatmap is None and entry.error is None:
                raise AssertionError("neither a map nor an error")
            if entry.audio:
                entry.audio.read()


# Functions of a file's content, and functions of a map that was read. A number that they return is of events made.
CONTENT_READERS: dict[str, Callable[[bytes], Any]] = {
    "read_beatmap strict": lambda data: read_beatmap(data, strict=True),
    "archive": _maps_of_archive,
}
MAP_READERS: dict[str, Callable[[Beatmap], Any]] = {
    "write_beatmap": _round_trip,
    "timing": _durations,
    "token_ends": _token_ends,
    "paths": _paths,
    "slider events": _slider_events,
    "max_combo": lambda beatmap: max_combo(beatmap) and None,
    "tokens v1": lambda beatmap: _tokens(beatmap, _first_version()),
    "tokens with mania columns": _columns_of_mania,
    "windows v7": _windows,
}


@dataclass(frozen=True)
class Finding:
    """An input that a function fails on."""

    reader: str
    error: str
    data: bytes


@dataclass
class Report:
    """What happened so far.

    Args:
        outcomes: Counts of ``(function, "read" | "refused" | "failed")``.
        slowest: ``(milliseconds per 100 kB, digest of the input, function, bytes)`` of the slowest.
        cpu_s: Seconds of processor time.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    slowest: list[tuple[float, str, str, int]] = field(default_factory=list)
    cpu_s: float = 0.0

    def is_slow(self, rate_ms: float) -> bool:
        """Tell whether a time is among the slowest."""
        return len(self.slowest) < SLOWEST_NAMED or rate_ms > self.slowest[0][0]

    def add_time(self, rate_ms: float, reader: str, data: bytes) -> None:
        """Keep a time if it is among the slowest."""
        self._keep((rate_ms, hashlib.sha256(data).hexdigest()[:16], reader, len(data)))

    def add(self, other: Report) -> None:
        """Add what happened in another process."""
        self.outcomes += other.outcomes
        self.cpu_s += other.cpu_s
        for entry in other.slowest:
            self._keep(entry)

    def _keep(self, entry: tuple[float, str, str, int]) -> None:
        heapq.heappush(self.slowest, entry)
        if len(self.slowest) > SLOWEST_NAMED:
            heapq.heappop(self.slowest)


def findings(data: bytes, limit_s: float, report: Report) -> Iterator[Finding]:
    """Run every function over one input.

    Args:
        data: The input.
        limit_s: CPU seconds that one function may take for it.
        report: Extended in place.
    """
    beatmap: list[Beatmap] = []

    def read() -> None:
        beatmap[:] = [read_beatmap(data)]

    calls: list[tuple[str, Callable[[], Any]]] = [
        ("read_beatmap", read),
        *((name, lambda reader=reader: reader(data)) for name, reader in CONTENT_READERS.items()),
    ]
    yield from _called(calls, data, limit_s, report)
    if beatmap:
        calls = [(name, lambda reader=reader: reader(beatmap[0])) for name, reader in MAP_READERS.items()]
        yield from _called(calls, data, limit_s, report)


def _called(
    calls: Sequence[tuple[str, Callable[[], Any]]], data: bytes, limit_s: float, report: Report
) -> Iterator[Finding]:
    for name, call in calls:
        outcome, error, rate_ms = _timed(call, len(data), limit_s)
        if outcome != "failed" and report.is_slow(rate_ms):
            # Again, as the first time may be that of a cold cache or a busy machine.
            report.add_time(min(rate_ms, _timed(call, len(data), limit_s)[2]), name, data)
        report.outcomes[name, outcome] += 1
        if error:
            yield Finding(name, error, data)


def _timed(call: Callable[[], Any], size: int, limit_s: float) -> tuple[str, str, float]:
    """Return the outcome of a call, its error if it failed, and its milliseconds per 100 kB."""
    outcome, failure, made, start_s = "read", "", None, time.process_time()
    try:
        with time_limit(limit_s, clock="cpu"):
            made = call()
    except PentatonicError:
        outcome = "refused"
    except Exception as error:
        outcome, failure = "failed", f"{type(error).__name__}: {error}"
    taken_ms = 1000 * (time.process_time() - start_s)
    size = max(size, _SMALLEST_BYTES, _BYTES_OF_EVENTS * made if isinstance(made, int) else 0)
    return outcome, failure, taken_ms * _BYTES_OF_RATES / size


@cache
def _corpus(folder: Path | None) -> list[bytes]:
    return [path.read_bytes() for path in find_files([folder], {".osu"})] if folder else []


def run_chunk(count: int, seed: str, folder: Path | None, limit_s: float) -> tuple[Report, list[Finding]]:
    """Run some inputs in this process, which is one of several.

    Args:
        count: Number of inputs.
        seed: Of this chunk.
        folder: The corpus.
        limit_s: As for :func:`findings`.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    logging.disable()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, resource.RLIM_INFINITY))
    report, found = Report(), list[Finding]()
    start_s = time.process_time()
    for data in inputs(count, seed, _corpus(folder)):
        found.extend(findings(data, limit_s, report))
    report.cpu_s = time.process_time() - start_s
    return report, found


def _chunks(arguments: argparse.Namespace, end_s: float) -> Iterator[tuple[int, Report, list[Finding]]]:
    """Yield counts and results of chunks, in their order, until all are done or the time is over."""
    starts = range(0, arguments.count, _CHUNK)
    calls = [(min(_CHUNK, arguments.count - start), f"{arguments.seed}:{start}") for start in starts]
    rest = (arguments.corpus, arguments.limit_s)
    with process_pool(arguments.jobs) as pool:
        waiting: list[tuple[int, str, Future]] = []
        for count, seed in calls:
            if time.monotonic() > end_s:
                break
            waiting.append((count, seed, pool.submit(run_chunk, count, seed, *rest)))
            if len(waiting) > 2 * arguments.jobs:
                yield _result(*waiting.pop(0))
        for entry in waiting:
            yield _result(*entry)


def _result(count: int, seed: str, future: Future) -> tuple[int, Report, list[Finding]]:
    try:
        return count, *future.result()
    except BrokenExecutor as error:
        return count, Report(), [Finding("process", f"inputs of seed {seed}: {error}", b"")]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument(
        "--limit-s", type=float, default=5.0, help="CPU seconds of one function for one input"
    )
    parser.add_argument("--corpus", type=Path, help="folder of real maps to damage, too")
    parser.add_argument("--out", type=Path, help="folder for the inputs of findings")
    arguments = parser.parse_args()
    report, kinds, count = Report(), Counter[str](), 0
    for done, chunk, found in _chunks(arguments, time.monotonic() + 60 * arguments.minutes):
        count += done
        report.add(chunk)
        for finding in found:
            what = f"{finding.reader}: {finding.error[:200]}"
            kinds[what] += 1
            if kinds[what] == 1:
                print(f"{what}\n  {_kept(finding.data, arguments.out)}", flush=True)
        if count % (20 * _CHUNK) == 0:
            print(f"{count} inputs, {sum(kinds.values())} findings, {report.cpu_s:.0f} CPU s", flush=True)
    for reader in sorted({reader for reader, _ in report.outcomes}):
        counts = ", ".join(
            f"{report.outcomes[reader, kind]} {kind}" for kind in ("read", "refused", "failed")
        )
        print(f"{reader}: {counts}")
    for rate_ms, digest, reader, size in sorted(report.slowest, reverse=True):
        print(f"slow: {rate_ms:.0f} ms per 100 kB, {reader}, {size} bytes ({digest})")
    print(f"{count} inputs, {sum(kinds.values())} findings, {report.cpu_s:.0f} CPU s")
    sys.exit(bool(kinds))


def _kept(data: bytes, folder: Path | None) -> str:
    """Keep an input if there is a folder for it, and return how to name it."""
    name = hashlib.sha256(data).hexdigest()[:16]
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return f"{data[:200]!r} ({name})"


if __name__ == "__main__":
    main()
