"""Mel frontends compared: ours, torchaudio, librosa and nnAudio, on the same signal in the same run.

    python benchmarks/mel.py                 # 10 minutes of audio, one thread; Linux

Times are medians over interleaved repeats. ``cpu_s`` is the processor time of the call, ``wall_s`` includes waiting for
other programs; on an idle machine they are the same, and ``times_ours`` compares the processor times. Memory is what
one call, with its result, adds to the peak of a new process. All libraries compute the same values: ``difference`` is
the largest deviation from ours, relative to the largest value.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # NumPy's matrix products read this when they are imported

import numpy as np
import torch
from machine import markdown_table, write_results
from torch import Tensor

from pentatonic.child_process import python_environment
from pentatonic.mel import PRESETS, MelConfig, MelFrontend

SUBJECTS = ("omar-rq-16k", "myna", "cm3p")
Transform = Callable[[Tensor], Any]


def finish(mel: Any, config: MelConfig, xp: ModuleType) -> Any:
    """Logarithm and normalisation, written in torch or NumPy (``xp``)."""
    if config.log == "log10_1p":
        return (xp.log10(1 + 10000 * mel) - config.mean) / config.std
    if config.log == "whisper":
        log = xp.log10(xp.clip(mel[..., :-1], 1e-10, None))
        return (xp.maximum(log, log.max() - 8) + 4) / 4
    return mel


def ours(config: MelConfig) -> Transform:
    return MelFrontend(config)


def torchaudio(config: MelConfig) -> Transform:
    from torchaudio.transforms import MelSpectrogram

    transform = MelSpectrogram(
        config.sample_rate,
        config.n_fft,
        config.win_length,
        config.hop_length,
        config.f_min,
        config.f_max,
        n_mels=config.n_mels,
        norm="slaney",
        mel_scale="slaney",
    )
    return lambda audio: finish(transform(audio), config, torch)


def librosa_options(config: MelConfig) -> dict[str, Any]:
    """The configuration by librosa's names, which nnAudio uses too."""
    return {
        "sr": config.sample_rate,
        "n_fft": config.n_fft,
        "win_length": config.win_length,
        "hop_length": config.hop_length,
        "n_mels": config.n_mels,
        "fmin": config.f_min,
        "fmax": config.f_max,
    }


def librosa(config: MelConfig) -> Transform:
    from librosa.feature import melspectrogram

    def transform(audio: Tensor) -> np.ndarray:
        mel = melspectrogram(y=audio.numpy(), pad_mode="reflect", **librosa_options(config))
        return finish(mel, config, np)

    return transform


def nnaudio(config: MelConfig) -> Transform:
    from nnAudio.features.mel import MelSpectrogram

    transform = MelSpectrogram(verbose=False, **librosa_options(config))
    return lambda audio: finish(transform(audio)[0], config, torch)


LIBRARIES = {"pentatonic": ours, "torchaudio": torchaudio, "librosa": librosa, "nnAudio": nnaudio}


def signal(config: MelConfig, minutes: float) -> Tensor:
    n = round(minutes * 60 * config.sample_rate)
    return 0.1 * torch.randn(n, generator=torch.Generator().manual_seed(0))


def extra_memory_mb(preset: str, name: str, minutes: float) -> float:
    """What one call adds to the peak memory of this process, which must not have done other work."""
    config = PRESETS[preset]
    transform = LIBRARIES[name](config)
    transform(signal(config, 0.1))  # imports libraries and plans transforms
    audio = signal(config, minutes)
    # Not getrusage: after fork and exec it still reports the peak of the parent.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = peak_memory_mb()
    transform(audio)
    return peak_memory_mb() - before


def peak_memory_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def memory_in_child(preset: str, name: str, minutes: float) -> float:
    command = [sys.executable, "-P", __file__, "--minutes", str(minutes), "--memory", preset, name]
    environment = python_environment(Path(__file__).parent)
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def compare(preset: str, minutes: float, repeats: int) -> list[dict[str, Any]]:
    """Time all libraries alternately, ``repeats`` times after one warm-up."""
    config = PRESETS[preset]
    audio = signal(config, minutes)
    transforms = {name: make(config) for name, make in LIBRARIES.items()}
    results = {name: torch.as_tensor(transform(audio)) for name, transform in transforms.items()}
    expected = results["pentatonic"]
    wall: dict[str, list[float]] = {name: [] for name in transforms}
    cpu: dict[str, list[float]] = {name: [] for name in transforms}
    for _ in range(repeats):
        for name, transform in transforms.items():
            start = time.perf_counter(), time.process_time()
            transform(audio)
            wall[name].append(time.perf_counter() - start[0])
            cpu[name].append(time.process_time() - start[1])
    cpu_s = {name: statistics.median(seconds) for name, seconds in cpu.items()}
    return [
        {
            "preset": preset,
            "library": name,
            "cpu_s": round(cpu_s[name], 4),
            "wall_s": round(statistics.median(wall[name]), 4),
            "times_ours": round(cpu_s[name] / cpu_s["pentatonic"], 2),
            "extra_memory_mb": round(memory_in_child(preset, name, minutes)),
            "difference": float((results[name] - expected).abs().max() / expected.abs().max()),
        }
        for name in transforms
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10, help="length of the signal")
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds")
    parser.add_argument(
        "--memory", nargs=2, metavar=("PRESET", "LIBRARY"), help="print extra memory in MB only"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with torch.no_grad():
        if arguments.memory:
            preset, library = arguments.memory
            print(extra_memory_mb(preset, library, arguments.minutes))
            return
        rows = [row for preset in SUBJECTS for row in compare(preset, arguments.minutes, arguments.repeats)]
    print(markdown_table(rows))
    command = f"python benchmarks/mel.py --minutes {arguments.minutes:g} --repeats {arguments.repeats}"
    print(f"\nwritten: {write_results('mel', rows, command=command)}")


if __name__ == "__main__":
    main()
