"""What every command line shares: exit codes, JSON output, progress, batch reports and provenance.

Exit codes: 0 all well, 1 failure, 2 wrong usage (also an output folder that cannot be written), 3 some inputs failed
(each is named), 130 interrupted (the report says what is not done). A closed stream, or a pipe whose reader has gone,
does not change them. Results go to standard output, messages about the work to standard error. Importing this module
imports neither torch nor any other slow package, so that ``--help`` answers at once.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module, resources
from importlib.resources.abc import Traversable
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, NoReturn

import typer
from typer.core import TyperGroup

from pentatonic.child_process import safe_path
from pentatonic.errors import ConfigError, MissingExtra, PentatonicError, RunFolderInUse, UsageError
from pentatonic.output_places import (
    check_inputs,
    check_output_folder,
    keep_inputs,
    make_output_folder,
    make_output_place,
)
from pentatonic.processes.interrupts import sigterm_as_interrupt
from pentatonic.processes.standard_streams import flush_results, make_lasting
from pentatonic.progress import ProgressBar, one_line, printable, progress
from pentatonic.provenance import distribution_version, hide_secrets, run_manifest

__all__ = [
    "BatchReport",
    "Device",
    "Interrupted",
    "JsonFlag",
    "ModelSource",
    "Overrides",
    "PartialFailure",
    "ProgressBar",
    "PushTarget",
    "WeightType",
    "add_building_command",
    "check_inputs",
    "check_output_folder",
    "emit_json",
    "experiments",
    "json_text",
    "keep_inputs",
    "make_app",
    "make_output_folder",
    "make_output_place",
    "passed_over_text",
    "pick_device",
    "progress",
    "run",
    "run_manifest",
    "show",
    "show_fields",
    "show_models",
    "training_extra",
]

EXIT_FAILURE, EXIT_USAGE, EXIT_PARTIAL, EXIT_INTERRUPTED = 1, 2, 3, 130

_SAME_IN_ALL_RANKS = (UsageError, ConfigError, MissingExtra, RunFolderInUse)
_HEAD_START_S = 5.0
# Of a column of the table of failures.
_WIDEST = 60
_SUFFIXES_NAMED = 8

JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]
"""Type of the ``--json`` option of a command: ``as_json: JsonFlag = False``."""

Device = Annotated[
    Literal["auto", "cpu", "cuda", "mps"],
    typer.Option(help="Where to compute; auto: a CUDA GPU if there is one; mps: an Apple GPU."),
]
"""Type of the ``--device`` option: ``device: Device = "auto"``; :func:`pick_device` reads it."""

Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Hydra overrides.", show_default=False)
]
"""Type of the arguments of a command that builds a model: ``overrides: Overrides = None``."""


ModelSource = Annotated[
    str, typer.Argument(metavar="RUN_OR_MODEL", help="A run folder, one of its checkpoints, or any model.")
]
"""Type of the argument of ``export``: ``source: ModelSource``."""

WeightType = Annotated[Literal["fp32", "fp16"], typer.Option(help="Number type of the weights.")]
"""Type of the ``--dtype`` option of ``export``: ``dtype: WeightType = "fp32"``."""

PushTarget = Annotated[
    str | None, typer.Option(help="Also upload to this hub repository, owner/name; a new one is private.")
]
"""Type of the ``--push`` option of ``export``: ``push: PushTarget = None``."""


class PartialFailure(PentatonicError):
    """Some inputs of a batch failed, the others were processed; command lines exit with status 3."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C came while a batch was at work; command lines print its report and exit with status 130.

    Args:
        report: What became of each input.
    """

    def __init__(self, report: BatchReport) -> None:
        self.report = report
        super().__init__()


def make_app(name: str, help: str) -> typer.Typer:
    """Make the command line of one package, with plain help pages, ``-h`` and ``--version``.

    Args:
        name: The console script, which is also the name of the distribution.
        help: One or two sentences for ``--help``.

    Returns:
        The application, to which the package adds its commands; :func:`run` starts it.
    """
    app = typer.Typer(
        cls=_Commands,
        name=name,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # rich would remove text in square brackets, such as ``omar-rq[train]``
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def show_version(wanted: bool) -> None:
        if wanted:
            own, shared = (distribution_version(each) or "unknown" for each in (name, "pentatonic"))
            typer.echo(f"{name} {own} (pentatonic {shared})")
            raise typer.Exit

    @app.callback(help=help)
    def options(
        version: bool = typer.Option(
            False, "--version", callback=show_version, is_eager=True, help="Print the version and exit."
        ),
    ) -> None:
        pass

    return app


class _Commands(TyperGroup):
    """Commands that show what was done before an interrupt."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            if isinstance(interrupt, Interrupted):
                interrupt.report.print_summary()
            raise typer.Exit(EXIT_INTERRUPTED) from interrupt


def run(app: typer.Typer, args: Sequence[str] | None = None) -> NoReturn:
    """Run a command line, and exit with the code of its outcome.

    An error raised on purpose, or by the operating system, is printed as one message without a traceback;
    with ``PENTATONIC_DEBUG=1`` the traceback is printed before it. Values of secret environment variables are not
    printed.

    Output that cannot be delivered, because a stream is closed or its reader has gone, is dropped.

    Of the processes of a distributed run (environment variable ``RANK``), the first one alone prints results, help
    pages, and those errors that all of them meet, such as a wrong configuration.

    Args:
        app: The application.
        args: Arguments to use in place of ``sys.argv[1:]``.

    Raises:
        SystemExit: Always.
    """
    make_lasting()
    if not _is_first_rank():
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  (open until the process ends)
    try:
        with sigterm_as_interrupt(), safe_path():  # also for pools and loaders that other libraries start
            try:
                app(args)
            finally:
                flush_results()
    except PartialFailure as error:
        _fail(error, EXIT_PARTIAL)
    except UsageError as error:
        _fail(error, EXIT_USAGE)
    except (PentatonicError, OSError) as error:
        _fail(error, EXIT_FAILURE)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except Exception:
        print(hide_secrets(traceback.format_exc()), file=sys.stderr)
        sys.exit(EXIT_FAILURE)
    sys.exit(0)


def _is_first_rank() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _fail(error: Exception, code: int) -> NoReturn:
    if isinstance(error, _SAME_IN_ALL_RANKS) and not _is_first_rank():
        # The launcher ends all processes as soon as one has ended: the first one must have printed its message by then.
        time.sleep(_HEAD_START_S)
        sys.exit(code)
    if os.environ.get("PENTATONIC_DEBUG", "0") not in ("", "0"):
        print(hide_secrets(traceback.format_exc()), file=sys.stderr)
    print(f"Error: {printable(hide_secrets(str(error) or type(error).__name__))}", file=sys.stderr)
    sys.exit(code)


def pick_device(name: str, option: str = "--device") -> str:
    """Return the device for a value of ``--device``: ``cpu``, ``cuda`` or ``mps``.

    Args:
        name: The value.
        option: What the user gave it with: ``--device``, or ``device=``.

    Raises:
        UsageError: It is ``cuda`` or ``mps``, and there is no usable GPU of that kind.
    """
    import torch

    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name in usable and not usable[name]:
        allowed = ", ".join(["auto", "cpu", *(device for device, there in usable.items() if there)])
        raise UsageError(
            f"{option.removesuffix('=')} is {name}, but there is no usable GPU for it; allowed here: {allowed}"
        )
    if name == "auto":
        return "cuda" if usable["cuda"] else "cpu"
    return name


@contextmanager
def training_extra(feature: str, extra: str) -> Iterator[None]:
    """Around the import and call of a trainer: turn a missing dependency into an error that names the extra.

    Args:
        feature: What needs it, such as ``Training``.
        extra: Such as ``omar-rq[train]``.

    Raises:
        MissingExtra: Hydra, OmegaConf or accelerate is not installed.
    """
    try:
        yield
    except MissingExtra as error:
        if error.extra != "pentatonic[train]":
            raise
        raise MissingExtra(feature, extra) from error
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("omegaconf", "hydra", "accelerate"):
            raise
        raise MissingExtra(feature, extra) from error


def add_building_command(app: typer.Typer, name: str, main: str, *, feature: str, help: str) -> None:
    """Add a command that takes Hydra overrides: it trains a model, prepares its data or measures it.

    Args:
        app: The command line, from :func:`make_app`; the command needs the extra ``train`` of its distribution.
        name: The command, such as ``train``.
        main: ``"module:function"``, imported when the command runs; the function takes the overrides. A result with
            a true ``interrupted`` ends the program with status 130.
        feature: What needs the extra, as the start of a sentence, such as ``Training``.
        help: For the help page; paragraphs are separated by empty lines.
    """

    def command(overrides: Overrides = None) -> None:
        module, _, function = main.partition(":")
        with training_extra(feature, f"{app.info.name}[train]"):
            result = getattr(import_module(module), function)(overrides or [])
        if getattr(result, "interrupted", False):
            raise typer.Exit(EXIT_INTERRUPTED)

    app.command(name, help=help)(command)


def experiments(package: str, configs: str = "conf") -> str:
    """Return the experiments of a package as a paragraph for its help page, one on each line.

    They are the YAML files in ``<package>/<configs>/experiment``; the first comment of each is its description.

    Args:
        package: Import name, such as ``omar_rq``.
        configs: Package of the configurations in it, such as ``conf.encoder``.
    """
    folder = resources.files(f"{package}.{configs}") / "experiment"
    files = {
        file.name.removesuffix(".yaml"): file for file in folder.iterdir() if file.name.endswith(".yaml")
    }
    width = max(map(len, files), default=0)
    lines = [f"  {name:<{width}}  {_first_comment(files[name])}".rstrip() for name in sorted(files)]
    return "\n".join(["\b", "Experiments:", *lines])  # \b: click keeps the line breaks


def _first_comment(file: Traversable) -> str:
    comments = (
        line.removeprefix("#").strip()
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.startswith("#")
    )
    return next((comment for comment in comments if not comment.startswith("@package")), "")


def show(result: object, as_json: bool, lines: Callable[[], Sequence[str]]) -> None:
    """Print a result to standard output: as JSON with ``as_json``, otherwise as lines without control characters."""
    if as_json:
        emit_json(result)
    else:
        print("\n".join(map(one_line, lines())))


def show_fields(about: Mapping[str, object], as_json: bool) -> None:
    """Print what is known of one thing, such as a model: JSON, or a line for each field."""
    width = max(map(len, about), default=0) + 2
    show(about, as_json, lambda: [f"{key:<{width}}{_words(value)}" for key, value in about.items()])


def show_models(models: Sequence[Mapping[str, str]], as_json: bool) -> None:
    """Print what :func:`pentatonic.hub.known_models` gives: JSON, or a line for each model."""
    width = max((len(each["model"]) for each in models), default=0) + 2
    show(
        models,
        as_json,
        lambda: [f"{each['model']:<{width}}{each['kind']:<10}{each['licence']}" for each in models],
    )


def _words(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def emit_json(obj: object) -> None:
    """Print :func:`json_text` of a result to standard output."""
    print(json_text(obj))


def json_text(obj: object) -> str:
    """Turn a result into one JSON document.

    Args:
        obj: JSON values, dataclasses, paths, arrays or tensors, nested.

    Returns:
        Indented JSON in ASCII, so that file names of any encoding can be printed on any terminal; NaN and
        infinities become ``null``.

    Raises:
        TypeError: There is a value without a JSON form.
    """
    return json.dumps(_json_value(obj), indent=2, allow_nan=False)


def _json_value(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_json_value(item) for item in value]
    if dataclasses.is_dataclass(value):
        return {field.name: _json_value(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy and torch, without importing either
        return _json_value(value.tolist())
    raise TypeError(f"{type(value).__name__} has no JSON form")


class BatchReport:
    """Outcome of each input of a batch: a bad input does not stop the batch, and the report names it.

    Attributes:
        entries: One mapping per input, in order: ``status`` (``done``, ``skipped``, ``failed`` or, after an interrupt,
            ``not done``), ``path``, and for a failure ``error`` (the class) and ``reason``. ``flags`` of a processed
            input are texts that say what is unusual about it.
        passed_over: Suffix -> number of files that a search of folders left out for it; those are not inputs.
    """

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.passed_over: Mapping[str, int] = {}

    def done(self, path: str | Path, **info: object) -> None:
        """Record a processed input, with further fields such as its duration or output."""
        self.entries.append({"status": "done", "path": str(path), **info})

    def skipped(self, path: str | Path, reason: str = "already done") -> None:
        """Record an input that needed no work."""
        self.entries.append({"status": "skipped", "path": str(path), "reason": reason})

    def failed(self, path: str | Path, error: BaseException | str) -> None:
        """Record an input that could not be processed, and why."""
        name = type(error).__name__ if isinstance(error, BaseException) else "Failure"
        # The path has a column of its own, so it is removed from the start of the message.
        reason = hide_secrets(str(error)).removeprefix(f"{path}:").strip()
        self.entries.append({"status": "failed", "path": str(path), "error": name, "reason": reason or name})

    def not_done(self, path: str | Path) -> None:
        """Record an input that an interrupt has left."""
        self.entries.append({"status": "not done", "path": str(path)})

    @contextmanager
    def interruptible(self, inputs: Iterable[str | Path], file: Path | None = None) -> Iterator[None]:
        """Within the block, Ctrl-C leaves a report that is complete.

        Args:
            inputs: All inputs of the batch; those without an entry are then ``not done``.
            file: Where the report is then written.

        Raises:
            Interrupted: In place of ``KeyboardInterrupt``, with this report.
        """
        try:
            yield
        except KeyboardInterrupt:
            known = {entry["path"] for entry in self.entries}
            for path in inputs:
                if str(path) not in known:
                    self.not_done(path)
            if file is not None:
                self.write(file)
            raise Interrupted(self) from None

    def count(self, status: str) -> int:
        """Number of inputs with this status."""
        return sum(entry["status"] == status for entry in self.entries)

    @property
    def counts(self) -> dict[str, int]:
        """Status -> number of inputs; ``not done`` only after an interrupt that left some."""
        counts = {status: self.count(status) for status in ("done", "skipped", "failed", "not done")}
        if not counts["not done"]:
            del counts["not done"]
        return counts

    @property
    def exit_code(self) -> int:
        """0 if no input failed, otherwise 3."""
        return EXIT_PARTIAL if self.count("failed") else 0

    def raise_for_failures(self) -> None:
        """End the command with status 3 if an input failed.

        Raises:
            PartialFailure: At least one input failed.
        """
        if failed := self.count("failed"):
            raise PartialFailure(f"{failed} of {len(self.entries)} inputs failed")

    def write(self, path: str | Path) -> None:
        """Write the report as JSON; on an error no partial file is left.

        Args:
            path: The file to write; its folder must exist.

        Raises:
            CheckpointError: The file cannot be written.
        """
        from pentatonic.checkpoint import atomic_file

        with atomic_file(Path(path)) as file:
            file.write(f"{json_text(self.document())}\n".encode())

    def document(self) -> dict[str, object]:
        """Return the report as JSON values: ``counts``, ``passed_over`` and ``inputs``."""
        return {"counts": self.counts, "passed_over": dict(self.passed_over), "inputs": self.entries}

    def print_summary(self) -> None:
        """Print a table of the failed and the flagged inputs to standard error, then the counts."""
        rows = [
            (one_line(entry["path"]), entry["error"], one_line(entry["reason"].replace("\n", " ")))
            for entry in self.entries
            if entry["status"] == "failed"
        ]
        # A longer path moves its own row to the right, and not all rows.
        widths = [max((len(row[i]) for row in rows if len(row[i]) <= _WIDEST), default=0) for i in (0, 1)]
        for path, error, reason in rows:
            print(f"failed  {path:<{widths[0]}}  {error:<{widths[1]}}  {reason}", file=sys.stderr)
        for entry in self.entries:
            if flags := entry.get("flags"):
                print(f"flagged  {one_line(entry['path'])}  {', '.join(flags)}", file=sys.stderr)
        if self.passed_over:
            print(passed_over_text(self.passed_over), file=sys.stderr)
        print(", ".join(f"{count} {status}" for status, count in self.counts.items()), file=sys.stderr)


def passed_over_text(passed_over: Mapping[str, int]) -> str:
    """Say how many files were passed over, such as ``12 files passed over for their suffix: 9 .txt, 3 without one``.

    Args:
        passed_over: As in :class:`BatchReport`, with at least one suffix. The first eight are named.
    """
    n_files = sum(passed_over.values())
    parts = [f"{n} {printable(suffix) or 'without one'}" for suffix, n in passed_over.items()]
    named, rest = parts[:_SUFFIXES_NAMED], n_files - sum(list(passed_over.values())[:_SUFFIXES_NAMED])
    if rest:
        named.append(f"{rest} others")
    files = (
        "1 file passed over for its suffix"
        if n_files == 1
        else f"{n_files} files passed over for their suffix"
    )
    return f"{files}: {', '.join(named)}"
