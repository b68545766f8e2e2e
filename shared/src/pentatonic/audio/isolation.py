"""Decoding in a process of its own, so that a crash of native code fails one file and not the batch."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pentatonic.audio.decoding import NonFinite
from pentatonic.audio.limits import AudioLimits
from pentatonic.child_process import ChildFailure, ChildProcess, ClosedAtEnd, Message
from pentatonic.errors import AudioError, CorruptAudio

# A block takes a decoder milliseconds; a file that keeps it busy for this long does so on purpose.
BLOCK_LIMIT_S = 120.0
# Files are decoded in blocks of a few MB; one that makes a decoder allocate this much does so on purpose.
MEMORY_LIMIT_BYTES = 4 * 2**30
_DEFAULT_LIMITS = AudioLimits()


class DecodingProcess(ClosedAtEnd):
    """A process that decodes one file after the other; started by the first file, and again after a crash.

    Use it as a context manager, from one thread at a time.

    Args:
        block_limit_s: Seconds that one block may take before the decoder is stopped.
        memory_bytes: Memory that the decoder may allocate, where the system can limit it.
    """

    def __init__(
        self, *, block_limit_s: float = BLOCK_LIMIT_S, memory_bytes: int = MEMORY_LIMIT_BYTES
    ) -> None:
        self._child = ChildProcess(
            "pentatonic.audio.decoder:decode", seconds=block_limit_s, memory_bytes=memory_bytes
        )

    @property
    def pid(self) -> int | None:
        """Number of the decoder process, while there is one."""
        return self._child.pid

    def start(self) -> None:
        """Start the decoder process ahead of the first file; that takes it as long as to import NumPy."""
        self._child.start()

    def close(self) -> None:
        """Stop the decoder process, whatever it is doing."""
        self._child.close()

    def stream(
        self,
        path: str | Path,
        *,
        sample_rate: int | None = None,
        offset_s: float = 0.0,
        duration_s: float | None = None,
        strict: bool = True,
        nonfinite: NonFinite = "raise",
        limits: AudioLimits = _DEFAULT_LIMITS,
    ) -> Iterator[Tensor]:
        """Read an audio file as mono blocks; arguments, blocks, warnings and errors as :func:`pentatonic.audio.stream`.

        Raises:
            CorruptAudio: Also where the decoder crashed, needed too much memory, or took longer than ``block_limit_s``
                for a block.
        """
        absolute = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - the decoder works in another folder
        options = {"sample_rate": sample_rate, "offset_s": offset_s, "duration_s": duration_s}
        options |= {"strict": strict, "nonfinite": nonfinite}
        request = Message({"path": absolute, "options": options, "limits": asdict(limits)})
        n_samples = 0
        try:
            with closing(self._child.stream(request)) as answers:
                for answer in answers:
                    for text in answer.value:
                        warnings.warn(text.replace(absolute, os.fsdecode(path), 1), stacklevel=2)
                    if answer.data:
                        samples = torch.from_numpy(np.frombuffer(answer.data, np.float32))
                        n_samples += len(samples)
                        yield samples
        except ChildFailure as failure:
            raise CorruptAudio(path, f"the decoder {failure}", n_samples) from failure
        except AudioError as error:
            error.path, error.args = path, (f"{path}: {error.reason}",)
            raise
