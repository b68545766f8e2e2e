"""From a training run to a model directory that can be shipped: half precision, with the prompts it was trained on.

python -m notagen.training.bundle runs/notagen-tiny/best notagen-tiny --index data/notagen-tiny/augmented_train.jsonl
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from notagen.prompts import PROMPTS_FILE
from notagen.training.index import Index
from notagen.weights import from_pretrained, save_pretrained


def bundle(
    source: str | Path,
    directory: str | Path,
    *,
    index: str | Path | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a model directory.

    Args:
        source: Whatever :func:`notagen.from_pretrained` loads: ``best`` or a checkpoint of a run, or the run itself.
        directory: Where to.
        index: Training pieces; their prompts of three lines go into ``prompts.json``.
        dtype: Of the stored tensors.

    Raises:
        CheckpointError: There is no model, or the directory cannot be written.
        InputError: The index cannot be read.
    """
    notes = {} if index is None else {PROMPTS_FILE: prompt_table(Index(index))}
    save_pretrained(from_pretrained(source), directory, dtype=dtype, notes=notes)


def prompt_table(index: Index) -> dict[str, dict[str, list[str]]]:
    """Return the prompts of pieces: period, then composer, then the instrumentations, all sorted."""
    table: dict[str, dict[str, list[str]]] = {}
    for prompt in sorted({entry.prompt for entry in index.entries if len(entry.prompt) == 3}):
        period, composer, instrumentation = prompt
        table.setdefault(period, {}).setdefault(composer, []).append(instrumentation)
    return table


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", help="run folder, checkpoint, or any model")
    parser.add_argument("directory", type=Path, help="where to")
    parser.add_argument("--index", type=Path, help="training index, whose prompts the model knows")
    args = parser.parse_args()
    bundle(args.source, args.directory, index=args.index)


if __name__ == "__main__":
    main()
