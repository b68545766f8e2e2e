"""Tags of audio files that say whose they are: read by libsndfile in a process of its own.

Comments of Ogg and FLAC have a licence; other formats at best a copyright, which counts where it names a licence.
"""

from __future__ import annotations

import os
from pathlib import Path

from pentatonic.child_process import ChildFailure, ChildProcess, ClosedAtEnd, Message
from rc_audioldm.bank.information import NOTHING, Information
from rc_audioldm.licences import UNKNOWN, known_licence, licence_name, plain

_SECONDS = 20.0
_MEMORY_BYTES = 2**30
_NAMES = ("license", "copyright", "comment", "artist", "title", "genre")


class TagReader(ClosedAtEnd):
    """A process that reads the tags of one file after the other; use it as a context manager."""

    def __init__(self) -> None:
        self._child = ChildProcess(
            "rc_audioldm.bank.file_tags:answer", seconds=_SECONDS, memory_bytes=_MEMORY_BYTES
        )

    def read(self, path: Path) -> Information:
        """Return what a file says of itself; nothing where it cannot be read."""
        absolute = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - the child works in another folder
        try:
            tags = self._child.ask(Message({"path": absolute})).value
        except ChildFailure:
            return NOTHING
        return information_from(tags if isinstance(tags, dict) else {})

    def close(self) -> None:
        """End the process."""
        self._child.close()


def information_from(tags: dict[str, str]) -> Information:
    """Return what tags say of the licence and the source of a file."""
    licence = licence_name(tags.get("license"))
    for name in ("copyright", "comment"):
        if licence == UNKNOWN:
            licence = known_licence(plain(tags.get(name, ""))) or UNKNOWN
    source = ": ".join(text for name in ("artist", "title") if (text := plain(tags.get(name, ""))))
    genre = plain(tags.get("genre", ""))
    return Information(licence, source, (genre,) if genre else ())


def answer(request: Message) -> Message:
    """Read ``request.value["path"]``, in the child."""
    import soundfile

    try:
        with soundfile.SoundFile(request.value["path"]) as file:
            return Message({name: getattr(file, name) or "" for name in _NAMES})
    except (soundfile.SoundFileError, OSError, ValueError):
        return Message({})
