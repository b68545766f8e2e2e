"""Targets of a teacher beside prepared training data: what another model says about each track, patch by patch.

A tool computes them once and stores them with :func:`write_teacher_targets`; training reads the mean over the patches
that a crop overlaps. For a teacher called NAME::

    teacher-NAME.json          {"hop_s", "patch_s", "tracks", "vector_width", "tag_width", "index_sha256",
                                "vector_mean", "vector_std"}
    teacher-NAME-rows.npy      (tracks + 1,) int64: patches of track i of the index are rows[i] to rows[i + 1]
    teacher-NAME-vectors.f16   (patches of all tracks, vector_width) little-endian float16, of a late layer
    teacher-NAME-tags.f16      (patches of all tracks, tag_width) little-endian float16 probabilities, if any

Patch p of a track is about the audio from ``p * hop_s`` to ``p * hop_s + patch_s``. The order of the tracks is that of
the folder's index, a file whose hash is in the header: after another ``prepare`` the targets are refused.

Shapes: n patches of a track, V values of a vector, K tags.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pentatonic.checkpoint import atomic_file
from pentatonic.errors import FormatError, InputError, UsageError
from pentatonic.untrusted.files import read_json

Array = NDArray[Any]
DTYPE = np.dtype("<f2")


def write_teacher_targets(
    folder: str | Path,
    name: str,
    targets_per_track: Iterable[tuple[Array, Array | None]],
    hop_s: float,
    *,
    index: str,
    sources: Sequence[str],
    patch_s: float | None = None,
) -> None:
    """Store the targets of a teacher beside the training data of a folder.

    Args:
        folder: A folder of prepared data.
        name: Of the teacher; letters, digits and hyphens.
        targets_per_track: For each track of the index, in its order: vectors ``(n, V)`` and probabilities of tags
            ``(n, K)``, or ``None`` for a teacher without tags. n may be 0, for tracks that the teacher cannot hear.
        hop_s: Seconds from one patch to the next.
        index: Name of the file that lists the tracks.
        sources: What messages call each of them.
        patch_s: Seconds that a patch is about; ``None``: ``hop_s``.

    Raises:
        UsageError: The name or the times are not allowed.
        InputError: The number of tracks is another than that of the index, shapes differ, or a value is not finite.
        CheckpointError: The files cannot be written.
    """
    folder, patch_s = Path(folder), hop_s if patch_s is None else patch_s
    if not name or not all(letter.isalnum() or letter == "-" for letter in name):
        raise UsageError(f"the name of the teacher is {name!r}; allowed: letters, digits and hyphens")
    if not (hop_s > 0 and patch_s > 0):
        raise UsageError(f"hop_s is {hop_s} and patch_s {patch_s}; allowed: more than 0")
    rows, moments = [0], _Moments()
    widths: tuple[int, int | None] | None = None
    paths = _paths(folder, name)
    with atomic_file(paths["vectors"]) as vector_file, atomic_file(paths["tags"]) as tag_file:
        for number, (vectors, tags) in enumerate(targets_per_track):
            where = sources[number] if number < len(sources) else f"track {number + 1} of {len(sources)}"
            found = (vectors.shape[-1], None if tags is None else tags.shape[-1])
            widths = widths or found
            _check(vectors, tags, found == widths, where)
            vector_file.write(vectors.astype(DTYPE).tobytes())
            if tags is not None:
                tag_file.write(tags.astype(DTYPE).tobytes())
            moments.add(vectors)
            rows.append(rows[-1] + len(vectors))
        if len(rows) - 1 != len(sources) or widths is None:
            raise InputError(f"{folder} has {len(sources)} tracks, and there are targets of {len(rows) - 1}")
    if widths[1] is None:
        paths["tags"].unlink()
    with atomic_file(paths["rows"]) as file:
        np.save(file, np.array(rows, dtype=np.int64), allow_pickle=False)
    mean, std = moments.result()
    header = {
        "hop_s": float(hop_s),
        "patch_s": float(patch_s),
        "tracks": len(sources),
        "vector_width": widths[0],
        "tag_width": widths[1] or 0,
        "index_sha256": _hash(folder / index),
        "vector_mean": mean.tolist(),
        "vector_std": std.tolist(),
    }
    with atomic_file(paths["header"]) as file:
        file.write(f"{json.dumps(header, indent=1)}\n".encode())


def _check(vectors: Array, tags: Array | None, same_widths: bool, where: str) -> None:
    parts = [vectors] if tags is None else [vectors, tags]
    if not same_widths or any(part.ndim != 2 or len(part) != len(vectors) for part in parts):
        raise InputError(
            f"{where}: targets are {[part.shape for part in parts]}; all tracks need (n, V), and (n, K) or no tags"
        )
    with np.errstate(over="ignore"):
        finite = all(np.isfinite(part.astype(DTYPE)).all() for part in parts)
    if not finite:
        raise InputError(f"{where}: a target is not finite, or too large for float16")


class _Moments:
    """Mean and deviation of rows that come in parts; Chan, Golub and LeVeque (1979)."""

    def __init__(self) -> None:
        self._count, self._mean, self._squares = 0, np.zeros(1), np.zeros(1)

    def add(self, rows: Array) -> None:
        if not len(rows):
            return
        rows = rows.astype(np.float64)
        mean, total = rows.mean(axis=0), self._count + len(rows)
        delta = mean - self._mean
        self._squares = (
            self._squares + ((rows - mean) ** 2).sum(axis=0) + delta**2 * self._count * len(rows) / total
        )
        self._mean = self._mean + delta * len(rows) / total
        self._count = total

    def result(self) -> tuple[Array, Array]:
        return self._mean, np.sqrt(self._squares / max(1, self._count))


class TeacherTargets:
    """The targets of a teacher, open for reading.

    Args:
        folder: The folder of prepared data.
        name: Of the teacher.
        index: Name of the file that lists the tracks.

    Attributes:
        vector_width: V.
        tag_width: K, 0 for none.
        vector_mean: ``(V,)`` over all patches.
        vector_std: ``(V,)`` likewise.

    Raises:
        InputError: There are none of this teacher, they belong to another index, or a file is missing or truncated.
        FormatError: The header is wrong.
    """

    def __init__(self, folder: str | Path, name: str, *, index: str) -> None:
        folder = Path(folder)
        self._paths = _paths(folder, name)
        header = self._paths["header"]
        if not header.is_file():
            raise InputError(f"{folder} has no targets of a teacher {name!r} ({header.name})")
        values = read_json(header, error=InputError)
        try:
            self._hop_s, self._patch_s = float(values["hop_s"]), float(values["patch_s"])
            self.vector_width, self.tag_width = int(values["vector_width"]), int(values["tag_width"])
            self.vector_mean, self.vector_std = (
                np.array(values[key], np.float32) for key in ("vector_mean", "vector_std")
            )
            if self._hop_s <= 0 or self.vector_mean.shape != (self.vector_width,):
                raise ValueError("hop_s must be above 0, vector_mean of vector_width values")
            stale = values["index_sha256"] != _hash(folder / index)
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"not the header of a teacher's targets ({error!r})", path=header) from None
        if stale:
            raise InputError(
                f"{header} was written for another {index}; write the targets again after preparing"
            )
        self._rows = _read_rows(self._paths["rows"])
        self._maps: dict[str, Array] = {}
        for kind, width in self._widths.items():
            path, needed = self._paths[kind], int(self._rows[-1]) * width * DTYPE.itemsize
            if not path.is_file() or path.stat().st_size < needed:
                raise InputError(f"{path} is missing or truncated: {needed} bytes are needed")

    @property
    def _widths(self) -> dict[str, int]:
        return {"vectors": self.vector_width} | ({"tags": self.tag_width} if self.tag_width else {})

    def of_crop(self, track: int, start_s: float, end_s: float) -> dict[str, NDArray[np.float32]]:
        """Return the mean over the patches that a crop overlaps.

        Args:
            track: Number in the index.
            start_s: Start of the crop in the track.
            end_s: Its end.

        Returns:
            ``vectors`` ``(V,)`` and, where there are tags, ``tags`` ``(K,)``; NaN where it overlaps none.
        """
        low, high = int(self._rows[track]), int(self._rows[track + 1])
        # Patch p overlaps where p * hop < end and p * hop + patch > start.
        first = max(0, math.floor((start_s - self._patch_s) / self._hop_s) + 1)
        last = max(first, math.ceil(end_s / self._hop_s))
        chosen = slice(min(high, low + first), min(high, low + last))
        means = {}
        for kind, width in self._widths.items():
            rows = self._map(kind, width)[chosen]
            means[kind] = (
                rows.astype(np.float32).mean(axis=0) if len(rows) else np.full(width, np.nan, np.float32)
            )
        return means

    def _map(self, kind: str, width: int) -> Array:
        if kind not in self._maps:
            count = int(self._rows[-1])
            self._maps[kind] = (
                np.memmap(self._paths[kind], DTYPE, mode="r", shape=(count, width))
                if count
                else np.empty((0, width), DTYPE)
            )
        return self._maps[kind]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}}  # a worker maps the files itself


def _read_rows(path: Path) -> NDArray[np.int64]:
    try:
        rows = np.load(path, allow_pickle=False)
        if rows.dtype != np.int64 or rows.ndim != 1 or rows[0] != 0 or (np.diff(rows) < 0).any():
            raise ValueError("not ascending int64 numbers from 0 on")
    except (OSError, ValueError, EOFError, IndexError) as error:
        raise InputError(f"{path}: {error}") from error
    return rows


def _paths(folder: Path, name: str) -> dict[str, Path]:
    names = {"header": ".json", "rows": "-rows.npy", "vectors": "-vectors.f16", "tags": "-tags.f16"}
    return {kind: folder / f"teacher-{name}{suffix}" for kind, suffix in names.items()}


def _hash(index: Path) -> str:
    return hashlib.sha256(index.read_bytes()).hexdigest()
