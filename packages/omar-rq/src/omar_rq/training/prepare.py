"""``omar-rq prepare``: convert a folder of audio to headerless 16-bit sample files with a manifest.

The original's data loader reads these files too (mono, little endian, one file per track); the manifest adds rate,
type, length, source and split.

A run that was stopped continues: while it works, ``manifest.jsonl.partial`` gets a line for each finished track. A
track is kept if its file is whole and its source has the size and time that it had; others are converted again.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Collection, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from omegaconf import MISSING

from omar_rq.training.data import MANIFEST, SAMPLE_TYPES
from pentatonic import audio
from pentatonic.audio_folder.reading import MeasuredBlocks
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import BatchReport, make_output_folder, progress, run_manifest
from pentatonic.errors import ConfigError, PentatonicError, UsageError
from pentatonic.folder_run import search_files

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


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
    file that failed and why. Every input is in the manifest or a failure of the report, whatever its name. After an
    interrupt only the report is written; it says which files are not done.

    Returns:
        The outcome of each file.

    Raises:
        UsageError: The input is not a folder, the output cannot be written, or it was made with another rate or type.
        CheckpointError: The disk is full; what was converted before is kept.
    """
    if config.dtype not in SAMPLE_TYPES:
        raise ConfigError(f"dtype is {config.dtype!r}; allowed: {', '.join(SAMPLE_TYPES)}")
    root, out = Path(config.input), Path(config.output)
    if not root.is_dir():
        raise UsageError(f"input={root} is not a folder")
    make_output_folder(out, "output=")
    found = search_files([root], audio.AUDIO_SUFFIXES)
    known = _known_entries(out, config)
    report, entries = BatchReport(), []
    report.passed_over = found.passed_over
    todo, stamps = [], {}
    # Some file systems take names of different case for the same.
    taken = {entry["path"].casefold() for entry in known.values()}
    for source in found.files:
        relative = source.relative_to(root)
        entry = known.get(relative.as_posix())
        stamps[source] = _stamp(source)
        if entry is not None and _is_done(entry, out, stamps[source]):
            entries.append(entry)
            report.skipped(source)
            continue
        name = _output_name(relative, taken) if entry is None else entry["path"]
        taken.add(name.casefold())
        todo.append((source, out / name, name))
    with (
        report.interruptible(found.files, out / "report.json"),
        closing(_convert_all(todo, config)) as outcomes,
    ):
        for (source, _, name), outcome in zip(todo, outcomes, strict=True):
            if isinstance(outcome, MeasuredBlocks):
                entry = {
                    "path": name,
                    "sample_rate": config.sample_rate,
                    "samples": outcome.n_samples,
                    "dtype": config.dtype,
                    "split": _split(name, config),
                    "source": source.relative_to(root).as_posix(),
                    **stamps[source],
                }
                entries.append(entry)
                flags = {"flags": outcome.flags} if outcome.flags else {}
                report.done(source, samples=outcome.n_samples, **flags)
                _append(out / f"{MANIFEST}.partial", entry)
            elif _is_disk_full(outcome):
                raise outcome
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
) -> Generator[MeasuredBlocks | PentatonicError | OSError, None, None]:
    """Yield the outcome of each job in order. The threads only wait for decoder processes, one each."""
    decoders: SimpleQueue[audio.DecodingProcess] = SimpleQueue()
    with ThreadPoolExecutor(max(1, config.workers)) as pool, ExitStack() as stack:
        # When this ends early: jobs that wait are cancelled, then the decoders of those at work are stopped.
        for _ in range(max(1, config.workers)):
            decoders.put(stack.enter_context(audio.DecodingProcess()))
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)

        def run(job: tuple[Path, Path, str]) -> MeasuredBlocks | PentatonicError | OSError:
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
) -> MeasuredBlocks | PentatonicError | OSError:
    """Write one track; return what was measured of it, or the error when it cannot be read or written."""
    blocks = MeasuredBlocks(decoder.stream(source, sample_rate=sample_rate), sample_rate, source.name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(target) as file:
            for block in blocks:
                samples = block.numpy()
                if dtype == "int16":
                    samples = np.rint(np.clip(samples, -1.0, 32767 / 32768) * 32768)
                file.write(samples.astype(SAMPLE_TYPES[dtype]).tobytes())
    except (PentatonicError, OSError) as error:
        return error
    return blocks


def _is_disk_full(error: Exception) -> bool:
    """Whether the next files would fail as well."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in _DISK_FULL


def _output_name(relative: Path, taken: Collection[str]) -> str:
    """Name the output of a source: ``a_wav.mmap`` for ``a.wav``, since ``a.mp3`` is another track.

    Where another source has that name already, as ``a.b.wav`` and ``a_b.wav`` would, a hash of the path is added.
    """
    plain, hashed = _output_names(relative)
    return hashed if plain.casefold() in taken else plain


def _output_names(relative: Path) -> tuple[str, str]:
    name = relative.with_name(relative.name.replace(".", "_")).as_posix()
    return f"{name}.mmap", f"{name}-{_sha256(relative.as_posix()).hex()[:12]}.mmap"


def _sha256(text: str) -> bytes:
    # Names of files need not be valid UTF-8.
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _split(name: str, config: PrepareConfig) -> str:
    digest = _sha256(f"{config.seed}/{name}")
    return "val" if int.from_bytes(digest[:4], "big") < config.val_fraction * 2**32 else "train"


def _stamp(source: Path) -> dict[str, int]:
    """What tells that a source has changed; empty where there is no such file."""
    try:
        status = source.stat()
    except OSError:  # its conversion will say why
        return {}
    return {"source_bytes": status.st_size, "source_mtime_ns": status.st_mtime_ns}


def _is_done(entry: Mapping[str, Any], out: Path, stamp: Mapping[str, int]) -> bool:
    """Whether the track of an entry is whole, and its source the one that it was made from."""
    if not stamp or any(entry.get(key) != value for key, value in stamp.items()):
        return False
    track = out / entry["path"]
    return (
        track.is_file() and track.stat().st_size == entry["samples"] * SAMPLE_TYPES[entry["dtype"]].itemsize
    )


def _known_entries(out: Path, config: PrepareConfig) -> dict[str, dict[str, Any]]:
    """Entries of earlier runs, by their source; later ones count."""
    known: dict[str, dict[str, Any]] = {}
    for listing in (out / MANIFEST, out / f"{MANIFEST}.partial"):
        # Not by splitlines, which also splits at characters that names may have.
        for line in listing.read_text(encoding="utf-8").split("\n") if listing.is_file() else ():
            try:
                entry = json.loads(line)
                if entry["path"] not in _output_names(Path(entry["source"])):
                    continue
            except (ValueError, KeyError, TypeError):
                continue  # an incomplete line of an interrupted run, or of another program
            if (entry["sample_rate"], entry["dtype"]) != (config.sample_rate, config.dtype):
                raise UsageError(
                    f"{out} holds tracks of {entry['sample_rate']} Hz {entry['dtype']}, and this run asks for "
                    f"{config.sample_rate} Hz {config.dtype}; choose another output folder"
                )
            known[entry["source"]] = entry | {"split": _split(entry["path"], config)}
    return known


def _append(listing: Path, entry: dict[str, Any]) -> None:
    # The line feed first: an interrupted run may have left half a line.
    with listing.open("a", encoding="utf-8") as file:
        file.write("\n" + json.dumps(entry))


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
