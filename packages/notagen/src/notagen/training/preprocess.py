"""``notagen preprocess``: ABC and MusicXML become the text that the models are trained on, in all 15 keys.

    notagen preprocess data.source=scores data.out=data/notagen

Written are ``interleaved/<name>.abc``, ``augmented/<KEY>/<name>_<KEY>.abc`` (silent voices left out, the form that is
trained on), the indexes ``augmented.jsonl``, ``augmented_train.jsonl`` and ``augmented_eval.jsonl``, and
``report.json``, which names every tune that was left out and why. All 15 keys are written, as in the original's data
sets: a training step then reads one small file and nothing else.

A run that was stopped continues; what it writes does not depend on the number of processes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from notagen.files.reading import SCORE_SUFFIXES
from notagen.notation.clean import to_ascii
from notagen.notation.keys import MAJOR_KEYS
from notagen.training.augment import AUGMENTED, INTERLEAVED, ConvertedTune, convert_file, remove_tune
from notagen.training.index import Entry, write_index
from pentatonic.child_process import ChildFailure, ChildPool, Message
from pentatonic.cli import BatchReport, make_output_folder, progress, run_manifest
from pentatonic.errors import ConfigError, FormatError, InputError, UsageError
from pentatonic.folder_run import FoundFiles, search_files

_JOURNAL = "tunes.jsonl"
_CHILD = "notagen.training.augment:convert_in_child"
# A process that does not end a file at its time limit is killed so many seconds later.
_KILL_AFTER_S = 30.0
# Characters; file systems allow 255, and the number of a tune, a key and a suffix follow.
_LONGEST_NAME = 200


@dataclass
class PreprocessDataConfig:
    """Where the pieces are, and which are taken.

    Args:
        source: Folder of ABC (``.abc``, one tune or a tune book) and MusicXML files (``.xml``, ``.musicxml``,
            ``.mxl``), or one file.
        out: Folder to write.
        prompts: JSON lines ``{"path": …, "prompt": [lines]}``: the prompt of what lies at or below a path of the
            source, the longest path counts; by default ``prompts.jsonl`` in the source, where there is one.
        group: Regular expression whose first group, found in ``<path below the source>#<X: number>`` of a tune, names
            what is never split between training and evaluation; by default the first folder (a tune that lies in none
            is on its own).
        min_bars: Shorter pieces are left out.
        eval_share: Share of the pieces for evaluation, 0 to 1.
    """

    source: str = "???"
    out: str = "???"
    prompts: str | None = None
    group: str = r"^([^/]+)"
    min_bars: int = 8
    eval_share: float = 0.1


@dataclass
class PreprocessConfig:
    """Options of ``notagen preprocess``.

    Args:
        data: Input and output.
        seed: Changes the split.
        jobs: Processes; 0 takes one per core.
        timeout_s: Seconds for one file, at least 1.
    """

    data: PreprocessDataConfig = field(default_factory=PreprocessDataConfig)
    seed: int = 0
    jobs: int = 0
    timeout_s: float = 60.0


def preprocess(config: PreprocessConfig) -> BatchReport:
    """Run the pipeline.

    Returns:
        What became of each tune, as in ``report.json``.

    Raises:
        ConfigError: An option is out of its range.
        UsageError: The source does not exist or holds no scores.
    """
    data = config.data
    source, out = Path(data.source), Path(data.out)
    group, prompts = _checked(config), _read_prompts(data)
    found = find_scores(source)
    files = found.files
    if not files:
        raise UsageError(f"data.source={source} holds no {' '.join(SCORE_SUFFIXES)} files")
    root = source if source.is_dir() else source.parent
    make_output_folder(out, "data.out=")
    for folder in (out / INTERLEAVED, *(out / AUGMENTED / key for key in MAJOR_KEYS)):
        folder.mkdir(parents=True, exist_ok=True)
    names = _names([file.relative_to(root) for file in files])
    report, entries, checksums = BatchReport(), [], set()
    report.passed_over = found.passed_over
    left = deque(file.relative_to(root).as_posix() for file in files)
    with report.interruptible(left, out / "report.json"):
        for _, tunes in _convert_all(files, names, config):
            relative = left.popleft()
            for tune in tunes:
                place = f"{relative}#{tune.number}" if tune.number and len(tunes) > 1 else relative
                if _record(report, place, tune, duplicate=tune.checksum in checksums):
                    checksums.add(tune.checksum)
                    entries.append(_entry(place, tune, prompts, group))
                else:
                    remove_tune(out, tune.name)
    _write_indexes(out, entries, config)
    report.write(out / "report.json")
    manifest = json.dumps(run_manifest() | {"config": asdict(config)}, indent=1)
    (out / "run.json").write_text(manifest, encoding="utf-8")
    return report


def _entry(
    place: str, tune: ConvertedTune, prompts: dict[str, tuple[str, ...]], group: re.Pattern[str]
) -> Entry:
    found = group.search(place)
    name = f"{AUGMENTED}/{tune.name}"
    return Entry(name, tune.key, _prompt_of(place, prompts), found[1] if found else place)


def _record(report: BatchReport, place: str, tune: ConvertedTune, *, duplicate: bool) -> bool:
    """Put a tune into the report; return whether it is part of the data."""
    if tune.error:
        kind, reason = tune.error
        report.entries.append({"status": "failed", "path": place, "error": kind, "reason": reason})
    elif tune.skipped or duplicate:
        report.skipped(place, tune.skipped or "duplicate")
    else:
        report.done(place, name=tune.name)
        return True
    return False


def find_scores(source: Path) -> FoundFiles:
    """Find the ABC and MusicXML files below a folder in a fixed order, or the file itself.

    Raises:
        UsageError: The path does not exist.
    """
    if source.is_file():
        return FoundFiles([source], {})
    if not source.is_dir():
        raise UsageError(f"{source} is neither a folder nor a file")
    found = search_files([source], SCORE_SUFFIXES)
    return replace(found, files=[path for path in found.files if path.is_file()])


def _names(files: Sequence[Path]) -> list[str]:
    """Return a distinct plain name for each file: its path without suffix, folders joined by ``_``."""
    names: list[str] = []
    taken: set[str] = set()
    for file in files:
        plain = re.sub(r"[^A-Za-z0-9.-]+", "_", to_ascii("_".join(file.with_suffix("").parts))).strip("._")
        plain = plain[:_LONGEST_NAME]
        name, count = plain or "tune", 1
        while name.lower() in taken:
            count += 1
            name = f"{plain or 'tune'}-{count}"
        taken.add(name.lower())
        names.append(name)
    return names


# Running


def _convert_all(
    files: Sequence[Path], names: Sequence[str], config: PreprocessConfig
) -> Iterator[tuple[Path, list[ConvertedTune]]]:
    """Yield what became of each file in order; files that are in the journal of an earlier run are not read again."""
    out = Path(config.data.out)
    known = _read_journal(out / _JOURNAL, config)
    todo = [(file, name) for file, name in zip(files, names, strict=True) if _stamp(file, name) not in known]
    with contextlib.ExitStack() as stack:
        outcomes = iter(_outcomes(todo, config, stack))
        journal = stack.enter_context((out / _JOURNAL).open("a", encoding="utf-8"))
        bar = stack.enter_context(progress(len(files), "preprocessing"))
        for file, name in zip(files, names, strict=True):
            stamp = _stamp(file, name)
            tunes = known.get(stamp)
            if tunes is None:
                outcome = next(outcomes)
                if isinstance(
                    outcome, ChildFailure
                ):  # not in the journal: the next run tries this file again
                    tunes = [ConvertedTune(error=("InputError", f"the process {outcome}; out of memory?"))]
                else:
                    tunes = outcome
                    journal.write(
                        json.dumps({"file": stamp, "tunes": [asdict(tune) for tune in tunes]}) + "\n"
                    )
                    journal.flush()
            bar.advance(1, note=file.name)
            yield file, tunes


def _outcomes(
    todo: Sequence[tuple[Path, str]], config: PreprocessConfig, stack: contextlib.ExitStack
) -> Iterable[list[ConvertedTune] | ChildFailure]:
    """Convert files in order, in this process or in several; ``stack`` ends the others."""
    options = {"min_bars": config.data.min_bars, "timeout_s": config.timeout_s}
    out, jobs = Path(config.data.out), min(config.jobs or os.cpu_count() or 1, len(todo))
    if jobs <= 1:
        return (convert_file(file, name, out=out, **options) for file, name in todo)
    children = stack.enter_context(ChildPool(_CHILD, jobs, seconds=config.timeout_s + _KILL_AFTER_S))
    threads = ThreadPoolExecutor(jobs)
    stack.callback(threads.shutdown, wait=False, cancel_futures=True)

    def ask(task: tuple[Path, str]) -> list[ConvertedTune] | ChildFailure:
        file, name = task
        request = {"file": str(file.absolute()), "name": name, "out": str(out.absolute()), **options}
        try:
            (answer,) = children.answers(Message(request))
        except ChildFailure as failure:
            return failure
        return [_tune(values) for values in answer.value]

    return threads.map(ask, todo)


def _tune(values: dict[str, Any]) -> ConvertedTune:
    """Rebuild a tune from JSON."""
    error = values["error"] and tuple(values["error"])
    return ConvertedTune(**{**values, "error": error})


def _read_journal(path: Path, config: PreprocessConfig) -> dict[str, list[ConvertedTune]]:
    """Read what an earlier run did; with other options that matter to a tune, start from the beginning."""
    options = f"min_bars={config.data.min_bars}"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    if not lines or lines[0] != json.dumps({"options": options}):
        path.write_text(json.dumps({"options": options}) + "\n", encoding="utf-8")
        return {}
    known = {}
    for line in lines[1:]:
        with contextlib.suppress(ValueError):  # the last line of a run that was killed
            record = json.loads(line)
            tunes = [_tune(values) for values in record["tunes"]]
            # The files of a duplicate were removed, and the piece that it repeated may be gone by now.
            if all((path.parent / INTERLEAVED / f"{tune.name}.abc").is_file() for tune in tunes if tune.name):
                known[record["file"]] = tunes
    return known


def _stamp(file: Path, name: str) -> str:
    status = file.stat()
    return f"{name} {file} {status.st_size} {status.st_mtime_ns}"


# Prompts and the split


def _checked(config: PreprocessConfig) -> re.Pattern[str]:
    """Return the pattern of groups, after looking at all options."""
    data = config.data
    for name, holds, allowed in (
        ("data.eval_share", 0 <= data.eval_share < 1, "0 or more, and below 1"),
        ("jobs", config.jobs >= 0, "0 (one per core) or more"),
        ("timeout_s", config.timeout_s >= 1, "at least 1"),
    ):
        if not holds:
            raise ConfigError(f"{name} must be {allowed}")
    try:
        pattern = re.compile(data.group)
    except re.error as error:
        raise ConfigError(f"data.group={data.group!r} is not a regular expression ({error})") from error
    if not pattern.groups:
        raise ConfigError(
            f"data.group={data.group!r} has no group in parentheses, which would name what belongs together"
        )
    return pattern


def _read_prompts(data: PreprocessDataConfig) -> dict[str, tuple[str, ...]]:
    path = Path(data.prompts) if data.prompts else Path(data.source) / "prompts.jsonl"
    if data.prompts is None and not path.is_file():
        return {}
    prompts = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"data.prompts={path} cannot be read ({error})") from error
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
            prompts[str(values["path"]).strip("/")] = tuple(to_ascii(line) for line in values["prompt"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            reason = f"not a prompt ({error}); it is an object with path and prompt, a list of lines"
            raise FormatError(reason, path=path, line=number) from error
    return prompts


def _prompt_of(place: str, prompts: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    while place:
        if place in prompts:
            return prompts[place]
        place = re.sub(r"[/#]?[^/#]*\Z", "", place)
    return prompts.get("", ())


def _write_indexes(out: Path, entries: Sequence[Entry], config: PreprocessConfig) -> None:
    """Write the indexes of all pieces and of the two splits.

    Groups are taken for evaluation in an order that the seed decides, as long as their pieces fit into its share.
    """

    def digest(group: str) -> bytes:
        return hashlib.sha256(f"{config.seed}/{group}".encode()).digest()

    sizes: dict[str, int] = {}
    for entry in entries:
        sizes[entry.group] = sizes.get(entry.group, 0) + 1
    room, chosen = round(config.data.eval_share * len(entries)), set()
    for group in sorted(sizes, key=digest):
        if sizes[group] <= room:
            room -= sizes[group]
            chosen.add(group)
    write_index(out / f"{AUGMENTED}.jsonl", entries)
    for split, wanted in (("train", False), ("eval", True)):
        part = [entry for entry in entries if (entry.group in chosen) == wanted]
        write_index(out / f"{AUGMENTED}_{split}.jsonl", part)


def main(overrides: Sequence[str]) -> None:
    """Run with Hydra overrides, such as ``data.source=scores data.out=data/notagen``."""
    from pentatonic.training import compose_config

    report = preprocess(compose_config("notagen.conf", overrides, PreprocessConfig, config_name="preprocess"))
    report.print_summary()
    report.raise_for_failures()
