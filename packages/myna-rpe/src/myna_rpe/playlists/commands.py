"""The commands ``myna-rpe playlist``. Nothing slow is imported before one runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from myna_rpe.library.commands import IndexOption, NameOption, open_library
from pentatonic.cli import JsonFlag, check_inputs, json_text, make_output_place, show
from pentatonic.errors import UsageError

if TYPE_CHECKING:
    from myna_rpe.library.library import Library, LibraryTrack
    from myna_rpe.playlists.m3u import M3U, M3UEntry
    from myna_rpe.playlists.songs import Playlist

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Playlists from sound, with the tracks of a library. A song of a playlist is found by its path.",
)

_M3U, _JSON = (".m3u", ".m3u8"), ".json"

M3UFile = Annotated[Path, typer.Argument(metavar="FILE.m3u", help="A playlist.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="FILE", help="Write FILE.m3u, FILE.m3u8 or FILE.json; else the songs are printed."
    ),
]
Absolute = Annotated[
    bool, typer.Option("--absolute", help="Write absolute paths; default: relative to the playlist.")
]
Count = Annotated[int, typer.Option(min=0, help="New songs at most.")]
Variance = Annotated[
    int | None, typer.Option(metavar="SEED", help="Choose at random among the best, by this seed.")
]
PerArtist = Annotated[int | None, typer.Option(min=1, help="Most new songs of one artist.")]
PerAlbum = Annotated[int | None, typer.Option(min=1, help="Most new songs of one album.")]


@app.command()
def make(
    like: Annotated[list[str], typer.Option(metavar="TRACK", help="Id, path, or words of artist and title.")],
    unlike: Annotated[list[str] | None, typer.Option(metavar="TRACK", help="Be unlike this one.")] = None,
    count: Count = 20,
    variance: Variance = None,
    include_seed: Annotated[
        bool, typer.Option("--include-seed", help="Begin with the tracks of --like.")
    ] = False,
    max_per_artist: PerArtist = None,
    max_per_album: PerAlbum = None,
    out: Out = None,
    absolute: Absolute = False,
    index: IndexOption = None,
    library: NameOption = "default",
    as_json: JsonFlag = False,
) -> None:
    """Make a playlist of the tracks that sound like some, and unlike others."""
    _check_out(out)
    opened = open_library(index, library)
    seeds = [opened.find(text) for text in like]
    found = opened.similar(
        [track.id for track in seeds],
        count,
        unlike=[opened.find(text).id for text in unlike or []],
        variance=variance,
        max_per_artist=max_per_artist,
        max_per_album=max_per_album,
    )
    rows = [{"similarity": each.similarity, **each.track.to_json()} for each in found]
    lines = [f"{each.similarity:.3f}  {_line(each.track)}" for each in found]
    tracks = [each.track for each in found]
    if include_seed:
        rows = [{"similarity": 1.0, **track.to_json()} for track in seeds] + rows
        lines = [f"1.000  {_line(track)}" for track in seeds] + lines
        tracks = seeds + tracks
    _deliver(_playlist_of(tracks, absolute=absolute), out, rows, as_json, lambda: lines)


@app.command()
def fill(
    target: M3UFile,
    count: Count = 20,
    variance: Variance = None,
    max_per_artist: PerArtist = None,
    max_per_album: PerAlbum = None,
    out: Out = None,
    absolute: Absolute = False,
    index: IndexOption = None,
    library: NameOption = "default",
    as_json: JsonFlag = False,
) -> None:
    """Make a new playlist that is spread as another one is: other songs, whose hull comes near to all of its songs."""
    check_inputs([target])
    _check_out(out)
    from myna_rpe.library.choosing import Limits
    from myna_rpe.playlists.making import more_songs

    opened, playlist = _open(target, index, library)
    limits = Limits(max_per_artist, max_per_album)
    tracks = more_songs(opened, playlist.tracks, count, where="like", limits=limits, variance=variance)
    _deliver(
        _playlist_of(tracks, absolute=absolute),
        out,
        [track.to_json() for track in tracks],
        as_json,
        lambda: _lines(tracks),
    )


@app.command()
def extend(
    file: M3UFile,
    count: Count = 10,
    where: Annotated[
        Literal["inside", "edge"],
        typer.Option(
            help="inside: nearest to the hull of the songs; edge: just beyond it, for something new."
        ),
    ] = "inside",
    variance: Variance = None,
    max_per_artist: PerArtist = None,
    max_per_album: PerAlbum = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Write the longer playlist as FILE.m3u or FILE.m3u8, or the new songs as FILE.json; "
            "default: the playlist itself.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the new songs, and write nothing.")
    ] = False,
    absolute: Absolute = False,
    index: IndexOption = None,
    library: NameOption = "default",
    as_json: JsonFlag = False,
) -> None:
    """Add songs to a playlist. What the user put there stays, in its order; what an earlier run added is replaced."""
    check_inputs([file])
    target = out or file
    _check_out(target, "--out" if out else "the playlist", (*_M3U, _JSON) if out else _M3U)
    from dataclasses import replace

    from myna_rpe.library.choosing import Limits
    from myna_rpe.playlists.m3u import read_m3u, user_entries
    from myna_rpe.playlists.making import more_songs

    own = user_entries(read_m3u(file).entries)
    opened, playlist = _open(file, index, library, entries=own)
    tracks = more_songs(
        opened,
        playlist.tracks,
        count,
        where=where,
        limits=Limits(max_per_artist, max_per_album),
        variance=variance,
    )
    document = [track.to_json() for track in tracks]

    def longer(target: Path) -> M3U:
        kept = own if out is None else _moved(own, file, target)
        added = _entries(tracks, target, absolute=absolute, added=True)
        return replace(playlist.m3u, entries=(*kept, *added))

    _deliver(longer, None if dry_run else target, document, as_json, lambda: _lines(tracks))


@app.command()
def between(
    first: Annotated[Path, typer.Argument(metavar="A.m3u", help="Where the way begins.")],
    second: Annotated[Path, typer.Argument(metavar="B.m3u", help="Where it ends.")],
    steps: Annotated[int, typer.Option(min=0, help="Songs on the way.")] = 10,
    out: Out = None,
    absolute: Absolute = False,
    index: IndexOption = None,
    library: NameOption = "default",
    as_json: JsonFlag = False,
) -> None:
    """Find songs that lead from one playlist to another. There always is a way; its longest step is named."""
    check_inputs([first, second])
    _check_out(out)
    from myna_rpe.playlists.making import way_between
    from myna_rpe.playlists.songs import open_playlist

    opened, start = _open(first, index, library)
    end = open_playlist(second, opened)
    _notes(end)
    end.require_songs()
    way = way_between(opened, start.tracks, end.tracks, steps)
    names = [*(step.track.name for step in way.steps), second.name]
    worst = {"step": way.worst + 1, "to": names[way.worst], "length": way.lengths[way.worst]}
    document = {
        "steps": [{"length": s.length, "offset": s.offset, **s.track.to_json()} for s in way.steps],
        "arrival": way.arrival,
        "worst": worst,
    }
    lines = [
        *(f"{step.length:.3f}  {_line(step.track)}" for step in way.steps),
        f"{way.arrival:.3f}  to the nearest song of {second}",
        f"longest step: {worst['step']}, {worst['length']:.3f}, to {worst['to']}",
    ]
    _deliver(
        _playlist_of([step.track for step in way.steps], absolute=absolute),
        out,
        document,
        as_json,
        lambda: lines,
    )


@app.command()
def order(
    file: M3UFile,
    first: Annotated[int | None, typer.Option(min=1, help="Number of the song to begin with.")] = None,
    out: Out = None,
    absolute: Absolute = False,
    index: IndexOption = None,
    library: NameOption = "default",
    as_json: JsonFlag = False,
) -> None:
    """Put the songs of a playlist into an order in which each is near the next."""
    check_inputs([file])
    _check_out(out)
    from dataclasses import replace

    from myna_rpe.playlists.making import ordered

    opened, playlist = _open(file, index, library)
    start = None
    if first is not None:
        entries = playlist.m3u.entries
        start = next(
            (
                n
                for n, song in enumerate(playlist.songs)
                if first <= len(entries) and song.entry is entries[first - 1]
            ),
            None,
        )
        if start is None:
            raise UsageError(f"--first is {first}; the playlist has no such song that can be compared")
    songs = [playlist.songs[place] for place in ordered(opened, playlist.tracks, first=start)]
    tracks = [song.track for song in songs]
    steps = opened.steps([row for track in tracks if (row := opened.row(track)) is not None])
    document = [{"length": step.length, **step.track.to_json()} for step in steps]
    lines = [f"{step.length:.3f}  {_line(step.track)}" for step in steps]

    def reordered(target: Path) -> M3U:
        used = {id(song.entry) for song in songs}
        rest = [entry for entry in playlist.m3u.entries if id(entry) not in used]
        entries = _moved([*(song.entry for song in songs), *rest], file, target)
        return replace(playlist.m3u, entries=tuple(entries))

    _deliver(reordered, out, document, as_json, lambda: lines)


@app.command("places")
def places_command(
    file: M3UFile,
    count: Annotated[int, typer.Option(min=0, help="Tracks to show, the nearest first; 0: all.")] = 30,
    index: IndexOption = None,
    library: NameOption = "default",
    as_json: JsonFlag = False,
) -> None:
    """Show which tracks of the library lie inside a playlist, near it, or outside.

    The ratio is the distance to the hull of its songs, by the median distance of one of its songs to the hull of the
    others; the percentile is the share of its songs that lie nearer than the track. One song has neither.
    """
    check_inputs([file])
    from myna_rpe.playlists.making import places_of

    opened, playlist = _open(file, index, library)
    found = places_of(opened, playlist.tracks)
    found = found[: count or len(found)]
    document = [
        {
            "label": place.label,
            "distance": place.distance,
            "ratio": place.ratio,
            "percentile": place.percentile,
            **track.to_json(),
        }
        for track, place in found
    ]

    def number(value: float | None, width: int, digits: int) -> str:
        return f"{'-' if value is None else format(value, f'.{digits}f'):>{width}}"

    show(
        document,
        as_json,
        lambda: [
            f"{'place':<8} {'distance':>8} {'ratio':>6} {'percentile':>10}  track",
            *(
                f"{place.label:<8} {place.distance:>8.4f} {number(place.ratio, 6, 2)} "
                f"{number(place.percentile, 10, 0)}  {_line(track)}"
                for track, place in found
            ),
        ],
    )


@app.command()
def page(
    file: M3UFile,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.html", help="Page to write.")],
    neighbours: Annotated[int, typer.Option(min=0, help="Tracks near the playlist that are shown.")] = 20,
    embed_audio: Annotated[
        bool, typer.Option("--embed-audio", help="Copy the sound into the page; default: links to the files.")
    ] = False,
    index: IndexOption = None,
    library: NameOption = "default",
) -> None:
    """Write one page that works offline: a map of the library, the playlist on it, what is near, and players."""
    check_inputs([file])
    make_output_place(out, inputs=[file])
    from myna_rpe.playlists.page import write_page
    from pentatonic.report import check_page

    check_page(out)
    opened, playlist = _open(file, index, library)
    write_page(opened, playlist, out, neighbours=neighbours, embed_audio=embed_audio)
    print(out)


def _open(
    file: Path, index: Path | None, name: str, *, entries: Sequence[M3UEntry] | None = None
) -> tuple[Library, Playlist]:
    """Open a library and a playlist that has songs of it; say which entries are left out."""
    from myna_rpe.playlists.songs import open_playlist

    library = open_library(index, name)
    playlist = open_playlist(file, library, entries=entries)
    _notes(playlist)
    playlist.require_songs()
    return library, playlist


def _notes(playlist: Playlist) -> None:
    from pentatonic.progress import one_line

    for note in playlist.notes():
        print(one_line(note), file=sys.stderr)


def _check_out(out: Path | None, what: str = "--out", suffixes: Sequence[str] = (*_M3U, _JSON)) -> None:
    """Fail fast where a result cannot be written."""
    if out is None:
        return
    if out.suffix.lower() not in suffixes:
        raise UsageError(f"{what} {out}: allowed are names that end in {', '.join(suffixes)}")
    make_output_place(out)


def _entries(
    tracks: Sequence[LibraryTrack], target: Path, *, absolute: bool, added: bool = False
) -> list[M3UEntry]:
    from myna_rpe.playlists.m3u import new_entry

    folder = target.absolute().parent
    return [
        new_entry(
            track.path,
            folder=folder,
            duration_s=track.duration_s,
            name=track.name,
            absolute=absolute,
            added=added,
        )
        for track in tracks
    ]


def _moved(entries: Sequence[M3UEntry], source: Path, target: Path) -> list[M3UEntry]:
    """Return entries for a playlist in another folder, with the relative paths of files that exist changed."""
    from myna_rpe.playlists.m3u import moved_entry

    before, after = source.absolute().parent, target.absolute().parent
    return [moved_entry(entry, before, after) for entry in entries]


def _playlist_of(tracks: Sequence[LibraryTrack], *, absolute: bool) -> Callable[[Path], M3U]:
    """Return what makes the playlist of these tracks alone for a file."""

    def make_playlist(target: Path) -> M3U:
        from myna_rpe.playlists.m3u import M3U

        return M3U(tuple(_entries(tracks, target, absolute=absolute)))

    return make_playlist


def _deliver(
    playlist: Callable[[Path], M3U],
    out: Path | None,
    document: Any,
    as_json: bool,
    lines: Callable[[], Sequence[str]],
) -> None:
    """Write the playlist or the JSON document, as the suffix of ``out`` says, and print the result."""
    if out is not None and out.suffix.lower() == _JSON:
        from pentatonic.checkpoint import atomic_file

        with atomic_file(out, "w") as file:
            file.write(json_text(document) + "\n")
    elif out is not None:
        from myna_rpe.playlists.m3u import write_m3u

        write_m3u(out, playlist(out))
    show(document, as_json, lines)


def _line(track: LibraryTrack) -> str:
    from myna_rpe.library.records import printable_path

    return f"{track.name}  {printable_path(str(track.path))}"


def _lines(tracks: Sequence[LibraryTrack]) -> list[str]:
    return [_line(track) for track in tracks]
