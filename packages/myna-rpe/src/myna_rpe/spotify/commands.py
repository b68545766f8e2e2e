"""The commands ``myna-rpe spotify ...``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pentatonic.cli import PartialFailure, check_inputs, make_output_place, progress
from pentatonic.errors import InputError, MissingExtra
from pentatonic.progress import one_line

if TYPE_CHECKING:
    from myna_rpe.spotify.api import Api
    from myna_rpe.spotify.matching import Match

app = typer.Typer(
    help=(
        "Playlists to and from Spotify. Needs SPOTIPY_CLIENT_ID and SPOTIPY_REDIRECT_URI (http://127.0.0.1:PORT/PATH) "
        "of an application that you have registered there."
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)

_LIKED = "liked"
_SAVE_EVERY = 25


@app.command("export-playlist")
def export_playlist(
    playlist: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="Id, URI or address of a playlist; 'liked': the songs that you like."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="File to write; none: standard output.")] = None,
    format: Annotated[
        Literal["json", "csv"] | None, typer.Option(help="As the suffix of --out says by default, else JSON.")
    ] = None,
) -> None:
    """Write the track ids, titles, artists, ISRCs and lengths of a playlist."""
    if out is not None:
        make_output_place(out)
    with _spotify():
        from myna_rpe.spotify import login, playlists

        if playlist == _LIKED:
            items = login.connect(login.READ_LIKED).saved_tracks()
        else:
            key = playlists.playlist_id(playlist)
            items = login.connect(login.READ_PLAYLISTS).playlist_items(key)
        songs = list(playlists.songs(items))
        as_csv = format == "csv" or (format is None and out is not None and out.suffix.lower() == ".csv")
        text = playlists.to_csv(songs) if as_csv else playlists.to_json(songs)
    if out is None:
        print(text, end="")
    else:
        _write(out, text)
        print(f"{len(songs)} tracks written to {out}", file=sys.stderr)


@app.command("create-playlist")
def create_playlist(
    source: Annotated[
        Path,
        typer.Option(
            "--from", help="JSON file of export-playlist, or of a playlist of the library with --matches."
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the playlist; that of the file by default.")
    ] = None,
    matches: Annotated[
        Path | None, typer.Option(help="File of match-local: the tracks are then looked up by their 'path'.")
    ] = None,
    create: Annotated[
        bool, typer.Option("--create/--dry-run", help="Do it; by default it is only shown.")
    ] = False,
    public: Annotated[bool, typer.Option(help="Show it on your profile.")] = False,
    into: Annotated[
        str | None, typer.Option(help="Add to this playlist of yours instead of a new one.")
    ] = None,
) -> None:
    """Make a playlist, private by default. The same command again adds only what is missing.

    The id of the new playlist is kept beside the file, as FILE.spotify-playlist.
    """
    check_inputs([source, *([matches] if matches else [])])
    with _spotify():
        from myna_rpe.spotify import login, playlists
        from myna_rpe.spotify.matching import load_matches

        found = (
            {path: match.id for path, match in load_matches(matches).items() if match.id} if matches else None
        )
        wanted = playlists.read_list(source, found)
        for text in wanted.missing:
            print(f"no track  {one_line(text)}", file=sys.stderr)
        if not wanted.ids:
            raise InputError(f"{source}: no entry has a track of Spotify; allowed: a file with at least one")
        known = _made_before(source)
        key = playlists.playlist_id(into) if into else known
        title = name or source.stem
        place = (
            f"playlist {key}" if key else f"the new {'public' if public else 'private'} playlist {title!r}"
        )
        if not create:
            print(f"would put {len(wanted.ids)} tracks into {place} (--create does it)")
            return
        api = login.connect(login.CREATE_PUBLIC_PLAYLISTS if public else login.CREATE_PLAYLISTS)
        if key is None:
            key = _create(api, title, source, public=public)
        with progress(len(wanted.ids), "adding") as bar:
            added = playlists.add_missing(api, key, wanted.ids, added=bar.advance)
    print(f"{added} tracks added to {place}, {len(wanted.ids) - added} were there: {key}")


@app.command("match-local")
def match_local(
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]...", help="Audio files and folders; none: the files of the library."),
    ] = None,
    *,
    out: Annotated[
        Path, typer.Option(help="File that keeps the matches; known ones are not looked up again.")
    ],
    index: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the index, in place of --library.")
    ] = None,
    library: Annotated[str, typer.Option(help="Name of the library, in the user's data folder.")] = "default",
    retry: Annotated[bool, typer.Option(help="Look up again what was not found.")] = False,
) -> None:
    """Find the track ids of local files by ISRC, else by title, artist and length. Tags are never written."""
    check_inputs(inputs or [])
    make_output_place(out)
    with _spotify():
        from myna_rpe.spotify import login
        from myna_rpe.spotify.local_songs import read_songs
        from myna_rpe.spotify.matching import find_match, load_matches, save_matches
        from myna_rpe.spotify.playlists import absolute

        files = _find_files(inputs) if inputs else _library_files(index, library)
        known = load_matches(out)
        todo = [path for path in files if _is_open(known.get(absolute(path)), retry=retry)]
        failures: list[tuple[Path, InputError]] = []
        if todo:
            api = login.connect(login.SEARCH)
            try:
                with progress(len(todo), "matching") as bar:
                    for path, song in read_songs(todo):
                        if isinstance(song, InputError):
                            failures.append((path, song))
                        else:
                            known[absolute(path)] = find_match(api, song)
                        bar.advance()
                        if bar.done % _SAVE_EVERY == 0:
                            save_matches(out, known)
            finally:
                save_matches(out, known)
    n_found = sum(1 for path in files if (match := known.get(absolute(path))) and match.id)
    for path, error in failures:
        print(f"failed  {one_line(str(path))}  {one_line(str(error))}", file=sys.stderr)
    print(f"{n_found} of {len(files)} files have a track; {len(todo)} were looked up: {out}")
    if failures:
        raise PartialFailure(f"{len(failures)} of {len(files)} files could not be read")


def _find_files(inputs: list[Path]) -> list[Path]:
    from pentatonic.audio import find_files

    return find_files(inputs)


def _library_files(index: Path | None, library: str) -> list[Path]:
    from myna_rpe.library.commands import open_library

    return [track.path for track in open_library(index, library).tracks]


def _is_open(match: Match | None, *, retry: bool) -> bool:
    return match is None or (retry and match.id is None)


def _create(api: Api, title: str, source: Path, *, public: bool) -> str:
    from myna_rpe.spotify.api import SpotifyError, Unclear

    try:
        key = api.create_playlist(title, "Made with myna-rpe", public=public)
    except Unclear as error:
        raise SpotifyError(
            f"Spotify gave no answer about the new playlist {title!r}; "
            "if it is in your library now, go on with --into ID"
        ) from error
    _write(_state_file(source), f"{key}\n")
    return key


def _made_before(source: Path) -> str | None:
    from myna_rpe.spotify.playlists import playlist_id
    from pentatonic.untrusted.files import read_text

    state = _state_file(source)
    return playlist_id(read_text(state, error=InputError)) if state.exists() else None


def _state_file(source: Path) -> Path:
    return source.with_name(f"{source.name}.spotify-playlist")


def _write(path: Path, text: str) -> None:
    from pentatonic.checkpoint import atomic_file

    with atomic_file(path, "w") as file:
        file.write(text)


@contextmanager
def _spotify() -> Iterator[None]:
    """Turn a missing dependency into an error that names the extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("spotipy", "requests"):
            raise
        raise MissingExtra("Spotify", "myna-rpe[spotify]") from error
