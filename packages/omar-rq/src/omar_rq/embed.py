"""Embeddings and tokens of audio files, as ``.npz`` files or one Parquet table.

Shape legend: L layers, N tokens, C width, K token streams.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from omar_rq.model import OmarRQ
from omar_rq.npz_folder import MADE_BY, Spooled, mirrored, run_batch, write_npz
from omar_rq.signals import layer_indices
from omar_rq.streaming import DEFAULT_CONTEXT_S, stream_embeddings
from pentatonic import audio
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import BatchReport
from pentatonic.errors import ConfigError, InputError, MissingExtra, UsageError

Stream = Callable[..., Iterator[Tensor]]
"""Reads a file as :func:`pentatonic.audio.stream` does."""

Pool = Literal["none", "mean"]
Store = Literal["float32", "float16"]
Format = Literal["npz", "parquet"]

PARQUET_FILE = "embeddings.parquet"
# Rows of the Parquet table that are in memory at once.
_ROWS = 8192


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
    model_name: str = "",
    made_by: str = "",
    stream: Stream = audio.stream,
) -> dict[str, Any]:
    """Embed one audio file of any length, with memory that does not grow with it.

    The ``.npz`` holds ``embeddings`` ``(L, N, C)``, or ``(L, C)`` with ``pool="mean"``; ``times_s`` ``(N,)`` float64,
    where each token starts (not with a pool); ``layers`` ``(L,)``, ascending; and the scalars ``eps`` (tokens per
    second), ``sample_rate`` (of the model), ``duration_s``, ``model`` and ``made_by``.

    Args:
        model: The model, in evaluation mode.
        path: The audio file; any rate and number of channels.
        out: The ``.npz`` to write; its folder must exist.
        layers: Indices of trunk blocks, negative ones from the end; ``None``: the last.
        context_s: Reach of attention, see :func:`omar_rq.streaming.stream_embeddings`.
        pool: ``"mean"``: the mean over all tokens.
        store: Type of the stored numbers.
        strict: Damaged audio is an error; else what precedes the damage is embedded, with a ``UserWarning``.
        model_name: Stored as ``model``.
        made_by: Stored as ``made_by``.
        stream: Reads the audio; that of a :class:`pentatonic.audio.DecodingProcess` survives crashes of decoders.

    Returns:
        ``tokens``, N, and ``duration_s``.

    Raises:
        UsageError: An option has a value that is not allowed.
        AudioError: The audio cannot be read, or is too short for one token.
        InputError: A value is beyond float16.
        LayerIndexError: A layer is out of range.
        CheckpointError: The file cannot be written.
    """
    _check_choice("pool", pool, Pool)
    _check_choice("store", store, Store)
    out, dtype = Path(out), np.dtype(store)
    indices = sorted(set(layer_indices(layers, len(model.trunk.blocks))))
    blocks = _Counted(stream(path, sample_rate=model.sample_rate, strict=strict))
    pieces = stream_embeddings(model, blocks, indices, context_s=context_s)
    with ExitStack() as stack:
        if pool == "mean":
            embeddings, n_tokens = _mean(pieces, dtype)
        else:
            # Beside the output and not in /tmp, which may be memory; without a name, so a kill leaves nothing.
            files = [stack.enter_context(tempfile.TemporaryFile(dir=out.parent)) for _ in indices]
            embeddings, n_tokens = _spool(pieces, files, dtype, model.config.net.embed_dim)
        duration_s = blocks.n_samples / model.sample_rate
        times = {} if pool == "mean" else {"times_s": model.timestamps(n_tokens).numpy()}
        arrays = {
            "embeddings": embeddings,
            **times,
            "layers": np.array(indices),
            **_facts(model, model_name, duration_s, made_by),
        }
        write_npz(out, arrays)
    return {"tokens": n_tokens, "duration_s": round(duration_s, 3)}


def embed_folder(
    model: OmarRQ,
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    layers: int | Iterable[int] | None = None,
    context_s: float | None = DEFAULT_CONTEXT_S,
    pool: Pool = "none",
    store: Store = "float32",
    format: Format = "npz",
    strict: bool = True,
    overwrite: bool = False,
    model_name: str = "",
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
        format: ``"parquet"`` also joins all outputs into ``embeddings.parquet``, with the columns path, layer, token,
            time_s and embedding. The ``.npz`` files stay: a later run continues from them.
        strict: As :func:`embed_file`.
        overwrite: Compute everything again, and allow a folder that was made with other settings.
        model_name: As :func:`embed_file`.

    Returns:
        What became of each file.

    Raises:
        UsageError: There are no audio files, ``out`` was made with other settings, or an option is not allowed.
        LayerIndexError: A layer is out of range.
        MissingExtra: ``format="parquet"`` without ``omar-rq[parquet]``.
        CheckpointError: ``out`` cannot be written.
    """
    _check_choice("pool", pool, Pool)
    _check_choice("store", store, Store)
    _check_choice("format", format, Format)
    if format == "parquet":
        _pyarrow()  # missing? better known before the work than after
    indices = sorted(set(layer_indices(layers, len(model.trunk.blocks))))
    settings = {
        "command": "embed",
        "model": fingerprint(model),
        "layers": indices,
        "context_s": context_s,
        "pool": pool,
        "store": store,
        "strict": strict,
    }
    with audio.DecodingProcess() as decoder:
        work = partial(
            _embed_one,
            model,
            layers=indices,
            context_s=context_s,
            pool=pool,
            store=store,
            strict=strict,
            model_name=model_name,
            stream=decoder.stream,
        )
        report = run_batch(paths, Path(out), settings, work, overwrite=overwrite, description="embedding")
    if format == "parquet":
        good = {entry["path"] for entry in report.entries if entry["status"] != "failed"}
        parts = {name: Path(out, f"{name}.npz") for path, name in mirrored(paths) if str(path) in good}
        write_parquet(Path(out) / PARQUET_FILE, parts)
    return report


def tokenize_folder(
    model: OmarRQ,
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    strict: bool = True,
    overwrite: bool = False,
    model_name: str = "",
) -> BatchReport:
    """Tokenise audio files and folders of them; continues and reports as :func:`embed_folder`.

    Each ``.npz`` holds ``tokens`` ``(N, K)`` int32, ``times_s`` ``(N,)``, ``codebook_sizes`` ``(K,)`` and the scalars
    of :func:`embed_file`. A file is tokenised in one piece.

    Args:
        model: A model with its tokenizer (``quantization_targets=True``).
        paths: As :func:`embed_folder`.
        out: As :func:`embed_folder`.
        strict: As :func:`embed_folder`.
        overwrite: As :func:`embed_folder`.
        model_name: As :func:`embed_folder`.

    Returns:
        What became of each file.

    Raises:
        ConfigError: The model has no tokenizer.
        UsageError: There are no audio files, or ``out`` was made with other settings.
        CheckpointError: ``out`` cannot be written.
    """
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise ConfigError("the model has no tokenizer; load it with quantization_targets=True")
    settings = {
        "command": "tokenize",
        "model": _digest(model.config.to_dict(), tokenizer.state_dict()),
        "strict": strict,
    }

    def work(source: Path, target: Path, made_by: str) -> dict[str, Any]:
        blocks = decoder.stream(source, sample_rate=model.sample_rate, strict=strict)
        samples = torch.cat([torch.zeros(0), *blocks])
        tokens = tokenizer.tokenize(samples, sample_rate=model.sample_rate)
        assert isinstance(tokens, Tensor)
        duration_s = len(samples) / model.sample_rate
        arrays = {
            "tokens": tokens[0].to(torch.int32).cpu().numpy(),
            "times_s": model.timestamps(tokens.shape[1]).numpy(),
            "codebook_sizes": np.array(tokenizer.codebook_sizes),
            **_facts(model, model_name, duration_s, made_by),
        }
        write_npz(target, arrays)
        return {"tokens": tokens.shape[1], "duration_s": round(duration_s, 3)}

    with audio.DecodingProcess() as decoder:
        return run_batch(paths, Path(out), settings, work, overwrite=overwrite, description="tokenizing")


def write_parquet(path: Path, parts: Mapping[str, Path]) -> None:
    """Join ``.npz`` files of :func:`embed_file` into one table, a few thousand rows in memory at a time.

    Columns: ``path`` (string), ``layer`` (int32), ``token`` (int32) and ``time_s`` (float64), both null for pooled
    embeddings, and ``embedding`` (fixed-size list of C).

    Args:
        path: The Parquet file, written whole or not at all.
        parts: Value of the column ``path`` -> ``.npz`` file.

    Raises:
        MissingExtra: pyarrow is not installed.
        InputError: There are no parts.
        CheckpointError: The file cannot be written.
    """
    pa, parquet = _pyarrow()
    if not parts:
        raise InputError(f"{path}: no file could be embedded, so there is no table to write")
    with atomic_file(path) as file, ExitStack() as stack:
        writer = None
        for name, part in parts.items():
            for layer, tokens, rows, eps in _stored_rows(part):
                count, width = rows.shape
                pooled = tokens is None
                columns = {
                    "path": pa.array([name] * count, pa.string()),
                    "layer": pa.array(np.full(count, layer, dtype=np.int32)),
                    "token": pa.nulls(count, pa.int32()) if pooled else pa.array(tokens),
                    "time_s": pa.nulls(count, pa.float64()) if pooled else pa.array(tokens / eps),
                    "embedding": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), width),
                }
                table = pa.table(columns)
                if writer is None:
                    writer = stack.enter_context(parquet.ParquetWriter(file, table.schema))
                writer.write_table(table)


def fingerprint(model: OmarRQ) -> str:
    """Return the SHA-256 of what decides a model's embeddings: configuration and weights, in their dtype."""
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith("tokenizer.")}
    return _digest(model.config.to_dict(), weights)


def _digest(config: dict[str, Any], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class _Counted:
    """Blocks of samples, counted as they pass."""

    def __init__(self, blocks: Iterable[Tensor]) -> None:
        self.n_samples = 0
        self._blocks = blocks

    def __iter__(self) -> Iterator[Tensor]:
        for block in self._blocks:
            self.n_samples += len(block)
            yield block


def _mean(pieces: Iterable[list[Tensor]], dtype: np.dtype[Any]) -> tuple[np.ndarray, int]:
    """Return the mean over all tokens, (L, C), and N."""
    total, n_tokens = torch.zeros(()), 0
    for piece in pieces:
        total = total + torch.stack([rows.double().sum(0) for rows in piece]).cpu()
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


def _facts(model: OmarRQ, model_name: str, duration_s: float, made_by: str) -> dict[str, Any]:
    return {
        "eps": model.eps,
        "sample_rate": model.sample_rate,
        "duration_s": duration_s,
        "model": model_name,
        MADE_BY: made_by,
    }


def _embed_one(model: OmarRQ, source: Path, target: Path, made_by: str, **options: Any) -> dict[str, Any]:
    return embed_file(model, source, target, made_by=made_by, **options)


def _stored_rows(part: Path) -> Iterator[tuple[int, np.ndarray | None, np.ndarray, float]]:
    """Yield (layer, token numbers or None for a pool, rows (n, C), eps) of an ``.npz``, never loading it whole."""
    with np.load(part, allow_pickle=False) as stored:
        layers, eps = stored["layers"].tolist(), float(stored["eps"])
    with zipfile.ZipFile(part) as archive, archive.open("embeddings.npy") as member:
        np.lib.format.read_magic(member)
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
        width, pooled = shape[-1], len(shape) == 2
        n_rows = 1 if pooled else shape[1]
        for layer in layers:
            for start in range(0, n_rows, _ROWS):
                stop = min(start + _ROWS, n_rows)
                values = np.frombuffer(member.read((stop - start) * width * dtype.itemsize), dtype)
                tokens = None if pooled else np.arange(start, stop, dtype=np.int32)
                yield layer, tokens, values.reshape(-1, width), eps


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("A Parquet table", "omar-rq[parquet]") from error
    return pyarrow, pyarrow.parquet


def _check_choice(name: str, value: str, choices: Any) -> None:
    if value not in get_args(choices):
        raise UsageError(f"{name} is {value!r}; allowed: {', '.join(get_args(choices))}")
