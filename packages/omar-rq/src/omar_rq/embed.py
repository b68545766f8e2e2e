"""Embeddings and tokens of audio files, as ``.npz`` files or one Parquet table.

A run over a folder calls three stages for each file, by :func:`pentatonic.folder_run.run_files`:
:func:`read_audio`, then :func:`compute_embeddings` or :func:`compute_tokens`, and
:func:`omar_rq.npz_folder.write_content`.

Shape legend: L layers, N tokens, C width, K token streams.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from omar_rq.model import OmarRQ, layer_indices
from omar_rq.npz_folder import MADE_BY, NpzContent, Spooled, is_made_by, npz_targets, write_content
from omar_rq.parquet_table import import_pyarrow, write_parquet
from omar_rq.streaming import DEFAULT_CONTEXT_S, stream_embeddings
from omar_rq.tokens import Tokenizer
from pentatonic import audio, folder_run
from pentatonic.cli import BatchReport, run_manifest
from pentatonic.errors import AudioError, ConfigError, InputError, UsageError
from pentatonic.folder_run import REPORT_FILE, RUN_FILE, claim_folder, made_from, run_files, write_json

Stream = Callable[..., Iterator[Tensor]]
"""Reads a file as :func:`pentatonic.audio.stream` does."""

Pool = Literal["none", "mean"]
Store = Literal["float32", "float16"]
Format = Literal["npz", "parquet"]

PARQUET_FILE = "embeddings.parquet"


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
    options = EmbeddingOptions(_sorted_layers(model, layers), context_s, pool, store, model_name)
    item = AudioItem(Path(path), made_by, stream(path, sample_rate=model.sample_rate, strict=strict))
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
    _check_choice("format", format, Format)
    if format == "parquet":
        import_pyarrow()  # fail fast
    options = EmbeddingOptions(_sorted_layers(model, layers), context_s, pool, store, model_name)
    settings = {
        "command": "embed",
        "model": fingerprint(model),
        "layers": options.layers,
        "context_s": context_s,
        "pool": pool,
        "store": store,
        "strict": strict,
    }
    compute = partial(compute_embeddings, model=model, options=options, folder=Path(out))
    report = _run_folder(
        model, paths, Path(out), settings, compute, overwrite=overwrite, description="embedding"
    )
    if format == "parquet":
        good = {entry["path"] for entry in report.entries if entry["status"] != "failed"}
        parts = {
            target.relative_to(out).as_posix().removesuffix(".npz"): target
            for source, target in npz_targets(paths, Path(out)).items()
            if str(source) in good
        }
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
        "model": folder_run.fingerprint(model.config.to_dict(), tokenizer.state_dict()),
        "strict": strict,
    }
    compute = partial(compute_tokens, model=model, tokenizer=tokenizer, model_name=model_name)
    return _run_folder(
        model, paths, Path(out), settings, compute, overwrite=overwrite, description="tokenizing"
    )


@dataclass(frozen=True)
class AudioItem:
    """One audio file that is being read.

    Args:
        source: The file.
        made_by: What its output will be made from, as stored in it.
        blocks: Its samples at the rate of the model, decoded as they are asked for.
    """

    source: Path
    made_by: str
    blocks: Iterable[Tensor]


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

    def __post_init__(self) -> None:
        _check_choice("pool", self.pool, Pool)
        _check_choice("store", self.store, Store)


def read_audio(
    source: Path, *, stream: Stream, sample_rate: int, strict: bool, settings: Mapping[str, object]
) -> AudioItem:
    """Open one file; the first stage of a run over a folder.

    Raises:
        OSError: There is no such file.
    """
    made_by = made_from(
        settings, source
    )  # before the audio is read: a file that changes meanwhile is not done
    return AudioItem(source, made_by, stream(source, sample_rate=sample_rate, strict=strict))


def compute_embeddings(
    items: Sequence[AudioItem], *, model: OmarRQ, options: EmbeddingOptions, folder: Path
) -> list[NpzContent]:
    """Embed files, one after the other; the second stage of ``omar-rq embed``.

    Args:
        items: The files.
        model: In evaluation mode.
        options: What to compute.
        folder: Where embeddings that are not pooled wait on disk, in files without a name.

    Raises:
        AudioError: The audio cannot be read, or is too short for one token.
        InputError: A value is beyond float16.
    """
    contents = []
    for item in items:
        blocks = _Counted(item.blocks)
        with _named_errors(item.source), ExitStack() as stack:
            pieces = stream_embeddings(model, blocks, options.layers, context_s=options.context_s)
            dtype = np.dtype(options.store)
            if options.pool == "mean":
                embeddings, n_tokens = _mean(pieces, dtype)
            else:
                # Beside the outputs and not in /tmp, which may be memory; without a name, so a kill leaves nothing.
                files = [stack.enter_context(tempfile.TemporaryFile(dir=folder)) for _ in options.layers]
                embeddings, n_tokens = _spool(pieces, files, dtype, model.config.net.embed_dim)
            times = {} if options.pool == "mean" else {"times_s": model.timestamps(n_tokens).numpy()}
            arrays = {"embeddings": embeddings, **times, "layers": np.array(options.layers)}
            contents.append(
                _content(model, item, arrays, n_tokens, blocks.n_samples, options.model_name, stack.pop_all())
            )
    return contents


def compute_tokens(
    items: Sequence[AudioItem], *, model: OmarRQ, tokenizer: Tokenizer, model_name: str
) -> list[NpzContent]:
    """Tokenise files, each in one piece; the second stage of ``omar-rq tokenize``.

    Raises:
        AudioError: The audio cannot be read, or is too short for one token.
    """
    contents = []
    for item in items:
        with _named_errors(item.source):
            samples = torch.cat([torch.zeros(0), *item.blocks])
            tokens = tokenizer.tokenize(samples, sample_rate=model.sample_rate)
            assert isinstance(tokens, Tensor)
        arrays = {
            "tokens": tokens[0].to(torch.int32).cpu().numpy(),
            "times_s": model.timestamps(tokens.shape[1]).numpy(),
            "codebook_sizes": np.array(tokenizer.codebook_sizes),
        }
        contents.append(_content(model, item, arrays, tokens.shape[1], len(samples), model_name, ExitStack()))
    return contents


def _run_folder(
    model: OmarRQ,
    paths: Sequence[str | Path],
    out: Path,
    settings: Mapping[str, object],
    compute: Callable[[Sequence[AudioItem]], list[NpzContent]],
    *,
    overwrite: bool,
    description: str,
) -> BatchReport:
    """Make one ``.npz`` per audio file, with ``run.json`` before and ``report.json`` after the work."""
    targets = npz_targets(paths, out)
    advice = "choose another folder, or overwrite it"
    claim_folder(out / RUN_FILE, settings, advice=advice, overwrite=overwrite)
    write_json(out / RUN_FILE, {"settings": settings, **run_manifest()})

    def is_done(source: Path, target: Path) -> bool:
        return is_made_by(target, made_from(settings, source))

    with audio.DecodingProcess() as decoder:
        report = run_files(
            targets,
            partial(
                read_audio,
                stream=decoder.stream,
                sample_rate=model.sample_rate,
                strict=bool(settings["strict"]),
                settings=settings,
            ),
            compute,
            write_content,
            description=description,
            is_done=None if overwrite else is_done,
        )
    report.write(out / REPORT_FILE)
    return report


def fingerprint(model: OmarRQ) -> str:
    """Return the SHA-256 of what decides a model's embeddings: configuration and weights, in their dtype."""
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith("tokenizer.")}
    return folder_run.fingerprint(model.config.to_dict(), weights)


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


def _content(
    model: OmarRQ,
    item: AudioItem,
    arrays: Mapping[str, Any],
    n_tokens: int,
    n_samples: int,
    model_name: str,
    files: ExitStack,
) -> NpzContent:
    """Add to the arrays of a file what all outputs have."""
    duration_s = n_samples / model.sample_rate
    scalars = {
        "eps": model.eps,
        "sample_rate": model.sample_rate,
        "duration_s": duration_s,
        "model": model_name,
        MADE_BY: item.made_by,
    }
    about = {"tokens": n_tokens, "duration_s": round(duration_s, 3)}
    return NpzContent({**arrays, **scalars}, about, files)


@contextmanager
def _named_errors(source: Path) -> Iterator[None]:
    """Name the file in errors about a signal in memory, which do not know it."""
    try:
        yield
    except AudioError as error:
        if error.path != source:
            error.path, error.args = source, (f"{source}: {error.reason}",)
        raise


def _sorted_layers(model: OmarRQ, layers: int | Iterable[int] | None) -> list[int]:
    return sorted(set(layer_indices(layers, len(model.trunk.blocks))))


def _check_choice(name: str, value: str, choices: Any) -> None:
    if value not in get_args(choices):
        raise UsageError(f"{name} is {value!r}; allowed: {', '.join(get_args(choices))}")
