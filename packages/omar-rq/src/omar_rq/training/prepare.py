"""``omar-rq prepare``: convert a folder of audio to headerless 16-bit sample files with a manifest.

The original's data loader reads these files too (mono, little endian, one file per track); the manifest adds rate,
type, length, source and split.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from omegaconf import MISSING

from omar_rq.files.reading import MeasuredBlocks
from omar_rq.training.data import MANIFEST, SAMPLE_TYPES
from pentatonic import audio
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import BatchReport, progress, run_manifest
from pentatonic.errors import ConfigError, PentatonicError, UsageError
from pentatonic.folder_run import search_files


@dataclass
class PrepareConfig:
    """Options of ``omar-rq prepare``.

    Args:
        input: Folder of audio files.
        output: Folder to write; it mirrors the folders of the input.
        sample_rate: Samples per second of the output.
        dtype: ``float16`` (as the original) or ``int16``.
        val_fraction: Share of tracks in the validation split, by a hash of the path and ``seed``.
        seed: Changes the split.
        workers: Decoder processes.
    """

    input: str = MISSING
    output: str = MISSING
    sample_rate: int = 16000
    dtype: str = "float16"
    val_fraction: float = 0.05
    seed: int = 0
    workers: int = 2


def prepare(config: PrepareConfig) -> BatchReport:
    """Convert every audio file below ``config.input``; files that were converted before are not decoded again.

    Writes ``manifest.jsonl``, the file lists ``train.jsonl`` and ``val.jsonl``, and ``report.json``, which names every
    file that failed and why. Every input is in the manifest or a failure of the report, whatever its name.

    Returns:
        The outcome of each file.
    """
    if config.dtype not in SAMPLE_TYPES:
        raise ConfigError(f"dtype is {config.dtype!r}; allowed: {', '.join(SAMPLE_TYPES)}")
    root, out = Path(config.input), Path(config.output)
    if not root.is_dir():
        raise UsageError(f"input={root} is not a folder")
    out.mkdir(parents=True, exist_ok=True)
    found = search_files([root], audio.AUDIO_SUFFIXES)
    known = _known_entries(out, config)
    report, entries = BatchReport(), []
    report.passed_over = found.passed_over
    todo = []
    # Some file systems take names of different case for the same.
    taken = {entry["path"].casefold() for entry in known.values()}
    for source in found.files:
        relative = source.relative_to(root)
        entry = known.get(relative.as_posix())
        if entry is not None and (out / entry["path"]).is_file():
            entries.append(entry)
            report.skipped(source)
            continue
        name = _output_name(relative, taken) if entry is None else entry["path"]
        taken.add(name.casefold())
        todo.append((source, out / name, name))
    for (source, _, name), outcome in zip(todo, _convert_all(todo, config), strict=True):
        if isinstance(outcome, MeasuredBlocks):
            entry = {
                "path": name,
                "sample_rate": config.sample_rate,
                "samples": outcome.n_samples,
                "dtype": config.dtype,
                "split": _split(name, config),
                "source": source.relative_to(root).as_posix(),
            }
            entries.append(entry)
            flags = {"flags": outcome.flags} if outcome.flags else {}
            report.done(source, samples=outcome.n_samples, **flags)
            _append(out / f"{MANIFEST}.partial", entry)
        else:
            report.failed(source, outcome)
    _write_listings(out, sorted(entries, key=lambda entry: entry["path"]))
    (out / f"{MANIFEST}.partial").unlink(missing_ok=True)
    report.write(out / "report.json")
    with atomic_file(out / "run.json") as file:
        file.write(json.dumps(run_manifest(), indent=1).encode())
    return report


def _convert_all(
    jobs: Sequence[tuple[Path, Path, str]], config: PrepareConfig
) -> Iterator[MeasuredBlocks | PentatonicError]:
    """Yield the outcome of each job in order. The threads only wait for decoder processes, one each."""
    decoders: SimpleQueue[audio.DecodingProcess] = SimpleQueue()
    with ExitStack() as stack, ThreadPoolExecutor(max(1, config.workers)) as pool:
        for _ in range(max(1, config.workers)):
            decoders.put(stack.enter_context(audio.DecodingProcess()))

        def run(job: tuple[Path, Path, str]) -> MeasuredBlocks | PentatonicError:
            decoder = decoders.get()
            try:
                return convert(job[0], job[1], config.sample_rate, config.dtype, decoder)
            finally:
                decoders.put(decoder)

        with progress(len(jobs), "preparing") as bar:
            for job, outcome in zip(jobs, pool.map(run, jobs), strict=True):
                bar.advance(1, note=job[0].name)
                yield outcome


def convert(
    source: Path, target: Path, sample_rate: int, dtype: str, decoder: audio.DecodingProcess
) -> MeasuredBlocks | PentatonicError:
    """Write one track; return what was measured of it, or the error when it cannot be read."""
    target.parent.mkdir(parents=True, exist_ok=True)
    blocks = MeasuredBlocks(decoder.stream(source, sample_rate=sample_rate), sample_rate, source.name)
    try:
        with atomic_file(target) as file:
            for block in blocks:
                samples = block.numpy()
                if dtype == "int16":
                    samples = np.rint(np.clip(samples, -1.0, 32767 / 32768) * 32768)
                file.write(samples.astype(SAMPLE_TYPES[dtype]).tobytes())
    except PentatonicError as error:
        return error
    return blocks


def _output_name(relative: Path, taken: Collection[str]) -> str:
    """Name the output of a source: ``a_wav.mmap`` for ``a.wav``, since ``a.mp3`` is another track.

    Where another source has that name already, as ``a.b.wav`` and ``a_b.wav`` would, a hash of the path is added.
    """
    name = relative.with_name(f"{relative.name.replace('.', '_')}.mmap").as_posix()
    if name.casefold() not in taken:
        return name
    return f"{name.removesuffix('.mmap')}-{_sha256(relative.as_posix()).hex()[:12]}.mmap"


def _sha256(text: str) -> bytes:
    # Names of files need not be valid UTF-8.
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _split(name: str, config: PrepareConfig) -> str:
    digest = _sha256(f"{config.seed}/{name}")
    return "val" if int.from_bytes(digest[:4], "big") < config.val_fraction * 2**32 else "train"


def _known_entries(out: Path, config: PrepareConfig) -> dict[str, dict[str, Any]]:
    """Entries of earlier runs, by their source."""
    known: dict[str, dict[str, Any]] = {}
    for listing in (out / MANIFEST, out / f"{MANIFEST}.partial"):
        for line in listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else ():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # an incomplete last line of an interrupted run
            if (entry["sample_rate"], entry["dtype"]) != (config.sample_rate, config.dtype):
                raise UsageError(
                    f"{out} holds tracks of {entry['sample_rate']} Hz {entry['dtype']}, and this run asks for "
                    f"{config.sample_rate} Hz {config.dtype}; choose another output folder"
                )
            known[entry["source"]] = entry | {"split": _split(entry["path"], config)}
    return known


def _append(listing: Path, entry: dict[str, Any]) -> None:
    with listing.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def _write_listings(out: Path, entries: list[dict[str, Any]]) -> None:
    with atomic_file(out / MANIFEST) as file:
        file.write("".join(json.dumps(entry) + "\n" for entry in entries).encode())
    for split in ("train", "val"):
        names = [entry["path"] for entry in entries if entry["split"] == split]
        with atomic_file(out / f"{split}.jsonl") as file:
            file.write("".join(json.dumps(name) + "\n" for name in names).encode())


def main(overrides: Sequence[str]) -> None:
    """Run with Hydra overrides, such as ``input=music output=data/music sample_rate=24000``."""
    from pentatonic.training import compose_config

    config = compose_config("omar_rq.conf", overrides, PrepareConfig, config_name="prepare")
    report = prepare(config)
    report.print_summary()
    report.raise_for_failures()
