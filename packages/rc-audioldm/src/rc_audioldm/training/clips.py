"""Captioned clips of one length in memory, as the stages of training read them.

A row of a manifest (:mod:`rc_audioldm.data.manifest`) may say more than its caption: ``split``; and ``captions``, a
list of ``{"text": ..., "labels": [...]}``, where the labels are those of the row that the text names. A caption is then
true of every clip that has all its labels, and such a clip is no example of what the caption does not mean. Without
them the caption of the row is true of the clips with the same caption.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pentatonic.audio import load
from pentatonic.errors import AudioError, ConfigError, FormatError
from rc_audioldm.data.manifest import Manifest, ManifestRow, read_manifest

TRAIN, HELDOUT = "train", "heldout"
_SCALE = 32_767


@dataclass(frozen=True)
class Caption:
    """A text, and the labels that a clip must have for it to be true."""

    text: str
    labels: frozenset[str]


@dataclass(frozen=True, eq=False)
class ClipSet:
    """Clips of one length.

    Args:
        ids: Of the rows.
        kinds: The first label of each clip, such as its instrument; empty without labels.
        labels: What is true of each clip.
        captions: At least one for each clip.
        samples: ``(clips, n)`` int16.
        sample_rate: In Hz.
    """

    ids: tuple[str, ...]
    kinds: tuple[str, ...]
    labels: tuple[frozenset[str], ...]
    captions: tuple[tuple[Caption, ...], ...]
    samples: Tensor
    sample_rate: int

    def __len__(self) -> int:
        return len(self.ids)

    def audio(self, index: int) -> Tensor:
        """Return a clip, ``(n,)`` float32."""
        return self.samples[index].float() / _SCALE

    def texts(self) -> list[str]:
        """Return every caption, each text once, in a fixed order."""
        return sorted({caption.text for captions in self.captions for caption in captions})


def joined(sets: Sequence[ClipSet]) -> ClipSet:
    """Return one set of several of the same rate and length."""
    return ClipSet(
        ids=tuple(each for one in sets for each in one.ids),
        kinds=tuple(each for one in sets for each in one.kinds),
        labels=tuple(each for one in sets for each in one.labels),
        captions=tuple(each for one in sets for each in one.captions),
        samples=torch.cat([one.samples for one in sets]),
        sample_rate=sets[0].sample_rate,
    )


def read_clips(
    path: str | Path, split: str, *, seconds: float, sample_rate: int, root: str | Path | None = None
) -> ClipSet:
    """Read the clips of a split.

    Args:
        path: Manifest.
        split: Which rows; those that state no split belong to ``train``.
        seconds: Length; longer files are cut at the end, shorter ones are filled up with silence.
        sample_rate: In Hz; other rates are resampled.
        root: Folder that the paths of the manifest are relative to; None: its own.

    Raises:
        InputError: There is no manifest.
        ConfigError: The split has no rows.
        FormatError: A row has no caption, or its captions are malformed.
        AudioError: A file cannot be read; the message names it.
    """
    manifest = read_manifest(path, root)
    rows = [row for row in manifest if row.more.get("split", TRAIN) == split]
    if not rows:
        raise ConfigError(f"{path}: has no clips of the split {split!r}; a row says it by the key split")
    size = round(seconds * sample_rate)
    samples = torch.zeros(len(rows), size, dtype=torch.int16)
    for index, row in enumerate(rows):
        samples[index] = _read(manifest, row, size, sample_rate)
    captions = tuple(_captions(row, Path(path)) for row in rows)
    labels = tuple(frozenset(row.labels) | each[0].labels for row, each in zip(rows, captions, strict=True))
    kinds = tuple(row.labels[0] if row.labels else "" for row in rows)
    return ClipSet(tuple(row.id for row in rows), kinds, labels, captions, samples, sample_rate)


def _read(manifest: Manifest, row: ManifestRow, size: int, sample_rate: int) -> Tensor:
    file = manifest.file(row)
    try:
        audio = load(file, sample_rate=sample_rate).samples[0][:size]
    except AudioError:
        raise
    except OSError as error:
        raise AudioError(file, f"cannot be read: {error.strerror}") from error
    whole = torch.zeros(size)
    whole[: len(audio)] = audio
    return (whole.clamp(-1, 1) * _SCALE).round().to(torch.int16)


def _captions(row: ManifestRow, path: Path) -> tuple[Caption, ...]:
    stated = row.more.get("captions")
    if stated is None:
        if not row.caption:
            raise FormatError(f"row {row.id} has no caption", path=path)
        return (Caption(row.caption, frozenset({f"caption: {row.caption}"})),)
    if not isinstance(stated, list) or not stated:
        raise FormatError(f"row {row.id}: captions must be a list of texts with labels", path=path)
    return tuple(_caption(each, row, path) for each in stated)


def _caption(value: Any, row: ManifestRow, path: Path) -> Caption:
    text, labels = (value.get("text"), value.get("labels")) if isinstance(value, dict) else (None, None)
    if not isinstance(text, str) or not isinstance(labels, list) or not set(labels) <= set(row.labels):
        raise FormatError(
            f"row {row.id}: a caption needs a text, and labels that are among the row's own", path=path
        )
    return Caption(text, frozenset(labels))
