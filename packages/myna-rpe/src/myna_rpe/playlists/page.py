"""One page about a playlist that works offline: a map of the library, the way through its songs, what is near."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile

from myna_rpe.library.library import Library, LibraryTrack
from myna_rpe.library.records import printable_path
from myna_rpe.playlists.m3u import file_url
from myna_rpe.playlists.making import places_of
from myna_rpe.playlists.map import left_out, letter, library_map, plane_of
from myna_rpe.playlists.songs import Playlist
from pentatonic import audio
from pentatonic.cli import run_manifest
from pentatonic.errors import MissingExtra, PentatonicError
from pentatonic.progress import one_line
from pentatonic.report import Report, is_embeddable

# A file up to this size is copied whole where its format allows it; of others, an excerpt.
_WHOLE_BYTES = 8 * 2**20
_EXCERPT_S = 30.0
_EXCERPT_RATE = 22050


def write_page(
    library: Library, playlist: Playlist, out: Path, *, neighbours: int = 20, embed_audio: bool = False
) -> None:
    """Write the page; nothing in it comes from a network.

    Args:
        library: The library.
        playlist: With songs that can be compared.
        out: The HTML file; in one with sections of other packages, this one is added.
        neighbours: How many tracks of the library that are near are shown.
        embed_audio: Copy the sound into the page: whole files of up to 8 MB that are WAV, FLAC or Ogg, of others 30
            seconds. Otherwise it plays the files where they are.

    Raises:
        InputError: The playlist has no songs.
        MissingExtra: jinja2 is not installed.
        CheckpointError: The page cannot be written.
    """
    playlist.require_songs()
    songs = playlist.tracks
    near = places_of(library, songs)[:neighbours]
    manifest = run_manifest()
    title = one_line(f"Playlist {playlist.path.name}")
    try:
        page = Report(
            title,
            command=str(manifest["command"]),
            versions=dict(manifest["versions"]),
            section="myna-rpe",  # beside those of other packages, in the page of a demo
        )
    except MissingExtra as error:
        raise MissingExtra("A page about a playlist", "myna-rpe[report]") from error
    rows, near_rows = (
        [row for track in tracks if (row := library.row(track)) is not None]
        for tracks in (songs, [track for track, _ in near])
    )
    page.text(
        f"The library in two dimensions: {len(library.vectors)} tracks by the two main axes of their vectors. Blue and "
        "numbered: the songs, their hull in this plane, and the path through them. Orange, with letters: the tracks "
        "that are nearest to the hull in all dimensions. A click on a dot, or Enter on one that has a label, plays it."
    )
    if hidden := left_out(len(library.vectors), [*rows, *near_rows]):
        page.text(f"{hidden} tracks of the library have no dot, for the map would have too many.")
    map_place = page.place
    page.heading("Songs")
    steps = library.steps(rows)
    page.table(
        [
            {"number": number, "song": step.track.name, "album": step.track.album, "step": step.length}
            for number, step in enumerate(steps, 1)
        ],
        "Songs in order; step: distance from the song before",
    )
    if len(steps) > 1:
        worst = int(np.argmax([step.length for step in steps]))
        page.text(f"Longest step: {steps[worst].length:.3f}, to {worst + 1}, {steps[worst].track.name}.")
    players = _players(
        page, [(f"{number}. {track.name}", track) for number, track in enumerate(songs, 1)], embed_audio
    )
    page.heading("Near the playlist")
    page.table(
        [
            {
                "letter": letter(number),
                "track": track.name,
                "album": track.album,
                "place": place.label,
                "distance": place.distance,
                "ratio": place.ratio,
                "percentile": place.percentile,
            }
            for number, (track, place) in enumerate(near)
        ],
        "Tracks nearest to the hull; ratio: distance by that of a usual song of the playlist to the hull of the others",
    )
    players |= _players(
        page, [(f"{letter(n)}. {track.name}", track) for n, (track, _) in enumerate(near)], embed_audio
    )
    sounds = players if embed_audio else {track.id: file_url(track.path) for track in library.tracks}
    drawing = library_map(plane_of(library.vectors), library.tracks, rows, near_rows, sounds)
    page.sound_map(drawing, "Map of the library", place=map_place)
    if playlist.unusable:
        page.heading("Left out")
        page.table(
            [{"entry": text, "reason": reason} for text, reason in playlist.unusable.items()],
            "Entries that the library cannot compare",
        )
    page.add_to(out)


def _players(page: Report, tracks: list[tuple[str, LibraryTrack]], embed_audio: bool) -> dict[str, str]:
    """Add players; return id of a track -> id of its player."""
    if not embed_audio:
        return {track.id: page.local_audio(file_url(track.path), label) for label, track in tracks}
    players: dict[str, str] = {}
    with audio.DecodingProcess() as decoder:
        for label, track in tracks:
            try:
                players[track.id] = page.audio(_sound(track.path, decoder), label)
            except (PentatonicError, OSError) as error:
                page.text(f"{label}: cannot be played ({printable_path(str(error))})")
    return players


def _sound(path: Path, decoder: audio.DecodingProcess) -> bytes:
    """Bytes of a file, or of an excerpt from its middle as WAV."""
    if path.stat().st_size <= _WHOLE_BYTES and is_embeddable(path):
        return path.read_bytes()
    blocks = list(decoder.stream(path, sample_rate=_EXCERPT_RATE, strict=False))
    samples = np.concatenate([np.zeros(0, np.float32), *(block.numpy() for block in blocks)])
    length = round(_EXCERPT_S * _EXCERPT_RATE)
    first = max(0, (len(samples) - length) // 2)
    buffer = io.BytesIO()
    excerpt = samples[first : first + length]
    soundfile.write(buffer, excerpt, _EXCERPT_RATE, format="WAV", subtype="PCM_16")
    return buffer.getvalue()
