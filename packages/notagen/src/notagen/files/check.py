"""``notagen validate`` and ``notagen repair``: judge ABC and MusicXML files, and write repaired copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from notagen.files.reading import SCORE_SUFFIXES, Tune, read_pieces
from notagen.notation.bars import UnequalVoicesError
from notagen.notation.layout import is_interleaved, one_bar_per_line
from notagen.notation.repair import repair
from notagen.notation.tunebook import interleaved_tune
from notagen.notation.validation import Issue, Level, Report, validate
from notagen.score import read_score
from notagen.score.measures import bar_issues
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import BatchReport, keep_inputs
from pentatonic.errors import FormatError, PentatonicError, UsageError
from pentatonic.folder_run import mirrored, search_files

Dialect = Literal["notagen", "yue2"]


def check_files(
    paths: Sequence[Path],
    out: Path | None = None,
    *,
    level: Level = "bars",
    dialect: Dialect = "notagen",
    cut: bool = False,
) -> tuple[list[dict[str, Any]], BatchReport]:
    """Check files; with an output folder, also write repaired copies.

    Args:
        paths: ABC in any layout, as generated or not, also tune books; or MusicXML; or folders, which are searched
            for both, see :func:`pentatonic.folder_run.search_files`.
        out: Folder for repaired copies, in interleaved layout, ``<name>.abc``; the tunes of a book become
            ``<name>-<number>.abc``. If one of ``paths`` is a folder, the folders below what they have in common are
            mirrored.
        level: What a file must be: legal ``abc``, ABC whose ``bars`` add up, or in the ``dialect`` of the models.
        dialect: With ``yue2`` files are judged and repaired in that dialect (:mod:`notagen.yue2`), whatever ``level``.
        cut: In repairs of that dialect, cut what does not fit into its bar.

    Returns:
        For each tune of the files that could be read, the result of
        :meth:`notagen.notation.validation.Report.to_dict`, in which ``valid`` says whether it reaches ``level``, with
        the ``path`` of its file, ``notes`` about how that was read, in a book its number as ``tune``, and if repaired
        ``output`` and ``changes``; and the outcome of each file. A file fails that cannot be read or repaired or,
        without ``out``, has a tune that does not reach ``level``.

    Raises:
        UsageError: Two files would have the same name in ``out``, a copy would replace a file, or a folder has no
            files to check.
        CheckpointError: ``out`` cannot be written.
    """
    files, passed_over = _files(paths)
    stems: dict[Path, Path | None] = dict.fromkeys(files)
    if out is not None:
        stems |= _stems(paths, files, out)
    results: list[dict[str, Any]] = []
    outcome = BatchReport()
    outcome.passed_over = passed_over
    with outcome.interruptible(files):
        for path in files:
            if path not in paths and path.is_fifo():  # reading it would wait forever
                outcome.failed(path, "this is a named pipe; allowed are files")
                continue
            try:
                tunes = read_pieces(path)
            except (PentatonicError, OSError) as error:
                outcome.failed(path, error)
                continue
            before, failures = len(results), []
            for tune in tunes:
                if dialect == "yue2":
                    result, failure = _judge_yue2(path, tune, stems[path], files, cut)
                else:
                    result, failure = _judge(path, tune, stems[path], level, files)
                results += [result] if result else []
                failures += [failure] if failure else []
            if failures:
                outcome.failed(path, failures[0] if len(failures) == 1 else _of_tunes(failures, len(tunes)))
            else:
                notes = list(dict.fromkeys(note for result in results[before:] for note in result["notes"]))
                outcome.done(path, **({"flags": notes} if notes else {}))
    return results, outcome


def _files(paths: Sequence[Path]) -> tuple[list[Path], Mapping[str, int]]:
    """Return the files to check, and how many others the folders have, by suffix."""
    if not any(path.is_dir() for path in paths):
        return list(paths), {}
    found = search_files(paths, SCORE_SUFFIXES)
    if not found.files:
        raise UsageError(f"no {', '.join(SCORE_SUFFIXES)} files in {', '.join(map(str, paths))}")
    return found.files, found.passed_over


def _stems(paths: Sequence[Path], files: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Return the path of each repaired copy without what comes after the name, and make its folder."""
    if any(path.is_dir() for path in paths):
        stems = {file: out / place.with_suffix("") for file, place in mirrored(paths, files).items()}
    else:
        stems = {file: out / file.stem for file in files}
    uses = Counter(stems[file] for file in files)
    if repeated := [stem for stem in stems.values() if uses[stem] > 1]:
        raise UsageError(f"more than one file would be {min(repeated)}.abc; repair them one by one")
    for stem in stems.values():
        keep_inputs(stem.with_name(f"{stem.name}.abc"), files)
    for stem in stems.values():
        stem.parent.mkdir(parents=True, exist_ok=True)
    return stems


def _judge(
    path: Path, tune: Tune, stem: Path | None, level: Level, inputs: Sequence[Path]
) -> tuple[dict[str, Any] | None, str | Exception | None]:
    """Judge one tune and write its repaired copy; return the result (None where it cannot be read) and the failure."""
    result: dict[str, Any] | None = None
    in_tune = f"tune {tune.name}: " if tune.name else ""
    try:
        report = check(tune.text)
        result = {"path": str(path), **({"tune": tune.name} if tune.name else {}), **report.to_dict()}
        result |= {"valid": report.reaches(level), "notes": [*tune.notes, *reading_notes(tune.text)]}
        if stem is not None:
            repaired = repair(tune.text)
            target = stem.with_name(f"{stem.name}{tune.suffix}.abc")
            keep_inputs(target, inputs)
            with atomic_file(target) as file:
                file.write(repaired.text.encode())
            result |= {"output": str(target), "changes": list(repaired.changes)}
        elif not report.reaches(level):
            return result, in_tune + _errors_of(report, level)
    except (PentatonicError, OSError) as error:
        return result, f"{in_tune}{error}" if in_tune else error
    return result, None


def _judge_yue2(
    path: Path, tune: Tune, stem: Path | None, inputs: Sequence[Path], cut: bool
) -> tuple[dict[str, Any] | None, str | Exception | None]:
    """Do what ``_judge`` does, in the dialect of YuE2."""
    from notagen.files.yue2_files import judge_yue2, write_repaired_yue2

    result = judge_yue2(path, tune)
    try:
        if stem is not None:
            target = stem.with_name(f"{stem.name}{tune.suffix}.abc")
            keep_inputs(target, inputs)
            result |= {"changes": write_repaired_yue2(path, tune, target, cut=cut), "output": str(target)}
        elif issues := result["issues"]:
            errors = "1 error" if len(issues) == 1 else f"{len(issues)} errors"
            return result, f"{errors}, the first: {issues[0]['kind']}: {issues[0]['message']}"
    except (PentatonicError, OSError) as error:
        return result, error
    return result, None


def _of_tunes(failures: Sequence[str | Exception], tunes: int) -> str:
    return f"{len(failures)} of {tunes} tunes; {failures[0]}"


def _errors_of(report: Report, level: Level) -> str:
    errors = [issue for issue in report.errors() if not Report((issue,), 0, 0, 0).reaches(level)]
    return f"{len(errors)} {'error' if len(errors) == 1 else 'errors'}, the first: {errors[0].message}"


def reading_notes(text: str) -> list[str]:
    """Return what a reader of the piece should know about how its text was understood; empty for most pieces."""
    try:
        return list(read_score(text).notes)
    except FormatError:
        return []


def require_key(text: str) -> None:
    """Check that a text has the line that ends the header of a tune.

    Raises:
        FormatError: It has no ``K:`` line.
    """
    if not any(line.lstrip().startswith("K:") for line in text.splitlines()):
        raise FormatError("this is not a tune: it has no K: line, which ends the header of ABC")


def check(text: str) -> Report:
    """Judge a piece in any layout, by the levels of :data:`notagen.notation.validation.LEVELS`.

    What :func:`notagen.score.read_score` reads, and so ``notagen convert``, is legal ABC; its measures say whether the
    bars add up; and the dialect is that of :func:`notagen.notation.validation.validate`, for a tune in standard layout
    after :func:`notagen.notation.tunebook.interleaved_tune`.

    Returns:
        The report. Of a piece in standard layout, issues of the dialect and bars that cannot be read have no line.
    """
    if is_interleaved(text):
        spelled = one_bar_per_line(text)
        report = validate(spelled)
        if spelled == text:
            return report
        reason = "lines with several bars, or rests of several bars; in the dialect a line is one bar"
        return _without_lines(report, [Issue(None, None, None, "layout", reason)])
    found: list[Issue] = []
    bars = 0
    try:
        require_key(text)
        score = read_score(text)
        bars, found = score.measure_count, list(bar_issues(score))
    except FormatError as error:
        found = [Issue(error.line, None, None, "unparsable", error.reason, _level_of(error))]
    try:
        in_dialect = validate(interleaved_tune(text))
    except FormatError as error:
        # What was read above, but has no such form.
        reason = f"the tune cannot be written one bar to a line: {error.reason}"
        found += [] if found else [Issue(error.line, None, None, "form", reason)]
        return Report(tuple(found), bars, 0, 0)
    if any(issue.level == "abc" for issue in found) and in_dialect.errors(["abc"]):
        return _without_lines(in_dialect, [])  # it names all bars that cannot be read, not only the first
    levels = {issue.level for issue in found}
    # What is fine in the tune, but not in its interleaved form, keeps it out of the dialect only.
    others = [replace(issue, level="dialect") for issue in in_dialect.issues if issue.level not in levels]
    return _without_lines(replace(in_dialect, issues=tuple(others)), found)


def _without_lines(report: Report, before: Sequence[Issue]) -> Report:
    """Return a report on a rewritten text, whose lines are not those of the file, after further issues."""
    return replace(report, issues=(*before, *(replace(issue, line=None) for issue in report.issues)))


def _level_of(error: FormatError) -> Level:
    return "bars" if isinstance(error, UnequalVoicesError) else "abc"
