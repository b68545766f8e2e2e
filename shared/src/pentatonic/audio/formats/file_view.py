"""A part of a file as a decoder should see it: with some bytes replaced, and zeros behind its end."""

from __future__ import annotations

import io
from collections.abc import Mapping


class FileView(io.RawIOBase):
    """Read-only view of a part of a file. Nothing is held in memory but the replaced bytes.

    Args:
        file: Unbuffered binary file; only this view may use it. It is not closed with the view.
        start: First byte of the part.
        stop: Byte after the part.
        replaced: Position in the view -> bytes that are read there instead of those of the file.
        zeros: So many zero bytes follow.
    """

    def __init__(
        self,
        file: io.FileIO,
        start: int,
        stop: int,
        *,
        replaced: Mapping[int, bytes] | None = None,
        zeros: int = 0,
    ) -> None:
        self._file, self._start, self._zeros = file, start, zeros
        self._n_stored = max(0, stop - start)
        self._replaced = dict(replaced or {})
        self._position = 0

    def readable(self) -> bool:
        """Always True."""
        return True

    def seekable(self) -> bool:
        """Always True."""
        return True

    def tell(self) -> int:
        """Position in the view."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position, as for any file."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._n_stored + self._zeros}
        position = base[whence] + offset
        if position < 0:
            raise OSError(f"position {position} is before the start")
        self._position = position
        return position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read up to ``len(buffer)`` bytes, 0 at the end."""
        buffer = memoryview(buffer)
        at = self._position
        if at >= self._n_stored:
            n = max(0, min(len(buffer), self._n_stored + self._zeros - at))
            buffer[:n] = bytes(n)
        else:
            self._file.seek(self._start + at)
            n = self._file.readinto(buffer[: self._n_stored - at]) or 0
            for position, new in self._replaced.items():
                first, last = max(at, position), min(at + n, position + len(new))
                if first < last:
                    buffer[first - at : last - at] = new[first - position : last - position]
        self._position += n
        return n
