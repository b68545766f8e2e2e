"""Decoding in a process of its own, so that a crash of native code costs one file and not the batch.

The decoder process reads one request per line of standard input and answers on standard output with frames: a line
of JSON, followed by raw float32 samples when it announces them. Nothing but text and numbers crosses the border.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from pentatonic import errors
from pentatonic.audio.reading import stream
from pentatonic.errors import AudioError, CorruptAudio, PentatonicError

# A block takes a decoder milliseconds; a file that keeps it busy for this long does so on purpose.
BLOCK_LIMIT_S = 120.0


class DecodingProcess:
    """A process that decodes one file after the other; started by the first file, and again after a crash.

    Use it as a context manager, from one thread.

    Args:
        block_limit_s: Seconds that one block may take before the decoder is stopped.
    """

    def __init__(self, *, block_limit_s: float = BLOCK_LIMIT_S) -> None:
        self.block_limit_s = block_limit_s
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Number of the decoder process, while there is one."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        """Stop the decoder process, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def stream(
        self, path: str | Path, *, sample_rate: int | None = None, strict: bool = True
    ) -> Iterator[Tensor]:
        """Read an audio file as mono blocks; arguments, blocks, warnings and errors as :func:`pentatonic.audio.stream`.

        Raises:
            CorruptAudio: Also where the decoder crashed, or took longer than ``block_limit_s`` for a block.
        """
        process = self._running()
        request = {"path": os.fsdecode(path), "sample_rate": sample_rate, "strict": strict}
        complete, n_samples = False, 0
        try:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            while True:
                frame, samples = self._frame(process)
                if samples is not None:
                    n_samples += len(samples)
                    yield samples
                    continue
                complete = True
                break
        except (BrokenPipeError, EOFError, ValueError) as crash:
            process.kill()
            reason = f"the decoder ended with status {process.wait()} in this file, or was stopped after "
            raise CorruptAudio(path, f"{reason}{self.block_limit_s:g} s", n_samples) from crash
        finally:
            if not complete:  # the rest of the file must not answer the next request
                self.close()
        for text in frame["warnings"]:
            warnings.warn(text, stacklevel=2)
        if frame["error"] is not None:
            raise _restored(path, frame["error"])

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            command = [sys.executable, "-c", f"from {__name__} import _serve; _serve()"]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self._process

    def _frame(self, process: subprocess.Popen[bytes]) -> tuple[dict[str, Any], Tensor | None]:
        assert process.stdout is not None
        guard = threading.Timer(self.block_limit_s, process.kill)
        guard.start()
        try:
            line = process.stdout.readline()
            if not line.endswith(b"\n"):
                raise EOFError
            frame = json.loads(line)
            if "samples" not in frame:
                return frame, None
            data = process.stdout.read(4 * frame["samples"])
        finally:
            guard.cancel()
        if len(data) != 4 * frame["samples"]:
            raise EOFError
        return frame, torch.from_numpy(np.frombuffer(data, np.float32).copy())


def _restored(path: str | Path, described: dict[str, Any]) -> PentatonicError:
    kind = getattr(errors, described["kind"])
    if issubclass(kind, CorruptAudio):
        return kind(path, described["reason"], described["samples_decoded"])
    return kind(path, described["reason"]) if issubclass(kind, AudioError) else kind(described["reason"])


def _serve() -> None:
    """Answer requests until there are no more; runs in the decoder process."""
    answers = sys.stdout.buffer
    for line in sys.stdin.buffer:
        request = json.loads(line)
        error: dict[str, Any] | None = None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                for block in stream(
                    request["path"], sample_rate=request["sample_rate"], strict=request["strict"]
                ):
                    answers.write(json.dumps({"samples": len(block)}).encode() + b"\n")
                    answers.write(block.contiguous().numpy().tobytes())
                    answers.flush()
            except PentatonicError as raised:
                error = {
                    "kind": type(raised).__name__,
                    "reason": getattr(raised, "reason", str(raised)),
                    "samples_decoded": getattr(raised, "samples_decoded", 0),
                }
        texts = [str(warning.message) for warning in caught if warning.category is UserWarning]
        answers.write(json.dumps({"warnings": texts, "error": error}).encode() + b"\n")
        answers.flush()
