"""Damaged maps through everything in CM3P that reads them.

    python tools/fuzz_cm3p.py --count 100000 --seed 0 --corpus SONGS

Each input is a map, made here or from the corpus, with a few damages: flipped bits, cuts, repetitions, lines of another
map, fields replaced by hostile numbers. Whatever it is, a function returns or raises a `PentatonicError`, and takes no
longer than the time limit; what was read can be written, and reads the same again. Anything else is a finding: it is
printed with its input, which is also kept in the folder given by `--out`. The exit status is 1 after any finding. The
report names the slowest inputs, in milliseconds per 100 kB.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from damages import MOST_DAMAGES, damaged

from cm3p.beatmap import (
    Beatmap,
    FormatError,
    GameTiming,
    Slider,
    SliderPath,
    SliderPlay,
    Timing,
    max_combo,
    read_beatmap,
    token_ends,
    write_beatmap,
)
from pentatonic.errors import PentatonicError
from pentatonic.folder_run import find_files
from pentatonic.processes.time_limit import time_limit

SLOWEST_NAMED = 5
_SMALLEST_BYTES = 10_000  # smaller inputs count as so long, as they mostly measure the clock
_BYTES_OF_RATES = 100_000
_PLAYED_SLIDERS = 50

WORDS = (
    "\n", "\r", "\x00", "\x0b", "\u2028", "\ufeff", "//", "[HitObjects]\n", "[TimingPoints]\n", "[General]\n",
    "osu file format v128\n", "B|", "P|", "C|", "L|", "B3|", "|B|", ",,,", "::::", "0:0:0:0:", "Mode: 3\n",
)  # fmt: skip
NUMBERS = (
    "0", "-1", "1", "1.5", "-0.0001", "1e-298", "1E+90", "1e308", "NaN", "-NaN", "Infinity", "-inf", "2147483648",
    "-200000001", "1151400000", "86399999999999999", "99999999999999999999", "131073", "9000", "9001", "1_0", "",
    "x", "0x10", "\uff11", "9" * 5000,
)  # fmt: skip


def made_map(rng: random.Random) -> str:
    """Return a map with every kind of object, curve and timing point, of a random ruleset and version."""
    mode = rng.randrange(4)
    lines = [
        f"osu file format v{rng.choice((3, 5, 7, 8, 9, 12, 14, 128))}", "", "[General]", "AudioFilename: audio.mp3",
        f"Mode: {mode}", "StackLeniency: 0.7", "", "[Editor]", "Bookmarks: 1000,2000", "", "[Metadata]", "Title:Made",
        "TitleUnicode:作った", "Artist:Nobody", "Creator:tool", "Version:hard", "Tags:a b c", "BeatmapID:0", "",
        "[Difficulty]", "HPDrainRate:5", f"CircleSize:{rng.choice((4, 7, 18))}", "OverallDifficulty:7.5",
        f"SliderMultiplier:{rng.uniform(0.4, 3.6):.2f}", "SliderTickRate:2", "", "[Events]", '0,0,"bg.jpg",0,0',
        "2,9000,12000", "Sprite,Foreground,Centre,\"x.png\",320,240", " M,0,100,200,1,2", "", "[TimingPoints]",
    ]  # fmt: skip
    for index in range(rng.randint(1, 20)):
        red = index == 0 or rng.random() < 0.3
        beat = round(rng.uniform(200, 900), 3) if red else -rng.choice((50, 80, 100, 133.333, 1000))
        lines.append(
            f"{index * 1500},{beat},4,{rng.randrange(4)},0,{rng.randrange(101)},{int(red)},{rng.randrange(2)}"
        )
    lines += ["", "[Colours]", "Combo1 : 255,0,0", "", "[HitObjects]"]
    lines += [_made_object(rng, index * 300) for index in range(rng.randint(1, 60))]
    return "\n".join(lines) + "\n"


def _made_object(rng: random.Random, time_ms: int) -> str:
    start = f"{rng.randint(0, 512)},{rng.randint(0, 384)},{time_ms}"
    kind = rng.choice((1, 5, 2, 6, 2, 22, 8, 12, 128))
    if kind & 1:
        return f"{start},{kind},{rng.randrange(16)}" + rng.choice(("", ",0:0:0:0:", ",1:2:3:40:clap.wav"))
    if kind & 2:
        curve = "|".join(_made_curve(rng) for _ in range(rng.choice((1, 1, 1, 1, 2, 3))))
        repeat, length = rng.choice((1, 1, 1, 2, 5)), rng.choice((0, 35, 70, 140.5, 300, 2000))
        edges = "|".join(["2"] * (repeat + 1)) + "," + "|".join(["0:0"] * (repeat + 1))
        return f"{start},{kind},0,{curve},{repeat},{length}" + rng.choice(
            ("", f",{edges}", f",{edges},0:0:0:0:")
        )
    if kind & 8:
        return f"{start},{kind},4,{time_ms + 900},0:0:0:0:"
    return f"{start},{kind},0,{time_ms + 450}:0:0:0:0:"


def _made_curve(rng: random.Random) -> str:
    letter = rng.choice(("B", "B", "L", "P", "C", "B3"))
    points = [
        f"{rng.randint(-50, 560)}:{rng.randint(-50, 430)}" for _ in range(rng.choice((1, 2, 2, 3, 7, 30)))
    ]
    if rng.random() < 0.3:
        points.append(points[-1])
    return "|".join([letter, *points])


def damaged_fields(data: bytes, rng: random.Random) -> bytes:
    """Return a map with hostile numbers in some fields, and with lines that are doubled, moved or gone."""
    lines = data.split(b"\n")
    for _ in range(rng.randint(1, MOST_DAMAGES)):
        at = rng.randrange(len(lines))
        kind = rng.randrange(5)
        if kind == 0:
            lines.insert(rng.randrange(len(lines) + 1), lines[at])
        elif kind == 1 and len(lines) > 1:
            del lines[at]
        elif kind == 2:  # a slider of very many anchors
            anchors = "|".join(
                rng.choice(("1:1", "9:9", "200:5")) for _ in range(rng.choice((99, 100, 3000)))
            )
            lines.append(f"1,1,5000,2,0,{rng.choice('BLCP')}|{anchors},1,100".encode())
        else:
            separator = rng.choice((b",", b",", b":", b"|"))
            fields = lines[at].split(separator)
            fields[rng.randrange(len(fields))] = rng.choice(NUMBERS).encode()
            lines[at] = separator.join(fields)
    return b"\n".join(lines)


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
    for slider in _sliders(beatmap)[:_PLAYED_SLIDERS]:
        path = SliderPath(slider, beatmap.version)
        for x, y in (path.point_at(path.length / 2), path.end):
            int(x), int(y)


def _events(beatmap: Beatmap) -> None:
    timing = GameTiming(beatmap.timing_points)
    for slider in _sliders(beatmap)[:_PLAYED_SLIDERS]:
        play = SliderPlay(slider, beatmap, timing)
        if play.event_count() < 10_000:
            for event in play.events():
                int(event.time_ms)


def _sliders(beatmap: Beatmap) -> list[Slider]:
    return [item for item in beatmap.hit_objects if isinstance(item, Slider)]


# Functions of a file's content, and functions of a map that was read; more parts of the package add theirs here.
CONTENT_READERS: dict[str, Callable[[bytes], Any]] = {
    "read_beatmap strict": lambda data: read_beatmap(data, strict=True),
}
MAP_READERS: dict[str, Callable[[Beatmap], Any]] = {
    "write_beatmap": _round_trip,
    "timing": _durations,
    "token_ends": _token_ends,
    "paths": _paths,
    "slider events": _events,
    "max_combo": max_combo,
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
        slowest: ``(milliseconds per 100 kB, number of the input, function, digest, bytes)`` of the slowest.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    slowest: list[tuple[float, int, str, str, int]] = field(default_factory=list)

    def add_time(self, reader: str, data: bytes, seconds: float) -> None:
        """Keep a time if it is among the slowest."""
        rate_ms = seconds * 1000 * _BYTES_OF_RATES / max(len(data), _SMALLEST_BYTES)
        number = sum(self.outcomes.values())
        entry = (rate_ms, number, reader, hashlib.sha256(data).hexdigest()[:16], len(data))
        heapq.heappush(self.slowest, entry)
        if len(self.slowest) > SLOWEST_NAMED:
            heapq.heappop(self.slowest)


def inputs(count: int, seed: int, corpus: Sequence[bytes]) -> Iterator[bytes]:
    """Yield damaged maps: half of them made here, and half from the corpus if there is one."""
    rng = random.Random(seed)
    made = [made_map(rng).encode() for _ in range(100)]
    others = [*made, *corpus]
    for _ in range(count):
        source = rng.choice(corpus if corpus and rng.random() < 0.5 else made)
        yield damaged_fields(source, rng) if rng.random() < 0.7 else damaged(source, others, WORDS, rng)


def findings(data: bytes, limit_s: float, report: Report) -> Iterator[Finding]:
    """Run every function over one input.

    Args:
        data: The input.
        limit_s: CPU seconds that one function may take for it.
        report: Extended in place.
    """
    beatmap: list[Beatmap] = []
    calls: list[tuple[str, Callable[[], Any]]] = [
        ("read_beatmap", lambda: beatmap.append(read_beatmap(data))),
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
        outcome, start_s = "read", time.process_time()
        try:
            with time_limit(limit_s, clock="cpu"):
                call()
        except PentatonicError:
            outcome = "refused"
        except Exception as error:
            outcome = "failed"
            yield Finding(name, f"{type(error).__name__}: {error}", data)
        report.add_time(name, data, time.process_time() - start_s)
        report.outcomes[name, outcome] += 1


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument(
        "--limit-s", type=float, default=5.0, help="CPU seconds of one function for one input"
    )
    parser.add_argument("--corpus", type=Path, help="folder of real maps to damage, too")
    parser.add_argument(
        "--out", type=Path, help="folder for the inputs of findings, and for the slowest inputs"
    )
    arguments = parser.parse_args()
    corpus = (
        [path.read_bytes() for path in find_files([arguments.corpus], {".osu"})] if arguments.corpus else []
    )
    report, found, count = Report(), Counter[str](), 0
    end_s, start_s = time.monotonic() + 60 * arguments.minutes, time.process_time()
    for data in inputs(arguments.count, arguments.seed, corpus):
        count += 1
        for finding in findings(data, arguments.limit_s, report):
            what = f"{finding.reader}: {finding.error[:200]}"
            found[what] += 1
            if found[what] == 1:
                print(f"{what}\n  {_kept(data, arguments.out)}", flush=True)
        if time.monotonic() > end_s:
            break
    for reader in sorted({reader for reader, _ in report.outcomes}):
        counts = ", ".join(
            f"{report.outcomes[reader, kind]} {kind}" for kind in ("read", "refused", "failed")
        )
        print(f"{reader}: {counts}")
    for rate_ms, _, reader, digest, size in sorted(report.slowest, reverse=True):
        print(f"slow: {rate_ms:.0f} ms per 100 kB, {reader}, {size} bytes ({digest})")
    print(f"{count} inputs, {sum(found.values())} findings, {time.process_time() - start_s:.0f} CPU s")
    sys.exit(bool(found))


def _kept(data: bytes, folder: Path | None) -> str:
    """Keep an input if there is a folder for it, and return how to name it."""
    name = hashlib.sha256(data).hexdigest()[:16]
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return f"{data[:200]!r} ({name})"


if __name__ == "__main__":
    main()
