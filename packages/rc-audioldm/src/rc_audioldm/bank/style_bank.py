"""A style bank on the disk: a folder with ``bank.json``, ``vectors.npy``, ``mapping.jsonl`` and a manifest of hashes.

Row i of the vectors is line i of the mapping.

Shapes: N rows, Q queries, D dimensions.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pentatonic.checkpoint import atomic_directory
from pentatonic.errors import FormatError, InputError, UsageError
from pentatonic.search import Neighbours, top_k
from pentatonic.untrusted.files import file_inside, read_json, regular_file_size
from rc_audioldm.bank.clips import BankClip, read_clips, write_clips
from rc_audioldm.clap.header import ClapHeader

BANK, VECTORS, MAPPING = "bank.json", "vectors.npy", "mapping.jsonl"
_VERSION = 1
_EPSILON = 1e-9
_BLOCK_ROWS = 4096


@dataclass(frozen=True)
class StyleBank:
    """Clips as vectors.

    Args:
        vectors: ``(N, D)`` float32, at least one row; a memory map.
        clips: N clips in the order of the rows.
        header: What made the vectors; None for a bank of the original, which does not say it.
        root: Folder that the clips' paths are relative to; None if nobody says.
        where: Its folder, for messages.

    Raises:
        FormatError: The numbers of vectors and clips differ, or there are none.
    """

    vectors: np.ndarray
    clips: Sequence[BankClip]
    header: ClapHeader | None = None
    root: Path | None = None
    where: str = "the bank"

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.vectors.dtype != np.float32:
            found = f"{self.vectors.dtype} of shape {self.vectors.shape}"
            raise FormatError(
                f"the vectors are {found}; allowed: (rows, dimensions) float32", path=self.where
            )
        if not len(self.vectors):
            raise FormatError("the bank is empty; it needs at least one clip", path=self.where)
        if len(self.vectors) != len(self.clips):
            reason = (
                f"{len(self.vectors)} vectors and {len(self.clips)} lines of the mapping; each row needs both"
            )
            raise FormatError(reason, path=self.where)
        if self.header is not None and self.header.dimension != self.dimension:
            reason = (
                f"the vectors have {self.dimension} dimensions, and the header says {self.header.dimension}"
            )
            raise FormatError(reason, path=self.where)

    @classmethod
    def open(cls, folder: str | Path, expected: ClapHeader | None = None) -> StyleBank:
        """Open a bank.

        Args:
            folder: Its folder.
            expected: How its vectors must have been made; any way by default.

        Raises:
            FormatError: A file is missing or damaged, or the bank is empty.
            IncompatibleVectors: The vectors were made in another way; the message names each difference.
        """
        folder = Path(folder)
        values = read_json(folder / BANK, error=FormatError)
        if not isinstance(values, dict) or values.get("version") != _VERSION:
            raise FormatError(f"is no bank of version {_VERSION}", path=folder / BANK)
        header = ClapHeader.from_json(values.get("header"), str(folder / BANK))
        root = values.get("root")
        bank = cls(
            read_vectors(folder / VECTORS),
            read_clips(folder / MAPPING),
            header,
            folder / root if isinstance(root, str) else None,
            str(folder),
        )
        if expected is not None:
            header.require(expected, str(folder))
        return bank

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dimension(self) -> int:
        """D."""
        return self.vectors.shape[1]

    def rows(self, which: np.ndarray | Sequence[Any]) -> np.ndarray:
        """Return rows at norm 1, of the shape of ``which`` and D.

        Raises:
            InputError: A vector is zero, or not finite.
        """
        numbers = np.asarray(which)
        return unit_rows(self.vectors[numbers.ravel()], self.where).reshape(*numbers.shape, self.dimension)

    def blocks(self, centre: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Yield consecutive blocks of rows at norm 1, (n, D) float32.

        Args:
            centre: ``(D,)``, subtracted from each row.
        """
        for start in range(0, len(self), _BLOCK_ROWS):
            block = unit_rows(self.vectors[start : start + _BLOCK_ROWS], self.where, first=start)
            yield block if centre is None else block - centre

    def mean(self) -> np.ndarray:
        """Return the mean of the rows at norm 1, ``(D,)`` float32."""
        total = np.zeros(self.dimension)
        for block in self.blocks():
            total += block.sum(axis=0, dtype=np.float64)
        return (total / len(self)).astype(np.float32)

    def search(
        self,
        queries: np.ndarray,
        count: int,
        *,
        allowed: np.ndarray | None = None,
        centre: np.ndarray | None = None,
    ) -> Neighbours:
        """Find the rows of the largest cosine, of equal ones the lowest; fewer where there are fewer rows.

        Args:
            queries: ``(Q, D)``.
            count: Neighbours wanted.
            allowed: ``(N,)`` bool, the rows that may be found; all by default.
            centre: ``(D,)``, subtracted from the rows; the caller subtracts something from the queries.

        Raises:
            InputError: The queries have another width, or a vector is zero or not finite.
        """
        queries = np.asarray(queries)
        if queries.ndim != 2 or queries.shape[1] != self.dimension:
            raise InputError(
                f"queries have the shape {queries.shape}, and the rows of {self.where} {self.dimension} dimensions"
            )
        rows = self.vectors if centre is None else self.blocks(centre)
        return top_k(queries, rows, min(count, len(self)), metric="cosine", allowed=allowed)

    def audio_path(self, row: int, root: Path | None = None) -> Path:
        """Return the file of a clip.

        Args:
            row: Of the clip.
            root: In place of the bank's own.

        Raises:
            UsageError: Nobody says what the paths are relative to.
            ConfigError: The path leads out of the root.
        """
        root = root or self.root
        if root is None:
            raise UsageError(f"{self.where}: does not say what its paths are relative to; give a root")
        name = self.clips[row].path
        if Path(name).is_absolute() and Path(name).is_relative_to(os.path.abspath(root)):  # noqa: PTH100
            name = os.path.relpath(name, os.path.abspath(root))  # noqa: PTH100
        return file_inside(root, name, where=f"{self.where}: path of row {row}")


def unit_rows(rows: np.ndarray, where: str, *, first: int = 0) -> np.ndarray:
    """Return rows at norm 1, (n, D) float32.

    Raises:
        InputError: A vector is zero, or not finite.
    """
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    bad = ~(np.isfinite(lengths) & (lengths > 0)).ravel()
    if bad.any():
        row = int(bad.argmax())
        raise InputError(
            f"{where}: row {first + row} has the norm {float(lengths[row, 0]):g}; allowed: above 0"
        )
    return (rows / (lengths + _EPSILON)).astype(np.float32)


def read_vectors(path: Path) -> np.ndarray:
    """Map a ``.npy`` file of vectors into memory.

    Raises:
        FormatError: It is missing, has objects in it, or is not a file of numbers.
    """
    regular_file_size(path, error=FormatError)
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, SyntaxError, TypeError) as error:
        raise FormatError(
            f"is not a .npy file of numbers ({str(error).partition(chr(10))[0]})", path=path
        ) from error


def write_bank(
    folder: Path,
    vectors: np.ndarray,
    clips: Sequence[BankClip],
    header: ClapHeader,
    *,
    root: Path | None,
    documents: Mapping[str, str] | None = None,
    details: Mapping[str, Any] | None = None,
) -> StyleBank:
    """Write a bank as a whole, in place of one that is there.

    Args:
        folder: To write.
        vectors: ``(N, D)`` float32 of norm 1.
        clips: N clips.
        header: What made the vectors.
        root: Folder that the clips' paths are relative to.
        documents: Name -> text of further files.
        details: Further values of ``bank.json``.

    Raises:
        CheckpointError: It cannot be written, or files that do not belong to a bank would be lost.
        FormatError: The numbers of vectors and clips differ, or there are none.
    """
    StyleBank(vectors, clips, header, root, str(folder))  # checks them
    inside = None if root is None else Path(os.path.relpath(root.resolve(), folder.resolve())).as_posix()
    values = {
        "version": _VERSION,
        "header": header.to_json(),
        "rows": len(clips),
        "root": inside,
        **(details or {}),
    }
    with atomic_directory(folder) as temporary:
        (temporary / BANK).write_text(f"{json.dumps(values, indent=2)}\n", encoding="utf-8")
        np.save(temporary / VECTORS, vectors, allow_pickle=False)
        with (temporary / MAPPING).open("w", encoding="utf-8") as file:
            write_clips(file, clips)
        for name, text in (documents or {}).items():
            (temporary / name).write_text(text, encoding="utf-8")
    return StyleBank.open(folder)
