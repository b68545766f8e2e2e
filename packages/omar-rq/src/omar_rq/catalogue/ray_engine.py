"""A catalogue run on Ray Data: decoding in CPU tasks, the model in a pool of actors, each block written by its actor.

Scheduling, retries of tasks whose process died, and spilling to disk are Ray's. A block that is computed again has the
same name, and so replaces itself: nothing is there twice.

Without an address a cluster for this run alone is started on this machine. It listens on the loopback interface with a
token of its own, has no dashboard, sends no usage statistics, and its workers import nothing from the working folder.
"""

from __future__ import annotations

import json
import logging
import math
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from omar_rq.catalogue.sources import Recording
from omar_rq.catalogue.stages import (
    Work,
    compute_block,
    packed,
    read_block,
    scratch_folder,
    unpacked,
    write_block,
)
from omar_rq.model import OmarRQ
from pentatonic import audio
from pentatonic.child_process import safe_path
from pentatonic.errors import BackendUnavailable, MissingExtra, UsageError
from pentatonic.folder_run import OutputError
from pentatonic.pipeline import WarningsByThread

# Of a core, that a task takes which decodes. Not that of an actor, or Ray would run both in one process.
_DECODING_CORES = 0.5
# Sockets lie in the folder, and the system limits their names.
_LONGEST_FOLDER = 45
# Ray's own default gives the helpers of a node fewer seconds; on a busy machine that is too short.
_START_S = 180


@dataclass(frozen=True)
class RayOptions:
    """How Ray is used.

    Args:
        address: Of a running cluster, such as ``ray://head:10001`` or ``auto``; None: one on this machine for this run.
        workers: Models at work at the same time; None: one for each GPU, or for each core.
        threads: Threads of each model.
        folder: Where a local cluster keeps its logs and what it spills; None: a temporary folder, deleted at the end.
        niceness: Of the workers of a local cluster, added to that of this process.

    Raises:
        UsageError: A value is not allowed.
    """

    address: str | None = None
    workers: int | None = None
    threads: int = 1
    folder: Path | None = None
    niceness: int = field(default=0)

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"workers is {self.workers}; allowed: 1 and more")
        if self.folder is not None and len(str(self.folder.absolute())) > _LONGEST_FOLDER:
            raise UsageError(
                f"the folder of Ray is {self.folder.absolute()}; allowed: at most {_LONGEST_FOLDER} characters, "
                "as names of sockets in it are limited"
            )
        if self.address is not None and self.folder is not None:
            raise UsageError(
                "a folder of Ray is for a cluster on this machine; a running cluster has its own"
            )


def import_ray(options: RayOptions) -> Any:
    """Return Ray, which sends no usage statistics.

    Args:
        options: A cluster on this machine listens on the loopback interface alone, unless Ray was imported before.

    Raises:
        MissingExtra: It is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if options.address is None:
        # By its own switch, with which it does the same on other systems. It is read by the import.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtra("The engine ray", "omar-rq[ray]") from error
    return ray


def run_on_ray(
    blocks: Iterable[list[Recording]], work: Work, model: OmarRQ, options: RayOptions
) -> Generator[tuple[list[Recording], list[dict[str, Any]]], None, None]:
    """Read, compute and write blocks on Ray.

    Args:
        blocks: What is to be done.
        work: The run.
        model: In evaluation mode; it travels to the workers.
        options: How Ray is used.

    Yields:
        Each block when it is written, with what the report says of its recordings.

    Raises:
        BackendUnavailable: Ray cannot be started or reached.
        OutputError: A block cannot be written.
    """
    todo = list(blocks)
    if not todo:
        return
    ray = import_ray(options)
    with _connected(ray, options):
        n_workers, gpus = _pool(ray, options, len(todo))
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        shared = ray.put(
            _Shared(work, model.to("cpu"))
        )  # Kept by this process, so that an actor can start again.
        actors = {"num_gpus": 1, "num_cpus": 0.25} if gpus else {"num_cpus": 1}
        rows = [{"block": i, "recordings": _as_json(block)} for i, block in enumerate(todo)]
        done = (
            ray.data.from_items(rows, override_num_blocks=len(rows))
            .map(_decode, fn_args=([shared],), num_cpus=_DECODING_CORES)
            .map(
                _Embedder,
                fn_constructor_args=([shared], options.threads),
                compute=ray.data.ActorPoolStrategy(size=n_workers, max_tasks_in_flight_per_actor=2),
                **actors,
            )
        )
        for row in _rows(ray, done):
            yield todo[row["block"]], json.loads(row["entries"])


def _rows(ray: Any, done: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of a data set as they come; errors of writing in the workers keep their meaning."""
    try:
        for row in done.iter_rows():
            if row["error"]:
                raise OutputError(row["error"])
            yield row
    except ray.exceptions.RayError as error:
        raise BackendUnavailable(f"Ray gave up: {str(error).strip().splitlines()[-1]}") from error


# On the workers


@dataclass(frozen=True)
class _Shared:
    """What all workers need; there is one copy of it on each machine."""

    work: Work
    model: OmarRQ


_decoders: list[audio.DecodingProcess] = []


def _decoder() -> audio.DecodingProcess:
    """The decoder of this worker, which does one task at a time; it ends with the worker."""
    if not _decoders:
        _decoders.append(audio.DecodingProcess())
    return _decoders[0]


def _decode(row: dict[str, Any], shared: Sequence[Any]) -> dict[str, Any]:
    """First stage: a block of names becomes a block of samples."""
    import ray

    stored: Any = ray.get(shared[0])
    work = stored.work
    with WarningsByThread() as caught:
        read = read_block(_from_json(row["recordings"]), work, _decoder(), caught)
    return {**row, **packed(read)}


class _Embedder:
    """Second and third stage, in a process that keeps the model.

    Args:
        shared: A reference to what all workers need.
        threads: Threads of the model.
    """

    def __init__(self, shared: Sequence[Any], threads: int) -> None:
        import ray

        torch.set_num_threads(threads)
        stored: _Shared = ray.get(shared[0])
        self._work = stored.work
        device = "cuda" if torch.cuda.is_available() and ray.get_gpu_ids() else "cpu"
        self._model = stored.model.to(device).eval()
        self._decoder = _decoder()
        self._scratch = scratch_folder(self._work)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Embed one block and write it."""
        read = unpacked(_from_json(row["recordings"]), row, self._work)
        with WarningsByThread() as caught:
            computed = compute_block(read, self._work, self._model, self._decoder, caught, self._scratch)
        entries: list[dict[str, Any]] = []
        reason = ""
        try:
            entries = write_block(computed, self._work)
        except Exception as error:  # also those of a file system; another try is the next run's
            reason = str(error) or type(error).__name__
        return {"block": row["block"], "entries": json.dumps(entries), "error": reason}


def _as_json(block: Sequence[Recording]) -> str:
    return json.dumps([[each.source, each.place, each.bytes, each.mtime_ns] for each in block])


def _from_json(text: str) -> list[Recording]:
    return [Recording(*values) for values in json.loads(text)]


# The cluster


def _pool(ray: Any, options: RayOptions, n_blocks: int) -> tuple[int, bool]:
    """Return how many actors there are, and whether each has a GPU."""
    resources = ray.cluster_resources()
    cores, gpus = resources.get("CPU", 0.0), int(resources.get("GPU", 0))
    most = gpus or max(1, math.floor(cores * 0.75))
    if not gpus and cores < 1 + _DECODING_CORES:
        raise BackendUnavailable(f"the Ray cluster has {cores:g} cores; at least 2 are needed")
    wanted = options.workers or most
    if options.address is not None:
        wanted = min(wanted, most)
    return max(1, min(wanted, n_blocks)), gpus > 0


@contextmanager
def _connected(ray: Any, options: RayOptions) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine; leave or end it afterwards."""
    with ExitStack() as stack:
        stack.enter_context(safe_path())
        stack.enter_context(redirect_stdout(sys.stderr))  # where Ray tells of processes that died
        stack.enter_context(_environment({"RAY_USAGE_STATS_ENABLED": "0"}))
        empty = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-empty-"))
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            if options.address is not None:
                with _in_folder(empty):
                    ray.init(address=options.address, **quiet)
            else:
                _start(ray, options, quiet, empty, stack)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            ray.shutdown()
            raise BackendUnavailable(f"Ray cannot be started or reached: {error}") from error
        except Exception as error:  # a node that does not start in time raises nothing more exact
            ray.shutdown()
            raise BackendUnavailable(f"Ray cannot be started: {error}") from error
        try:
            yield
        finally:
            ray.shutdown()


def _start(ray: Any, options: RayOptions, quiet: dict[str, Any], empty: str, stack: ExitStack) -> None:
    folder = options.folder
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="ray-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    gpus = torch.cuda.device_count()
    workers = options.workers or gpus or max(1, (os.cpu_count() or 1) // options.threads)
    # Slots, not cores: so that a decoder has one beside each two models.
    cores = max(2, workers + max(1, workers // 2))
    stack.enter_context(
        _environment(
            {
                # No other program on this machine may use the cluster, and no token is left in the home folder.
                "RAY_AUTH_TOKEN": secrets.token_hex(32),
                "RAY_raylet_start_wait_time_s": str(_START_S),
            }
        )
    )
    with _in_folder(empty):
        ray.init(
            address="local",
            num_cpus=cores,
            num_gpus=gpus,
            include_dashboard=False,
            dashboard_host="127.0.0.1",
            _node_ip_address="127.0.0.1",
            _temp_dir=str(folder.absolute()),
            _system_config={"worker_niceness": options.niceness},
            **quiet,
        )


@contextmanager
def _in_folder(empty: str) -> Iterator[None]:
    """Work in an empty folder: Ray lets its workers work in and import from the folder in which it was started."""
    before = Path.cwd()
    os.chdir(empty)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
