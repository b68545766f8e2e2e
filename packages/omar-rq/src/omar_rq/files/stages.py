"""The computing stages of embedding and tokenising files: plain functions, which any driver may call.

:mod:`pentatonic.audio_folder.items` opens a file and decodes its start, :func:`compute_embeddings` or
:func:`compute_tokens` gives what goes into its ``.npz``, and :func:`pentatonic.audio_folder.npz.write_content` writes
it.

Shape legend: L layers, N tokens, C width, K token streams.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from omar_rq.files.batches import DEFAULT_BATCH, ONE_PASS_S, batch_share, passes
from omar_rq.model import OmarRQ
from omar_rq.quantize import number_type
from omar_rq.streaming import stream_embeddings
from omar_rq.tokens import Tokenizer
from pentatonic.audio_folder.items import AudioItem, named_errors
from pentatonic.audio_folder.npz import MADE_BY, NpzContent, Spooled
from pentatonic.errors import InputError, UsageError

# Larger results wait on disk until they are written.
_IN_MEMORY_BYTES = 8 << 20

Pool = Literal["none", "mean"]
Store = Literal["float32", "float16"]


@dataclass(frozen=True)
class EmbeddingOptions:
    """Options of :func:`compute_embeddings`, as those of :func:`embed_file`; ``layers`` are ascending indices.

    Raises:
        UsageError: An option has a value that is not allowed.
    """

    layers: Sequence[int]
    context_s: float | None
    pool: Pool
    store: Store
    model_name: str
    batch: int = DEFAULT_BATCH

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise UsageError(f"batch is {self.batch}; allowed: 1 and more")
        check_choice("pool", self.pool, Pool)
        check_choice("store", self.store, Store)


def pass_s(context_s: float | None) -> float:
    """Return how many seconds of a recording are decoded ahead; longer ones are streamed.

    Args:
        context_s: Reach of attention; None: everything.
    """
    return ONE_PASS_S if context_s is None else min(context_s, ONE_PASS_S)


def audio_share(item: AudioItem, *, model: OmarRQ, batch: int = 1) -> float:
    """Return which part of a batch a file takes; see :func:`pentatonic.folder_run.run_files`."""
    if not item.whole:
        return math.inf
    return batch_share(item.n_decoded / model.sample_rate, batch=batch, device=_device(model))


def _device(model: OmarRQ) -> str:
    return model.embed.weight.device.type


def compute_embeddings(
    items: Sequence[AudioItem], *, model: OmarRQ, options: EmbeddingOptions, folder: Path
) -> list[NpzContent]:
    """Embed files; the second stage of ``omar-rq embed``.

    Whole files go through the model in one pass, several of similar length together; others are streamed, one after
    the other.

    Args:
        items: The files.
        model: In evaluation mode.
        options: What to compute.
        folder: Where large embeddings that are not pooled wait on disk, in files without a name.

    Returns:
        What to write, in the order of the items. It is the same for a file alone, up to float rounding.

    Raises:
        AudioError: The audio cannot be read, or is too short for one token.
        InputError: A value is beyond float16.
    """
    lengths_s = [item.n_decoded / model.sample_rate if item.whole else math.inf for item in items]
    contents: dict[int, NpzContent] = {}
    for group in passes(lengths_s, batch=options.batch, device=_device(model)):
        if items[group[0]].whole:
            together = _embed_whole([items[i] for i in group], model, options, folder)
            contents |= zip(group, together, strict=True)
        else:
            contents |= {i: _embed_streamed(items[i], model, options, folder) for i in group}
    return [contents[i] for i in range(len(items))]


def _embed_whole(
    items: Sequence[AudioItem], model: OmarRQ, options: EmbeddingOptions, folder: Path
) -> Iterator[NpzContent]:
    """Embed files in one pass."""
    signals = [item.samples() for item in items]
    with named_errors(*(item.source for item in items)):
        together = model.extract_embeddings(signals, options.layers, sample_rate=model.sample_rate)
    for item, embeddings in zip(items, together, strict=True):
        yield _embeddings_content(item, [list(embeddings)], model, options, folder)


def _embed_streamed(item: AudioItem, model: OmarRQ, options: EmbeddingOptions, folder: Path) -> NpzContent:
    """Embed a file of any length in bounded memory."""
    with named_errors(item.source), closing(item):
        pieces = stream_embeddings(model, item.all_blocks(), options.layers, context_s=options.context_s)
        return _embeddings_content(item, pieces, model, options, folder)


def _embeddings_content(
    item: AudioItem,
    pieces: Iterable[list[Tensor]],
    model: OmarRQ,
    options: EmbeddingOptions,
    folder: Path,
) -> NpzContent:
    """Return what to write of one file.

    Args:
        item: The file.
        pieces: Its embeddings, each piece a list with one (n, C) tensor per layer; one piece of a whole file.
        model: The model.
        options: What to store.
        folder: Where embeddings wait on disk.
    """
    dtype = np.dtype(options.store)
    with ExitStack() as files:
        if options.pool == "mean":
            embeddings, n_tokens = _mean(pieces, dtype)
        elif item.whole:
            (rows,) = pieces
            embeddings, n_tokens = _stored(torch.stack(rows).cpu().numpy(), dtype), len(rows[0])
            if embeddings.nbytes > _IN_MEMORY_BYTES:
                spool = files.enter_context(tempfile.TemporaryFile(dir=folder))
                spool.write(embeddings.data)
                embeddings = Spooled(embeddings.shape, dtype, [spool])
        else:
            # Beside the outputs and not in /tmp, which may be memory; without a name, so a kill leaves nothing.
            spools = [files.enter_context(tempfile.TemporaryFile(dir=folder)) for _ in options.layers]
            embeddings, n_tokens = _spool(pieces, spools, dtype, model.config.net.embed_dim)
        times = {} if options.pool == "mean" else _times(model, item, n_tokens)
        arrays = {"embeddings": embeddings, **times, "layers": np.array(options.layers)}
        content = _content(model, item, arrays, n_tokens, options.model_name, files.pop_all())
    return replace(content, about={**content.about, "dtype": number_type(model)})


def compute_tokens(
    items: Sequence[AudioItem], *, model: OmarRQ, tokenizer: Tokenizer, model_name: str
) -> list[NpzContent]:
    """Tokenise files, each in one piece; the second stage of ``omar-rq tokenize``.

    Raises:
        AudioError: The audio cannot be read, or is too short for one token.
    """
    contents = []
    for item in items:
        with named_errors(item.source), closing(item):
            samples = item.samples()
            tokens = tokenizer.tokenize(samples, sample_rate=model.sample_rate)
            assert isinstance(tokens, Tensor)
        arrays = {
            "tokens": tokens[0].to(torch.int32).cpu().numpy(),
            **_times(model, item, tokens.shape[1]),
            "codebook_sizes": np.array(tokenizer.codebook_sizes),
        }
        contents.append(_content(model, item, arrays, tokens.shape[1], model_name, ExitStack()))
    return contents


def _times(model: OmarRQ, item: AudioItem, n_tokens: int) -> dict[str, np.ndarray]:
    """Return where the tokens start and where their centres are, in seconds from the start of the file."""
    return {
        "times_s": item.start_s + model.timestamps(n_tokens).numpy(),
        "centres_s": item.start_s + model.centres(n_tokens).numpy(),
    }


def _mean(pieces: Iterable[list[Tensor]], dtype: np.dtype[Any]) -> tuple[np.ndarray, int]:
    """Return the mean over all tokens, (L, C), and N."""
    total, n_tokens = torch.zeros(()), 0
    for piece in pieces:
        total = total + torch.stack([rows.cpu().double().sum(0) for rows in piece])
        n_tokens += len(piece[0])
    return _stored((total / n_tokens).numpy(), dtype), n_tokens


def _spool(
    pieces: Iterable[list[Tensor]], files: Sequence[Any], dtype: np.dtype[Any], width: int
) -> tuple[Spooled, int]:
    """Put each layer into its file as the pieces come; return the whole, (L, N, C), and N."""
    n_tokens = 0
    for piece in pieces:
        n_tokens += len(piece[0])
        for rows, file in zip(piece, files, strict=True):
            file.write(_stored(rows.cpu().numpy(), dtype).tobytes())
    return Spooled((len(files), n_tokens, width), dtype, files), n_tokens


def _stored(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    limit = np.finfo(dtype).max
    if not np.all(np.abs(values) <= limit):
        raise InputError(
            f"an embedding is not finite or beyond {limit:g}, the largest {dtype}; store float32"
        )
    return values.astype(dtype)


def _content(
    model: OmarRQ,
    item: AudioItem,
    arrays: Mapping[str, Any],
    n_tokens: int,
    model_name: str,
    files: ExitStack,
) -> NpzContent:
    """Add to the arrays of a file what all outputs have."""
    scalars = {
        "embedding_rate_hz": model.embedding_rate_hz,
        "eps": model.embedding_rate_hz,
        "sample_rate": model.sample_rate,
        "start_s": item.start_s,
        "duration_s": item.blocks.duration_s,
        "model": model_name,
        MADE_BY: item.made_by,
    }
    about: dict[str, object] = {"tokens": n_tokens, "duration_s": round(item.blocks.duration_s, 3)}
    if flags := item.blocks.flags:
        about["flags"] = flags
    return NpzContent({**arrays, **scalars}, about, files)


def check_choice(name: str, value: str, choices: Any) -> None:
    """Refuse a value that is not one of a ``Literal``.

    Raises:
        UsageError: It is not allowed.
    """
    if value not in get_args(choices):
        raise UsageError(f"{name} is {value!r}; allowed: {', '.join(get_args(choices))}")
