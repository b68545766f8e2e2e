"""One recording of the page: read in blocks, and kept in a size that hardly grows with its length.

Shape legend: N tokens, C width, M mel bands, S segments, R rows of a picture.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from omar_rq.model import OmarRQ
from omar_rq.streaming import stream_embeddings
from pentatonic.audio_folder.reading import ReadOptions, Stream, open_audio
from pentatonic.mel import MelFrontend
from pentatonic.report import is_embeddable

SEGMENT_S = 3.0
"""Length of the segments that are compared: long enough for a motif, short enough to point at."""

PICTURE_ROWS = 1000
"""Most rows of a self-similarity matrix, and most columns of a spectrogram: what a page has pixels for."""

PLAYER_BYTES = 8 * 2**20
"""Largest file that a page embeds as it is; larger ones are encoded for it."""

PLAYER_S = 2 * 3600.0
"""Longest sound of a player: 36 MB as it is encoded here."""

_ENCODED_SAMPLES = 1 << 16  # libsndfile's Vorbis encoder overflows its stack on one long write


@dataclass(frozen=True)
class Recording:
    """One embedded recording.

    Attributes:
        path: The file.
        duration_s: Seconds that were read.
        n_tokens: Tokens of the model, N.
        mean: Mean over all tokens, (C,).
        overview: Means of equal stretches, at most ``PICTURE_ROWS``: (R, C).
        segments: Means of ``segment_s`` seconds each: (S, C).
        segment_s: Length of a segment: ``SEGMENT_S``, rounded to whole tokens.
        spectrogram: Log-mel spectrogram, (M, R).
        sound: What the player plays: the file, or an encoded one in memory.
        sound_s: Seconds of it.
        flags: What is unusual about the signal, see :class:`pentatonic.audio_folder.reading.MeasuredBlocks`.
    """

    path: Path
    duration_s: float
    n_tokens: int
    mean: Tensor
    overview: Tensor
    segments: Tensor
    segment_s: float
    spectrogram: Tensor
    sound: Path | bytes
    sound_s: float
    flags: list[str]

    @property
    def name(self) -> str:
        """Name to show."""
        return self.path.stem.replace("_", " ")


def read_recording(model: OmarRQ, path: Path, stream: Stream, reading: ReadOptions) -> Recording:
    """Embed one file with the last layer; the file is decoded twice.

    Args:
        model: The model, in evaluation mode.
        path: The file.
        stream: As :func:`pentatonic.audio.stream`.
        reading: What is read of it.

    Raises:
        AudioError: It cannot be read, or is too short.
    """
    open_at = partial(open_audio, path, stream=stream, reading=reading)

    tokens_per_segment = max(1, round(SEGMENT_S * model.embedding_rate_hz))
    overview, segments = MeanRows(most=PICTURE_ROWS), MeanRows(tokens_per_segment)
    total, n_tokens = torch.zeros(model.config.net.embed_dim, dtype=torch.float64), 0
    signal = open_at(sample_rate=model.sample_rate)
    for (piece,) in stream_embeddings(model, signal):
        tokens = piece.cpu()
        total, n_tokens = total + tokens.double().sum(0), n_tokens + len(tokens)
        overview.add(tokens)
        segments.add(tokens)

    mel, spectrogram = MelFrontend.preset("omar-rq-16k"), MeanRows(most=PICTURE_ROWS)
    heard: Iterable[Tensor] = open_at(sample_rate=mel.config.sample_rate, note=" (picture)")
    encoded = None if _is_played_as_it_is(path, reading) else io.BytesIO()
    if encoded is not None:
        heard = _encode(heard, mel.config.sample_rate, encoded)
    for frames in mel.stream(heard):
        spectrogram.add(frames.T)
    return Recording(
        path=path,
        duration_s=signal.duration_s,
        n_tokens=n_tokens,
        mean=(total / n_tokens).float(),
        overview=overview.rows(),
        segments=segments.rows(),
        segment_s=tokens_per_segment / model.embedding_rate_hz,
        spectrogram=spectrogram.rows().T,
        sound=path if encoded is None else encoded.getvalue(),
        sound_s=signal.duration_s if encoded is None else min(signal.duration_s, PLAYER_S),
        flags=signal.flags,
    )


def _is_played_as_it_is(path: Path, reading: ReadOptions) -> bool:
    return not reading.is_excerpt and path.stat().st_size <= PLAYER_BYTES and is_embeddable(path)


def _encode(blocks: Iterable[Tensor], sample_rate: int, out: io.BytesIO) -> Iterator[Tensor]:
    """Pass blocks on, and encode their first ``PLAYER_S`` seconds as Ogg Vorbis."""
    room = round(PLAYER_S * sample_rate)
    with soundfile.SoundFile(out, "w", sample_rate, 1, "VORBIS", format="OGG") as file:
        for block in blocks:
            for part in block[:room].split(_ENCODED_SAMPLES):
                file.write(part.numpy())
            room -= min(room, len(block))
            yield block


class MeanRows:
    """Means of consecutive rows (n, C) that arrive in pieces of any sizes.

    Args:
        length: Rows of one mean.
        most: Most means. When there are more, each pair of neighbours becomes one, and ``length`` doubles. None: any
            number.
    """

    def __init__(self, length: int = 1, most: int | None = None) -> None:
        self.length, self.most = length, most
        self._means = self._pending = torch.zeros(0, 0)

    def add(self, rows: Tensor) -> None:
        """Continue with the next rows."""
        if not self._means.shape[1]:
            self._means = self._pending = rows[:0]
        rows = torch.cat((self._pending, rows))
        whole = len(rows) // self.length * self.length
        self._pending = rows[whole:].clone()  # not a view, which would keep all rows in memory
        self._append(rows[:whole].unflatten(0, (-1, self.length)).mean(1))

    def rows(self) -> Tensor:
        """Return the means, (R, C); a last one of fewer rows counts if it has half of them, or is the only one."""
        n_pending = len(self._pending)
        if n_pending == 0 or (len(self._means) and 2 * n_pending < self.length):
            return self._means
        return torch.cat((self._means, self._pending.mean(0, keepdim=True)))

    def _append(self, means: Tensor) -> None:
        self._means = torch.cat((self._means, means))
        while self.most is not None and len(self._means) > self.most:
            even = len(self._means) // 2 * 2
            # As many rows as the mean without a partner stands for, with the same mean.
            alone = self._means[even:].repeat_interleave(self.length, dim=0)
            self._pending = torch.cat((alone, self._pending))
            self._means = self._means[:even].unflatten(0, (-1, 2)).mean(1)
            self.length *= 2
