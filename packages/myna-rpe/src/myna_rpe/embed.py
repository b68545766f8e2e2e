"""Embed audio files: one vector each, as ``.npz`` files.

A folder goes through :func:`pentatonic.audio_folder.run.run_audio_folder`: while the model computes one track, the next
is decoded in a process of its own, and its spectrogram computed. Shapes: F mel bands, T frames, O width of the vector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from myna_rpe.frontend import Frontend, Spectrogram
from myna_rpe.model import MynaEncoder
from myna_rpe.speed import announce_speed
from myna_rpe.whole_tracks import TrackEmbedding, TrackOptions, embed_tracks
from pentatonic import audio, folder_run
from pentatonic.audio_folder.items import AudioItem, named_errors
from pentatonic.audio_folder.npz import MADE_BY, NpzContent
from pentatonic.audio_folder.reading import DEFAULT_READING, ReadOptions, Stream, open_audio
from pentatonic.audio_folder.run import run_audio_folder
from pentatonic.cli import BatchReport
from pentatonic.errors import SilentAudio
from pentatonic.precision import number_type_name

# Chunks of different tracks that go through the model together.
_CHUNKS_OF_A_BATCH = 64


@dataclass(frozen=True)
class Track:
    """A recording whose spectrogram is computed; ready for the model.

    Attributes:
        source: The file.
        made_by: What its output will be made from.
        spectrogram: Its spectrogram.
        start_s: Where it starts in the file.
        duration_s: Length of what was read.
        flags: What is unusual about the signal, such as ``quiet (peak -72.0 dBFS)``.
    """

    source: Path
    made_by: str
    spectrogram: Spectrogram
    start_s: float
    duration_s: float
    flags: list[str]


def read_track(item: AudioItem, frontend: Frontend) -> Track:
    """Decode a recording and compute its spectrogram; the end of the first stage.

    Raises:
        AudioError: The audio cannot be read.
        SilentAudio: The front end gives the same for it as for the loudest music.
    """
    with named_errors(item.source):
        try:
            spectrogram = frontend(item.all_blocks())
        finally:
            item.close()
        if spectrogram.is_silent:
            raise SilentAudio(
                item.source,
                "silence, or so quiet that the front end cannot tell it from the loudest music; no embedding is made",
            )
    flags = list(item.blocks.flags)
    return Track(item.source, item.made_by, spectrogram, item.start_s, item.blocks.duration_s, flags)


def track_share(track: Track, *, model: MynaEncoder, options: TrackOptions) -> float:
    """Return which part of a batch a track takes; see :func:`pentatonic.folder_run.run_files`."""
    if options.mode == "track":
        return 1.0
    return math.ceil(track.spectrogram.mel.shape[1] / model.config.chunk_frames) / _CHUNKS_OF_A_BATCH


def compute_embeddings(
    tracks: Sequence[Track], *, model: MynaEncoder, options: TrackOptions
) -> list[TrackEmbedding]:
    """Embed tracks; the second stage.

    Args:
        tracks: The tracks.
        model: In evaluation mode.
        options: From :meth:`TrackOptions.resolved`.
    """
    return embed_tracks(model, [track.spectrogram.mel for track in tracks], options)


def flags_of(track: Track, embedding: TrackEmbedding) -> list[str]:
    """Return what is unusual about a track and its embedding; for most there is nothing."""
    if embedding.padded or track.spectrogram.padded:
        return [*track.flags, "padded (shorter than the model needs)"]
    return track.flags


def embed_file(
    model: MynaEncoder,
    path: str | Path,
    *,
    options: TrackOptions = TrackOptions(),  # noqa: B008 - frozen
    strict: bool = True,
    reading: ReadOptions = DEFAULT_READING,
    stream: Stream = audio.stream,
) -> Tensor:
    """Embed one audio file of any length.

    Args:
        model: In evaluation mode.
        path: The audio file; any rate and number of channels.
        options: How the track becomes a vector.
        strict: Damaged audio is an error; else what precedes the damage is embedded, with a ``UserWarning``.
        reading: Which part of the file is read, and up to which limits.
        stream: Reads the audio; that of a :class:`pentatonic.audio.DecodingProcess` survives crashes of decoders.

    Returns:
        ``(O,)`` float32.

    Raises:
        UsageError: The model cannot do what the options say.
        AudioError: The audio cannot be read, or is silence.
    """
    resolved = options.resolved(model.config)
    frontend = Frontend(model.config.frontend)
    blocks = open_audio(path, stream=stream, sample_rate=frontend.sample_rate, strict=strict, reading=reading)
    track = read_track(AudioItem(Path(path), "", blocks, reading.start_s), frontend)
    return compute_embeddings([track], model=model, options=resolved)[0].vector


def embed_folder(
    model: MynaEncoder,
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    options: TrackOptions = TrackOptions(),  # noqa: B008 - frozen
    store_chunks: bool = False,
    strict: bool = True,
    reading: ReadOptions = DEFAULT_READING,
    overwrite: bool = False,
    model_name: str = "",
) -> BatchReport:
    """Embed audio files and folders of them, one ``.npz`` each; continues a stopped run.

    Each holds ``embedding`` ``(O,)`` float32; with ``store_chunks`` also ``chunks`` ``(n, O)`` and ``chunk_starts_s``
    ``(n,)``; and the scalars ``mode``, ``aggregate``, ``output``, ``sample_rate`` (of the model), ``start_s`` and
    ``duration_s`` of what was read, ``model`` and ``made_by``.

    Args:
        model: In evaluation mode.
        paths: Audio files and folders; ``out`` mirrors the folders below what they have in common.
        out: Folder to write, with ``run.json`` (settings, versions, hardware) and ``report.json`` beside the outputs.
        options: How a track becomes a vector.
        store_chunks: Keep the vectors of the chunks as well.
        strict: As :func:`embed_file`.
        reading: As :func:`embed_file`.
        overwrite: Compute everything again, and allow a folder that was made with other settings.
        model_name: Stored as ``model``.

    Returns:
        What became of each file. Files that cannot be read, and silent ones, count as failed.

    Raises:
        UsageError: There are no audio files, ``out`` was made with other settings, or the model cannot do what the
            options say.
        CheckpointError: ``run.json`` or ``report.json`` cannot be written.
        OutputError: An output cannot be written; ``report.json`` has the files before.
    """
    options = options.resolved(model.config)
    frontend = Frontend(model.config.frontend)
    settings = {
        "command": "embed",
        "model": fingerprint(model),
        "dtype": number_type_name(model.norm.weight.dtype),
        **asdict(options),
        "store_chunks": store_chunks,
        "strict": strict,
        **asdict(reading),
    }

    def compute(tracks: Sequence[Track]) -> list[NpzContent]:
        embeddings = compute_embeddings(tracks, model=model, options=options)
        return [
            _content(track, embedding, frontend, model, options, model_name, store_chunks=store_chunks)
            for track, embedding in zip(tracks, embeddings, strict=True)
        ]

    announce_speed(model, options)
    return run_audio_folder(
        paths,
        out,
        compute,
        settings=settings,
        sample_rate=frontend.sample_rate,
        decode=partial(read_track, frontend=frontend),
        share=partial(track_share, model=model, options=options),
        description="embedding",
        strict=strict,
        reading=reading,
        overwrite=overwrite,
    )


def fingerprint(model: MynaEncoder) -> str:
    """Return the SHA-256 of what decides a model's embeddings: configuration and weights, in their dtype."""
    return folder_run.fingerprint(model.config, model.state_dict())


def _content(
    track: Track,
    embedding: TrackEmbedding,
    frontend: Frontend,
    model: MynaEncoder,
    options: TrackOptions,
    model_name: str,
    *,
    store_chunks: bool,
) -> NpzContent:
    arrays: dict[str, Any] = {
        "embedding": embedding.vector.numpy(),
        "mode": options.mode,
        "aggregate": options.aggregate or "none",
        "output": options.output,
        "sample_rate": frontend.sample_rate,
        "start_s": track.start_s,
        "duration_s": track.duration_s,
        "model": model_name,
        MADE_BY: track.made_by,
    }
    if store_chunks and embedding.chunks is not None:
        chunk_s = model.config.chunk_frames / frontend.frames_per_second
        starts_s = track.start_s + np.arange(len(embedding.chunks)) * chunk_s
        arrays |= {"chunks": embedding.chunks.numpy(), "chunk_starts_s": starts_s}
    about: dict[str, object] = {"duration_s": round(track.duration_s, 3)}
    if flags := flags_of(track, embedding):
        about["flags"] = flags
    return NpzContent(arrays, about, ExitStack())
