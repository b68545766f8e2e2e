"""What adapters are trained from: CLAP vectors of recordings and of their captions, computed once.

A folder::

    pairs.json    version, how the vectors were made, which model wrote the states
    pairs.jsonl   caption and group of each row
    audio.npy     (N, D) float32
    text.npy      (N, D) float32
    states.npy    (N, S, H) float32, of the language model of AudioLDM 2; only for adapters that predict them

A group is what must not be torn apart between training and validation: chunks of one recording, or recordings of one
piece.

Shapes: N rows of width D, S states of width H.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pentatonic.checkpoint import atomic_directory
from pentatonic.errors import FormatError, InputError, UsageError
from pentatonic.training.seeding import mix_seed
from pentatonic.untrusted.files import read_json
from rc_audioldm.bank.style_bank import read_vectors, unit_rows
from rc_audioldm.clap.header import ClapHeader
from rc_audioldm.json_lines import read_json_lines

PAIRS, ROWS, AUDIO, TEXT, STATES = "pairs.json", "pairs.jsonl", "audio.npy", "text.npy", "states.npy"
_VERSION = 1
_BLOCK_ROWS = 4096
_SPLIT_STREAM = 0x53504C  # keeps the draw of the split apart from the streams of training


@dataclass(frozen=True)
class PairVectors:
    """Pairs of recording and caption as vectors.

    Args:
        audio: ``(N, D)`` float32, of any norm but 0; may be a memory map.
        text: ``(N, D)`` float32.
        captions: N texts.
        groups: N names.
        clap: How the vectors were made; None if nobody says it.
        states: ``(N, S, H)`` float32, or None.
        teacher: Name of the model that wrote the states.
        where: For messages.

    Raises:
        InputError: The shapes do not fit, there are fewer than two rows, or a vector is zero or not finite.
    """

    audio: np.ndarray
    text: np.ndarray
    captions: Sequence[str]
    groups: Sequence[str]
    clap: ClapHeader | None = None
    states: np.ndarray | None = None
    teacher: str = ""
    where: str = "the pairs"

    def __post_init__(self) -> None:
        for name, array in (("audio", self.audio), ("text", self.text)):
            if array.ndim != 2 or array.dtype != np.float32 or array.shape != self.audio.shape:
                raise InputError(
                    f"{self.where}: {name} is {array.dtype} of shape {array.shape}; allowed: float32 (rows, "
                    "dimensions), equal for audio and text"
                )
        rows = len(self.audio)
        if rows < 2 or not rows == len(self.captions) == len(self.groups):
            raise InputError(
                f"{self.where}: has {rows} vectors, {len(self.captions)} captions and {len(self.groups)} groups; "
                "needed: the same number, two or more"
            )
        if self.clap is not None and self.clap.dimension != self.audio.shape[1]:
            raise InputError(
                f"{self.where}: the vectors have {self.audio.shape[1]} dimensions, and the header says "
                f"{self.clap.dimension}"
            )
        states = self.states
        if states is not None and (states.ndim != 3 or len(states) != rows or states.dtype != np.float32):
            raise InputError(
                f"{self.where}: states are {states.dtype} of shape {states.shape}; allowed: float32 ({rows}, states, "
                "width)"
            )
        for start in range(0, rows, _BLOCK_ROWS):
            stop = start + _BLOCK_ROWS
            for name, array in (("audio", self.audio), ("text", self.text)):
                unit_rows(array[start:stop], f"{self.where}: {name}", first=start)
            if states is not None and not np.isfinite(states[start:stop]).all():
                raise InputError(f"{self.where}: a state in rows {start} to {stop} is not finite")

    def __len__(self) -> int:
        return len(self.audio)

    @property
    def width(self) -> int:
        """D."""
        return self.audio.shape[1]

    def caption_numbers(self) -> np.ndarray:
        """Return a number for each row, ``(N,)`` int64; equal captions have equal ones.

        Captions are equal when they differ in case and spaces alone.
        """
        numbers: dict[str, int] = {}
        plain = (" ".join(caption.casefold().split()) for caption in self.captions)
        return np.array([numbers.setdefault(caption, len(numbers)) for caption in plain], np.int64)


def read_pairs(folder: str | Path) -> PairVectors:
    """Open a folder of pairs.

    Raises:
        FormatError: A file is missing or malformed; the message names the line.
        InputError: The arrays do not fit each other, or have vectors that are zero or not finite.
    """
    folder = Path(folder)
    values = read_json(folder / PAIRS, error=FormatError)
    if not isinstance(values, dict) or values.get("version") != _VERSION:
        raise FormatError(f"is no folder of pairs of version {_VERSION}", path=folder / PAIRS)
    clap, teacher = values.get("clap"), values.get("teacher")
    captions, groups = [], []
    for line, row in read_json_lines(folder / ROWS):
        texts = [row.get(name) for name in ("caption", "group")] if isinstance(row, dict) else [None]
        if not all(isinstance(text, str) and text for text in texts):
            raise FormatError("needs a caption and a group, both text", path=folder / ROWS, line=line)
        captions.append(texts[0])
        groups.append(texts[1])
    return PairVectors(
        audio=read_vectors(folder / AUDIO),
        text=read_vectors(folder / TEXT),
        captions=captions,
        groups=groups,
        clap=None if clap is None else ClapHeader.from_json(clap, str(folder / PAIRS)),
        states=read_vectors(folder / STATES) if (folder / STATES).exists() else None,
        teacher=teacher if isinstance(teacher, str) else "",
        where=str(folder),
    )


def write_pairs(folder: str | Path, pairs: PairVectors) -> None:
    """Write a folder of pairs as a whole, in place of one that is there.

    Raises:
        CheckpointError: It cannot be written, or files that do not belong to it would be lost.
    """
    values = {
        "version": _VERSION,
        "rows": len(pairs),
        "clap": None if pairs.clap is None else pairs.clap.to_json(),
        "teacher": pairs.teacher,
    }
    with atomic_directory(folder) as temporary:
        (temporary / PAIRS).write_text(f"{json.dumps(values, indent=2)}\n", encoding="utf-8")
        rows = zip(pairs.captions, pairs.groups, strict=True)
        lines = (f"{json.dumps({'caption': caption, 'group': group})}\n" for caption, group in rows)
        (temporary / ROWS).write_text("".join(lines), encoding="utf-8")
        np.save(temporary / AUDIO, pairs.audio)
        np.save(temporary / TEXT, pairs.text)
        if pairs.states is not None:
            np.save(temporary / STATES, pairs.states)


def split_by_group(groups: Sequence[str], val_fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide rows into training and validation, whole groups at a time.

    Groups are taken in an order that the seed decides, and those that would make the validation larger than its share
    are passed over; where each of them would, the smallest one is the validation.

    Args:
        groups: Name of each row's group.
        val_fraction: Share of the rows for validation, between 0 and 1.
        seed: Decides the order.

    Returns:
        Rows of each part, rising, int64; neither is empty.

    Raises:
        UsageError: The share is out of its range.
        InputError: There is one group only.
    """
    if not 0 < val_fraction < 1:
        raise UsageError(f"val_fraction is {val_fraction}; allowed: between 0 and 1")
    members: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    if len(members) < 2:
        raise InputError(f"there are {len(members)} groups; a split needs two or more")
    names = sorted(members)
    order = np.random.default_rng(mix_seed(seed, _SPLIT_STREAM)).permutation(len(names))
    budget, chosen = max(1, int(val_fraction * len(groups))), []
    for name in (names[index] for index in order):
        if len(members[name]) <= budget:
            chosen.append(name)
            budget -= len(members[name])
    if len(chosen) == len(names):
        chosen.pop()
    chosen = chosen or [min(names, key=lambda name: len(members[name]))]
    val = np.array(sorted(row for name in chosen for row in members[name]))
    return np.setdiff1d(np.arange(len(groups)), val), val
