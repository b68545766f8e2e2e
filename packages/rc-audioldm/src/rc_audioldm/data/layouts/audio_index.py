"""Look up the files of a data set by what its tables call them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pentatonic.errors import InputError
from pentatonic.folder_run import find_files
from rc_audioldm.data.manifest import place_under

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".ogg")


class AudioIndex:
    """The audio files below a folder.

    Args:
        root: The folder.
        files: Its files, in the order that decides between files of the same name; None: those that a search finds,
            sorted.

    Raises:
        InputError: ``root`` is not a folder.
    """

    def __init__(self, root: str | Path, files: Sequence[Path] | None = None) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise InputError(f"{self.root} is not a folder")
        self.files = list(find_files([self.root], AUDIO_SUFFIXES) if files is None else files)
        self._by_place: dict[str, Path] = {}
        self._by_name: dict[str, list[Path]] = {}
        self._by_stem: dict[str, list[Path]] = {}
        for file in self.files:
            self._by_place.setdefault(normal_place(place_under(self.root, file)), file)
            self._by_name.setdefault(file.name.lower(), []).append(file)
            self._by_stem.setdefault(file.stem.lower(), []).append(file)

    def at(self, place: str) -> Path | None:
        """Return the file at a relative path; case and the kind of slash do not count."""
        return self._by_place.get(normal_place(place))

    def named(self, name: str) -> list[Path]:
        """Return the files with this base name, in any folder."""
        return self._by_name.get(PurePosixPath(normal_place(name)).name, [])

    def with_stem(self, stem: str) -> list[Path]:
        """Return the files with this name before the suffix, in any folder."""
        return self._by_stem.get(stem.strip().lower(), [])


def normal_place(text: str) -> str:
    """Return a relative path in lower case with forward slashes."""
    return text.strip().replace("\\", "/").lower().removeprefix("./")
