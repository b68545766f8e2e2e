"""The vectors of a set of recordings, with a header that says how they were made; a file of its own for references.

Shape legend: N recordings, n vectors (one for each window), D dimensions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pentatonic import audio as audio_files
from pentatonic.checkpoint import load_tensors, save_tensors
from pentatonic.cli import BatchReport
from pentatonic.errors import FormatError, IncompatibleVectors, InputError, PentatonicError
from pentatonic.untrusted.files import parse_json, shortened
from rc_audioldm.evaluation.embedders import Embedder, Vectors
from rc_audioldm.evaluation.sounds import Preparation, prepare, read_sound

_FORMAT = "rc-audioldm embedded set 1"


@dataclass(frozen=True)
class SetHeader:
    """How the vectors of a set were made.

    Args:
        embedder: From :meth:`Embedder.describe`.
        preparation: From :meth:`Preparation.describe`.
    """

    embedder: Mapping[str, Any]
    preparation: Mapping[str, str]

    def require(self, other: SetHeader, where: str) -> None:
        """Refuse vectors that were made in another way.

        Args:
            other: The header of what they are to be compared with.
            where: Whose header this is, for the message.

        Raises:
            IncompatibleVectors: The headers differ; the message names every value that does.
        """
        own, others = ({**each.embedder, **each.preparation} for each in (self, other))
        different = [
            f"{name} {own.get(name)!r} instead of {others.get(name)!r}"
            for name in {**own, **others}
            if own.get(name) != others.get(name)
        ]
        if different:
            raise IncompatibleVectors(
                f"{where}: its distances to the other set would mean nothing: {', '.join(different)}; embed both sets "
                "with the same model, rate, loudness and length"
            )


@dataclass(frozen=True)
class EmbeddedSet:
    """The vectors of a set.

    Args:
        header: How they were made.
        names: N names of the recordings.
        sha256: N hashes of their files.
        vectors: (n, D) float32, those of a recording next to each other.
        file_of: (n,) int64, the number of each vector's recording, ascending.
        median_s: Median length of what was embedded, in seconds.
    """

    header: SetHeader
    names: tuple[str, ...]
    sha256: tuple[str, ...]
    vectors: Vectors
    file_of: NDArray[np.int64]
    median_s: float

    @property
    def dimension(self) -> int:
        """D."""
        return self.vectors.shape[1]

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the files' hashes in ascending order, and of the header."""
        about = [sorted(self.sha256), self.header.embedder, self.header.preparation]
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

    def of(self, number: int) -> Vectors:
        """Return the vectors of a recording, (its windows, D)."""
        return self.vectors[slice(*np.searchsorted(self.file_of, [number, number + 1]))]

    @cached_property
    def file_vectors(self) -> NDArray[np.float64]:
        """(N, D) mean of the vectors of each recording, at norm 1."""
        means = np.stack([self.of(number).astype(np.float64).mean(0) for number in range(len(self.names))])
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    def save(self, path: Path) -> None:
        """Write the set as a safetensors file.

        Raises:
            CheckpointError: The file cannot be written.
        """
        about = {
            "format": _FORMAT,
            "embedder": self.header.embedder,
            "preparation": self.header.preparation,
            "names": self.names,
            "sha256": self.sha256,
            "median_s": self.median_s,
        }
        tensors = {"vectors": torch.from_numpy(self.vectors), "file_of": torch.from_numpy(self.file_of)}
        save_tensors(path, tensors, {"set": json.dumps(about, sort_keys=True)})


def load_set(path: Path) -> EmbeddedSet:
    """Read what :meth:`EmbeddedSet.save` wrote.

    Raises:
        CorruptCheckpoint: The file is missing or damaged.
        FormatError: It is not a set of vectors.
    """
    tensors = load_tensors(path)
    about = parse_json(_metadata(path).get("set", "null"), where=str(path), error=FormatError)
    try:
        if about["format"] != _FORMAT:
            raise FormatError(f"format is {shortened(about['format'])}; allowed: {_FORMAT}", path=path)
        found = EmbeddedSet(
            SetHeader(dict(about["embedder"]), dict(about["preparation"])),
            tuple(map(str, about["names"])),
            tuple(map(str, about["sha256"])),
            tensors["vectors"].numpy(),
            tensors["file_of"].numpy(),
            float(about["median_s"]),
        )
        numbers, files = found.file_of, range(len(found.names))
        whole = (
            found.vectors.dtype == np.float32
            and found.vectors.ndim == 2
            and numbers.dtype == np.int64
            and numbers.shape == (len(found.vectors),)
            and len(found.sha256) == len(files)
            and np.array_equal(np.unique(numbers), files)
            and bool((np.diff(numbers) >= 0).all())
            and bool(np.isfinite(found.vectors).all())
        )
    except FormatError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"is not a set of vectors: {shortened(str(error))}", path=path) from error
    if not whole:
        raise FormatError("its vectors, names and hashes do not fit together", path=path)
    return found


def embed_files(
    files: Mapping[str, Path],
    embedder: Embedder,
    preparation: Preparation,
    report: BatchReport,
    *,
    known: EmbeddedSet | None = None,
) -> EmbeddedSet:
    """Embed recordings; one that cannot be used is left out and reported.

    Args:
        files: Name -> recording.
        embedder: The model.
        preparation: What is done to each recording first.
        report: Gets an entry for each recording.
        known: A former set, whose vectors are taken for recordings of the same content.

    Raises:
        InputError: No recording could be used.
    """
    header = SetHeader(embedder.describe(), preparation.describe())
    usable = known is not None and known.header == header
    former = {sha: number for number, sha in enumerate(known.sha256)} if usable and known else {}
    names, hashes, parts, lengths = [], [], [], []
    for name, path in files.items():
        try:
            sha256 = _hash_file(path)
            samples = prepare(read_sound(path), preparation, str(path))
            if known is not None and sha256 in former:
                vectors = known.of(former[sha256])
            else:
                heard = audio_files.resample(
                    torch.from_numpy(samples), preparation.sample_rate, embedder.sample_rate
                )
                vectors = embedder.embed(heard.numpy())
        except (PentatonicError, OSError) as error:
            if isinstance(error, ImportError):  # a missing extra is missing for all
                raise
            report.failed(path, error)
            continue
        report.done(path)
        names.append(name)
        hashes.append(sha256)
        parts.append(vectors)
        lengths.append(len(samples) / preparation.sample_rate)
    if not parts:
        raise InputError(f"none of {len(files)} recordings could be used; at least one is needed")
    return EmbeddedSet(
        header,
        tuple(names),
        tuple(hashes),
        np.ascontiguousarray(np.concatenate(parts), np.float32),
        np.repeat(np.arange(len(parts)), [len(each) for each in parts]),
        float(np.median(lengths)),
    )


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        return file.metadata() or {}
