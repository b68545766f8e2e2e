"""Banks of the original: a ``.npy`` file of vectors with a mapping, and files of numbers without any header."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from pentatonic.errors import FormatError, UsageError
from pentatonic.untrusted.files import regular_file_size
from rc_audioldm.bank.clips import read_clips
from rc_audioldm.bank.style_bank import StyleBank, read_vectors

PUBLISHED_DIMENSION = 512


def read_original(
    vectors: str | Path,
    mapping: str | Path,
    *,
    shape: tuple[int, int] | None = None,
    dimension: int = PUBLISHED_DIMENSION,
    root: Path | None = None,
) -> StyleBank:
    """Open a bank of the original. It does not say what made it, so nothing can be checked but its width.

    Args:
        vectors: ``.npy`` file of float32 rows.
        mapping: JSON lines with the ``path`` of each row.
        shape: Of a file without a header; see :func:`read_raw`.
        dimension: Width that the rows must have.
        root: Folder that the paths are relative to.

    Raises:
        FormatError: A file is missing or damaged, the bank is empty, or the rows are of another width.
    """
    rows = read_vectors(Path(vectors)) if shape is None else read_raw(vectors, shape)
    bank = StyleBank(rows, read_clips(Path(mapping)), None, root, str(vectors))
    if bank.dimension != dimension:
        raise FormatError(f"the vectors have {bank.dimension} dimensions; needed: {dimension}", path=vectors)
    return bank


def read_raw(
    path: str | Path, shape: tuple[int, ...], dtype: Literal["float32", "int32"] = "float32"
) -> np.ndarray:
    """Map a file of numbers without a header into memory, as the original's pair cache has them.

    Args:
        path: The file.
        shape: Of the array.
        dtype: Of the numbers.

    Raises:
        FormatError: The file is missing, or does not have as many numbers.
        UsageError: The shape has sizes below 1.
    """
    if not shape or min(shape) < 1:
        raise UsageError(f"the shape is {shape}; allowed: sizes from 1")
    size, needed = regular_file_size(path, error=FormatError), int(np.prod(shape, dtype=object)) * 4
    if size != needed:
        raise FormatError(f"has {size} bytes, and {shape} {dtype} numbers have {needed}", path=path)
    return np.memmap(path, dtype=dtype, mode="r", shape=shape)
