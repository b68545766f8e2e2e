"""Windows to batches: which windows come together, and padding.

Shapes: B windows, L tokens, V variations, M tokens of metadata, S spectrograms of a window, T frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cm3p.losses import IGNORED
from cm3p.training.windows import Window


def grouped(
    sets: Sequence[Sequence[Window]],
    batch_size: int,
    rng: np.random.Generator | None,
    *,
    by_length: bool,
    drop_last: bool,
) -> list[list[Window]]:
    """Group the windows of several sets into batches.

    Windows of the sets come in turn, so that a batch has as many different sets as possible. Of so many windows as
    there are sets, those of like length come together.

    Args:
        sets: Windows of each set.
        batch_size: Windows of a batch.
        rng: Draws the order; None keeps it.
        by_length: Whether windows of like length come together.
        drop_last: Leave out windows that do not fill a batch.
    """
    in_turn: list[Window] = []
    queues = [list(windows) for windows in sets]
    if rng is not None:
        for queue in queues:
            rng.shuffle(queue)  # type: ignore[arg-type]
    while queues := [queue for queue in queues if queue]:
        places = range(len(queues)) if rng is None else rng.permutation(len(queues))
        in_turn += [queues[place].pop(0) for place in places]
    pool = max(1, len(sets) // batch_size) * batch_size
    batches: list[list[Window]] = []
    for first in range(0, len(in_turn), pool):
        windows = in_turn[first : first + pool]
        if by_length:
            windows = sorted(windows, key=lambda window: len(window.input_ids))
        batches += [windows[place : place + batch_size] for place in range(0, len(windows), batch_size)]
    if drop_last:
        batches = [batch for batch in batches if len(batch) == batch_size]
    if rng is not None:
        batches = [batches[place] for place in rng.permutation(len(batches))]
    return batches


def collate(
    windows: Sequence[Window],
    *,
    pad_token_id: int,
    metadata_pad_token_id: int,
    length: int | None = None,
    with_source: bool = False,
) -> dict[str, Tensor]:
    """Pad and stack windows.

    Args:
        windows: B windows with the same parts.
        pad_token_id: Padding of beatmaps.
        metadata_pad_token_id: Padding of metadata.
        length: L; None: that of the longest window.
        with_source: Add ``beatmap_id``, (B,).

    Returns:
        ``input_ids`` and ``attention_mask`` (B, L); ``labels`` (B, L) or (B,); ``input_features`` (B · S, bands, T);
        ``metadata_ids`` and ``metadata_attention_mask`` (B, M) or (B, V, M); ``metadata_variation_classes`` (B, V).
    """
    lengths = torch.tensor([len(window.input_ids) for window in windows])
    total = int(lengths.max()) if length is None else length
    batch = {
        "input_ids": _padded([window.input_ids for window in windows], total, pad_token_id),
        "attention_mask": (torch.arange(total) < lengths[:, None]).long(),
    }
    if labels := _present(window.labels for window in windows):
        batch["labels"] = torch.stack(labels) if labels[0].dim() == 0 else _padded(labels, total, IGNORED)
    if features := _present(window.input_features for window in windows):
        batch["input_features"] = torch.cat(features)
    if ids := _present(window.metadata_ids for window in windows):
        longest = max(each.shape[-1] for each in ids)
        masks = _present(window.metadata_attention_mask for window in windows)
        batch["metadata_ids"] = _padded(ids, longest, metadata_pad_token_id)
        batch["metadata_attention_mask"] = _padded(masks, longest, 0)
    if classes := _present(window.metadata_variation_classes for window in windows):
        batch["metadata_variation_classes"] = torch.stack(classes)
    if with_source:
        batch["beatmap_id"] = torch.tensor([window.beatmap_id for window in windows])
    return batch


def _present(values: Iterable[Tensor | None]) -> list[Tensor]:
    return [value for value in values if value is not None]


def _padded(rows: Sequence[Tensor], length: int, value: int) -> Tensor:
    return torch.stack([F.pad(row, (0, length - row.shape[-1]), value=value) for row in rows])
