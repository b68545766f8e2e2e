"""The verbs for files of scores: ``convert``, ``validate``, ``repair``, ``transpose``. Nothing slow until one runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from notagen.files.formats import FORMATS, check_formats, formats_help
from pentatonic.cli import JsonFlag, PartialFailure, check_inputs, make_output_folder, make_output_place, show
from pentatonic.errors import UsageError
from pentatonic.progress import printable

if TYPE_CHECKING:
    from notagen.files.check import Dialect
    from notagen.notation.validation import Level
    from notagen.yue2.conversion import Choice

OutFolder = Annotated[Path, typer.Option("--out", help="Folder to write.")]
AbcDialect = Annotated[
    Literal["notagen", "yue2"],
    typer.Option(help="Of ABC: that of the NotaGen models, or the two-voice lead sheets of YuE2."),
]
SoundFont = Annotated[
    str | None,
    typer.Option(
        "--soundfont",
        metavar="FILE|auto",
        help="Play sound through this SoundFont (.sf2, .sf3), which needs FluidSynth; auto: one that is installed.",
    ),
]
Scores = Annotated[
    list[Path], typer.Argument(metavar="FILES_OR_DIRS...", help="ABC or MusicXML, or folders of them.")
]
Page = Annotated[
    Path | None, typer.Option("--page", help="Also write the result as a section of a page (.html).")
]
_CONVERT_HELP = (
    "Convert scores between ABC and MusicXML, or write them in other formats; folders are mirrored, and each tune "
    "of a book becomes a file. A file that this command did not write is never replaced without --overwrite.\n\n"
    "What a format cannot keep is counted by kind for each file. Exit status 3: some files could not be converted, "
    "and each one is named; or, with --strict, some files lost something.\n\n" + formats_help()
)


def add_file_commands(app: typer.Typer) -> None:
    """Add the verbs to a command line."""
    app.command(help=_CONVERT_HELP)(convert)
    for verb in (validate, repair, transpose):
        app.command()(verb)


def convert(
    sources: Annotated[
        list[Path], typer.Argument(metavar="FILES_OR_DIRS...", help="ABC or MusicXML, or folders of them.")
    ],
    to: Annotated[str, typer.Option(help=f"Format: {', '.join(FORMATS)}.")],
    out: OutFolder,
    jobs: Annotated[int, typer.Option(min=0, help="Processes at a time; 0: one per core.")] = 0,
    timeout_s: Annotated[float, typer.Option(help="Most seconds for a file.")] = 60.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Also replace files that this command did not write.")
    ] = False,
    dialect: AbcDialect = "notagen",
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Exit with status 3 if a file lost something; it is written all the same."
        ),
    ] = False,
    soundfont: SoundFont = None,
    vocal: Annotated[
        str | None,
        typer.Option(
            metavar="VOICE", help="With --dialect yue2: voice of Vocal, by number or name, or none."
        ),
    ] = None,
    ins: Annotated[
        str | None, typer.Option(metavar="VOICE", help="With --dialect yue2: voice of Ins, or none.")
    ] = None,
    chords: Annotated[
        str | None,
        typer.Option(metavar="VOICE", help="With --dialect yue2: voice of the chord symbols, or none."),
    ] = None,
    grid: Annotated[
        int | None,
        typer.Option(
            help="With --dialect yue2: move times such as triplets to the nearest 1/16, 1/32 and so on."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Convert scores."""
    check_inputs(sources)
    check_formats([to], "--to")
    font = find_font(soundfont, None if to == "wav" else f"--to {to}")
    choice = _choice(dialect, vocal=vocal, ins=ins, chords=chords, grid=grid)
    make_output_folder(out)
    from notagen.files.convert import convert as convert_files

    options: dict[str, Any] = {"jobs": jobs, "timeout_s": timeout_s, "overwrite": overwrite}
    options |= {"soundfont": font, "choice": choice}
    report = convert_files(sources, out, to=to, dialect=dialect, **options)
    report.print_summary()
    done = [entry for entry in report.entries if entry["status"] == "done"]
    outputs = [path for entry in done for path in entry["output"]]
    lossy = [entry for entry in done if entry["losses"]]
    _show_losses(lossy)
    show({"inputs": report.entries}, as_json, lambda: [str(path) for path in outputs])
    report.raise_for_failures()
    if strict and lossy:
        raise PartialFailure(f"{len(lossy)} of {len(report.entries)} inputs lost something")


def validate(
    inputs: Scores,
    repair: Annotated[
        bool, typer.Option("--repair", help="Write corrected copies into the folder --out.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for corrected copies.")] = None,
    level: Annotated[
        Literal["abc", "bars", "dialect"],
        typer.Option(help="What a piece must be: legal ABC, with bars that add up, in the models' dialect."),
    ] = "bars",
    dialect: AbcDialect = "notagen",
    as_json: JsonFlag = False,
) -> None:
    """Check pieces bar by bar: header, voices, barlines, durations, repeats; each error names the level that it breaks.

    Levels are legal ABC (abc), legal ABC in which the bars add up (bars), and the dialect that the models read and
    write (dialect). Exit status 3: some files cannot be read, or do not reach --level and were not repaired; each
    one is named. notagen repair does what --repair does.
    """
    check_inputs(inputs)
    if repair != (out is not None):
        raise UsageError("--repair and --out go together")
    _check(inputs, out, level, dialect, as_json)


def repair(
    inputs: Scores,
    out: OutFolder,
    dialect: AbcDialect = "notagen",
    cut: Annotated[
        bool, typer.Option("--cut", help="With --dialect yue2: cut notes that do not fit into their bar.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write corrected copies of pieces, in the dialect of the models or in another one; each change is named.

    Exit status 3: some files cannot be read or repaired; each one is named.
    """
    check_inputs(inputs)
    if cut and dialect != "yue2":
        raise UsageError("--cut goes with --dialect yue2")
    _check(inputs, out, "dialect", dialect, as_json, cut=cut)


def transpose(
    sources: Scores,
    out: OutFolder,
    by: Annotated[int | None, typer.Option(min=-36, max=36, help="Semitones up; below 0: down.")] = None,
    to: Annotated[str | None, typer.Option(help="Tonic of the first key, such as Bb; modes stay.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Transpose scores, ABC and MusicXML, each in its own format; give --by or --to. Percussion stays as it is.

    Of ABC nothing but notes, keys and chord symbols changes. MusicXML goes through ABC, and what it loses is counted
    by kind for each file. Exit status 3: some files could not be transposed; each one is named.
    """
    check_inputs(sources)
    if (by is None) == (to is None):
        raise UsageError("give either --by or --to")
    from notagen.files.transposing import transpose_files
    from notagen.notation.transposed_text import Interval

    interval = Interval(semitones=by, tonic=to)
    make_output_folder(out)
    report = transpose_files(sources, out, interval)
    report.print_summary()
    done = [entry for entry in report.entries if entry["status"] == "done"]
    _show_losses(done)
    show({"inputs": report.entries}, as_json, lambda: [path for entry in done for path in entry["output"]])
    report.raise_for_failures()


def _choice(dialect: Dialect, **given: str | int | None) -> Choice | None:
    """Return what options say about a conversion to the dialect of YuE2; None where none is given."""
    wanted = {name: value for name, value in given.items() if value is not None}
    if not wanted:
        return None
    if dialect != "yue2":
        raise UsageError(f"--{next(iter(wanted))} goes with --dialect yue2")
    from notagen.yue2.conversion import Choice

    return Choice(**wanted)  # type: ignore[arg-type]


def find_font(option: str | None, silent: str | None = None) -> Path | None:
    """Return the file of ``--soundfont``.

    Args:
        option: What was given.
        silent: An option without which there would be sound, such as ``--to midi``; None: there is sound.

    Raises:
        UsageError: There is no sound, or no such file.
        BackendUnavailable: FluidSynth is not installed, or ``auto`` finds no SoundFont.
        FormatError: The file is no SoundFont.
    """
    if option is None:
        return None
    if silent is not None:
        raise UsageError(f"--soundfont is for sound, and {silent} writes none; allowed is the format wav")
    from pentatonic.audio.soundfont import find_soundfont

    if option == "auto":
        return find_soundfont()
    check_inputs([Path(option)])
    return find_soundfont(Path(option))


def _check(
    inputs: list[Path], out: Path | None, level: Level, dialect: Dialect, as_json: bool, *, cut: bool = False
) -> None:
    """Judge files, and write repaired copies if there is an output folder."""
    if out is not None:
        make_output_folder(out)
    from notagen.files.check import check_files

    results, report = check_files(inputs, out, level=level, dialect=dialect, cut=cut)
    report.print_summary()
    show({"files": results}, as_json, lambda: [line for result in results for line in _findings(result)])
    report.raise_for_failures()


def _show_losses(done: Sequence[dict[str, Any]]) -> None:
    """Say by kind what files have lost."""
    for entry in done:
        if entry["losses"]:
            counts = ", ".join(f"{kind}: {count}" for kind, count in sorted(entry["losses"].items()))
            print(printable(f"{entry['path']}: not kept: {counts}"), file=sys.stderr)


def _findings(result: dict[str, Any]) -> Iterator[str]:
    """Lines about one checked tune."""
    from notagen.notation.validation import LEVELS

    state = "valid" if result["valid"] else "not valid"
    reached = {**LEVELS, "yue2": "in the dialect of YuE2", None: "not ABC"}[result["level"]]
    if any(issue["level"] == "yue2" for issue in result["issues"]):
        reached = "not in the dialect of YuE2"
    tune = f", tune {result['tune']}" if "tune" in result else ""
    yield f"{printable(result['path'])}{tune}: {state} ({reached}), {counted(result['bars'], 'bar')}"
    for issue in result["issues"]:
        where = ", ".join(
            f"{name} {issue[name]}" for name in ("line", "bar", "voice") if issue[name] is not None
        )
        kind = "warning" if issue["warning"] else f"{issue['kind']} [{issue['level']}]"
        yield f"  {where or 'piece'}: {kind}: {printable(issue['message'])}"
    for change in result.get("changes", ()):
        yield f"  repaired: {printable(change)}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun in singular or plural."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def check_page_option(page: Path | None) -> None:
    """Refuse a page that could not be written, before the work.

    Raises:
        UsageError: Its place cannot be used.
        FormatError: It exists and is no page of this program.
        MissingExtra: The software for pages is not installed.
    """
    if page is not None:
        make_output_place(page, "--page")
        from pentatonic.report import check_page

        check_page(page)
