"""Copies of audio files with changed tags, packet by packet: what the process of :mod:`.tag_writing` does.

Nothing slow is imported here, so that the process starts at once.
"""

from __future__ import annotations

import hashlib
from typing import Any

from pentatonic.audio.formats.identify import FFMPEG_DEMUXERS
from pentatonic.child_process import Message
from pentatonic.errors import InputError

MUXERS = {"FLAC": "flac", "OGG": "ogg", "MP3": "mp3", "MP4": "ipod"}
"""Containers that tags are written into -> FFmpeg's muxer."""
OWN_TAGS = frozenset(
    {"encoder", "major_brand", "minor_version", "compatible_brands", "language", "handler_name", "vendor_id"}
    | {"creation_time", "vendor"}
)
"""Tags that a muxer writes by itself."""

_NEGATIVE = 1 << 31  # FFmpeg reads negative durations in Ogg as numbers of 32 bits from here on


def answer(request: Message) -> Message:
    """In the child: copy a file with changed tags, or say what is in it.

    Raises:
        InputError: FFmpeg cannot read or write it.
    """
    import av
    import av.error

    asked = request.value
    try:
        if "copy" in asked:
            _copy(av, asked["path"], asked["container"], asked["copy"], asked["tags"])
            return Message({})
        return Message(_content(av, asked["path"], asked["container"]))
    except (av.error.FFmpegError, ValueError, NotImplementedError) as error:
        raise InputError(f"{asked['path']}: cannot be copied: {error}") from error


def _open(av: Any, path: str, container: str) -> Any:
    # The demuxer is given, and may use files alone: see pentatonic.audio.ffmpeg.
    return av.open(
        f"file:{path}",
        format=FFMPEG_DEMUXERS.get(container, container.lower()),
        options={"protocol_whitelist": "file"},
        metadata_errors="replace",
    )


def _content(av: Any, path: str, container: str) -> dict[str, Any]:
    """Tags in lower case, kinds of streams, chapters, and a digest of the packets of each stream."""
    with _open(av, path, container) as file:
        digests = [hashlib.sha256() for _ in file.streams]
        streams = [
            f"{stream.type} {stream.codec_context and stream.codec_context.name}" for stream in file.streams
        ]
        tags = _tags(file)
        chapters = [str(chapter) for chapter in file.chapters()]
        for packet in file.demux():
            digests[packet.stream.index].update(bytes(packet))
    return {
        "tags": {name.lower(): text for name, text in tags.items()},
        "streams": streams,
        "chapters": chapters,
        "packets": [digest.hexdigest() for digest in digests],
    }


def _tags(file: Any) -> dict[str, str]:
    """Tags of the file, and of its sound, where Ogg has them."""
    return {**file.metadata, **(file.streams.audio[0].metadata if file.streams.audio else {})}


def _copy(av: Any, path: str, container: str, copy: str, tags: dict[str, str]) -> None:
    muxer = MUXERS[container]
    with _open(av, path, container) as source, av.open(f"file:{copy}", "w", format=muxer) as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        kept = {name: text for name, text in _tags(source).items() if name.lower() not in (*OWN_TAGS, *tags)}
        target.metadata.update(kept | tags)
        for stream in source.streams:
            streams[stream.index].disposition = stream.disposition
            streams[stream.index].metadata.update(stream.metadata)
        if muxer == "ogg":
            own = streams[source.streams.audio[0].index].metadata
            own.clear()
            own.update(kept | tags)
        if chapters := source.chapters():
            target.set_chapters(chapters)
        for packet in source.demux():
            if packet.size:
                if packet.duration and packet.duration >= _NEGATIVE:
                    # The last packet of an Ogg file that FFmpeg wrote: the sound ends before it does.
                    packet.pts = packet.dts = packet.pts + packet.duration - 2 * _NEGATIVE
                    packet.duration = 0
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
