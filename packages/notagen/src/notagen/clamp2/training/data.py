"""Data of the published trainings: texts of scores for M3, and pieces with descriptions for CLaMP 2.

Shapes: N patches, S = 64 characters, M tokens.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from notagen.clamp2.masking import mask_patches
from notagen.clamp2.patches import encode, without_instrument_names
from notagen.clamp2.tokens import SEPARATOR, TextTokenizer
from notagen.clamp2.training.objective import MaskedBatch, PairBatch
from notagen.training.index import Index
from pentatonic.errors import FormatError, InputError
from pentatonic.training import ItemKey, mix_seed

_SUFFIXES = (".abc", ".mtf")
_NAMELESS = 0.9
"""Share of the pieces whose instruments lose their names."""
_SUMMARIES = ("summary_en", "summary_nen")
_PATHS = "filepaths"


class ScoreTexts:
    """The scores of a folder (``.abc`` and ``.mtf``, at any depth), or of an index of ``notagen preprocess``.

    Args:
        source: The folder, or the ``.jsonl`` of the index.

    Raises:
        InputError: There are none, or the index cannot be read.
    """

    def __init__(self, source: str | Path) -> None:
        self.source = Path(source)
        self._index = None if self.source.is_dir() else Index(self.source)
        self._files = (
            sorted(
                path for path in self.source.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file()
            )
            if self._index is None
            else []
        )
        if not len(self):
            raise InputError(
                f"{self.source} holds no scores; allowed: {', '.join(_SUFFIXES)} files, or an index"
            )

    def __len__(self) -> int:
        return len(self._files) if self._index is None else len(self._index)

    def __getitem__(self, number: int) -> str:
        """Text of a score.

        Raises:
            InputError: The file cannot be read.
        """
        if self._index is not None:
            return self._index.read(number)
        return _read(self._files[number])


class MaskedDataset(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Pieces with hidden patches: what is read and what was there, ``(N, S)`` int64, and which count, ``(N,)`` bool.

    Args:
        texts: The scores.
        patch_length: Most patches; of longer pieces a part is drawn.
        seed: Seed of parts and masks.
        random: Draw part and mask for each epoch; otherwise the beginning, and always the same mask.
    """

    def __init__(self, texts: ScoreTexts, *, patch_length: int, seed: int = 0, random: bool = True) -> None:
        self.texts, self.patch_length, self.seed, self.random = texts, patch_length, seed, random

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, key: ItemKey) -> tuple[Tensor, Tensor, Tensor]:
        """Return a piece.

        Raises:
            InputError: The file cannot be read.
            FormatError: It has no patches.
        """
        rng = random.Random(mix_seed(self.seed, key.epoch if self.random else 0, key.index))
        patches = encode(
            self.texts[key.index],
            special=True,
            truncation="random" if self.random else "head",
            patch_length=self.patch_length,
            rng=rng,
            drop_unit_length=True,
        )
        masked = mask_patches(patches, rng=rng)
        selected = torch.zeros(len(patches), dtype=torch.bool)
        selected[torch.from_numpy(masked.selected)] = True
        return torch.from_numpy(masked.patches).long(), torch.from_numpy(patches).long(), selected


def collate_masked(pieces: Sequence[tuple[Tensor, Tensor, Tensor]]) -> MaskedBatch:
    """Pad pieces to a batch."""
    inputs, targets, selected = zip(*pieces, strict=True)
    return MaskedBatch(
        inputs=pad_sequence(list(inputs), batch_first=True),
        lengths=torch.tensor([len(piece) for piece in inputs]),
        targets=pad_sequence(list(targets), batch_first=True),
        selected=pad_sequence(list(selected), batch_first=True),
    )


@dataclass(frozen=True)
class DescribedPiece:
    """A piece with what is known about it.

    Args:
        files: Its scores, at least one.
        words: Metadata as texts, each once.
        summaries: Descriptions in English.
        translations: Descriptions in other languages.
    """

    files: tuple[Path, ...]
    words: tuple[str, ...]
    summaries: tuple[str, ...]
    translations: tuple[str, ...]


def read_descriptions(path: str | Path) -> list[DescribedPiece]:
    """Read the pieces of a file of JSON lines, as CLaMP 2 documents them.

    A line is an object with ``filepaths`` (relative to the folder of the file) and any other fields, which are texts,
    lists of them, or null; ``summary_en`` is one text or several, ``summary_nen`` one object with ``summary`` or
    several.

    Raises:
        InputError: The file cannot be read, or is empty.
        FormatError: A line is something else; the error has file and line.
    """
    path = Path(path)
    pieces = []
    for number, line in enumerate(_read(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            pieces.append(_described(json.loads(line), path.parent))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise FormatError(f"not a described piece ({error})", path=path, line=number) from error
    if not pieces:
        raise InputError(f"{path} has no pieces")
    return pieces


class PairDataset(Dataset[tuple[Tensor, Tensor]]):
    """Pieces with a text each: patches ``(N, S)`` and tokens ``(M,)``, int64.

    In training a file of the piece and a text are drawn: half of the time some of the metadata, shuffled, otherwise a
    summary, of which half are in other languages than English; and instruments lose their names. For validation it is
    the first ABC file with the first summary in English.

    Args:
        pieces: The pieces.
        tokenizer: Of the text encoder.
        patch_length: Most patches.
        text_length: Most tokens.
        seed: Seed of what is drawn.
        random: Whether to draw.
    """

    def __init__(
        self,
        pieces: Sequence[DescribedPiece],
        tokenizer: TextTokenizer,
        *,
        patch_length: int,
        text_length: int,
        seed: int = 0,
        random: bool = True,
    ) -> None:
        self.pieces, self.tokenizer, self.seed, self.random = pieces, tokenizer, seed, random
        self.patch_length, self.text_length = patch_length, text_length

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, key: ItemKey) -> tuple[Tensor, Tensor]:
        """Return a pair.

        Raises:
            InputError: The file cannot be read, or the piece has no text.
            FormatError: The score has no patches.
        """
        piece = self.pieces[key.index]
        rng = random.Random(mix_seed(self.seed, key.epoch, key.index))
        text = drawn_text(piece, rng) if self.random else first_text(piece)
        if not text:
            raise InputError(f"{piece.files[0]}: nothing is known about the piece")
        tokens = _cropped(self.tokenizer.encode(text), self.text_length, rng if self.random else None)
        if self.random:
            score = _read(rng.choice(piece.files))
            score = without_instrument_names(score) if rng.random() < _NAMELESS else score
        else:
            score = _read(next((file for file in piece.files if file.suffix == ".abc"), piece.files[0]))
        patches = encode(
            score,
            special=True,
            truncation="random" if self.random else "head",
            patch_length=self.patch_length,
            rng=rng,
            drop_unit_length=True,
        )
        return torch.from_numpy(patches).long(), tokens


def drawn_text(piece: DescribedPiece, rng: random.Random) -> str:
    """A text of a piece: metadata or a summary; empty where nothing is known."""
    summaries = [kind for kind in (piece.summaries, piece.translations) if kind]
    if piece.words and (not summaries or rng.random() < 0.5):
        kept = [word for word in piece.words if rng.random() < 0.5] or list(piece.words)
        rng.shuffle(kept)
        return SEPARATOR.join(kept)
    return rng.choice(rng.choice(summaries)) if summaries else ""


def first_text(piece: DescribedPiece) -> str:
    """The first summary, in English where there is one; else all metadata."""
    summaries = (*piece.summaries, *piece.translations)
    return summaries[0] if summaries else SEPARATOR.join(piece.words)


def collate_pairs(pairs: Sequence[tuple[Tensor, Tensor]]) -> PairBatch:
    """Pad pairs to a batch."""
    patches, tokens = zip(*pairs, strict=True)
    return PairBatch(
        patches=pad_sequence(list(patches), batch_first=True),
        patch_lengths=torch.tensor([len(piece) for piece in patches]),
        tokens=pad_sequence(list(tokens), batch_first=True, padding_value=1),
        token_lengths=torch.tensor([len(text) for text in tokens]),
    )


def _described(values: Any, folder: Path) -> DescribedPiece:
    if not isinstance(values, Mapping):
        raise TypeError("allowed: an object")
    paths = _texts(values[_PATHS])
    if not paths:
        raise ValueError("filepaths is empty")
    others = (value for name, value in values.items() if name not in (*_SUMMARIES, _PATHS))
    words = [line for value in others for text in _texts(value) for line in text.split("\n") if line]
    translations = values.get("summary_nen")
    if isinstance(translations, Mapping):
        translations = [translations]
    return DescribedPiece(
        files=tuple(folder / path for path in paths),
        words=tuple(dict.fromkeys(words)),
        summaries=tuple(_texts(values.get("summary_en"))),
        translations=tuple(
            _one_text(item["summary"] if isinstance(item, Mapping) else item) for item in translations or ()
        ),
    )


def _texts(value: Any) -> list[str]:
    """The texts of a field: one, or a list of them; none of null."""
    if value is None:
        return []
    return [_one_text(item) for item in (value if isinstance(value, list) else [value]) if item]


def _one_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _cropped(tokens: Tensor, length: int, rng: random.Random | None) -> Tensor:
    if len(tokens) <= length:
        return tokens
    where = "head" if rng is None else rng.choice(["head", "tail", "middle"])
    start = {"head": 0, "tail": len(tokens) - length}.get(where)
    if start is None:
        assert rng is not None
        start = rng.randint(1, len(tokens) - length)
    return tokens[start : start + length]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error})") from error
