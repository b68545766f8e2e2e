"""Features of many pieces in memory, read from what ``notagen embed`` or the original program wrote, or computed.

Shapes: n pieces, P width of a feature.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from notagen.clamp2.embedder import Encoder
from notagen.clamp2.embedding import embed_tree
from notagen.clamp2.feature_record import SUFFIX
from pentatonic.cli import BatchReport
from pentatonic.errors import FormatError, IncompatibleVectors, InputError
from pentatonic.folder_run import RUN_FILE, find_files
from pentatonic.search import VectorHeader, VectorStore
from pentatonic.untrusted.files import read_json, regular_file_size

STORE_SUFFIX = ".parquet"
_MAX_NPY_BYTES = 1 << 20  # a feature has some kilobytes
_MAX_RUN_BYTES = 1 << 20


@dataclass(frozen=True)
class FeatureSet:
    """Features of pieces.

    Args:
        names: Of the n pieces; tune 7 of ``a/book.abc`` is ``a/book-7``.
        vectors: ``(n, P)`` float32.
        header: What computed them; None: features of the original program, which does not say.
        where: Their origin, for messages.
    """

    names: list[str]
    vectors: np.ndarray
    header: VectorHeader | None
    where: str

    def require(self, header: VectorHeader | None, *, assume_same_model: bool = False) -> None:
        """Refuse features that cannot be compared with others.

        Args:
            header: Of the others.
            assume_same_model: Take features that do not say what made them for comparable ones.

        Raises:
            IncompatibleVectors: They were made by another model or in another way, or one side does not say.
        """
        require_header(self.header, header, self.where, assume_same_model=assume_same_model)


def require_header(
    found: VectorHeader | None, wanted: VectorHeader | None, where: str, *, assume_same_model: bool = False
) -> None:
    """Refuse features that cannot be compared with others.

    Args:
        found: Header of the features; None if they do not say what made them.
        wanted: Header of the others.
        where: Origin of the features, for the message.
        assume_same_model: Take features that do not say what made them for comparable ones.

    Raises:
        IncompatibleVectors: They were made by another model or in another way, or one side does not say.
    """
    if found is not None and wanted is not None:
        found.require(wanted, where)
    elif not assume_same_model:
        raise IncompatibleVectors(
            f"{where}: one side does not say which model made its features, as files of the original; "
            "--assume-same-model takes them for those of one model"
        )


def is_stored(path: Path) -> bool:
    """Whether a path holds features: a Parquet or ``.npy`` file, or a folder with ``.npy`` files."""
    if path.is_dir():
        return bool(find_files([path], [SUFFIX]))
    return path.suffix.lower() in (STORE_SUFFIX, SUFFIX)


def read_features(path: Path) -> FeatureSet:
    """Read stored features: a Parquet file, or ``.npy`` files of one feature each, alone or in a folder.

    Raises:
        InputError: There are none, or a file cannot be read.
        FormatError: A file holds something else; frames among others.
    """
    if path.suffix.lower() == STORE_SUFFIX:
        with VectorStore(path) as store:
            parts = [np.zeros((0, store.header.dimension), np.float32), *store.blocks()]
            features = FeatureSet(store.read_column(), np.concatenate(parts), store.header, str(path))
    else:
        folder = path if path.is_dir() else path.parent
        files = find_files([path], [SUFFIX])
        names = [file.relative_to(folder).as_posix().removesuffix(SUFFIX) for file in files]
        rows = [_read_row(file) for file in files]
        for file, row in zip(files, rows, strict=True):
            if row.shape != rows[0].shape:
                raise FormatError(
                    f"a feature of {len(row)} numbers beside others of {len(rows[0])}", path=file
                )
        vectors = np.stack(rows) if rows else np.zeros((0, 1), np.float32)
        features = FeatureSet(names, vectors, read_header(path), str(path))
    if not features.names:
        raise InputError(f"{path} holds no features")
    return features


def read_header(path: Path) -> VectorHeader | None:
    """Read what stored features say about themselves; None where they say nothing.

    Raises:
        InputError: They cannot be read.
    """
    if path.suffix.lower() == STORE_SUFFIX:
        with VectorStore(path) as store:
            return store.header
    return _header(path if path.is_dir() else path.parent)


def embed_now(embedder: Encoder, paths: Sequence[Path]) -> tuple[FeatureSet, BatchReport]:
    """Embed files and folders without keeping the features.

    Returns:
        The features, and what became of each file.

    Raises:
        InputError: No file could be embedded.
        PentatonicError: As for :func:`notagen.clamp2.embedding.embed_tree`.
    """
    where = ", ".join(map(str, paths))
    with TemporaryDirectory(prefix="notagen-") as folder:
        report = embed_tree(embedder, paths, Path(folder))
        try:
            features = read_features(Path(folder))
        except InputError:
            report.print_summary()
            raise InputError(f"no file of {where} could be embedded") from None
    return FeatureSet(features.names, features.vectors, embedder.header, where), report


def gather(paths: Sequence[Path], embedder: Callable[[], Encoder]) -> tuple[FeatureSet, BatchReport | None]:
    """Read the features of paths if they are stored, and compute them otherwise.

    Args:
        paths: One place of stored features; or files and folders of music and texts.
        embedder: Loads the encoder, if it is needed.

    Returns:
        The features, and what became of each file that was embedded.

    Raises:
        InputError: Stored features stand beside other inputs; or as for :func:`read_features` and :func:`embed_now`.
    """
    stored = [path for path in paths if is_stored(path)]
    if not stored:
        return embed_now(embedder(), paths)
    if len(paths) > 1:
        raise InputError(f"{stored[0]} holds stored features; allowed beside it: no other inputs")
    return read_features(stored[0]), None


def _read_row(path: Path) -> np.ndarray:
    if (size := regular_file_size(path, error=InputError)) > _MAX_NPY_BYTES:
        raise FormatError(f"{size:,} bytes are no feature of a piece; frames cannot be compared", path=path)
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise FormatError(f"cannot be read as an array ({error})", path=path) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        raise FormatError("holds no array of real numbers", path=path)
    if array.ndim not in (1, 2) or (array.ndim == 2 and len(array) != 1):
        raise FormatError(
            f"the shape is {array.shape}; allowed: (1, P), the feature of a piece; frames cannot be compared",
            path=path,
        )
    row = array.reshape(-1).astype(np.float32)
    if not (np.isfinite(row).all() and row.any()):
        raise FormatError("the feature is not finite, or all zero", path=path)
    return row


def _header(folder: Path) -> VectorHeader | None:
    """What the run that wrote a folder says about its features; None without it."""
    path = folder / RUN_FILE
    if not path.is_file():
        return None
    values = read_json(path, max_bytes=_MAX_RUN_BYTES, error=FormatError)
    header = values.get("header") if isinstance(values, dict) else None
    if header is None:
        raise FormatError("says nothing about features", path=path)
    return VectorHeader.from_json(json.dumps(header), str(path))
