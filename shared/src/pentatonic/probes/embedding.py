"""From a data set to a result: embed its recordings, then evaluate a grid of probes on them.

Shapes: n chunks of a recording, C width of an embedding, T tracks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pentatonic.cli import BatchReport, progress
from pentatonic.errors import InputError, PentatonicError
from pentatonic.probes.datasets import LabelledTrack, ProbeDataset
from pentatonic.probes.evaluation import evaluate_probes
from pentatonic.probes.results import ProbeResult
from pentatonic.probes.splits import ProbeSplit


def probe_dataset(
    dataset: ProbeDataset, embed: Callable[[Path], Tensor], **options: Any
) -> tuple[ProbeResult, BatchReport]:
    """Embed a data set and evaluate probes on it. Recordings that cannot be read are reported and left out.

    Args:
        dataset: The data set.
        embed: Recording -> ``(n, C)``, or ``(C,)`` for one vector of the whole recording.
        options: Of :func:`pentatonic.probes.evaluate_probes`.

    Returns:
        The result, and what became of each recording.

    Raises:
        InputError: A split has no recording that can be read, or its targets cannot be used.
        UsageError: An option is out of its range.
    """
    report = BatchReport()
    count = sum(map(len, dataset.splits.values()))
    with progress(count, f"embedding {dataset.name}") as bar:
        splits = {}
        for name, tracks in dataset.splits.items():
            kept: list[tuple[LabelledTrack, Tensor]] = []
            for track in tracks:
                try:
                    vectors = embed(track.path)
                except (PentatonicError, OSError) as error:
                    report.failed(track.path, error)
                else:
                    kept.append((track, torch.atleast_2d(vectors)))
                    report.done(track.path)
                bar.advance(1, note=track.path.name)
            splits[name] = _split(name, kept, dataset)
    return evaluate_probes(dataset.task, splits["train"], splits["valid"], splits["test"], **options), report


def _split(name: str, kept: Sequence[tuple[LabelledTrack, Tensor]], dataset: ProbeDataset) -> ProbeSplit:
    if not kept:
        raise InputError(f"{dataset.name}: no recording of the {name} split can be read; see the report")
    tracks, vectors = zip(*kept, strict=True)
    counts = torch.tensor([len(each) for each in vectors])
    targets = torch.tensor([track.target for track in tracks])
    return ProbeSplit(
        name,
        torch.cat(vectors).float(),
        targets if targets.dim() == 1 else targets.float(),
        track=torch.repeat_interleave(torch.arange(len(tracks)), counts),
        groups=[track.group for track in tracks],
    )
