"""What the decoding process runs. It imports no torch, which would take it seconds and half a gigabyte."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pentatonic.audio.decoding import BLOCK_S, Decoding, mono_blocks
from pentatonic.audio.limits import AudioLimits
from pentatonic.child_process import Message


def decode(request: Message) -> Iterator[Message]:
    """Decode one file in the decoder process, without what decoders print.

    Args:
        request: Its ``value`` has the ``path``, the ``options`` of :func:`pentatonic.audio.stream` and the fields of
            its ``limits``.

    Yields:
        Blocks of float32 samples as ``data``, and at the end, if there are any, warnings as ``value``, a list of texts.
    """
    with _silenced(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = request.value
        decoding = Decoding(
            Path(value["path"]), mono=True, limits=AudioLimits(**value["limits"]), **value["options"]
        )
        for block in mono_blocks(decoding, BLOCK_S):
            yield Message([], block.tobytes())
    if texts := [str(warning.message) for warning in caught if warning.category is UserWarning]:
        yield Message(texts)


@contextmanager
def _silenced() -> Iterator[None]:
    """Discard what native code writes to standard error, such as the notes of libmpg123 on damage."""
    sys.stderr.flush()
    stderr, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    os.close(nothing)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
