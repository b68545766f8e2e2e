"""Windows of several maps through a model, in batches of similar lengths.

Shapes: B windows of a batch, W windows of a map, L tokens, D outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cm3p.inference.loading import LoadedModel
from cm3p.inference.maps import EncodedMap
from pentatonic.processes.cores import map_over_cores

DEFAULT_BATCH_SIZE = 8
Forward = Callable[[Tensor, Tensor | None, Tensor], Tensor]
"""``(B, L)`` ids, spectrograms or None, and ``(B, L)`` mask to ``(B, D)`` outputs."""


def run_windows(
    loaded: LoadedModel, forward: Forward, maps: Sequence[EncodedMap], batch_size: int
) -> list[Tensor]:
    """Send all windows of some maps through a model.

    Args:
        loaded: The model.
        forward: What to compute of a batch.
        maps: All with audio, or all without.
        batch_size: Windows at a time.

    Returns:
        For each map ``(W, D)`` float32 on the CPU.
    """
    places = [(number, window) for number, each in enumerate(maps) for window in range(len(each.windows))]
    places.sort(key=lambda place: len(maps[place[0]].windows[place[1]]), reverse=True)
    found: list[list[Tensor | None]] = [[None] * len(each.windows) for each in maps]
    batches = [places[start : start + batch_size] for start in range(0, len(places), batch_size)]

    def outputs_of(batch: Sequence[tuple[int, int]]) -> Tensor:
        return _forward(loaded, forward, [(maps[number], window) for number, window in batch])

    on_processor = torch.device(loaded.device).type == "cpu"
    outputs = map_over_cores(outputs_of, batches) if on_processor else map(outputs_of, batches)
    for batch, rows in zip(batches, outputs, strict=True):
        for (number, window), row in zip(batch, rows, strict=True):
            found[number][window] = row
    return [torch.stack([output for output in outputs if output is not None]) for outputs in found]


@torch.inference_mode()
def _forward(loaded: LoadedModel, forward: Forward, windows: Sequence[tuple[EncodedMap, int]]) -> Tensor:
    sequences = [each.windows[window] for each, window in windows]
    length = max(map(len, sequences))
    ids = torch.full((len(sequences), length), loaded.processor.beatmap_tokenizer.pad_token_id)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1
    parts = [part for each, window in windows if (part := each.features_of(window)) is not None]
    features = torch.cat(parts).to(loaded.device, loaded.dtype) if parts else None
    outputs = forward(ids.to(loaded.device), features, mask.to(loaded.device))
    return outputs.float().cpu()
