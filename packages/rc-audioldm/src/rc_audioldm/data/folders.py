"""A plain folder of clips as a manifest: licences, captions and labels from a table, from tags, or from the caller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pentatonic.child_process import ChildFailure, ChildPool, Message
from pentatonic.cli import BatchReport
from pentatonic.errors import FormatError, InputError
from pentatonic.folder_run import find_files
from rc_audioldm.data.batch import run_rows
from rc_audioldm.data.layouts.audio_index import normal_place
from rc_audioldm.data.manifest import ManifestRow, place_under
from rc_audioldm.data.tables import first_cell, read_table
from rc_audioldm.licences import UNKNOWN, known_licence, licence_name

MIDI_SUFFIXES = (".mid", ".midi", ".kar")
_FILE = ("path", "file", "filename", "file_name", "fname", "audio_path", "name")
_LICENCE = ("licence", "license", "rights")
_SOURCE = ("source", "author", "artist", "uploader", "attribution", "url")
_CAPTION = ("caption", "text", "description", "title")
_LABELS = ("labels", "tags", "classes")
_SECONDS = 60.0
_MEMORY_BYTES = 1 << 30
_MOST_CHARACTERS = 500


@dataclass(frozen=True)
class ClipTags:
    """What the tags of a file say, each empty where they say nothing."""

    licence: str = ""
    source: str = ""
    caption: str = ""
    labels: tuple[str, ...] = ()


def manifest_of_folder(
    folder: Path,
    root: Path,
    *,
    table: Path | None = None,
    licence: str = "",
    source: str = "",
    tags: bool = True,
    workers: int = 2,
) -> tuple[list[ManifestRow], BatchReport]:
    """List the clips of a folder, sorted by path.

    What a table says of a file counts before its tags, and these before ``licence`` and ``source``.

    Args:
        folder: The folder.
        root: Folder that the paths are relative to; ``folder`` or one above.
        table: CSV with a column ``path`` (or ``file``, ``filename``, ...) and any of ``licence``, ``source``,
            ``caption`` and ``labels``, between commas or semicolons. Files are found by their path, else by their name.
        licence: Of the clips that say nothing.
        source: Likewise.
        tags: Read the tags of the files.
        workers: Files at a time.

    Returns:
        The rows of the files that are audio, and what became of each file. Of formats that libsndfile does not know,
        such as M4A, no tags are read.

    Raises:
        InputError: The folder or the table is missing.
        FormatError: The table cannot be read, or names no file of the folder.
    """
    from rc_audioldm.data.layouts.audio_index import AUDIO_SUFFIXES

    files = find_files([folder], AUDIO_SUFFIXES)
    if not files:
        raise InputError(f"{folder}: no audio files ({' '.join(AUDIO_SUFFIXES)})")
    places = [place_under(root, file) for file in files]
    listed = {} if table is None else _read_licences(table)
    said = {
        place: _listed_tags(place, file, folder, listed) for place, file in zip(places, files, strict=True)
    }
    if listed and not any(said.values()):
        raise FormatError(f"it names no file of {folder}", path=table)
    rows = [ManifestRow(id=place, path=place) for place in places]
    with ChildPool(f"{__name__}:answer", workers, seconds=_SECONDS, memory_bytes=_MEMORY_BYTES) as pool:

        def work(row: ManifestRow) -> ManifestRow:
            found = _tags_of(pool, root / row.path) if tags else ClipTags()
            table_says = said[row.path] or ClipTags()
            return replace(
                row,
                licence=licence_name(table_says.licence or found.licence or licence),
                source=table_says.source or found.source or source,
                caption=table_says.caption or found.caption,
                labels=table_says.labels or found.labels,
            )

        results, report = run_rows(rows, work, description="tags", workers=workers)
    return [row for row in results if row is not None], report


def _read_licences(table: Path) -> dict[str, ClipTags]:
    """Place or name in lower case -> what the table says."""
    rows = read_table(table)
    if rows and not any(column in rows[0] for column in _FILE):
        raise FormatError(f"no column for files; allowed: {', '.join(_FILE)}", path=table, line=1)
    return {
        normal_place(first_cell(row, _FILE)): ClipTags(
            licence=first_cell(row, _LICENCE),
            source=first_cell(row, _SOURCE)[:_MOST_CHARACTERS],
            caption=first_cell(row, _CAPTION)[:_MOST_CHARACTERS],
            labels=split_labels(first_cell(row, _LABELS)),
        )
        for row in rows
        if first_cell(row, _FILE)
    }


def split_labels(cell: str) -> tuple[str, ...]:
    """Return the texts between commas or semicolons."""
    return tuple(text for part in cell.replace(";", ",").split(",") if (text := part.strip()))


def _listed_tags(place: str, file: Path, folder: Path, listed: Mapping[str, ClipTags]) -> ClipTags | None:
    names = (place, place_under(folder, file), file.name, PurePosixPath(place).stem)
    return next((listed[name] for each in names if (name := normal_place(each)) in listed), None)


def _tags_of(pool: ChildPool, file: Path) -> ClipTags:
    try:
        value = pool.answers(Message(str(file.absolute())))[0].value
    except ChildFailure as failure:
        raise FormatError(f"the reader of tags {failure}", path=file) from failure
    return ClipTags(**{**value, "labels": tuple(value["labels"])})


def answer(request: Message) -> Message:
    """Read the tags of the file that the request names, in the child.

    Raises:
        AudioError: It is not audio, or missing.
        InputError: It cannot be opened.
    """
    import soundfile

    from pentatonic.audio.formats.identify import LIBSNDFILE
    from pentatonic.audio.limits import AudioLimits
    from pentatonic.audio.sources import probe

    container, _ = probe(Path(request.value), AudioLimits().max_bytes)
    if container not in LIBSNDFILE:
        return Message({"licence": "", "source": "", "caption": "", "labels": []})
    try:
        with soundfile.SoundFile(request.value) as file:
            found = {name: _plain(getattr(file, name, "")) for name in ("title", "artist", "genre")}
            rights = {name: _plain(getattr(file, name, "")) for name in ("license", "copyright", "comment")}
    except soundfile.LibsndfileError as error:
        raise InputError(f"{request.value}: cannot be read ({error.error_string})") from error
    labels = [found["genre"]] if found["genre"] else []
    licence = licence_of_tags(**rights)
    return Message(
        {"licence": licence, "source": found["artist"], "caption": found["title"], "labels": labels}
    )


def licence_of_tags(license: str, copyright: str, comment: str) -> str:
    """Return the licence that tags state: a Creative Commons licence in any of them, else the tag ``license``."""
    named = next((found for text in (license, copyright, comment) if (found := known_licence(text))), None)
    stated = licence_name(license)
    return named or ("" if stated == UNKNOWN else stated)


def _plain(text: object) -> str:
    """Text of a stranger on one line, without control characters and not too long."""
    if not isinstance(text, str):
        return ""
    printable = "".join(sign if sign.isprintable() else " " for sign in text[: 20 * _MOST_CHARACTERS])
    return " ".join(printable.split())[:_MOST_CHARACTERS]
