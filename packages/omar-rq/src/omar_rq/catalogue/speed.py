"""How fast a run will be: measured on a piece of one of its recordings before it starts, with the time it will take."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from omar_rq.catalogue.sources import Recording, find_recordings, on_this_machine
from omar_rq.model import OmarRQ
from pentatonic import audio
from pentatonic.audio_folder.reading import ReadOptions
from pentatonic.errors import PentatonicError

# A run of less music than this ends before a measurement of its speed is of use.
LONG_MINUTES = 10.0
_PIECE_S = 15.0
_WARM_UP_S = 2.0
_MOST_TRIED = 3
# Of each kind of file, so many headers are read to learn how long a megabyte is.
_MOST_HEADERS = 8


@dataclass(frozen=True)
class Speed:
    """What was measured.

    Args:
        cpu_s: Processor time of one minute of music, of decoder and model together.
        wall_s: Time of one minute of music by the clock, of the slower one of the two.
        minutes: Of music in the run, about.
        files: In the run.
        threads: Threads of a model.
        workers: Models at work at the same time.
    """

    cpu_s: float
    wall_s: float
    minutes: float
    files: int
    threads: int
    workers: int = 1

    @property
    def music_per_cpu_minute(self) -> float:
        """Minutes of music per minute of one core."""
        return 60 / self.cpu_s

    @property
    def expected_s(self) -> float:
        """How long the run will take if nothing else slows it down."""
        return self.minutes * self.wall_s / self.workers

    def line(self) -> str:
        """What is printed before the run."""
        who = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        who += f" in each of {self.workers} workers" if self.workers > 1 else ""
        return (
            f"speed: {_figure(self.music_per_cpu_minute)} minutes of music per CPU minute; "
            f"{self.files} files, about {_duration(60 * self.minutes)} of music: "
            f"about {_duration(self.expected_s)} with {who}"
        )


def announce_speed(
    model: OmarRQ,
    inputs: Sequence[str | Path],
    layers: Sequence[int],
    reading: ReadOptions,
    *,
    workers: int = 1,
    long_minutes: float = LONG_MINUTES,
) -> Speed | None:
    """Measure the speed and print it with the expected time to standard error, if the run is long.

    Args:
        model: The model of the run, with the threads of the run.
        inputs: As of the run.
        layers: Indices of trunk blocks, as of the run.
        reading: As of the run.
        workers: Models at work at the same time.
        long_minutes: A run of less music is not measured.

    Returns:
        The speed; None where the run is short, or no recording can be read.

    Raises:
        UsageError: As :func:`omar_rq.catalogue.sources.find_recordings`.
    """
    recordings = [each for each in find_recordings(inputs).recordings if each.bytes > 0]
    minutes = _minutes(recordings, reading)
    if minutes < long_minutes:
        return None
    # From the middle: the first files of a folder are often unlike the others.
    for recording in recordings[len(recordings) // 2 :][:_MOST_TRIED]:
        with suppress(PentatonicError, OSError):
            cpu_s, wall_s = _measured(model, recording, layers)
            threads = torch.get_num_threads()
            speed = Speed(cpu_s, wall_s, minutes, len(recordings), threads, workers)
            print(speed.line(), file=sys.stderr, flush=True)
            return speed
    return None


def _minutes(recordings: Sequence[Recording], reading: ReadOptions) -> float:
    """About how much music will be read: sizes, and what some headers say of each kind of file."""
    kinds: dict[str, list[Recording]] = {}
    for recording in recordings:
        kinds.setdefault(Path(recording.source).suffix.lower(), []).append(recording)
    total = 0.0
    for of_kind in kinds.values():
        guessed = measured = 0.0
        for recording in of_kind[:: max(1, len(of_kind) // _MOST_HEADERS)][:_MOST_HEADERS]:
            with suppress(PentatonicError, OSError):
                measured += (
                    audio.info(recording.source).duration_s / 60
                )  # fails in an object store: a guess will do
                guessed += recording.minutes
        factor = measured / guessed if measured and guessed else 1.0
        for recording in of_kind:
            length = max(0.0, recording.minutes * factor - reading.start_s / 60)
            total += length if reading.duration_s is None else min(length, reading.duration_s / 60)
    return total


def _measured(model: OmarRQ, recording: Recording, layers: Sequence[int]) -> tuple[float, float]:
    """Return the seconds that a minute of music takes: of processors, and by the clock."""
    with on_this_machine(recording) as path, audio.DecodingProcess() as decoder:
        blocks = decoder.stream(path, sample_rate=model.sample_rate, duration_s=_PIECE_S)
        decoder.start()
        for _ in decoder.stream(path, sample_rate=model.sample_rate, duration_s=0.1):
            pass  # the decoder has imported its modules
        start, clock = time.process_time() + _cpu_s(decoder.pid), time.perf_counter()
        samples = torch.cat(list(blocks))
        decoding = time.process_time() + _cpu_s(decoder.pid) - start, time.perf_counter() - clock
    warm_up = samples[: round(_WARM_UP_S * model.sample_rate)]
    model.extract_embeddings([warm_up], layers, sample_rate=model.sample_rate)
    start, clock = time.process_time(), time.perf_counter()
    model.extract_embeddings([samples], layers, sample_rate=model.sample_rate)
    if samples.device.type != model.embed.weight.device.type and torch.cuda.is_available():
        torch.cuda.synchronize()
    computing = time.process_time() - start, time.perf_counter() - clock
    minutes = len(samples) / model.sample_rate / 60
    return (decoding[0] + computing[0]) / minutes, max(decoding[1], computing[1]) / minutes


def _cpu_s(pid: int | None) -> float:
    """Processor time of another process so far, where the system tells it."""
    with suppress(OSError, ValueError, IndexError, AttributeError):
        words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
