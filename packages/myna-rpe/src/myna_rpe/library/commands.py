"""The commands ``myna-rpe library``. Nothing slow is imported before one runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pentatonic.cli import Device, JsonFlag, PartialFailure, check_inputs, emit_json, pick_device, show
from pentatonic.errors import UsageError

if TYPE_CHECKING:
    from myna_rpe.library.library import Library, LibraryTrack
    from myna_rpe.library.scan import ScanResult

DEFAULT_MODEL = "myna-rpe-tiny"

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="A library: an index of folders of music by sound. Nothing is written beside the music.",
)

IndexOption = Annotated[
    Path | None, typer.Option("--index", metavar="DIR", help="Folder of the index, in place of --library.")
]
NameOption = Annotated[str, typer.Option("--library", help="Name of the library, in the user's data folder.")]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help=f"Name, directory or file; default: that of the index, else {DEFAULT_MODEL}.",
        show_default=False,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print which files would be read, and do nothing.")]
MaxMinutes = Annotated[
    float | None, typer.Option(min=0, help="End after so many minutes; the same command continues.")
]
Retry = Annotated[bool, typer.Option("--retry", help="Also try files that failed before.")]


@app.command("scan")
def scan_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of music.")],
    index: IndexOption = None,
    library: NameOption = "default",
    only: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Look at this folder below DIR only.")
    ] = None,
    dry_run: DryRun = False,
    max_minutes: MaxMinutes = None,
    retry: Retry = False,
    model: ModelOption = None,
    device: Device = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Add a folder to a library, or bring it up to date; continue a stopped run.

    Exit status 3: some files could not be embedded; the table names each one. They are not tried again without --retry.
    """
    check_inputs([folder])
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder")
    place = index_folder(index, library)
    _scan(
        place,
        [folder],
        only,
        model,
        device,
        dry_run=dry_run,
        minutes=max_minutes,
        retry=retry,
        as_json=as_json,
    )


@app.command()
def update(
    index: IndexOption = None,
    library: NameOption = "default",
    dry_run: DryRun = False,
    max_minutes: MaxMinutes = None,
    retry: Retry = False,
    model: ModelOption = None,
    device: Device = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Scan all folders of a library again. One that is missing, as on a drive that is not connected, loses nothing.

    Exit status 3: a folder is missing, or some files could not be embedded; the table names each one.
    """
    from myna_rpe.library.index import IndexSettings

    place = index_folder(index, library)
    folders = [Path(each) for each in IndexSettings.load(place).folders]
    if not folders:
        raise UsageError(f"{place}: the library has no folders yet; add one by library scan DIR")
    _scan(
        place,
        folders,
        None,
        model,
        device,
        dry_run=dry_run,
        minutes=max_minutes,
        retry=retry,
        as_json=as_json,
    )


@app.command()
def info(
    index: IndexOption = None,
    library: NameOption = "default",
    hubs: Annotated[
        bool,
        typer.Option("--hubs", help="Also count how often each artist appears, one list for each track."),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what a library holds: tracks, failures, repaired tags, near-duplicates, hubs."""
    from myna_rpe.library.describe import describe, description_lines

    about = describe(open_library(index, library), artists=hubs)
    show(about, as_json, lambda: description_lines(about))


@app.command()
def similar(
    tracks: Annotated[
        list[str], typer.Argument(metavar="TRACK...", help="Id, path, or words of artist and title.")
    ],
    unlike: Annotated[list[str] | None, typer.Option(metavar="TRACK", help="Be unlike this one.")] = None,
    count: Annotated[int, typer.Option(min=0, help="Tracks at most.")] = 10,
    variance: Annotated[
        int | None, typer.Option(metavar="SEED", help="Choose at random among the nearest, by this seed.")
    ] = None,
    max_per_artist: Annotated[int | None, typer.Option(min=1, help="Most tracks of one artist.")] = None,
    max_per_album: Annotated[int | None, typer.Option(min=1, help="Most tracks of one album.")] = None,
    index: IndexOption = None,
    library: NameOption = "default",
    as_json: JsonFlag = False,
) -> None:
    """Show the tracks that sound most like some tracks."""
    opened = open_library(index, library)
    found = opened.similar(
        [opened.find(text).id for text in tracks],
        count,
        unlike=[opened.find(text).id for text in unlike or []],
        variance=variance,
        max_per_artist=max_per_artist,
        max_per_album=max_per_album,
    )
    result = [{"similarity": each.similarity, **each.track.to_json()} for each in found]
    show(result, as_json, lambda: [f"{each.similarity:.3f}  {_line(each.track)}" for each in found])


@app.command()
def duplicates(index: IndexOption = None, library: NameOption = "default", as_json: JsonFlag = False) -> None:
    """Show the groups of near-duplicates: other versions of one recording, and copies of a file."""
    opened = open_library(index, library)
    groups: dict[str, list[LibraryTrack]] = {}
    for track in opened.tracks:
        if track.group or track.copies:
            groups.setdefault(track.group or track.id, []).append(track)
    calibration = opened.measures.get("duplicates", {})

    def lines() -> list[str]:
        if not calibration:
            return ["fewer than two tracks can be compared"]
        shown = [
            f"threshold {calibration['threshold']:.3f}: {calibration['pairs']} pairs of neighbours match by "
            f"{calibration['median']:.3f} in the median, with a deviation of {calibration['deviation']:.3f}"
        ]
        for members in groups.values():
            shown.append(
                f"{len(members)} recordings:" if len(members) > 1 else "1 recording in several files:"
            )
            shown += [f"  {line}" for track in members for line in (_line(track), *map(str, track.copies))]
        return [*shown, f"{len(groups)} groups"]

    document = {
        **calibration,
        "groups": [
            [{**track.to_json(), "copies": track.copies} for track in members] for members in groups.values()
        ],
    }
    show(document, as_json, lines)


def index_folder(index: Path | None, name: str) -> Path:
    """Return the folder of the index that the options name."""
    from myna_rpe.library.index import default_index

    return index if index is not None else default_index(name)


def open_library(index: Path | None, name: str) -> Library:
    """Open the library that the options name."""
    import sys

    from myna_rpe.library.library import Library

    opened = Library.open(index_folder(index, name))
    if opened.unfinished:
        print("a scan was stopped; what it did counts once it has ended", file=sys.stderr)
    return opened


def _line(track: LibraryTrack) -> str:
    return f"{track.name}  [{track.id}]  {track.path}"


def _scan(
    place: Path,
    folders: list[Path],
    only: Path | None,
    model: str | None,
    device: str,
    *,
    dry_run: bool,
    minutes: float | None,
    retry: bool,
    as_json: bool,
) -> None:
    from myna_rpe.library.index import IndexSettings

    name = model or IndexSettings.load(place).model or DEFAULT_MODEL
    if Path(name).exists():  # `library update` may run in another folder
        name = str(Path(name).absolute())
    if dry_run:
        _print_changes(place, folders, only, retry=retry, as_json=as_json)
        return
    from myna_rpe.library.scan import scan
    from myna_rpe.weights import from_pretrained

    loaded = from_pretrained(name, device=pick_device(device))
    result = scan(loaded, place, folders, only=only, retry=retry, max_minutes=minutes, model_name=name)
    _finish(result, as_json=as_json)


def _print_changes(
    place: Path, folders: list[Path], only: Path | None, *, retry: bool, as_json: bool
) -> None:
    from myna_rpe.library.scan import find_changes, generation_in_use, scope

    changes = find_changes(generation_in_use(place), scope(folders, only), retry=retry)
    document = {
        "read": changes.to_read,
        "forget": changes.gone,
        "unchanged": len(changes.unchanged),
        "missing": {str(folder): reason for folder, reason in changes.missing.items()},
    }
    show(
        document,
        as_json,
        lambda: [
            *(f"read    {path}" for path in changes.to_read),
            *(f"forget  {path}" for path in changes.gone),
            *(f"missing {folder} {reason}" for folder, reason in changes.missing.items()),
            f"{len(changes.to_read)} to read, {len(changes.gone)} gone, {len(changes.unchanged)} unchanged",
        ],
    )
    if changes.missing:
        raise PartialFailure(f"{len(changes.missing)} of {len(folders)} folders are missing")


def _finish(result: ScanResult, *, as_json: bool) -> None:
    import sys

    result.report.print_summary()
    for entry in result.report.entries:
        for repair in entry.get("repairs", []):
            print(f"repaired  {entry['path']}  {repair}", file=sys.stderr)
    print(
        f"{result.new} embedded, {result.moved} moved or copied, {len(result.dropped)} gone"
        + ("; stopped by the time limit, the same command continues" if result.stopped else ""),
        file=sys.stderr,
    )
    if as_json:
        counts: dict[str, Any] = {"embedded": result.new, "moved": result.moved, "gone": result.dropped}
        emit_json({**counts, "complete": result.complete, **result.report.document()})
    result.report.raise_for_failures()
