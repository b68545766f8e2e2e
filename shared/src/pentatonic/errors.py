"""The exception hierarchy of the workspace.

Every error that a user can cause derives from :class:`PentatonicError`. A message says what was wrong, where, and
what would be allowed. Errors about input also derive from ``ValueError``, so that callers can catch them
without importing this package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


class PentatonicError(Exception):
    """Base of every error raised on purpose by a Pentatonic package."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors are pickled in worker processes, and most constructors take other arguments than the message.
        return restore_error, (type(self), self.args, self.__dict__)


def restore_error(
    kind: type[PentatonicError], args: tuple[Any, ...], state: dict[str, Any]
) -> PentatonicError:
    """Rebuild an error that another process raised.

    Args:
        kind: Its class.
        args: Its ``args``.
        state: Its attributes.
    """
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class UsageError(PentatonicError, ValueError):
    """An argument or option is wrong; command lines exit with status 2."""


class ConfigError(PentatonicError, ValueError):
    """A configuration file or key is wrong."""


class InputError(PentatonicError, ValueError):
    """An input file or array cannot be used."""


class FormatError(InputError):
    """A text or binary file does not follow its format.

    Args:
        reason: What is wrong, and what would be allowed.
        path: The file, when there is one.
        line: 1-based line number.
        column: 1-based column number.
    """

    def __init__(
        self,
        reason: str,
        *,
        path: str | Path | None = None,
        line: int | None = None,
        column: int | None = None,
    ) -> None:
        self.reason, self.path, self.line, self.column = reason, path, line, column
        where = ":".join(str(part) for part in (path, line, column) if part is not None)
        super().__init__(f"{where}: {reason}" if where else reason)


class IncompatibleVectors(InputError):
    """Stored vectors were made by another model, or in another way, than those that they should be mixed with."""


class AudioError(InputError):
    """An audio file or signal cannot be used.

    Args:
        path: The file, or a name for a signal that does not come from a file.
        reason: What is wrong, and what would be allowed.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path}: {reason}")


class AudioFileNotFound(AudioError):
    """The path is missing, or is not a regular file."""


class UnsupportedFormat(AudioError):
    """The content is not audio that an installed decoder reads."""


class CorruptAudio(AudioError):
    """Decoding failed inside the file.

    Args:
        path: The file.
        reason: What is wrong.
        samples_decoded: Samples per channel that were decoded before the damage.
    """

    def __init__(self, path: str | Path, reason: str, samples_decoded: int = 0) -> None:
        self.samples_decoded = samples_decoded
        super().__init__(path, reason)


class TruncatedAudio(CorruptAudio):
    """The file is shorter than its header states."""


class EmptyAudio(AudioError):
    """There are no samples."""


class SilentAudio(AudioError):
    """The signal is too quiet to mean anything to the model."""


class NonFiniteAudio(AudioError):
    """There are NaN or infinite samples."""


class AudioTooShort(AudioError):
    """There are fewer samples than the operation needs."""


class AudioLimitExceeded(AudioError):
    """Duration, channel count, sample rate or file size is beyond the stated limit."""


class CheckpointError(PentatonicError):
    """A checkpoint cannot be written, found or used."""


class CorruptCheckpoint(CheckpointError):
    """A checkpoint file is missing, truncated or altered; the message names the file."""


class WeightsError(CheckpointError, ValueError):
    """The tensors of a checkpoint do not fit the model: missing, unexpected or of another shape."""


class RunFolderInUse(PentatonicError):
    """Another process trains in the run folder; the message says which."""


class HubError(PentatonicError):
    """A model was not found, or could not be downloaded."""


class BackendUnavailable(PentatonicError, RuntimeError):
    """A back end that was requested by name cannot run here; the message says why."""


class MissingExtra(PentatonicError, ImportError):
    """An optional dependency is not installed.

    Args:
        feature: What needs it, as the start of a sentence.
        extra: The extra to install, such as ``omar-rq[train]``.
    """

    def __init__(self, feature: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{feature} needs the extra {extra!r}: pip install '{extra}'")
