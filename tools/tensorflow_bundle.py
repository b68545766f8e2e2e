"""Read the tensors of a TensorFlow checkpoint (the ``.index`` and ``.data`` files of a bundle) without TensorFlow.

The index is a sorted table: entries in blocks, a block that lists the blocks, and a footer that says where that is. The
value of an entry is a small protobuf message with dtype, shape, offset and size of a tensor in the data. Offsets and
sizes are checked before they are used, so a damaged file is an error that says where, and never a large allocation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pentatonic.errors import FormatError

_FOOTER_BYTES = 48
_MAGIC = bytes.fromhex("57fb808b247547db")
_FLOAT32 = 1
_MAX_DIMENSIONS = 8
_MAX_ENTRIES = 10_000
_MAX_VARINT_BYTES = 10
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types of protobuf


@dataclass
class _Cursor:
    """Position in a block or message; reading beyond its end is an error."""

    data: bytes
    position: int = 0

    def take(self, size: int) -> bytes:
        """Return the next ``size`` bytes."""
        if size > len(self.data) - self.position:
            raise FormatError(f"the index needs {size} bytes at {self.position} of {len(self.data)}")
        self.position += size
        return self.data[self.position - size : self.position]

    def varint(self) -> int:
        """Return the next integer: seven bits a byte, lowest first."""
        value = 0
        for count in range(_MAX_VARINT_BYTES):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << 7 * count
            if byte < 0x80:
                return value
        raise FormatError(f"an integer of the index has more than {_MAX_VARINT_BYTES} bytes")

    @property
    def at_end(self) -> bool:
        """Whether everything was read."""
        return self.position >= len(self.data)


def read_bundle(index: bytes, data: bytes, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    """Read tensors of a checkpoint that has one data file.

    Args:
        index: Content of the ``.index`` file, uncompressed blocks.
        data: Content of the ``.data-00000-of-00001`` file.
        wanted: Whether to read the tensor of this name; others need not be float32.

    Returns:
        Name -> float32 tensor, in the order of the index.

    Raises:
        FormatError: The index is damaged or compressed, or a wanted tensor is not float32, or lies outside the data.
    """
    tensors: dict[str, Tensor] = {}
    for number, (key, value) in enumerate(_table(index)):
        if number >= _MAX_ENTRIES:
            raise FormatError(f"the index has more than {_MAX_ENTRIES} entries")
        name = key.decode("utf-8", errors="replace")
        if name and wanted(name):  # the entry without a name describes the bundle
            tensors[name] = _tensor(name, value, data)
    return tensors


def _table(index: bytes) -> Iterator[tuple[bytes, bytes]]:
    footer = index[-_FOOTER_BYTES:]
    if len(footer) < _FOOTER_BYTES or not footer.endswith(_MAGIC):
        raise FormatError("not the index of a TensorFlow checkpoint: its last bytes are not those of a table")
    handles = _Cursor(footer)
    _handle(handles)  # the meta index, which checkpoints leave empty
    for _, value in _block(index, *_handle(handles)):
        yield from _block(index, *_handle(_Cursor(value)))


def _handle(cursor: _Cursor) -> tuple[int, int]:
    return cursor.varint(), cursor.varint()


def _block(index: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Entries of a block; a key repeats the start of the one before it only by its length."""
    if offset + size >= len(index):
        raise FormatError(f"a block of {size} bytes at {offset} is outside the index of {len(index)} bytes")
    if compression := index[offset + size]:
        raise FormatError(f"a block of the index is compressed by method {compression}; only 0 is allowed")
    block = index[offset : offset + size]
    restarts = 4 * (1 + int.from_bytes(block[-4:], "little"))
    if restarts > size:
        raise FormatError(f"a block of {size} bytes at {offset} states {restarts} bytes of restart offsets")
    cursor, key = _Cursor(block[: size - restarts]), b""
    while not cursor.at_end:
        shared, new, length = cursor.varint(), cursor.varint(), cursor.varint()
        if shared > len(key):
            raise FormatError(f"a key of the index shares {shared} bytes with one of {len(key)}")
        key = key[:shared] + cursor.take(new)
        yield key, cursor.take(length)


def _tensor(name: str, message: bytes, data: bytes) -> Tensor:
    dtype, shape, offset, size = 0, [], 0, 0
    for field, value in _fields(message):
        if field == 2 and isinstance(value, bytes):
            shape = [_dimension(part) for number, part in _fields(value) if number == 2]
        elif isinstance(value, int):
            dtype = value if field == 1 else dtype
            offset = value if field == 4 else offset
            size = value if field == 5 else size
    if dtype != _FLOAT32:
        raise FormatError(f"tensor {name!r} has dtype {dtype}; only {_FLOAT32} (float32) is allowed")
    if len(shape) > _MAX_DIMENSIONS or not size or 4 * math.prod(shape) != size:
        raise FormatError(f"tensor {name!r} of shape {shape} cannot have {size} bytes of float32")
    if offset + size > len(data):
        raise FormatError(f"tensor {name!r} is at {offset} with {size} bytes, and the data has {len(data)}")
    return torch.frombuffer(bytearray(data[offset : offset + size]), dtype=torch.float32).reshape(shape)


def _dimension(message: int | bytes) -> int:
    """Return the size of one dimension; a message without the field means 0."""
    if isinstance(message, int):
        raise FormatError("a dimension in the index is a number; it must be a message")
    return next((value for number, value in _fields(message) if number == 1 and isinstance(value, int)), 0)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field number and value of everything in a protobuf message."""
    cursor = _Cursor(message)
    while not cursor.at_end:
        number, wire = divmod(cursor.varint(), 8)
        if wire == _VARINT:
            yield number, cursor.varint()
        elif wire == _BYTES:
            yield number, cursor.take(cursor.varint())
        elif wire in (_FIXED32, _FIXED64):
            yield number, cursor.take(4 if wire == _FIXED32 else 8)
        else:
            raise FormatError(f"a message of the index has wire type {wire}; 0, 1, 2 and 5 are allowed")
