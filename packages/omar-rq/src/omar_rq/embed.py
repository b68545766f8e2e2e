"""Embeddings and tokens of audio files, as ``.npz`` files; :mod:`omar_rq.catalogue` has the Parquet data set.

A folder goes through :func:`pentatonic.audio_folder.run.run_audio_folder`, with the computing stages of
:mod:`omar_rq.files.stages`.

Shape legend: L layers, N tokens, C width, K token streams.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from omar_rq.files.batches import DEFAULT_BATCH
from omar_rq.files.stages import (
    EmbeddingOptions,
    Pool,
    Store,
    audio_share,
    compute_embeddings,
    compute_tokens,
    pass_s,
)
from omar_rq.model import OmarRQ
from omar_rq.quantize import number_type, rounded_weights
from omar_rq.signals import layer_indices
from omar_rq.streaming import DEFAULT_CONTEXT_S
from pentatonic import audio, folder_run
from pentatonic.audio_folder.items import AudioItem, decode_ahead
from pentatonic.audio_folder.npz import write_content
from pentatonic.audio_folder.reading import DEFAULT_READING, ReadOptions, Stream, open_audio
from pentatonic.audio_folder.run import run_audio_folder
from pentatonic.cli import BatchReport
from pentatonic.errors import ConfigError


def embed_file(
    model: OmarRQ,
    path: str | Path,
    out: str | Path,
    *,
    layers: int | Iterable[int] | None = None,
    context_s: float | None = DEFAULT_CONTEXT_S,
    pool: Pool = "none",
    store: Store = "float32",
    strict: bool = True,
    reading: ReadOptions = DEFAULT_READING,
    model_name: str = "",
    made_by: str = "",
    stream: Stream = audio.stream,
) -> dict[str, Any]:
    """Embed one audio file of any length, with memory that does not grow with it.

    The ``.npz`` holds ``embeddings`` ``(L, N, C)``, or ``(L, C)`` with ``pool="mean"``; ``times_s`` and ``centres_s``,
    each ``(N,)`` float64 (not with a pool), where each token starts and the centre of the audio that it is made of, as
    :meth:`OmarRQ.timestamps` and :meth:`OmarRQ.centres`; ``layers`` ``(L,)``, ascending; and the scalars
    ``embedding_rate_hz`` (tokens per second; also as ``eps``, the original's name), ``sample_rate`` (of the model),
    ``start_s`` and ``duration_s`` of what was read, ``model`` and ``made_by``. All times are places in the file: with a
    start at 30 s, ``times_s`` begins with 30.

    Args:
        model: The model, in evaluation mode.
        path: The audio file; any rate and number of channels.
        out: The ``.npz`` to write; its folder must exist.
        layers: Indices of trunk blocks, negative ones from the end; ``None``: the last.
        context_s: Reach of attention, see :func:`omar_rq.streaming.stream_embeddings`.
        pool: ``"mean"``: the mean over all tokens.
        store: Type of the stored numbers.
        strict: Damaged audio is an error; else what precedes the damage is embedded, with a ``UserWarning``.
        reading: Which part of the file is read, and up to which limits.
        model_name: Stored as ``model``.
        made_by: Stored as ``made_by``.
        stream: Reads the audio; that of a :class:`pentatonic.audio.DecodingProcess` survives crashes of decoders.

    Returns:
        ``tokens``, N, ``duration_s``, and ``flags`` where the signal is unusual, see
        :attr:`pentatonic.audio_folder.reading.MeasuredBlocks.flags`.

    Raises:
        UsageError: An option has a value that is not allowed.
        AudioError: The audio cannot be read, or is too short for one token.
        InputError: A value is beyond float16.
        LayerIndexError: A layer is out of range.
        CheckpointError: The file cannot be written.
    """
    options = EmbeddingOptions(_sorted_layers(model, layers), context_s, pool, store, model_name)
    blocks = open_audio(path, stream=stream, sample_rate=model.sample_rate, strict=strict, reading=reading)
    item = AudioItem(Path(path), made_by, blocks, reading.start_s)
    item = decode_ahead(
        item, sample_rate=model.sample_rate, seconds=pass_s(context_s), check=model.frontend.check
    )
    (content,) = compute_embeddings([item], model=model, options=options, folder=Path(out).parent)
    return dict(write_content(content, Path(out)))


def embed_folder(
    model: OmarRQ,
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    layers: int | Iterable[int] | None = None,
    context_s: float | None = DEFAULT_CONTEXT_S,
    pool: Pool = "none",
    store: Store = "float32",
    strict: bool = True,
    reading: ReadOptions = DEFAULT_READING,
    overwrite: bool = False,
    model_name: str = "",
    batch: int = DEFAULT_BATCH,
) -> BatchReport:
    """Embed audio files and folders of them; each becomes a file as :func:`embed_file` writes it.

    A run that was stopped continues when the same call is made again: files whose output was made with the same
    settings, from a source of the same size and time, are not computed again. Bad files are reported, and change
    nothing for the others.

    Args:
        model: The model, in evaluation mode.
        paths: Audio files and folders; ``out`` mirrors the folders below what they have in common.
        out: Folder to write, with ``run.json`` (settings, versions, hardware) and ``report.json`` beside the outputs.
        layers: As :func:`embed_file`.
        context_s: As :func:`embed_file`.
        pool: As :func:`embed_file`.
        store: As :func:`embed_file`.
        strict: As :func:`embed_file`.
        reading: As :func:`embed_file`.
        overwrite: Compute everything again, and allow a folder that was made with other settings.
        model_name: As :func:`embed_file`.
        batch: Most files that go through the model together; fewer of long ones do. Results are equal for any number
            up to float rounding.

    Returns:
        What became of each file.

    Raises:
        UsageError: There are no audio files, ``out`` was made with other settings, or an option is not allowed.
        LayerIndexError: A layer is out of range.
        CheckpointError: ``run.json`` or ``report.json`` cannot be written.
        OutputError: An output cannot be written; ``report.json`` has the files before.
    """
    options = embedding_options(model, layers, context_s, pool, store, model_name, batch)
    settings = embedding_settings(model, options, strict, reading)
    decode = partial(
        decode_ahead, sample_rate=model.sample_rate, seconds=pass_s(context_s), check=model.frontend.check
    )
    return run_audio_folder(
        paths,
        out,
        partial(compute_embeddings, model=model, options=options, folder=Path(out)),
        settings=settings,
        sample_rate=model.sample_rate,
        decode=decode,
        share=partial(audio_share, model=model, batch=batch),
        description="embedding",
        strict=strict,
        reading=reading,
        overwrite=overwrite,
    )


def embedding_options(
    model: OmarRQ,
    layers: int | Iterable[int] | None,
    context_s: float | None,
    pool: Pool,
    store: Store,
    model_name: str,
    batch: int | None = None,
) -> EmbeddingOptions:
    """Return the options of a run for a model; arguments and errors as of :func:`embed_folder`."""
    batch = DEFAULT_BATCH if batch is None else batch
    return EmbeddingOptions(_sorted_layers(model, layers), context_s, pool, store, model_name, batch)


def embedding_settings(
    model: OmarRQ, options: EmbeddingOptions, strict: bool, reading: ReadOptions
) -> dict[str, Any]:
    """Return what decides the embeddings of a run, as JSON values."""
    return {
        "command": "embed",
        "model": fingerprint(model),
        "dtype": number_type(model),
        "layers": options.layers,
        "context_s": options.context_s,
        "pool": options.pool,
        "store": options.store,
        "strict": strict,
        **asdict(reading),
    }


def tokenize_folder(
    model: OmarRQ,
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    strict: bool = True,
    reading: ReadOptions = DEFAULT_READING,
    overwrite: bool = False,
    model_name: str = "",
) -> BatchReport:
    """Tokenise audio files and folders of them; continues and reports as :func:`embed_folder`.

    Each ``.npz`` holds ``tokens`` ``(N, K)`` int32, ``codebook_sizes`` ``(K,)``, and the times and scalars of
    :func:`embed_file`. A file is tokenised in one piece.

    Args:
        model: A model with its tokenizer (``quantization_targets=True``).
        paths: As :func:`embed_folder`.
        out: As :func:`embed_folder`.
        strict: As :func:`embed_folder`.
        reading: As :func:`embed_folder`.
        overwrite: As :func:`embed_folder`.
        model_name: As :func:`embed_folder`.

    Returns:
        What became of each file.

    Raises:
        ConfigError: The model has no tokenizer.
        UsageError: There are no audio files, or ``out`` was made with other settings.
        CheckpointError: ``run.json`` or ``report.json`` cannot be written.
        OutputError: An output cannot be written; ``report.json`` has the files before.
    """
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise ConfigError("the model has no tokenizer; load it with quantization_targets=True")
    settings = {
        "command": "tokenize",
        "model": folder_run.fingerprint(model.config, tokenizer.state_dict()),
        "strict": strict,
        **asdict(reading),
    }
    return run_audio_folder(
        paths,
        out,
        partial(compute_tokens, model=model, tokenizer=tokenizer, model_name=model_name),
        settings=settings,
        sample_rate=model.sample_rate,
        decode=partial(decode_ahead, sample_rate=model.sample_rate, seconds=pass_s(None)),
        share=partial(audio_share, model=model),
        description="tokenizing",
        strict=strict,
        reading=reading,
        overwrite=overwrite,
    )


def fingerprint(model: OmarRQ) -> str:
    """Return the SHA-256 of what decides a model's embeddings: configuration and weights, in their dtype."""
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith("tokenizer.")}
    return folder_run.fingerprint(model.config, weights | rounded_weights(model))


def _sorted_layers(model: OmarRQ, layers: int | Iterable[int] | None) -> list[int]:
    return sorted(set(layer_indices(layers, len(model.trunk.blocks))))
