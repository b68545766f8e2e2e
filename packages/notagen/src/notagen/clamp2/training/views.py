"""Views of a piece for contrastive training: two parts in other keys, and one of them with its bars shuffled.

The parts are the two halves, or twice the whole piece. A model that is asked which half belongs to which piece learns
the style of the music, whatever its key; the shuffled bars, which never belong, teach it to hear their order, and so do
voices that are shuffled apart with what sounds together. Whole pieces are what a judge hears.

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
from notagen.notation.shuffling import movable_lines, shuffled_bars
from notagen.training.index import Index
from pentatonic.errors import FormatError
from pentatonic.training import ItemKey, mix_seed

_BARS_LINE = "[V:"
_FEWEST_BARS = 4
_WHOLE = 0.5
"""Share of the pieces whose views are whole."""
_HEADERLESS = 0.5
"""Share of the views of halves without their header, so that meter and instruments do not give the pieces away."""
_NAMELESS = 0.5
"""Share of the views with a header whose instruments have no names."""
_FEW = 0.5
"""Share of the shuffled views of which only a tenth to a half of the bars are shuffled."""
_APART = 0.3
"""Share of the shuffled views whose voices are shuffled apart, where there are several."""
_LONGEST_IN_GROUP = 1.3
"""Most that the longest view of a group may be longer than the shortest."""


@dataclass(frozen=True)
class Views:
    """Views of a piece, ``(N, S)`` int64 each with the special patches around them.

    Args:
        anchor: One half of the piece, or all of it.
        positive: The other half, or all of it, in another key.
        shuffled: The same with its bars in another order, or some of them, patch by patch beside ``positive``.
        style: First line of the prompt of the piece, its period; empty where there is none.
    """

    anchor: Tensor
    positive: Tensor
    shuffled: Tensor
    style: str


@dataclass(frozen=True)
class ViewBatch:
    """Views of B pieces: first all anchors, then all positives, then all shuffled ones, 3B in number.

    Args:
        groups: Patches ``(n, N, S)`` and their numbers ``(n,)`` of views of similar length, padded on the right.
        order: ``(3B,)`` int64, place of each view in the joined groups.
        displaced: ``(B, N)`` bool, where the patches of a shuffled view are not those of the positive one.
        styles: ``(B,)`` int64, equal for pieces of the same style.
    """

    groups: list[tuple[Tensor, Tensor]]
    order: Tensor
    displaced: Tensor
    styles: Tensor


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
        self._movable: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: ItemKey) -> Views:
        """Return the views of a piece.

        Raises:
            InputError: The file cannot be read.
            FormatError: It has fewer than four lines of bars.
        """
        rng = random.Random(mix_seed(self.seed, key.epoch if self.random else 0, key.index))
        anchor, positive = (halved(self.index.read(key.index, rng.choice(MAJOR_KEYS))) for _ in range(2))
        header, whole = positive[0], rng.random() < _WHOLE
        middle, end = len(positive[1]), len(positive[1]) + len(positive[2])
        if whole:
            first, start, stop = anchor[1] + anchor[2], 0, end
        elif rng.random() < 0.5:
            first, start, stop = anchor[1], middle, end
        else:
            first, start, stop = anchor[2], 0, middle
        bars = positive[1] + positive[2]
        movable = self._movable_bars(key.index, header, bars)
        places = [number - start + len(header) for number in movable if start <= number < stop]
        second = bars[start:stop]
        shuffled = _shuffled(header, second, places, rng)
        first_header, header = (self._header(lines, rng, needed=whole) for lines in (anchor[0], header))
        views = [
            self._patches(*part) for part in ((first_header, first), (header, second), (header, shuffled))
        ]
        return Views(
            anchor=views[0],
            positive=views[1],
            shuffled=views[2] if len(views[2]) == len(views[1]) else views[1],
            style="".join(self.index.entries[key.index].prompt[:1]),
        )

    def _movable_bars(self, index: int, header: Sequence[str], bars: Sequence[str]) -> list[int]:
        """Which lines of bars may be moved; it takes as long to find out as all else, and is alike in all keys."""
        if index not in self._movable:
            places = movable_lines("".join((*header, *bars)))
            self._movable[index] = [place - len(header) for place in places]
        return self._movable[index]

    def _header(self, lines: Sequence[str], rng: random.Random, *, needed: bool) -> str:
        if not needed and rng.random() < _HEADERLESS:
            return ""
        return without_instrument_names("".join(lines)) if rng.random() < _NAMELESS else "".join(lines)

    def _patches(self, header: str, bars: Sequence[str]) -> Tensor:
        patches = encode(
            header + "".join(bars), special=True, truncation="head", patch_length=self.patch_length
        )
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
    styles = sorted({piece.style for piece in pieces})
    groups: list[list[Tensor]] = []
    for number in by_length:
        view = views[number]
        if not groups or len(view) > _LONGEST_IN_GROUP * len(groups[-1][0]):
            groups.append([])
        groups[-1].append(view)
    return ViewBatch(
        [_padded(group) for group in groups],
        torch.tensor(by_length).argsort(),
        pad_sequence([(piece.positive != piece.shuffled).any(1) for piece in pieces], batch_first=True),
        torch.tensor([styles.index(piece.style) for piece in pieces]),
    )


def _padded(patches: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    return pad_sequence(list(patches), batch_first=True), torch.tensor([len(piece) for piece in patches])


def _shuffled(
    header: Sequence[str], bars: Sequence[str], places: Sequence[int], rng: random.Random
) -> list[str]:
    share = rng.uniform(0.1, 0.5) if rng.random() < _FEW else 1
    apart = rng.random() < _APART
    text = shuffled_bars("".join((*header, *bars)), rng, share=share, apart=apart, places=places)
    return text.splitlines(keepends=True)[len(header) :]


def _is_comment(line: str) -> bool:
    return line.startswith("%") and not line.startswith("%%")
