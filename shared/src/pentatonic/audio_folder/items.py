"""A recording on its way through a run: opened, its start decoded ahead of the computation, then read to its end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from pentatonic.audio_folder.reading import DEFAULT_READING, MeasuredBlocks, ReadOptions, Stream, open_audio
from pentatonic.errors import AudioError
from pentatonic.folder_run import made_from


@dataclass(frozen=True)
class AudioItem:
    """One recording that is being read.

    Args:
        source: The file.
        made_by: What its output will be made from, as stored in it.
        blocks: Its samples at the rate of the model, decoded as they are asked for.
        start_s: Where they start in the file.
        start: Blocks that were taken from ``blocks`` and decoded already, by :func:`decode_ahead`.
        whole: ``start`` is all there is.
    """

    source: Path
    made_by: str
    blocks: MeasuredBlocks
    start_s: float = 0.0
    start: Sequence[Tensor] = ()
    whole: bool = False

    @property
    def n_decoded(self) -> int:
        """Samples that were decoded already."""
        return sum(map(len, self.start))

    def all_blocks(self) -> Iterator[Tensor]:
        """Yield the samples from the start."""
        return chain(self.start, self.blocks)

    def samples(self) -> Tensor:
        """Return all samples, (n,); what was not decoded yet is decoded."""
        return _joined(self.start if self.whole else list(self.all_blocks()))

    def close(self) -> None:
        """Read no further, so that the decoder can take another file."""
        self.blocks.close()


def read_audio(
    source: Path,
    *,
    stream: Stream,
    sample_rate: int,
    strict: bool,
    settings: Mapping[str, object],
    reading: ReadOptions = DEFAULT_READING,
) -> AudioItem:
    """Open one recording; the first stage of a run over a folder.

    Args:
        source: The file.
        stream: Reads it.
        sample_rate: That of the model, in Hz.
        strict: Damage is an error; else what precedes it is read, with a ``UserWarning``.
        settings: What decides the outputs of the run.
        reading: What is read.

    Raises:
        OSError: There is no such file.
    """
    # Before the audio is read: a file that changes meanwhile is not done.
    made_by = made_from(settings, source)
    blocks = open_audio(source, stream=stream, sample_rate=sample_rate, strict=strict, reading=reading)
    return AudioItem(source, made_by, blocks, reading.start_s)


def decode_ahead(
    item: AudioItem,
    *,
    sample_rate: int,
    seconds: float,
    check: Callable[[Tensor], None] = lambda samples: None,
) -> AudioItem:
    """Decode the start of a recording, all of it if it is not longer than asked for; belongs to the first stage.

    Args:
        item: From :func:`read_audio`.
        sample_rate: That of the model, in Hz.
        seconds: How much to decode ahead; a longer recording is read on while it is computed.
        check: Refuses the samples (1, n) of a whole recording, such as ``check`` of a model's front end.

    Returns:
        The item with its ``start``.

    Raises:
        AudioError: The audio cannot be read, or is refused.
    """
    most = math.ceil(seconds * sample_rate)
    start: list[Tensor] = []
    n_samples = 0
    for block in item.blocks:
        start.append(block)
        n_samples += len(block)
        if n_samples > most:
            return replace(item, start=start)
    samples = _joined(start)
    with named_errors(item.source):
        check(samples[None])
    return replace(item, start=[samples], whole=True)


def _joined(blocks: Sequence[Tensor]) -> Tensor:
    return blocks[0] if len(blocks) == 1 else torch.cat([torch.zeros(0), *blocks])


@contextmanager
def named_errors(*sources: Path) -> Iterator[None]:
    """Name the file, if it is one, in errors about a signal in memory, which do not name one."""
    try:
        yield
    except AudioError as error:
        if len(sources) == 1 and error.path != sources[0]:
            error.path, error.args = sources[0], (f"{sources[0]}: {error.reason}",)
        raise
