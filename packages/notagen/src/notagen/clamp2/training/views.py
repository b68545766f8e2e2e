"""Views of a piece for contrastive training: its two halves in other keys, and one of them with its bars shuffled.

A model that is asked which half belongs to which piece learns the style of the music, whatever its key; the shuffled
bars, which never belong, teach it to hear their order.

Shapes: N patches, S = 64 characters.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from notagen.clamp2.patches import encode, without_instrument_names
from notagen.notation.keys import MAJOR_KEYS
from notagen.notation.shuffling import shuffled_bars
from notagen.training.index import Index
from pentatonic.errors import FormatError
from pentatonic.training import ItemKey, mix_seed

_BARS_LINE = "[V:"
_FEWEST_BARS = 4
_HEADERLESS = 0.5
"""Share of the views without their header, so that meter and instruments do not give the pieces away."""
_LONGEST_IN_GROUP = 1.3
"""Most that the longest view of a group may be longer than the shortest."""


@dataclass(frozen=True)
class Views:
    """Views of a piece, ``(N, S)`` int64 each with the special patches around them.

    Args:
        anchor: One half of the piece.
        positive: The other half, in another key.
        shuffled: The other half with its bars in another order.
    """

    anchor: Tensor
    positive: Tensor
    shuffled: Tensor


@dataclass(frozen=True)
class ViewBatch:
    """Views of B pieces: first all anchors, then all positives, then all shuffled ones, 3B in number.

    Args:
        groups: Patches ``(n, N, S)`` and their numbers ``(n,)`` of views of similar length, padded on the right.
        order: ``(3B,)`` int64, place of each view in the joined groups.
    """

    groups: list[tuple[Tensor, Tensor]]
    order: Tensor


class ViewDataset(Dataset[Views]):
    """Views of the pieces of an index.

    What is drawn for a piece depends on (seed, epoch, index) only, so a resumed run sees the same.

    Args:
        index: The pieces, interleaved, in all keys.
        patch_length: Most patches of a view, at least 3.
        seed: Seed of the views.
        random: Draw keys, order of the halves and headers anew for each epoch; otherwise, for validation, always the
            same ones of each piece.
    """

    def __init__(self, index: Index, *, patch_length: int, seed: int = 0, random: bool = True) -> None:
        self.index, self.patch_length, self.seed, self.random = index, patch_length, seed, random

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: ItemKey) -> Views:
        """Return the views of a piece.

        Raises:
            InputError: The file cannot be read.
            FormatError: It has fewer than four lines of bars.
        """
        rng = random.Random(mix_seed(self.seed, key.epoch if self.random else 0, key.index))
        texts = [self.index.read(key.index, rng.choice(MAJOR_KEYS)) for _ in range(2)]
        halves = [halved(text) for text in texts]
        first, second = halves[0], halves[1]
        sides = (0, 1) if rng.random() < 0.5 else (1, 0)
        header, bars = second[0], second[1 + sides[1]]
        return Views(
            anchor=self._patches(first[0], first[1 + sides[0]], rng),
            positive=self._patches(header, bars, rng),
            shuffled=self._patches(*_shuffled(header, bars, rng), rng),
        )

    def _patches(self, header: Sequence[str], bars: Sequence[str], rng: random.Random) -> Tensor:
        lines = list(bars) if rng.random() < _HEADERLESS else [*header, *bars]
        text = without_instrument_names("".join(lines))
        patches = encode(text, special=True, truncation="head", patch_length=self.patch_length, rng=rng)
        return torch.from_numpy(patches).long()


def halved(text: str) -> tuple[list[str], list[str], list[str]]:
    """Header, first and second half of the bars of an interleaved piece, as lines with their newlines.

    Comment lines are left out.

    Raises:
        FormatError: There are fewer than four lines of bars.
    """
    lines = [line + "\n" for line in text.split("\n") if line and not _is_comment(line)]
    bars = [line for line in lines if line.startswith((_BARS_LINE, "[r:"))]
    header = [line for line in lines if not line.startswith((_BARS_LINE, "[r:"))]
    if len(bars) < _FEWEST_BARS:
        raise FormatError(
            f"the piece has {len(bars)} lines of bars; allowed: at least {_FEWEST_BARS}, one bar on each"
        )
    middle = len(bars) // 2
    return header, bars[:middle], bars[middle:]


def collate_views(pieces: Sequence[Views]) -> ViewBatch:
    """Put views of similar length together, so that little padding is computed."""
    views = [getattr(piece, kind) for kind in ("anchor", "positive", "shuffled") for piece in pieces]
    by_length = sorted(range(len(views)), key=lambda number: len(views[number]))
    groups: list[list[Tensor]] = []
    for number in by_length:
        view = views[number]
        if not groups or len(view) > _LONGEST_IN_GROUP * len(groups[-1][0]):
            groups.append([])
        groups[-1].append(view)
    return ViewBatch([_padded(group) for group in groups], torch.tensor(by_length).argsort())


def _padded(patches: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    return pad_sequence(list(patches), batch_first=True), torch.tensor([len(piece) for piece in patches])


def _shuffled(header: Sequence[str], bars: Sequence[str], rng: random.Random) -> tuple[list[str], list[str]]:
    lines = shuffled_bars("".join((*header, *bars)), rng).splitlines(keepends=True)
    return lines[: len(header)], lines[len(header) :]


def _is_comment(line: str) -> bool:
    return line.startswith("%") and not line.startswith("%%")
