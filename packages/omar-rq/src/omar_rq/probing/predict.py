"""``omar-rq predict``: embeddings of overlapping chunks, each embedded alone, in the layout of the original.

One ``.npz`` per recording is written as soon as it is done, in a tree that mirrors the inputs; a stopped run continues.

Shape legend: L layers, c chunks, N tokens of a chunk, C width.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from omar_rq.embed import fingerprint
from omar_rq.files.stages import Pool, Store, check_choice
from omar_rq.model import OmarRQ
from omar_rq.probing.chunks import LAST_CHUNK_RATIO, chunk_offsets, signal_chunks
from omar_rq.signals import layer_indices
from pentatonic.audio_folder.items import AudioItem, named_errors
from pentatonic.audio_folder.npz import MADE_BY, NpzContent, Spooled
from pentatonic.audio_folder.reading import DEFAULT_READING, ReadOptions
from pentatonic.audio_folder.run import run_audio_folder
from pentatonic.cli import BatchReport
from pentatonic.errors import AudioTooShort, EmptyAudio, InputError
from pentatonic.precision import number_type_name


@dataclass(frozen=True)
class ChunkOptions:
    """How a recording is cut, see :func:`omar_rq.probing.chunks.chunk_offsets`.

    Offsets are those of the original in seconds; they are counted at the rate of the model, where the original counts
    at the rate of the file.
    """

    chunk_s: float = 30.0
    overlap: float = 0.5
    last_chunk_ratio: float = LAST_CHUNK_RATIO


def predict_folder(
    model: OmarRQ,
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    layers: int | Iterable[int] | None = None,
    chunks: ChunkOptions = ChunkOptions(),
    pool: Pool = "none",
    store: Store = "float32",
    strict: bool = True,
    reading: ReadOptions = DEFAULT_READING,
    overwrite: bool = False,
    model_name: str = "",
) -> BatchReport:
    """Embed the chunks of audio files and of folders of them.

    Each ``.npz`` holds ``embeddings`` ``(L, c, N, C)``, or ``(L, c, C)`` with ``pool="mean"``; ``offsets_s`` ``(c,)``
    float64, where the chunks start; ``layers`` ``(L,)``, ascending; and the scalars ``chunk_s``, ``embedding_rate_hz``,
    ``sample_rate`` (of the model), ``duration_s`` of the recording, ``model`` and ``made_by``. The last chunk may end
    after the recording; zeros stand there.

    Args:
        model: The model, in evaluation mode.
        paths: Audio files and folders; ``out`` mirrors the folders below what they have in common.
        out: Folder to write, with ``run.json`` (settings, versions, hardware) and ``report.json`` beside the outputs.
        layers: Indices of trunk blocks, negative ones from the end; ``None``: the last.
        chunks: How recordings are cut.
        pool: ``"mean"``: the mean over the tokens of each chunk.
        store: Type of the stored numbers.
        strict: Damaged audio is an error; else what precedes the damage is embedded, with a ``UserWarning``.
        reading: Up to which limits files are read.
        overwrite: Compute everything again, and allow a folder that was made with other settings.
        model_name: Stored as ``model``.

    Returns:
        What became of each file.

    Raises:
        UsageError: There are no audio files, ``out`` was made with other settings, or an option is not allowed.
        AudioTooShort: A chunk would be too short for one token.
        LayerIndexError: A layer is out of range.
        CheckpointError: ``run.json`` or ``report.json`` cannot be written.
        OutputError: An output cannot be written; ``report.json`` has the files before.
    """
    check_choice("pool", pool, Pool)
    check_choice("store", store, Store)
    chunk_offsets(0, model.sample_rate, **asdict(chunks))  # fail fast
    if (size := round(chunks.chunk_s * model.sample_rate)) < model.frontend.min_samples:
        raise AudioTooShort("chunk", f"{size} samples; one token needs at least {model.frontend.min_samples}")
    indices = sorted(set(layer_indices(layers, len(model.trunk.blocks))))
    settings = {
        "command": "predict",
        "model": fingerprint(model),
        "dtype": number_type_name(model.embed.weight.dtype),
        "layers": indices,
        **asdict(chunks),
        "pool": pool,
        "store": store,
        "strict": strict,
        **asdict(reading),
    }

    def compute(items: Sequence[AudioItem]) -> list[NpzContent]:
        return [embed_chunks(item) for item in items]

    embed_chunks = partial(
        _embed_chunks,
        model=model,
        layers=indices,
        chunks=chunks,
        pool=pool,
        dtype=np.dtype(store),
        folder=Path(out),
        model_name=model_name,
    )
    return run_audio_folder(
        paths,
        out,
        compute,
        settings=settings,
        sample_rate=model.sample_rate,
        decode=lambda item: item,
        share=lambda item: math.inf,
        description="embedding chunks",
        strict=strict,
        reading=reading,
        overwrite=overwrite,
    )


def _embed_chunks(
    item: AudioItem,
    *,
    model: OmarRQ,
    layers: Sequence[int],
    chunks: ChunkOptions,
    pool: Pool,
    dtype: np.dtype,
    folder: Path,
    model_name: str,
) -> NpzContent:
    """Embed one recording; what waits to be written is on disk."""
    with ExitStack() as files, named_errors(item.source), closing(item):
        spools = [files.enter_context(tempfile.TemporaryFile(dir=folder)) for _ in layers]
        offsets: list[int] = []
        shape: tuple[int, ...] = ()
        for offset, embeddings in _chunk_embeddings(item, model, layers, chunks):
            offsets.append(offset)
            rows = embeddings.mean(1) if pool == "mean" else embeddings
            shape = tuple(rows.shape[1:])
            if (largest := float(rows.abs().max())) > np.finfo(dtype).max:
                raise InputError(
                    f"{item.source}: an embedding of {largest:g} is beyond {dtype}; store float32"
                )
            for row, spool in zip(rows.cpu().numpy(), spools, strict=True):
                spool.write(row.astype(dtype).tobytes())
        if not offsets:
            raise EmptyAudio(item.source, "there are no samples")
        arrays = {
            "embeddings": Spooled((len(layers), len(offsets), *shape), dtype, spools),
            "offsets_s": np.array(offsets) / model.sample_rate,
            "layers": np.array(layers),
            "chunk_s": chunks.chunk_s,
            "embedding_rate_hz": model.embedding_rate_hz,
            "sample_rate": model.sample_rate,
            "duration_s": item.blocks.duration_s,
            "model": model_name,
            MADE_BY: item.made_by,
        }
        about: dict[str, object] = {
            "chunks": len(offsets),
            "duration_s": round(item.blocks.duration_s, 3),
            "dtype": number_type_name(model.embed.weight.dtype),
        }
        if flags := item.blocks.flags:
            about["flags"] = flags
        return NpzContent(arrays, about, files.pop_all())


def _chunk_embeddings(
    item: AudioItem, model: OmarRQ, layers: Sequence[int], chunks: ChunkOptions
) -> Iterator[tuple[int, Tensor]]:
    """Yield offset in samples and embeddings (L, N, C) of each chunk."""
    cut = signal_chunks(
        item.all_blocks(),
        size=round(chunks.chunk_s * model.sample_rate),
        overlap=chunks.overlap,
        last_chunk_ratio=chunks.last_chunk_ratio,
    )
    for offset, chunk in cut:
        with torch.inference_mode():
            yield offset, model.extract_embeddings(chunk, layers, sample_rate=model.sample_rate)[:, 0]
