"""Metadata of RIFF WAVE files: texts in LIST/INFO and one document in iXML, beside samples that stay as they are.

The texts are for people: players and editors show them. The document is the ``USER`` text of an ``iXML`` chunk: this
open standard of production sound keeps that field for text of the user, so that no chunk of our own, which other
programs would not know, is needed. Both stand before the samples, where a reader of a stream finds them too.

Sources: Microsoft's RIFF MCI specification of 1991, and the iXML specification.
"""

from __future__ import annotations

import hashlib
import re
import struct
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from xml.sax.saxutils import escape

from pentatonic.checkpoint import atomic_file
from pentatonic.errors import FormatError
from pentatonic.untrusted.files import regular_file_size

MAX_METADATA_BYTES = 4 << 20
_MAX_CHUNKS = 1000
_HEAD = struct.Struct("<4sI")
_LONGEST = 0xFFFFFFFF
_BLOCK = 1 << 20
_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


@dataclass(frozen=True)
class Chunk:
    """A chunk: its name, and where its content is."""

    name: bytes
    start: int
    length: int


def write_metadata(path: Path, texts: Mapping[str, str], document: str) -> None:
    """Put texts and a document into a WAV file, in place of those that it has; samples and other chunks stay.

    Args:
        path: The file; it is replaced as a whole, or not at all.
        texts: Identifier of LIST/INFO, such as ``ICMT`` -> text. Other texts of the file stay. An empty one is removed.
        document: The text of iXML.

    Raises:
        FormatError: It is not a complete RIFF WAVE file, or would become larger than 4 GiB.
        CheckpointError: It cannot be written.
    """
    size = regular_file_size(path, error=FormatError)
    with path.open("rb") as source:
        chunks = read_chunks(source, path, size)
        kept = [each for each in chunks if each.name != b"iXML" and not _is_info(source, each)]
        if b"data" not in {each.name for each in kept}:
            raise FormatError("has no samples", path=path)
        known = {
            name: text for each in chunks if _is_info(source, each) for name, text in _info(source, each)
        }
        known |= {name.encode("ascii"): text.encode() for name, text in texts.items()}
        own = [_chunk(b"LIST", _info_content(known)), _chunk(b"iXML", _ixml(document))]
        total = 4 + sum(map(len, own)) + sum(_HEAD.size + _even(each.length) for each in kept)
        if total > _LONGEST or sum(map(len, own)) > MAX_METADATA_BYTES:
            raise FormatError("the metadata, or the file with it, is too large for a WAV file", path=path)
        with atomic_file(path) as target:
            target.write(_HEAD.pack(b"RIFF", total) + b"WAVE")
            for each in kept:
                if each.name == b"data":
                    target.write(b"".join(own))
                    own = []
                target.write(_HEAD.pack(each.name, each.length))
                for block in _blocks(source, each):
                    target.write(block)
                target.write(b"\0" * (each.length % 2))


def read_document(path: Path) -> str | None:
    """Return the document of a WAV file, or None where there is none.

    Raises:
        FormatError: It is not a RIFF WAVE file, or its iXML cannot be read.
    """
    size = regular_file_size(path, error=FormatError)
    with path.open("rb") as file:
        chunk = next((each for each in read_chunks(file, path, size) if each.name == b"iXML"), None)
        if chunk is None:
            return None
        if chunk.length > MAX_METADATA_BYTES:
            raise FormatError(f"its iXML has {chunk.length} bytes; allowed: {MAX_METADATA_BYTES}", path=path)
        content = b"".join(_blocks(file, chunk))
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content or content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise FormatError("its iXML has a document type or another encoding than UTF-8", path=path)
    try:
        root = ET.fromstring(content.rstrip(b"\0").decode())  # noqa: S314 - without a document type, no entities
    except (ET.ParseError, ValueError) as error:
        raise FormatError(f"its iXML cannot be read: {error}", path=path) from error
    return root.findtext("USER")


def samples_sha256(path: Path) -> str:
    """Return the SHA-256 of the bytes of the samples of a WAV file, whatever its metadata.

    Raises:
        FormatError: It is not a complete RIFF WAVE file.
    """
    size = regular_file_size(path, error=FormatError)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in read_chunks(file, path, size):
            if chunk.name == b"data":
                for block in _blocks(file, chunk):
                    digest.update(block)
    return digest.hexdigest()


def read_chunks(file: BinaryIO, path: Path, size: int) -> list[Chunk]:
    """Return the chunks of a RIFF WAVE file.

    Raises:
        FormatError: It is another file, has thousands of chunks, or one that is longer than the file.
    """
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        raise FormatError("is not a RIFF WAVE file", path=path)
    chunks, position = [], 12
    while position + _HEAD.size <= size:
        file.seek(position)
        name, length = _HEAD.unpack(file.read(_HEAD.size))
        position += _HEAD.size
        if position + length > size:
            raise FormatError(f"is not complete: its chunk {name!r} ends behind the file", path=path)
        chunks.append(Chunk(name, position, length))
        if len(chunks) > _MAX_CHUNKS:
            raise FormatError(f"has more than {_MAX_CHUNKS} chunks", path=path)
        position += _even(length)
    return chunks


def _blocks(file: BinaryIO, chunk: Chunk) -> Iterator[bytes]:
    file.seek(chunk.start)
    rest = chunk.length
    while rest:
        block = file.read(min(rest, _BLOCK))
        if not block:
            return
        rest -= len(block)
        yield block


def _even(length: int) -> int:
    return length + length % 2


def _chunk(name: bytes, content: bytes) -> bytes:
    return _HEAD.pack(name, len(content)) + content + b"\0" * (len(content) % 2)


def _is_info(file: BinaryIO, chunk: Chunk) -> bool:
    file.seek(chunk.start)
    return chunk.name == b"LIST" and chunk.length <= MAX_METADATA_BYTES and file.read(4) == b"INFO"


def _info(file: BinaryIO, chunk: Chunk) -> Iterator[tuple[bytes, bytes]]:
    """(identifier, text) of each text; what does not follow the format ends the list."""
    content, position = b"".join(_blocks(file, chunk)), 4
    while position + _HEAD.size <= len(content):
        name, length = _HEAD.unpack_from(content, position)
        position += _HEAD.size
        if position + length > len(content):
            return
        yield name, content[position : position + length].partition(b"\0")[0]
        position += _even(length)


def _info_content(texts: Mapping[bytes, bytes]) -> bytes:
    return b"INFO" + b"".join(_chunk(name, text + b"\0") for name, text in texts.items() if text)


def _ixml(document: str) -> bytes:
    text = escape(_NOT_IN_XML.sub("\ufffd", document))
    head = '<?xml version="1.0" encoding="UTF-8"?><BWFXML><IXML_VERSION>1.61</IXML_VERSION>'
    return f"{head}<USER>{text}</USER></BWFXML>".encode()
